//! W6, W7: a hint that is counted lies on a synced disk; it goes only when what it held is on the
//! synced disk of another node, whom it was meant for; and when all is well again, none is left. A
//! replica that is overloaded is not stood in for.
//!
//! The first is part of what `durability` checks with every acknowledgement. While the ring changes
//! a hint may go to others than whom it was meant for; then it has to be covered by any of them.

use super::{Broken, Ruling};

const PROMISE: &str = "hint obligations (W6, W7)";

/// A hint that a node has deleted.
#[derive(Debug)]
pub struct Gone<'a> {
    /// Who kept it.
    pub holder: &'a str,
    /// Whom it was meant for.
    pub owner: &'a str,
    /// Its key.
    pub key: u32,
    /// When.
    pub at: u64,
    /// Whether everybody who must have it has it on disk.
    pub covered: bool,
}

/// Checks that a deleted hint has arrived.
pub fn gone(gone: &Gone<'_>) -> Ruling {
    if gone.covered {
        return Ok(());
    }
    let Gone {
        holder,
        owner,
        key,
        at,
        ..
    } = gone;
    let detail = format!("{holder} deleted its hint of key {key} for {owner}, who lacks it");
    Err(Broken::new(PROMISE, *at, detail))
}

/// A replica that answers is stood in for.
#[must_use]
pub fn for_overload(coordinator: &str, at: u64) -> Broken {
    let detail = format!("{coordinator} had somebody stand in for a replica that is overloaded");
    Broken::new(PROMISE, at, detail)
}

/// Somebody still keeps hints although everybody is well.
#[must_use]
pub fn left(holder: &str, count: usize, at: u64) -> Broken {
    let detail = format!("{holder} still keeps {count} hints");
    Broken::new(PROMISE, at, detail)
}
