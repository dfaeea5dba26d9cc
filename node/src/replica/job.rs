//! What a job on one key carries along.
//!
//! Not decided here: what it does; that is the replica's business.

use super::Job;

impl Job {
    /// The write generation of the foreign state that it merges; none if it merges none.
    pub(crate) const fn generation(&self) -> Option<u64> {
        match self {
            Self::Apply(merge) | Self::Settle(merge) => Some(merge.generation),
            Self::Coordinate(intent) if intent.base.is_some() => Some(intent.generation),
            Self::Coordinate(_)
            | Self::Read
            | Self::Look
            | Self::Latest
            | Self::Expire { .. }
            | Self::Drop(_)
            | Self::SetAside(..)
            | Self::Remove
            | Self::Reap(_) => None,
        }
    }
}
