//! P8: damage is found although nobody reads what is damaged, and whoever looks at everything finds
//! nothing else wrong.

use super::{Broken, Ruling};

const PROMISE: &str = "care (P8)";

/// A pass over everything, and a look at everything, may take this much simulated time each.
pub const PASS_MAX: u64 = 60_000_000_000;

/// A node's pass has ended, and it has not said of a record that was damaged before that it is.
pub fn overlooked(node: &str, key: u32, at: u64) -> Ruling {
    let detail = format!("{node} has scrubbed, and not found the damage to key {key}");
    Err(Broken::new(PROMISE, at, detail))
}

/// A pass does not end.
pub fn endless(node: &str, at: u64) -> Ruling {
    let detail = format!("{node} was told to scrub and is not through");
    Err(Broken::new(PROMISE, at, detail))
}

/// What was damaged has not come back from the other replicas.
pub fn unmended(key: u32, detail: &str, at: u64) -> Ruling {
    let detail = format!("key {key} was not mended after a scrub: {detail}");
    Err(Broken::new(PROMISE, at, detail))
}

/// Looking at everything finds what is not so, or does not come to an end.
pub fn false_alarm(detail: &str, at: u64) -> Ruling {
    Err(Broken::new(PROMISE, at, detail.to_owned()))
}
