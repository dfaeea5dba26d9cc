//! Keys that the background scan came upon and that could be reaped, or have their clocks
//! compacted.
//!
//! Bounded; what finds no room is found again by the next scan. By slot, since a round is about
//! keys of one slot.

use std::collections::BTreeMap;

use super::{Candidate, Goal, ROUND_KEYS_MAX, digest, slot_of};
use crate::{causality::Container, core::Core, healing::message::Place, replica::Address};

/// Most keys that wait.
pub(crate) const WAITING_MAX: usize = 16_384;

/// A key that the scan came upon.
#[derive(Clone, Debug)]
pub(crate) struct Lapsed {
    pub(crate) address: Address,
    digest: u128,
    goal: Goal,
    touched_at_ms: u64,
    /// Entries of the clock that could go.
    closed: usize,
}

impl Lapsed {
    /// None if there is nothing to do about it, ever.
    pub(crate) fn of(address: &Address, container: &Container) -> Option<Self> {
        let closed = container.closed_epochs().len();
        let goal = if container.is_all_tombstones() {
            Goal::Reap
        } else if 0 < closed {
            Goal::Compact
        } else {
            return None;
        };
        Some(Self {
            closed,
            address: address.clone(),
            digest: digest(container),
            goal,
            touched_at_ms: container.touched_at_ms(),
        })
    }

    pub(crate) const fn is_tombstone(&self) -> bool {
        matches!(self.goal, Goal::Reap)
    }
}

/// True if that is long enough ago, by the cluster's time. Whether anything may be reaped at all is
/// decided by other things.
pub(crate) fn is_old(core: &Core, touched_at_ms: u64) -> bool {
    let age = u64::try_from(core.limits.tombstone_age.as_millis()).unwrap_or(u64::MAX);
    touched_at_ms.saturating_add(age) <= core.time_ms()
}

/// Those that wait for a round, and how many tombstones there are.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<u8, BTreeMap<Address, (u128, Goal)>>,
    count: usize,
    /// Tombstones met in this round of the scan, and in the last whole one.
    met: u64,
    tombstones: u64,
}

impl Queue {
    /// A page of the scan has these.
    pub(crate) fn found(&mut self, core: &Core, lapsed: Vec<Lapsed>) {
        for key in lapsed {
            self.met += u64::from(key.is_tombstone());
            let first = core.owners(&key.address).first() == Some(&core.me);
            let ripe = match key.goal {
                Goal::Reap => is_old(core, key.touched_at_ms),
                Goal::Compact => core.limits.closed_epochs_min <= key.closed,
            };
            if !first || !ripe || WAITING_MAX <= self.count {
                continue;
            }
            let slot = self.waiting.entry(slot_of(key.address.token)).or_default();
            let entry = (key.digest, key.goal);
            self.count += usize::from(slot.insert(key.address, entry).is_none());
        }
    }

    /// The scan has come through all records.
    pub(crate) fn round(&mut self) {
        self.tombstones = std::mem::take(&mut self.met);
    }

    /// Those of the next round, all of one slot after `last`, in a circle.
    pub(crate) fn take(&mut self, last: u8) -> Option<(u8, Vec<Candidate>)> {
        let after = last.checked_add(1).into_iter();
        let mut after = after.flat_map(|next| self.waiting.range(next..));
        let slot = after.next().or_else(|| self.waiting.iter().next());
        let slot = *slot?.0;
        let keys = self.waiting.get_mut(&slot)?;
        let mut taken = Vec::new();
        while taken.len() < ROUND_KEYS_MAX
            && let Some((address, (digest, goal))) = keys.pop_first()
        {
            let place = Place::from(&address);
            taken.push(Candidate {
                place,
                digest,
                goal,
            });
        }
        if keys.is_empty() {
            self.waiting.remove(&slot);
        }
        self.count -= taken.len();
        Some((slot, taken))
    }

    /// A round about these was not held; they wait again.
    pub(crate) fn give_back(&mut self, slot: u8, candidates: Vec<Candidate>) {
        let keys = self.waiting.entry(slot).or_default();
        for candidate in candidates {
            let entry = (candidate.digest, candidate.goal);
            let address = Address::from(&candidate.place);
            self.count += usize::from(keys.insert(address, entry).is_none());
        }
    }

    pub(crate) const fn waiting(&self) -> usize {
        self.count
    }

    /// Tombstones that this node holds, as of the last whole scan.
    pub(crate) const fn tombstones(&self) -> u64 {
        self.tombstones
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::BucketId;

    fn candidate(slot: u8, key: u8) -> Candidate {
        let place = Place {
            token: u64::from(slot) << 56,
            bucket: BucketId(1),
            key: Bytes::copy_from_slice(&[key]),
        };
        Candidate {
            place,
            digest: 1,
            goal: Goal::Reap,
        }
    }

    #[test]
    fn slots_take_turns_and_rounds_are_bounded() {
        let mut queue = Queue::default();
        let many = (0..100).map(|key| candidate(3, key)).collect();
        queue.give_back(3, many);
        queue.give_back(255, vec![candidate(255, 0)]);
        assert_eq!(queue.waiting(), 101);
        let (slot, taken) = queue.take(0).unwrap();
        assert_eq!((slot, taken.len()), (3, ROUND_KEYS_MAX));
        assert_eq!(queue.take(3).unwrap().0, 255);
        let (slot, taken) = queue.take(255).unwrap();
        assert_eq!((slot, taken.len()), (3, 36));
        assert!(queue.take(3).is_none());
        assert_eq!(queue.waiting(), 0);
    }
}
