//! Records that were in use lately, so that a key in much use is neither read nor decoded anew for
//! every request and message about it.
//!
//! What is kept is what was last durable. The disk may be damaged behind its back: then this still
//! has the right bytes, the next write puts them back, and the replica looks at the disk before it
//! says of something it only remembers that it is stored. Damage is looked for by scrubbing and by
//! comparison, which read the store itself.
//!
//! Bounded by bytes. What was not used since it was last looked at goes first, which costs less
//! than to keep the order of use (the clock of Corbató, 1968).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use quorate_ring::NodeId;

use super::{Address, Stored};

/// A record takes about so much besides its bytes.
const RECORD_BYTES: usize = 1_200;
/// A record that takes more than one part in so many of all room is not kept.
const SHARE: usize = 16;

/// What is searched by: a search compares many of them, and whole addresses are long and far apart
/// in memory. Where two addresses share one, the later is kept.
type Short = (u64, Option<NodeId>);

fn short(address: &Address) -> Short {
    (address.token, address.hint_for)
}

#[derive(Debug)]
struct Kept {
    address: Address,
    /// None if it was forgotten; its place in the round stays until its turn comes.
    stored: Option<Arc<Stored>>,
    used: bool,
}

/// Durable records by address.
#[derive(Debug)]
pub(super) struct Recent {
    bytes_max: usize,
    bytes: usize,
    records: BTreeMap<Short, Box<Kept>>,
    /// Each record once.
    hand: VecDeque<Short>,
}

impl Recent {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            records: BTreeMap::new(),
            hand: VecDeque::new(),
        }
    }

    /// What was last durable under that address, if it is still known.
    pub(super) fn find(&mut self, address: &Address) -> Option<Arc<Stored>> {
        let kept = self.kept(address)?;
        kept.used = true;
        kept.stored.clone()
    }

    /// What is kept under that address, if it was decoded from just these bytes. Does not count as
    /// use.
    pub(super) fn same(&self, address: &Address, bytes: &Bytes) -> Option<&Arc<Stored>> {
        let kept = self.records.get(&short(address))?;
        let stored = kept.stored.as_ref()?;
        (kept.address == *address && stored.bytes == *bytes).then_some(stored)
    }

    fn kept(&mut self, address: &Address) -> Option<&mut Kept> {
        let kept = self.records.get_mut(&short(address))?;
        (kept.address == *address).then_some(kept)
    }

    /// Keeps a record in place of what was kept under that address.
    pub(super) fn keep(&mut self, address: &Address, stored: &Arc<Stored>) {
        let stored = Some(Arc::clone(stored));
        let size = size(stored.as_ref());
        if self.bytes_max < size * SHARE {
            return self.forget(address);
        }
        let short = short(address);
        if let Some(kept) = self.records.get_mut(&short) {
            self.bytes -= self::size(kept.stored.as_ref());
            kept.stored = stored;
            if kept.address != *address {
                kept.address = address.clone();
                kept.used = false;
            }
        } else {
            let kept = Kept {
                address: address.clone(),
                stored,
                used: false,
            };
            self.records.insert(short, Box::new(kept));
            self.hand.push_back(short);
        }
        self.bytes += size;
        while self.bytes_max < self.bytes {
            self.pass();
        }
    }

    /// Nothing is known of that address any more.
    pub(super) fn forget(&mut self, address: &Address) {
        if let Some(kept) = self.kept(address) {
            let gone = size(kept.stored.take().as_ref()) - size(None);
            self.bytes -= gone;
        }
    }

    /// Looks at the record whose turn it is: used, it may stay for another round.
    fn pass(&mut self) {
        let short = self.hand.pop_front().expect("bytes are those of records");
        let kept = self.records.get_mut(&short).expect("each record once");
        if std::mem::take(&mut kept.used) {
            self.hand.push_back(short);
        } else if let Some(gone) = self.records.remove(&short) {
            self.bytes -= size(gone.stored.as_ref());
        }
    }
}

fn size(stored: Option<&Arc<Stored>>) -> usize {
    RECORD_BYTES + stored.map_or(0, |stored| stored.bytes.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{message::BucketId, store::format::Record};

    fn address(key: u8) -> Address {
        Address {
            token: u64::from(key),
            bucket: BucketId(1),
            key: Bytes::copy_from_slice(&[key]),
            hint_for: None,
        }
    }

    fn stored(bytes: &'static [u8]) -> Arc<Stored> {
        Arc::new(Stored::new(Record::default(), Bytes::from_static(bytes)))
    }

    #[test]
    fn the_last_one_kept_is_found_until_it_is_forgotten() {
        let mut recent = Recent::new(1 << 20);
        recent.keep(&address(1), &stored(b"old"));
        recent.keep(&address(1), &stored(b"new"));
        assert_eq!(recent.find(&address(1)).unwrap().bytes, "new");
        recent.forget(&address(1));
        assert!(recent.find(&address(1)).is_none());
        assert_eq!((recent.bytes, recent.hand.len()), (RECORD_BYTES, 1));
        recent.keep(&address(1), &stored(b"again"));
        assert_eq!(recent.find(&address(1)).unwrap().bytes, "again");
        assert_eq!(recent.hand.len(), 1);
    }

    #[test]
    fn what_was_decoded_from_the_same_bytes_is_found_by_them() {
        let mut recent = Recent::new(1 << 20);
        recent.keep(&address(1), &stored(b"value"));
        let [value, other] = [b"value", b"other"].map(|bytes| Bytes::from_static(bytes));
        assert!(recent.same(&address(1), &value).is_some());
        assert!(recent.same(&address(1), &other).is_none());
        assert!(recent.same(&address(2), &value).is_none());
        recent.forget(&address(1));
        assert!(recent.same(&address(1), &value).is_none());
    }

    #[test]
    fn of_two_with_one_token_the_later_is_kept() {
        let mut recent = Recent::new(1 << 20);
        let mut other = address(1);
        other.key = Bytes::from_static(b"other");
        recent.keep(&address(1), &stored(b"value"));
        recent.forget(&other);
        assert!(recent.find(&other).is_none());
        assert_eq!(recent.find(&address(1)).unwrap().bytes, "value");
        recent.keep(&other, &stored(b"another"));
        assert!(recent.find(&address(1)).is_none());
        assert_eq!(recent.find(&other).unwrap().bytes, "another");
        assert_eq!(recent.bytes, RECORD_BYTES + 7);
        assert_eq!(recent.hand.len(), 1);
    }

    #[test]
    fn one_too_large_to_keep_takes_its_predecessor_with_it() {
        let mut recent = Recent::new(RECORD_BYTES * SHARE + 100);
        recent.keep(&address(1), &stored(b"small"));
        assert!(recent.find(&address(1)).is_some());
        recent.keep(&address(1), &stored(&[0; 100]));
        assert!(recent.find(&address(1)).is_none());
    }

    #[test]
    fn it_stays_within_its_bytes_and_keeps_what_is_used() {
        let mut recent = Recent::new(RECORD_BYTES * 20);
        for key in 0..200 {
            recent.keep(&address(key), &stored(b"value"));
            assert!(recent.find(&address(0)).is_some(), "{key}");
            assert!(recent.bytes <= recent.bytes_max);
            assert_eq!(recent.records.len(), recent.hand.len());
        }
        assert!(recent.find(&address(199)).is_some());
        assert!(recent.find(&address(100)).is_none());
    }
}
