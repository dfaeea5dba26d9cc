//! Records decoded lately, so that a key in much use is not decoded for every message about it.
//!
//! The store is asked all the same, and what is kept counts only if the store's bytes are still
//! the same: damage on disk is found no later than without this. Bounded by bytes; what came first
//! goes first.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use crate::replica::{Address, Stored};

/// A record takes about so much besides its bytes.
const RECORD_BYTES: usize = 512;
/// A record that takes more than one part in so many of all room is not kept.
const SHARE: usize = 16;

/// Decoded records by address.
#[derive(Debug)]
pub(crate) struct Decoded {
    bytes_max: usize,
    bytes: usize,
    records: BTreeMap<Address, Arc<Stored>>,
    order: VecDeque<Address>,
}

impl Decoded {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            records: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// What `bytes` say, if they are what was kept under that address.
    pub(crate) fn find(&self, address: &Address, bytes: &Bytes) -> Option<Arc<Stored>> {
        let kept = self.records.get(address)?;
        let same = is_same_place(&kept.bytes, bytes) || kept.bytes == *bytes;
        same.then(|| Arc::clone(kept))
    }

    /// Keeps a record in place of what was kept under that address.
    pub(crate) fn keep(&mut self, address: &Address, stored: &Arc<Stored>) {
        let size = size(stored);
        if self.bytes_max < size * SHARE {
            return;
        }
        self.bytes += size;
        if let Some(kept) = self.records.get_mut(address) {
            self.bytes -= self::size(kept);
            *kept = Arc::clone(stored);
        } else {
            self.records.insert(address.clone(), Arc::clone(stored));
            self.order.push_back(address.clone());
        }
        while self.bytes_max < self.bytes
            && let Some(first) = self.order.pop_front()
            && let Some(gone) = self.records.remove(&first)
        {
            self.bytes -= self::size(&gone);
        }
    }
}

/// True if both are the same part of one buffer, which nobody can have changed.
fn is_same_place(a: &Bytes, b: &Bytes) -> bool {
    a.as_ptr() == b.as_ptr() && a.len() == b.len()
}

fn size(stored: &Stored) -> usize {
    RECORD_BYTES + stored.bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::BucketId, store::format::Record};

    fn address(key: u8) -> Address {
        Address {
            token: u64::from(key),
            bucket: BucketId(1),
            key: Bytes::copy_from_slice(&[key]),
        }
    }

    fn stored(bytes: &'static [u8]) -> Arc<Stored> {
        Arc::new(Stored {
            record: Record::default(),
            bytes: Bytes::from_static(bytes),
        })
    }

    #[test]
    fn what_has_changed_on_disk_is_not_found() {
        let mut decoded = Decoded::new(1 << 20);
        decoded.keep(&address(1), &stored(b"old"));
        assert!(
            decoded
                .find(&address(1), &Bytes::from_static(b"old"))
                .is_some()
        );
        assert!(
            decoded
                .find(&address(1), &Bytes::from_static(b"rot"))
                .is_none()
        );
        decoded.keep(&address(1), &stored(b"new"));
        assert!(
            decoded
                .find(&address(1), &Bytes::from_static(b"old"))
                .is_none()
        );
        assert!(
            decoded
                .find(&address(1), &Bytes::from_static(b"new"))
                .is_some()
        );
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let mut decoded = Decoded::new(RECORD_BYTES * 20);
        for key in 0..200 {
            decoded.keep(&address(key), &stored(b"value"));
            assert!(decoded.bytes <= decoded.bytes_max);
            assert_eq!(decoded.records.len(), decoded.order.len());
        }
        assert!(
            decoded
                .find(&address(199), &Bytes::from_static(b"value"))
                .is_some()
        );
        assert!(
            decoded
                .find(&address(0), &Bytes::from_static(b"value"))
                .is_none()
        );
    }
}
