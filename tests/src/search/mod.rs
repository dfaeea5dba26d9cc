//! Every short history of a small cluster, looking for a lost write.
//!
//! Three primaries and one fallback hold one key; clients write blindly or with what they read at
//! any node; a write is acknowledged when two nodes have it on disk. The nodes run the product's
//! own `coordinate` and `receive`. A search goes breadth first over all interleavings, each state
//! once, so that the first counterexample is a shortest one; the fault families (hand-off and
//! drop, a node that loses the key, a power cut between send and fsync) are searched apart, each
//! deeper than all of them together could be.
//!
//! *Lost* means: a write was acknowledged, some replica that had it on disk never lost it, no
//! write that any replica knows had seen it, and yet merging all replicas does not bring it up.
//!
//! A search with one minting rule left out must find a loss; with all rules it must find none.
//! The rule is left out here, by composing the product's predicates: the product has no switch.

mod explore;
mod pool;
pub mod reap;
mod setting;
pub mod transition;
mod world;

use std::{fmt, thread};

use quorate_node::causality::Rule;

pub use explore::{Finding, Report};
pub use setting::{Action, Faults};

/// How the searches of one question ended.
#[derive(Debug)]
pub struct Reports {
    /// One per fault family.
    pub families: Vec<Report>,
}

impl Reports {
    /// The first acknowledged write found lost.
    #[must_use]
    pub fn lost(&self) -> Option<&Finding> {
        self.families.iter().find_map(|report| report.lost.as_ref())
    }

    /// The first broken promise of any kind.
    #[must_use]
    pub fn broken(&self) -> Option<&Finding> {
        self.families.iter().find_map(Report::broken)
    }
}

impl fmt::Display for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.families.iter().try_for_each(|report| report.fmt(f))
    }
}

/// Searches all histories of up to `depth` steps with the given minting rules left out: every
/// fault family if none is, else those that need the rules. Families whose states are more
/// numerous are searched some steps less deep (see [`Faults::shorter`]), all side by side.
///
/// All rules, on two idle cores: depth 9 takes about ten seconds, depth 10 under a minute.
///
/// # Panics
///
/// Never: the searches it waits for do not panic.
#[must_use]
pub fn minting(depth: usize, rules_off: &[Rule]) -> Reports {
    let families = if rules_off.is_empty() {
        Faults::FAMILIES.to_vec()
    } else {
        rules_off.iter().copied().map(Faults::against).collect()
    };
    let families = thread::scope(|scope| {
        let begin = |faults: Faults| scope.spawn(move || one_family(faults, depth, rules_off));
        let running: Vec<_> = families.into_iter().map(begin).collect();
        let end = |search: thread::ScopedJoinHandle<'_, Report>| search.join();
        let ended = running.into_iter().map(end);
        ended
            .collect::<Result<_, _>>()
            .expect("a search does not panic")
    });
    Reports { families }
}

fn one_family(faults: Faults, depth: usize, rules_off: &[Rule]) -> Report {
    let depth = depth.saturating_sub(faults.shorter);
    explore::explore(&setting::Setting { faults, rules_off }, depth)
}

/// Searches all histories of up to `depth` steps in which requests are repeated at any node: each
/// must take effect once, and none may be lost. Depth 9 takes a few seconds, depth 10 half a
/// minute; see [`Faults::shorter`].
#[must_use]
pub fn retries(depth: usize) -> Reports {
    let families = vec![one_family(Faults::RETRIES, depth, &[])];
    Reports { families }
}
