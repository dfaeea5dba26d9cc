//! P1: only a directory that may hold an old state is fenced. One that goes on from its last
//! life, or is new in place of a lost one, is believed by whoever hears of it, however late: what
//! it alone has acknowledged would be set aside.

use super::Broken;

const PROMISE: &str = "identity (P1)";

/// A node was refused whose directory was never put back, copied or cut short.
#[must_use]
pub fn refused(node: &str, at: u64) -> Broken {
    let detail = format!("{node} is fenced, and goes on from its last life");
    Broken::new(PROMISE, at, detail)
}
