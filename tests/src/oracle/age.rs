//! W11, P4: nothing that is older than what was reaped is taken in. A member whose directory was
//! lost has forgotten what it agreed to take in no longer, so it takes in nothing that was read
//! before the others agreed that it was lost. What is sent again under a later generation was read
//! again: it has seen all that lies on its sender's disk. And a directory that is being set aside
//! takes nothing in and gives nothing away, whatever process it is.

use super::Broken;

const PROMISE: &str = "age (P4, W11)";

/// A receipt for what is too old for a directory that is being rebuilt.
#[must_use]
pub fn too_old(node: &str, least: u64, at: u64) -> Broken {
    let detail = format!("{node} is being rebuilt and takes in what was read before {least:#x}");
    Broken::new(PROMISE, at, detail)
}

/// An old state is sent under a new generation.
#[must_use]
pub fn renewed(node: &str, key: u32, (before, now): (u64, u64), at: u64) -> Broken {
    let detail = format!(
        "{node} sent a state of key {key} under generation {before:#x} and sends it again under \
         {now:#x}, though it holds another by now"
    );
    Broken::new(PROMISE, at, detail)
}

/// A directory speaks that is being set aside.
#[must_use]
pub fn half_aside(node: &str, what: &str, at: u64) -> Broken {
    let detail = format!("{node} {what} before all that it held was set aside");
    Broken::new(PROMISE, at, detail)
}
