//! What hints this node keeps: for whom, of which keys, and how much they take.
//!
//! An index in memory over what is stored, in step with every write; at the start it is filled from
//! the store in the background, and until then nothing new is taken in, because it is not known how
//! much there is. It answers at once whether there is a hint of a key or of a range, counting what
//! is still on its way to the disk as kept.
//!
//! Not decided here: when a hint is handed over, and to whom.

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeInclusive},
};

use bytes::Bytes;
use quorate_ring::NodeId;

use super::{Address, Held, Job, Replica, Stored, Waits};
use crate::{
    message::BucketId,
    store::{Table, Write, format::Record},
};

/// A hint counts as so many bytes besides its record and its key.
const HINT_BYTES: usize = 256;
const RECEIPT_KEY: &[u8] = b"hint-receipt";

/// One hint, as the index knows it.
#[derive(Clone, Copy, Debug)]
struct Known {
    bytes: usize,
    /// When the newest version in it had been written, when it was first seen here.
    since_ms: u64,
}

/// All hints for one replica.
#[derive(Debug, Default)]
struct Owed {
    keys: BTreeMap<Address, Known>,
    bytes: usize,
}

/// The hints that are stored here.
#[derive(Debug)]
pub(crate) struct HintIndex {
    owners: BTreeMap<NodeId, Owed>,
    bytes: usize,
    /// Bytes on their way to the store.
    in_flight: usize,
    bytes_max: usize,
    complete: bool,
}

/// How much is kept for one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) owner: NodeId,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) oldest_ms: Option<u64>,
}

/// A small write to the node's own facts, which are always synced: with it goes what was written
/// before it.
pub(super) fn receipt() -> Write {
    Write::Put {
        table: Table::Meta,
        key: Bytes::from_static(RECEIPT_KEY),
        value: Bytes::new(),
    }
}

impl HintIndex {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            owners: BTreeMap::new(),
            bytes: 0,
            in_flight: 0,
            bytes_max,
            complete: false,
        }
    }

    /// True once everything stored is in it.
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Everything stored has been [`found`](Self::found).
    pub(crate) const fn completed(&mut self) {
        self.complete = true;
    }

    /// (bytes that the hints count as, their maximum).
    pub(crate) const fn load(&self) -> (usize, usize) {
        (self.bytes + self.in_flight, self.bytes_max)
    }

    pub(crate) fn count(&self) -> usize {
        self.owners.values().map(|owed| owed.keys.len()).sum()
    }

    pub(crate) fn owners(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.owners.keys().copied()
    }

    /// How much is kept for each replica.
    pub(crate) fn sums(&self) -> impl Iterator<Item = Sum> + '_ {
        self.owners.iter().map(|(owner, owed)| Sum {
            owner: *owner,
            count: owed.keys.len(),
            bytes: owed.bytes,
            // The order of keys is no order of time; a sample says enough.
            oldest_ms: owed.keys.values().take(1_000).map(|k| k.since_ms).min(),
        })
    }

    /// The keys of hints for a replica, behind the given one.
    pub(crate) fn after<'a>(
        &'a self,
        owner: NodeId,
        after: Option<&'a Address>,
    ) -> impl Iterator<Item = &'a Address> + 'a {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let owed = self.owners.get(&owner);
        let keys = owed.map(|owed| owed.keys.range((start, Bound::Unbounded)));
        keys.into_iter().flatten().map(|(address, _)| address)
    }

    /// The replicas for which there is a hint of this key.
    pub(crate) fn of_key(&self, address: &Address) -> Vec<NodeId> {
        let object = address.object();
        let kept = |(_, owed): &(&NodeId, &Owed)| owed.keys.contains_key(&object);
        let owners = self.owners.iter().filter(kept);
        owners.map(|(owner, _)| *owner).collect()
    }

    /// A scan of the store has come upon a hint.
    pub(crate) fn found(&mut self, address: &Address, bytes: usize, record: Option<&Record>) {
        let owner = address.hint_for.unwrap_or(NodeId::new(0));
        let known = self.owners.get(&owner);
        if !known.is_some_and(|owed| owed.keys.contains_key(&address.object())) {
            self.put(owner, address, bytes, record.map_or(0, written_ms));
        }
    }

    fn put(&mut self, owner: NodeId, address: &Address, bytes: usize, since_ms: u64) {
        let bytes = bytes + address.key.len() + HINT_BYTES;
        let owed = self.owners.entry(owner).or_default();
        let key = address.object();
        let known = owed.keys.entry(key).or_insert(Known { bytes: 0, since_ms });
        let before = std::mem::replace(&mut known.bytes, bytes);
        owed.bytes = owed.bytes - before + bytes;
        self.bytes = self.bytes - before + bytes;
    }

    fn remove(&mut self, owner: NodeId, address: &Address) {
        let Some(owed) = self.owners.get_mut(&owner) else {
            return;
        };
        if let Some(known) = owed.keys.remove(&address.object()) {
            owed.bytes -= known.bytes;
            self.bytes -= known.bytes;
        }
        if owed.keys.is_empty() {
            self.owners.remove(&owner);
        }
    }

    /// A write is complete.
    pub(super) fn written(&mut self, address: &Address, state: &Held) {
        let Some(owner) = address.hint_for else {
            return;
        };
        match state {
            Held::Present(stored) => {
                let Stored { record, bytes, .. } = &**stored;
                self.put(owner, address, bytes.len(), written_ms(record));
            }
            Held::Absent | Held::Unreadable => self.remove(owner, address),
        }
    }

    pub(super) const fn begun(&mut self, address: &Address, bytes: usize) {
        if address.is_hint() {
            self.in_flight += bytes;
        }
    }

    pub(super) const fn ended(&mut self, address: &Address, bytes: usize) {
        if address.is_hint() {
            self.in_flight -= bytes;
        }
    }

    /// The limit that stands against doing this to a hint.
    pub(super) const fn refuses(&self, job: &Job) -> Option<&'static str> {
        match job {
            Job::Apply(_) | Job::Coordinate(_) if !self.complete => Some("hint_index"),
            Job::Apply(_) | Job::Coordinate(_) if self.bytes_max <= self.bytes + self.in_flight => {
                Some("hint_bytes")
            }
            Job::Apply(_)
            | Job::Coordinate(_)
            | Job::Read
            | Job::Look
            | Job::Latest
            | Job::SetAside(..)
            | Job::Reap(_)
            | Job::Remove
            | Job::Settle(_)
            | Job::Expire { .. }
            | Job::Drop(_) => None,
        }
    }
}

/// When the newest version was written.
fn written_ms(record: &Record) -> u64 {
    let times = record.container.siblings().map(|(_, s)| s.written_at_ms);
    times.max().unwrap_or(0)
}

impl Replica {
    pub(crate) const fn hints(&self) -> &HintIndex {
        &self.hints
    }

    pub(crate) const fn hints_mut(&mut self) -> &mut HintIndex {
        &mut self.hints
    }

    /// Whether this node keeps, or is about to keep, any hint in a range of tokens; also true while
    /// that is not known yet.
    pub(crate) fn holds_hint_in(&self, tokens: &RangeInclusive<u64>) -> bool {
        let at = |token| Address {
            token,
            bucket: BucketId(0),
            key: Bytes::new(),
            hint_for: None,
        };
        let within = |address: &Address| address.token <= *tokens.end();
        let first = at(*tokens.start());
        let indexed = |owed: &Owed| {
            let next = owed.keys.range(&first..).next();
            next.is_some_and(|(address, _)| within(address))
        };
        let mut busy = self.entries.range(&first..).map(|(address, _)| address);
        !self.hints.complete
            || self.hints.owners.values().any(indexed)
            || busy
                .by_ref()
                .take_while(|address| within(address))
                .any(Address::is_hint)
    }

    /// Whether this node keeps, or is about to keep, a hint of this key; also true while that is
    /// not known yet.
    pub(crate) fn holds_hint_of(&self, address: &Address) -> bool {
        let mut busy = self.entries.range(address.object()..);
        let same = |other: &Address| {
            (other.token, other.bucket, &other.key) == (address.token, address.bucket, &address.key)
        };
        !self.hints.complete
            || !self.hints.of_key(address).is_empty()
            || busy
                .by_ref()
                .map(|(other, _)| other)
                .take_while(|other| same(other))
                .any(Address::is_hint)
    }

    /// What is settled has to be synced, also if it is here already and nobody knows whether it is.
    pub(super) const fn insist(&self, waits: Waits, present: bool, sync: &mut bool) -> Waits {
        if self.durable_writes || !present {
            return waits;
        }
        match waits {
            Waits::No => Waits::No,
            Waits::ForWhatIsThere | Waits::ForNextWrite => {
                *sync = true;
                Waits::ForNextWrite
            }
        }
    }
}
