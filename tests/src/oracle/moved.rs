//! P1, W8: who owns a key newly is read only when it has what the old owners held: when a ring is
//! switched to, each new owner has every write that was acknowledged by `w` replicas before data
//! began to move, as long as an old owner has.

use super::Broken;
use crate::history::OpIndex;

const PROMISE: &str = "moved (P1, W8)";

/// A ring is read, and a new owner lacks something.
#[must_use]
pub fn lacks(node: &str, key: u32, op: OpIndex, other: &str, at: u64) -> Broken {
    let detail =
        format!("{node} is read as a new owner and lacks {op:?} of key {key}; {other} has it");
    Broken::new(PROMISE, at, detail)
}
