//! Taking back what has not been begun.
//!
//! A job waits while its key is read from the store, behind other jobs of that key. Who asked for
//! it may have run out of time, or been given up, by the time its turn comes; then it is taken out
//! of the queue, and nothing of it has been done, for certain. What has been begun is never
//! interrupted.

use super::{Address, Caller, OpKey, Replica};

impl Replica {
    /// Takes an operation's jobs on a key out of its queue. False if there are none: they were
    /// done, or never asked for.
    pub(crate) fn withdraw(&mut self, address: &Address, op: OpKey) -> bool {
        let Some(entry) = self.entries.get_mut(address) else {
            return false;
        };
        let before = entry.queue.len();
        entry.queue.retain(|(caller, _)| *caller != Caller::Op(op));
        entry.queue.len() < before
    }
}
