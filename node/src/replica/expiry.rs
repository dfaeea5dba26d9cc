//! What the replica does when the time of a value is over.

use super::{Address, Entry, Waits, hold};

/// Removes the values whose time was over by then.
pub(super) fn expire(entry: &mut Entry, address: &Address, before_ms: u64) -> Waits {
    let Some(mut container) = entry.latest.container().cloned() else {
        return Waits::ForWhatIsThere;
    };
    if !container.expire(before_ms) {
        return Waits::ForWhatIsThere;
    }
    entry.latest = hold(address, container, entry.latest.is_suspect());
    Waits::ForNextWrite
}
