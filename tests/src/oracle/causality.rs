//! P2: concurrent writes become siblings; a write with a context replaces exactly what the context
//! had seen. W1: a dot is minted once. W4: a key's clock on a node never shrinks
//! but by an agreement of all owners.
//!
//! That nothing else is replaced is the durability oracle's business: what vanishes without cover
//! is lost. Here it is checked that what was seen does go, and that names are not used twice.

use std::collections::{BTreeMap, BTreeSet};

use quorate_node::causality::{Clock, Dot};

use super::{Broken, Listing, Ruling};
use crate::history::{History, OpIndex, place};

const PROMISE: &str = "causality (P2, W1, W4)";

/// What was seen of clocks.
#[derive(Debug, Default)]
pub struct Causality {
    clocks: BTreeMap<(usize, u32), Clock>,
    /// All owners have agreed on less.
    agreed: BTreeSet<(usize, u32)>,
}

/// A node announced a dot.
pub fn minted(history: &mut History, key: u32, dot: Dot, op: OpIndex, at: u64) -> Ruling {
    if let Some(before) = history.dots[place(key)].insert(dot, op) {
        let detail = format!("dot {dot:?} of key {key} minted for {before:?} and for {op:?}");
        return Err(Broken::new(PROMISE, at, detail));
    }
    let ids = &mut history.ids[place(key)];
    let op = &mut history.ops[op.at()];
    if op.dots.is_empty() {
        op.ids_before = *ids;
    }
    *ids += 1 + op.seen.as_ref().map_or(0, |seen| seen.ops.len());
    op.dots.push(dot);
    Ok(())
}

/// No answer lists a version beside one whose author had seen it. An operation that was minted
/// twice (a retry that met a replica without the first) is left to the idempotence oracle.
pub fn listed(history: &History, listing: &Listing) -> Ruling {
    if listing.ops.len() < 2 {
        return Ok(());
    }
    for &index in &listing.ops {
        let Some(seen) = &history.op(index).seen else {
            continue;
        };
        for &other in &listing.ops {
            let once = history.op(other).dots.len() < 2;
            if other != index && once && seen.ops.contains(&other) {
                let key = listing.key;
                let detail = format!("key {key} lists {other:?} beside {index:?}, which saw it");
                return Err(Broken::new(PROMISE, listing.at, detail));
            }
        }
    }
    Ok(())
}

impl Causality {
    /// A node's disk holds this clock for a key now.
    pub fn clock(&mut self, node: usize, key: u32, clock: &Clock, at: u64) -> Ruling {
        if let Some(before) = self.clocks.get(&(node, key))
            && !clock.dominates(before)
            && !self.agreed.remove(&(node, key))
        {
            let detail = format!("the clock of key {key} shrank from {before:?} to {clock:?}");
            return Err(Broken::new(PROMISE, at, detail));
        }
        self.clocks.insert((node, key), clock.clone());
        Ok(())
    }

    /// The clock may shrink once: the node says that all owners have agreed on it.
    pub fn may_shrink(&mut self, node: usize, key: u32) {
        self.agreed.insert((node, key));
    }

    /// A record was damaged from outside, so that its clock may start again.
    pub fn forget(&mut self, node: usize, key: u32) {
        self.clocks.remove(&(node, key));
    }
}
