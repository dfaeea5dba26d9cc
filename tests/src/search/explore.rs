//! Breadth first through the states, each once.

use std::{fmt, time::Instant};

use super::{
    pool::{HashedSet, Pool},
    setting::{Action, Setting},
    world::{Broken, State},
};

/// A broken promise and a shortest way to it.
#[derive(Debug)]
pub struct Finding {
    /// What broke.
    pub what: &'static str,
    /// The steps that lead there.
    pub steps: Vec<Action>,
}

/// How one search ended.
#[derive(Debug)]
pub struct Report {
    /// The fault family.
    pub family: &'static str,
    /// Longest history searched.
    pub depth: usize,
    /// Distinct states.
    pub states: usize,
    /// Steps tried.
    pub transitions: u64,
    /// Wall time.
    pub seconds: f64,
    /// An acknowledged write that is gone. The search ends there.
    pub lost: Option<Finding>,
    /// The first dot that was minted twice.
    pub dot_reused: Option<Finding>,
    /// The first request that took effect twice.
    pub applied_twice: Option<Finding>,
}

impl Report {
    /// The first broken promise of any kind.
    #[must_use]
    pub fn broken(&self) -> Option<&Finding> {
        let other = self.dot_reused.as_ref().or(self.applied_twice.as_ref());
        self.lost.as_ref().or(other)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {} steps: ", self.what, self.steps.len())?;
        for (index, step) in self.steps.iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            write!(f, "{comma}{step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: depth {}, {} states, {} steps, {:.1} s",
            self.family, self.depth, self.states, self.transitions, self.seconds
        )?;
        let findings = [&self.lost, &self.dot_reused, &self.applied_twice];
        let mut found = findings.into_iter().flatten();
        found.try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

/// Where each state of a layer came from.
type Origins = Vec<(u32, Action)>;

struct Search<'a> {
    setting: &'a Setting<'a>,
    pool: Pool,
    seen: HashedSet,
    origins: Origins,
    report: Report,
}

/// Searches until a loss or the depth.
pub(super) fn explore(setting: &Setting<'_>, depth: usize) -> Report {
    let started = Instant::now();
    let mut search = Search {
        setting,
        pool: Pool::default(),
        seen: HashedSet::default(),
        origins: vec![(0, Action::Sync { node: 0 })],
        report: Report {
            family: setting.faults.name,
            depth: 0,
            states: 1,
            transitions: 0,
            seconds: 0.0,
            lost: None,
            dot_reused: None,
            applied_twice: None,
        },
    };
    search.seen.insert(State::new().hash());
    let mut layer = vec![(0, State::new())];
    for level in 1..=depth {
        if search.report.lost.is_some() {
            break;
        }
        layer = search.deepen(&layer, level < depth);
        search.report.depth = level;
    }
    search.report.states = search.seen.len();
    search.report.seconds = started.elapsed().as_secs_f64();
    search.report
}

impl Search<'_> {
    /// All new states one step further; of the last layer only the verdict is of interest.
    fn deepen(&mut self, layer: &[(u32, State)], keep: bool) -> Vec<(u32, State)> {
        let mut next = Vec::new();
        let mut actions = Vec::new();
        for (origin, state) in layer {
            state.actions(self.setting, &mut actions);
            for action in &actions {
                self.report.transitions += 1;
                let mut after = *state;
                let changed = after.apply(self.setting, &mut self.pool, *action);
                if !changed && !keep || !self.seen.insert(after.hash()) {
                    continue;
                }
                if changed && let Some(broken) = after.broken(self.setting, &self.pool) {
                    self.record(broken, *origin, *action);
                    if broken == Broken::Lost {
                        return next;
                    }
                }
                if keep {
                    let index = u32::try_from(self.origins.len()).expect("memory ends first");
                    self.origins.push((*origin, *action));
                    next.push((index, after));
                }
            }
        }
        next
    }

    fn record(&mut self, broken: Broken, origin: u32, action: Action) {
        let (slot, what) = match broken {
            Broken::Lost => (&mut self.report.lost, "acknowledged write lost"),
            Broken::DotReused => (&mut self.report.dot_reused, "dot minted twice"),
            Broken::AppliedTwice => (&mut self.report.applied_twice, "request applied twice"),
        };
        if slot.is_some() {
            return;
        }
        let mut steps = vec![action];
        let mut at = origin;
        while at != 0 {
            let (before, action) = self.origins[usize::try_from(at).expect("indexes fit")];
            steps.push(action);
            at = before;
        }
        steps.reverse();
        *slot = Some(Finding { what, steps });
    }
}
