//! W7, P1: who deletes a record because it belongs to others knows of durable receipts of all of
//! them: at that moment every owner, of the ring that the node knows or of the newest one, has on
//! its synced disk what the record had seen. A copy less than that is a copy less for good.

use super::Broken;

const PROMISE: &str = "handover (P1, W7)";

/// A record is gone, and not all who own it have it.
#[must_use]
pub fn early(holder: &str, key: u32, lacking: &[&str], at: u64) -> Broken {
    let detail = format!("{holder} deleted key {key}, and {lacking:?} lack what it held");
    Broken::new(PROMISE, at, detail)
}
