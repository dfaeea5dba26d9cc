//! Every history of a key whose owners change: no acknowledged write is lost (P1) or overlooked by
//! a quorum read (P3), whatever is slow, stale, or stops for ever.
//!
//! A model of the rules, not of the code: three old owners, of which one or two are replaced; one
//! write, whose coordinator may know any ring there has been and learns newer ones when it likes;
//! nodes that adopt each ring at their own time; the change committed step by step, or aborted. A
//! message that is lost, a process that dies and a coordinator that forgets are all steps that are
//! never taken. One node may lose its disk; then it answers no reads and gives nothing away, and
//! what was acknowledged must outlive it if another of those who confirmed it kept its own. Writes
//! have nothing to do with each other here, so one stands for all; a read is tried in every state,
//! by a reader that knows any ring. The space is finite and searched whole.
//!
//! With any one rule left out there is a history that breaks a promise: so each is needed. The code
//! also waits until all concerned have adopted a change before reads ask the new owners; one key
//! does not need that, so it is left out, and more histories are searched.

use std::{
    fmt,
    hash::{Hash as _, Hasher as _},
    time::Instant,
};

use xxhash_rust::xxh3::Xxh3Default;

use super::pool::HashedSet;

const NODES: usize = 5;
const OLD: Nodes = 0b00111;
const N: u32 = 3;
const STABLE: u8 = 1;
const MOVING: u8 = 2;
const SWITCHED: u8 = 3;
const SETTLED: u8 = 4;

/// A set of nodes, a bit for each.
type Nodes = u8;

/// What the change of a ring rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A replica refuses what is asked under an older ring than its own.
    Fencing,
    /// A new owner takes in what N - W + 1 old ones hold.
    PullFromEnough,
    /// Of those, only what they hold once they have adopted the change.
    PullFromAdopted,
    /// While two rings count, a write needs its quorum in each.
    TwoQuorums,
    /// The change ends only when N - R + 1 old owners know that reads ask the new ones.
    AwaitReaders,
    /// Who is not an owner any more deletes only when the change has ended.
    DeleteLast,
    /// And only when every owner has what it held.
    HandOverFirst,
    /// What a node has adopted it does not forget when it dies.
    DurableAdoption,
}

impl Need {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Fencing,
        Self::PullFromEnough,
        Self::PullFromAdopted,
        Self::TwoQuorums,
        Self::AwaitReaders,
        Self::DeleteLast,
        Self::HandOverFirst,
        Self::DurableAdoption,
    ];
}

/// What a search varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Replicas that a read needs.
    pub r: u32,
    /// Replicas that a write needs.
    pub w: u32,
    /// Old owners that are replaced: one or two.
    pub replaced: u32,
    /// Whether a disk may be lost.
    pub loss: bool,
    /// The rule that is left out.
    pub without: Option<Need>,
}

/// One step of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the numbers are nodes and epochs")]
pub enum Step {
    Commit,
    Abort,
    Adopt { node: u8, epoch: u8 },
    Lose { node: u8 },
    Forget { node: u8 },
    Begin { epoch: u8 },
    Replan { epoch: u8 },
    Write { node: u8 },
    Pull { by: u8, from: u8 },
    HandOver { from: u8, to: u8 },
    Delete { node: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
struct State {
    /// The newest ring that was agreed on.
    chosen: u8,
    aborted: bool,
    /// The ring each node has adopted.
    adopted: [u8; NODES],
    /// Who holds the write.
    holders: Nodes,
    /// Who has lost its disk.
    lost: Nodes,
    /// From whom each node has pulled.
    pulled: [Nodes; NODES],
    /// The ring that the coordinator of the write knows; zero before it begins.
    view: u8,
    /// Who has confirmed the write to it.
    acks: Nodes,
    acked: bool,
}

/// How a search ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was searched.
    pub change: Change,
    /// Distinct states.
    pub states: usize,
    /// Wall time.
    pub seconds: f64,
    /// A shortest history that breaks a promise, and which.
    pub broken: Option<(&'static str, Vec<Step>)>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { r, w, replaced, .. } = self.change;
        write!(
            f,
            "r = {r}, w = {w}, {replaced} of 3 owners replaced: {} states, {:.1} s",
            self.states, self.seconds
        )?;
        if let Some((what, steps)) = &self.broken {
            write!(f, "; {what} after {} steps: {steps:?}", steps.len())?;
        }
        Ok(())
    }
}

/// Searches all histories of changes of a ring for the usual quorums, as far as rules hold.
#[must_use]
pub fn transitions(without: Option<Need>) -> Vec<Outcome> {
    let quorums = [(2, 2), (3, 1), (1, 3)];
    let changes = [1, 2].into_iter().flat_map(|replaced| {
        quorums.into_iter().map(move |(r, w)| Change {
            r,
            w,
            replaced,
            loss: replaced == 1,
            without,
        })
    });
    changes.map(|change| change.search()).collect()
}

impl Change {
    /// Searches all histories of one change.
    ///
    /// # Panics
    ///
    /// If there are more than four thousand million states.
    #[must_use]
    pub fn search(&self) -> Outcome {
        let begun = Instant::now();
        let first = State {
            chosen: STABLE,
            adopted: [STABLE; NODES],
            ..State::default()
        };
        let mut known = HashedSet::default();
        known.insert(first.name());
        let mut states = vec![first];
        let mut origins: Vec<(u32, Step)> = vec![(0, Step::Commit)];
        let mut at = 0;
        let mut steps = Vec::new();
        let mut broken = None;
        while at < states.len() && broken.is_none() {
            let state = states[at];
            self.steps(&state, &mut steps);
            for &step in &steps {
                let mut next = state;
                self.take(&mut next, step);
                if !known.insert(next.name()) {
                    continue;
                }
                states.push(next);
                origins.push((u32::try_from(at).expect("memory ends first"), step));
                if let Some(what) = self.judge(&next) {
                    broken = Some((what, way(&origins)));
                    break;
                }
            }
            at += 1;
        }
        Outcome {
            change: *self,
            states: states.len(),
            seconds: begun.elapsed().as_secs_f64(),
            broken,
        }
    }

    fn needs(&self, need: Need) -> bool {
        self.without != Some(need)
    }

    fn coming(&self) -> Nodes {
        OLD << self.replaced
    }

    /// Who owns the key once all is over.
    fn last(&self, state: &State) -> Nodes {
        if state.aborted { OLD } else { self.coming() }
    }

    /// The sets in which a write under this ring needs its quorum.
    fn writing(&self, state: &State, epoch: u8) -> (Nodes, Nodes) {
        match epoch {
            STABLE => (OLD, OLD),
            SWITCHED if state.aborted => (OLD, OLD),
            MOVING | SWITCHED => (OLD, self.coming()),
            _ => (self.coming(), self.coming()),
        }
    }

    fn reading(&self, state: &State, epoch: u8) -> Nodes {
        match epoch {
            STABLE | MOVING => OLD,
            SWITCHED if state.aborted => OLD,
            _ => self.coming(),
        }
    }

    fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        steps.clear();
        if self.may_commit(state) {
            steps.push(Step::Commit);
        }
        if state.chosen == MOVING {
            steps.push(Step::Abort);
        }
        for node in each(OLD | self.coming()) {
            let own = state.adopted[usize::from(node)];
            steps.extend((own + 1..=state.chosen).map(|epoch| Step::Adopt { node, epoch }));
            if own != STABLE && !self.needs(Need::DurableAdoption) {
                steps.push(Step::Forget { node });
            }
            if self.loss && state.lost == 0 {
                steps.push(Step::Lose { node });
            }
            if self.may_delete(state, node) {
                steps.push(Step::Delete { node });
            }
        }
        if state.view == 0 {
            steps.extend((STABLE..=state.chosen).map(|epoch| Step::Begin { epoch }));
        } else if !state.acked {
            steps.extend((state.view + 1..=state.chosen).map(|epoch| Step::Replan { epoch }));
            let (one, other) = self.writing(state, state.view);
            let open = (one | other) & !state.acks;
            let takes = |node: &u8| !self.is_fenced(state, *node, state.view);
            steps.extend(each(open).filter(takes).map(|node| Step::Write { node }));
        }
        for by in each(self.coming() & !OLD) {
            if state.adopted[usize::from(by)] == MOVING {
                let ready = |from: &u8| {
                    let adopted = MOVING <= state.adopted[usize::from(*from)];
                    adopted || !self.needs(Need::PullFromAdopted)
                };
                let open = OLD & !state.pulled[usize::from(by)] & !state.lost;
                steps.extend(each(open).filter(ready).map(|from| Step::Pull { by, from }));
            }
        }
        self.hand_overs(state, steps);
    }

    /// A node that owns nothing any more brings the owners what it holds.
    fn hand_overs(&self, state: &State, steps: &mut Vec<Step>) {
        let last = self.last(state);
        let over = if state.aborted { SWITCHED } else { SETTLED };
        for from in each(state.holders & !last) {
            if state.adopted[usize::from(from)] == over {
                let lacking = each(last & !state.holders);
                steps.extend(lacking.map(|to| Step::HandOver { from, to }));
            }
        }
    }

    fn may_commit(&self, state: &State) -> bool {
        let adopted = |nodes: Nodes, epoch: u8| {
            let nodes = each(nodes).filter(|node| epoch <= state.adopted[usize::from(*node)]);
            u32::try_from(nodes.count()).expect("a few nodes")
        };
        match state.chosen {
            STABLE => true,
            MOVING => {
                let enough = if self.needs(Need::PullFromEnough) {
                    N - self.w + 1
                } else {
                    0
                };
                let full = |node| enough <= state.pulled[usize::from(node)].count_ones();
                each(self.coming() & !OLD).all(full)
            }
            SWITCHED if !state.aborted => {
                let known = N - self.r < adopted(OLD, SWITCHED);
                known || !self.needs(Need::AwaitReaders)
            }
            _ => false,
        }
    }

    fn may_delete(&self, state: &State, node: u8) -> bool {
        let last = self.last(state);
        let bit = 1 << node;
        if state.holders & bit == 0 || last & bit != 0 {
            return false;
        }
        let over = match (state.aborted, self.needs(Need::DeleteLast)) {
            (true, true) => SWITCHED,
            (false, true) => SETTLED,
            (_, false) => MOVING,
        };
        let all_have = last & !state.holders == 0;
        over <= state.adopted[usize::from(node)] && (all_have || !self.needs(Need::HandOverFirst))
    }

    fn is_fenced(&self, state: &State, node: u8, view: u8) -> bool {
        self.needs(Need::Fencing) && view < state.adopted[usize::from(node)]
    }

    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Commit => state.chosen += 1,
            Step::Abort => (state.chosen, state.aborted) = (SWITCHED, true),
            Step::Adopt { node, epoch } => state.adopted[usize::from(node)] = epoch,
            Step::Lose { node } => {
                state.lost |= 1 << node;
                state.holders &= !(1 << node);
            }
            Step::Forget { node } => state.adopted[usize::from(node)] = STABLE,
            Step::Begin { epoch } => state.view = epoch,
            Step::Replan { epoch } => {
                state.view = epoch;
                let (one, other) = self.writing(state, epoch);
                state.acks &= one | other;
                self.count(state);
            }
            Step::Write { node } => {
                // Who is behind learns the ring first.
                let own = &mut state.adopted[usize::from(node)];
                *own = (*own).max(state.view);
                state.holders |= 1 << node;
                state.acks |= 1 << node;
                self.count(state);
            }
            Step::Pull { by, from } => {
                state.pulled[usize::from(by)] |= 1 << from;
                if state.holders & 1 << from != 0 {
                    state.holders |= 1 << by;
                }
            }
            Step::HandOver { to, .. } => state.holders |= 1 << to,
            Step::Delete { node } => state.holders &= !(1 << node),
        }
    }

    fn count(&self, state: &mut State) {
        let (one, other) = self.writing(state, state.view);
        let within = |set: Nodes| self.w <= (state.acks & set).count_ones();
        state.acked = if self.needs(Need::TwoQuorums) {
            within(one) && within(other)
        } else {
            within(one | other)
        };
    }

    fn judge(&self, state: &State) -> Option<&'static str> {
        if !state.acked {
            return None;
        }
        if state.holders == 0 && state.acks & !state.lost != 0 {
            return Some("an acknowledged write is lost");
        }
        let overlooked = (STABLE..=state.chosen).any(|view| {
            let asked = each(self.reading(state, view) & !state.holders & !state.lost);
            let answer = asked.filter(|node| !self.is_fenced(state, *node, view));
            self.r <= u32::try_from(answer.count()).expect("a few nodes")
        });
        overlooked.then_some("a quorum read overlooks an acknowledged write")
    }
}

impl State {
    /// A number that no other state has, for all that is known.
    fn name(&self) -> u64 {
        let mut hasher = Xxh3Default::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

fn each(nodes: Nodes) -> impl Iterator<Item = u8> {
    (0..8).filter(move |node| nodes & 1 << node != 0)
}

/// The steps that lead to the state found last.
fn way(origins: &[(u32, Step)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = origins.len() - 1;
    while at != 0 {
        let (before, step) = origins[at];
        steps.push(step);
        at = usize::try_from(before).expect("an index");
    }
    steps.reverse();
    steps
}
