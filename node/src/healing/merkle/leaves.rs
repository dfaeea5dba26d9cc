//! Lists the keys of some leaves, with the clocks of their records, from the store.
//!
//! From the store and not from memory: the trie says that something differs, the store what.

use bytes::Bytes;

use super::{
    forest::{edge, successor},
    hash::Hasher,
    trie::leaf_of,
};
use crate::{
    bucket::Catalogue,
    healing::Found,
    healing::message::{Entry, Holds, Place},
    message::BucketId,
    replica::{Address, Held},
    store::{Command, Table, Ticket, format},
};

const PAGE_ITEMS: usize = 256;
const PAGE_BYTES: usize = 512 << 10;

/// How long a list may get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) entries: usize,
}

/// A list in the making.
#[derive(Debug)]
pub(crate) struct LeafScan {
    n: u8,
    room: Room,
    /// Leaves still to be read, ascending; the first is being read.
    leaves: Vec<u32>,
    at: usize,
    pub(crate) entries: Vec<Entry>,
    /// There are more keys than there was room for.
    pub(crate) more: bool,
    /// A part could not be read, not even its keys.
    pub(crate) blind: bool,
    /// Records that do not speak for their keys.
    pub(crate) damaged: Vec<Address>,
}

impl LeafScan {
    /// Begins; the command must be handed to the store.
    pub(crate) fn start(
        ticket: Ticket,
        n: u8,
        leaves: Vec<u32>,
        after: Option<&Place>,
        room: Room,
    ) -> (Self, Option<Command>) {
        let first = after.map_or(0, |place| leaf_of(place.token));
        let at = leaves.partition_point(|leaf| *leaf < first);
        let scan = Self {
            n,
            room,
            leaves,
            at,
            entries: Vec::new(),
            more: false,
            blind: false,
            damaged: Vec::new(),
        };
        let resumed = after.filter(|_| scan.leaves.get(at) == Some(&first));
        let start = resumed
            .map(|place| successor(&format::object_key(place.token, place.bucket.0, &place.key)));
        let command = scan.page(ticket, start);
        (scan, command)
    }

    fn page(&self, ticket: Ticket, start: Option<Bytes>) -> Option<Command> {
        let leaf = *self.leaves.get(self.at)?;
        Some(Command::Scan {
            ticket,
            table: Table::Objects,
            start: start.unwrap_or_else(|| edge(leaf)),
            end: edge(leaf + 1),
            items_max: PAGE_ITEMS,
            bytes_max: PAGE_BYTES,
        })
    }

    /// A page has come; the next command, or none when the list is made.
    pub(crate) fn scanned(
        &mut self,
        ticket: Ticket,
        items: Found<'_>,
        more: bool,
        hasher: &mut Hasher,
        catalogue: &Catalogue,
    ) -> Option<Command> {
        let mut resume = None;
        match items {
            Ok(items) => {
                for (store_key, value) in items {
                    if self.room.entries <= self.entries.len() {
                        self.more = true;
                        return None;
                    }
                    self.take(store_key, value, hasher, catalogue);
                }
                if more {
                    resume = items.last().map(|(key, _)| successor(key));
                }
            }
            Err(_) => self.blind = true,
        }
        if resume.is_none() {
            self.at += 1;
        }
        self.page(ticket, resume)
    }

    fn take(
        &mut self,
        store_key: &Bytes,
        value: &Bytes,
        hasher: &mut Hasher,
        catalogue: &Catalogue,
    ) {
        let Some((token, bucket, key)) = format::parse_object_key(store_key) else {
            return;
        };
        if catalogue.replicas(BucketId(bucket)) != Some(self.n) {
            return;
        }
        let place = Place {
            token,
            bucket: BucketId(bucket),
            key: store_key.slice_ref(key),
        };
        let held = Held::decode(bucket, key, value);
        if held.is_suspect() {
            self.damaged.push(Address::from(&place));
        }
        let holds = match &held {
            Held::Present(stored) if stored.record.container.clock().is_empty() => return,
            Held::Present(stored) => Holds::Record {
                clock: stored.record.container.clock().clone(),
                hash: hasher.state(bucket, key, &stored.record.container),
            },
            Held::Absent => return,
            Held::Unreadable => Holds::Unreadable,
        };
        self.entries.push(Entry { place, holds });
    }
}

/// What has to be done to bring two lists together.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// The other side knows something that we do not.
    pub(crate) pulls: Vec<Place>,
    /// We know something that the other side does not.
    pub(crate) pushes: Vec<Place>,
    /// Keys that differ.
    pub(crate) keys: u64,
    /// Leaves in which a key differs.
    pub(crate) leaves: Vec<u32>,
}

/// Compares two lists of the same leaves, ours and theirs, both in order.
pub(crate) fn compare(ours: &[Entry], theirs: &[Entry]) -> Difference {
    let mut found = Difference::default();
    let (mut a, mut b) = (ours.iter().peekable(), theirs.iter().peekable());
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some(a), Some(b)) => a.place.cmp(&b.place),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return found,
        };
        let our = if order.is_le() { a.next() } else { None };
        let their = if order.is_ge() { b.next() } else { None };
        let Some(place) = our.or(their).map(|entry| &entry.place) else {
            return found;
        };
        let (pull, push) = directions(our, their);
        if !pull && !push {
            continue;
        }
        found.keys += 1;
        let leaf = leaf_of(place.token);
        if found.leaves.last() != Some(&leaf) {
            found.leaves.push(leaf);
        }
        if pull {
            found.pulls.push(place.clone());
        }
        if push {
            found.pushes.push(place.clone());
        }
    }
}

/// Whether to pull and whether to push: what is covered by the other side's clock is not sent.
fn directions(our: Option<&Entry>, their: Option<&Entry>) -> (bool, bool) {
    let readable = |entry: Option<&Entry>| match entry.map(|entry| &entry.holds) {
        Some(Holds::Record { clock, hash }) => Some((clock.clone(), *hash)),
        Some(Holds::Unreadable) | None => None,
    };
    match (readable(our), readable(their)) {
        (None, None) => (false, false),
        (None, Some(_)) => (true, false),
        (Some(_), None) => (false, true),
        (Some((_, ours)), Some((_, theirs))) if ours == theirs => (false, false),
        (Some((ours, _)), Some((theirs, _))) => {
            let (above, below) = (ours.dominates(&theirs), theirs.dominates(&ours));
            // Equal clocks with different versions: only merging says what is left.
            (!above || below, !below || above)
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::NodeUuid;

    use super::*;
    use crate::causality::{Actor, Clock, Dot};

    fn entry(key: u8, counters: &[(u8, u64)], hash: u64) -> Entry {
        let mut clock = Clock::new();
        for (uuid, n) in counters {
            let uuid = NodeUuid::new(u128::from(*uuid));
            let actor = Actor { uuid, epoch: 1 };
            clock.insert(Dot { actor, n: *n });
        }
        Entry {
            place: Place {
                token: u64::from(key) << 56,
                bucket: BucketId(1),
                key: Bytes::copy_from_slice(&[key]),
            },
            holds: Holds::Record { clock, hash },
        }
    }

    fn unreadable(key: u8) -> Entry {
        let holds = Holds::Unreadable;
        Entry {
            holds,
            ..entry(key, &[], 0)
        }
    }

    fn keys(places: &[Place]) -> Vec<u8> {
        places.iter().map(|place| place.key[0]).collect()
    }

    #[test]
    fn only_what_differs_moves_and_in_the_direction_of_causality() {
        let ours = [
            entry(1, &[(1, 1)], 1),
            entry(2, &[(1, 1)], 2),
            entry(3, &[(1, 2)], 3),
            entry(4, &[(1, 1)], 4),
            entry(6, &[(1, 1), (2, 1)], 6),
            entry(8, &[(1, 1)], 8),
            unreadable(9),
        ];
        let theirs = [
            entry(1, &[(1, 1)], 1),
            entry(3, &[(1, 1)], 33),
            entry(4, &[(1, 1), (2, 1)], 44),
            entry(5, &[(1, 1)], 5),
            entry(6, &[(1, 1), (3, 1)], 66),
            entry(8, &[(1, 1)], 88),
            entry(9, &[(1, 1)], 9),
        ];
        let found = compare(&ours, &theirs);
        assert_eq!(keys(&found.pulls), [4, 5, 6, 8, 9]);
        assert_eq!(keys(&found.pushes), [2, 3, 6, 8]);
        assert_eq!(found.keys, 7);
        let back = compare(&theirs, &ours);
        assert_eq!(keys(&back.pulls), keys(&found.pushes));
        assert_eq!(keys(&back.pushes), keys(&found.pulls));
    }

    #[test]
    fn two_unreadable_records_cannot_help_each_other() {
        let found = compare(&[unreadable(1)], &[unreadable(1)]);
        assert_eq!(found.keys, 0);
    }
}
