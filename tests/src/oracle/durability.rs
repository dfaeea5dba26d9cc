//! P1: an acknowledged write is never lost. W2, W9: at the moment a node says OK, at least W
//! distinct nodes of the preference list, or others for one of them each where that is allowed,
//! hold the write on their synced disks, PW of them as replicas.
//!
//! The second half is checked with every acknowledgement, on the disks themselves. The first is
//! checked at the end: going back from what is live through what each author had seen must reach
//! every acknowledged write.

use std::collections::BTreeSet;

use super::{Broken, Ruling};
use crate::history::{History, OpIndex, Outcome};

const PROMISE: &str = "durability (P1, W2)";

/// An acknowledgement as it leaves a node.
#[derive(Debug)]
pub struct Ack<'a> {
    /// The write.
    pub op: OpIndex,
    /// When.
    pub at: u64,
    /// Names in the answer.
    pub durable_on: &'a [String],
    /// Names of the nodes that may count.
    pub preference: &'a [String],
    /// Of `durable_on`, those on whose synced disk the write is not.
    pub missing: Vec<String>,
    /// Of `durable_on`, how many stand in for replicas.
    pub hinted: u8,
    /// Replicas that have it.
    pub primaries: u8,
}

/// Checks an acknowledgement against the disks.
pub fn acknowledged(history: &History, ack: &Ack<'_>) -> Ruling {
    let op = history.op(ack.op);
    let broken = |what: &str| {
        let detail = format!(
            "{:?} of key {} acknowledged with durable_on {:?}: {what}",
            ack.op, op.key, ack.durable_on
        );
        Err(Broken::new(PROMISE, ack.at, detail))
    };
    let distinct: BTreeSet<&String> = ack.durable_on.iter().collect();
    if distinct.len() != ack.durable_on.len() {
        return broken("a node is named twice");
    }
    if distinct.len() < usize::from(op.w) {
        return broken(&format!("fewer than w = {}", op.w));
    }
    if ack.primaries < op.pw {
        return broken(&format!(
            "{} replicas, fewer than pw = {}",
            ack.primaries, op.pw
        ));
    }
    let strangers = distinct
        .iter()
        .filter(|name| !ack.preference.contains(name));
    if usize::from(ack.hinted) < strangers.count() || (0 < ack.hinted && !op.sloppy) {
        let detail = format!(
            "only {} may stand in, not all are in the preference list",
            ack.hinted
        );
        return broken(&detail);
    }
    if !ack.missing.is_empty() {
        return broken(&format!("not on the synced disk of {:?}", ack.missing));
    }
    Ok(())
}

/// Checks at the end that everything acknowledged is among `live`, the operations whose versions
/// (tombstones too) are live on any replica of any key, or behind them.
pub fn at_the_end(history: &mut History, live: &[OpIndex], at: u64) -> Ruling {
    history.ancestors(live, |_, _| true);
    for (number, op) in (0_u32..).zip(&history.ops) {
        let index = OpIndex(number);
        if matches!(op.outcome, Outcome::Acknowledged { .. }) && !history.met(index) {
            let detail = format!(
                "{index:?} of key {} was acknowledged and is gone; its dots are {:?}",
                op.key, op.dots
            );
            return Err(Broken::new(PROMISE, at, detail));
        }
    }
    Ok(())
}
