//! W8, W9, P1: a receipt stands for a copy that lasts. A node gives none under a ring that moves
//! the key for what it took in under an older one: those who count it know the wrong owners. It
//! gives none before any other member has taken note of its process: its directory may be an old
//! one, which is set aside with all that is in it. And who knows that a directory was lost counts
//! nothing that it gave before, nor what it has set aside itself.

use quorate_ring::RingEpoch;

use super::Broken;

const PROMISE: &str = "receipts (P1, W8, W9)";

/// A receipt goes out under another ring than that under which it was taken in.
#[must_use]
pub fn across(node: &str, (known, now): (RingEpoch, RingEpoch), at: u64) -> Broken {
    let detail = format!("{node} gives a receipt under ring {now} for what came under {known}");
    Broken::new(PROMISE, at, detail)
}

/// A receipt, or a vote, of a process that nobody has heard of.
#[must_use]
pub fn unheard(node: &str, what: &str, at: u64) -> Broken {
    let detail = format!("{node} {what} before any member has taken note of its process");
    Broken::new(PROMISE, at, detail)
}

/// An acknowledgement counts a copy that went with its directory.
#[must_use]
pub fn lost(coordinator: &str, key: u32, holder: &str, at: u64) -> Broken {
    let detail = format!(
        "{coordinator} counts {holder} for a write to key {key}, knows that its directory was \
         lost, and the write is not in what it has now"
    );
    Broken::new(PROMISE, at, detail)
}
