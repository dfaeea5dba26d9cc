//! P5, W15: a tree says what is stored, and once faults stop the trees of all replicas agree.
//!
//! The truth is computed anew from the synced records, by the product's own hash. Compared only at
//! quiet moments: a tree follows its store by one completion.

use super::{Broken, Ruling};
use crate::{oracle::bounds::Level, process::Process};

const PROMISE: &str = "merkle truth (P5, W15)";

/// Why the trees do not all agree; none if they do.
#[must_use]
pub fn disagreement(processes: &[Process]) -> Option<String> {
    for process in processes {
        let Some(node) = process.machine.as_ref().filter(|node| node.is_tree_ready()) else {
            return Some(format!("{}: its tree is not ready", process.name));
        };
        for pair in node.pairs() {
            let peer = processes.iter().find(|other| other.id == pair.peer);
            let peer = peer.and_then(|other| other.machine.as_ref());
            let theirs = peer.map(|peer| peer.pairs()).unwrap_or_default();
            let theirs = theirs
                .iter()
                .find(|their| their.peer == process.id && their.n == pair.n);
            if theirs.map(|their| their.root) != Some(pair.root) {
                let name = &process.name;
                let (peer, n) = (pair.peer, pair.n);
                return Some(format!("{name} and {peer} differ for n={n}: {pair:?}"));
            }
        }
    }
    None
}

/// Two replicas whose trees still differ when the time is over.
pub fn differ(detail: &str, at: u64) -> Ruling {
    Err(Broken::new(PROMISE, at, detail.to_owned()))
}

/// A tree says what is stored.
pub fn truth(process: &Process, at: u64) -> Ruling {
    let Some(node) = &process.machine else {
        return Ok(());
    };
    let objects = process.disk.objects().unwrap_or_default();
    match node.audit_tree(&objects) {
        None => Ok(()),
        Some(detail) => {
            let detail = format!("{}: {detail}", process.name);
            Err(Broken::new(PROMISE, at, detail))
        }
    }
}

/// A tree was not what is stored, and no disk was at fault.
pub fn astray(node: &str, leaves: u64, at: u64) -> Ruling {
    let detail = format!("{node}: {leaves} leaves did not follow the store");
    Err(Broken::new(PROMISE, at, detail))
}

/// A comparison that does not end.
pub fn endless(node: &str, at: u64) -> Ruling {
    let detail = format!("{node} has been comparing for too long");
    Err(Broken::new(PROMISE, at, detail))
}

fn is_ours(level: &Level) -> bool {
    level.name.starts_with("tree_")
}

/// Whether a comparison is under way.
#[must_use]
pub fn is_comparing(process: &Process) -> bool {
    let mut levels = process.levels().into_iter();
    levels.any(|level| is_ours(&level) && level.value != 0)
}

/// The levels of everything but what goes on for ever: comparisons, and what waits to be reaped.
#[must_use]
pub fn without(process: &Process) -> Vec<Level> {
    let levels = process.levels().into_iter();
    let for_ever = |level: &Level| is_ours(level) || level.name.starts_with("reap_");
    levels.filter(|level| !for_ever(level)).collect()
}
