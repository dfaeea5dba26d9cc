//! P5, W10: when faults stop, the replicas of every key become identical in bounded time.
//!
//! Without anybody reading them: what brings a stale replica up to date is the comparison of trees.
//! Compared are versions and clocks; which operation ids an object remembers may differ.

use super::{Broken, Ruling};

const PROMISE: &str = "convergence (P5, W10)";

/// Healing may take this much simulated time.
pub const HEALING_MAX: u64 = 60_000_000_000;

/// A key whose replicas still differ when the time is over.
pub fn differs(key: u32, detail: &str, at: u64) -> Ruling {
    let detail = format!("the replicas of key {key} still differ: {detail}");
    Err(Broken::new(PROMISE, at, detail))
}

/// The cluster does not answer although nothing is broken any more.
pub fn silent(detail: &str, at: u64) -> Ruling {
    Err(Broken::new(PROMISE, at, detail.to_owned()))
}
