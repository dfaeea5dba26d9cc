//! P3: a directory in place of one that was lost speaks for its member only when it has what the
//! other owners of its keys hold. When the ring names it, it has seen every write that was
//! acknowledged by `w` replicas before it was agreed that the old one was lost, as long as another
//! owner has; from then on it is asked by reads, and counts. What others stood in for is not
//! promised to reads, and may arrive with any owner later.

use super::Broken;
use crate::history::OpIndex;

const PROMISE: &str = "rebuilt (P3)";

/// It is named, and lacks something.
#[must_use]
pub fn lacks(node: &str, key: u32, op: OpIndex, other: &str, at: u64) -> Broken {
    let detail =
        format!("{node} is named as rebuilt and lacks {op:?} of key {key}; {other} has it");
    Broken::new(PROMISE, at, detail)
}
