//! Where records lie that nobody may take in: out of the way, until a person looks at them.
//!
//! A record is set aside when it is so old that what it says may have been reaped since. It is then
//! found by no read, comparison or transfer, only by `quorate salvage`. It lies among the node's
//! own facts, so that moving it there is synced, under a key that begins with where it was; a node
//! may hold several of one key, of different times, and some that were hints.
//!
//! Not decided here: what is set aside, and when.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Table, Write, format};

/// Keys of records that were set aside begin so, in [`Table::Meta`].
pub const ASIDE_PREFIX: &[u8] = b"aside/";
/// The first key behind all of them.
pub const ASIDE_END: &[u8] = b"aside0";

/// Where it is kept that everything held is being set aside, and why.
pub const META_ASIDE_KEY: &[u8] = b"aside-run";

const FORMAT: u8 = 1;
/// What follows the key of the object: whose hint it was, and since when.
const TAIL_BYTES: usize = 16;

/// Why a record was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Why {
    /// Its node had left the ring, and something was reaped meanwhile.
    Away = 1,
    /// The data directory was restored, rolled back or copied.
    Old = 2,
    /// The data directory had lost part of what was acknowledged.
    Lossy = 3,
    /// It was taken in before it was agreed that the data directory is not the one of before.
    Early = 4,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Away, Self::Old, Self::Lossy, Self::Early];

    /// The reverse of `as u8`.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|why| *why as u8 == number)
    }

    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "was out of the ring",
            Self::Old => "directory restored or copied",
            Self::Lossy => "directory cut short",
            Self::Early => "taken in too early",
        }
    }
}

/// One record that was set aside, but for its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Aside {
    /// Token of the key.
    pub token: u64,
    /// Number of the bucket.
    pub bucket: u64,
    /// The key.
    pub key: Bytes,
    /// The node that it was kept for, if it was a hint; zero otherwise.
    pub hint_for: u64,
    /// When it was set aside, in unix milliseconds of that node.
    pub since_ms: u64,
}

impl Aside {
    /// Where it lies.
    #[must_use]
    pub fn store_key(&self) -> Bytes {
        let object = format::object_key(self.token, self.bucket, &self.key);
        let mut out = BytesMut::with_capacity(ASIDE_PREFIX.len() + object.len() + TAIL_BYTES);
        out.put_slice(ASIDE_PREFIX);
        out.put_slice(&object);
        out.put_u64(self.hint_for);
        out.put_u64(self.since_ms);
        out.freeze()
    }

    /// The reverse of [`store_key`](Self::store_key); none if it is no such key.
    #[must_use]
    pub fn parse(store_key: &Bytes) -> Option<Self> {
        let rest = store_key.strip_prefix(ASIDE_PREFIX)?;
        let (object, since_ms) = rest.split_last_chunk::<8>()?;
        let (object, hint_for) = object.split_last_chunk::<8>()?;
        let (token, bucket, key) = format::parse_object_key(object)?;
        Some(Self {
            token,
            bucket,
            key: store_key.slice_ref(key),
            hint_for: u64::from_be_bytes(*hint_for),
            since_ms: u64::from_be_bytes(*since_ms),
        })
    }
}

/// The write after which everything that is held is to be set aside, until it is through.
#[must_use]
pub fn begin(why: Why) -> Write {
    Write::Put {
        table: Table::Meta,
        key: Bytes::from_static(META_ASIDE_KEY),
        value: wrap(why, b""),
    }
}

/// The write that says that it is through.
#[must_use]
pub const fn end() -> Write {
    Write::Delete {
        table: Table::Meta,
        key: Bytes::from_static(META_ASIDE_KEY),
    }
}

/// What is stored under the key of a record, or that of a [`begin`]ning.
#[must_use]
pub fn wrap(why: Why, record: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + record.len());
    out.put_u8(FORMAT);
    out.put_u8(why as u8);
    out.put_slice(record);
    out.freeze()
}

/// The reverse of [`wrap`]; none if it is damaged or of a newer release. The record has a checksum
/// of its own.
#[must_use]
pub fn unwrap(value: &Bytes) -> Option<(Why, Bytes)> {
    match value[..] {
        [FORMAT, why, ..] => Some((Why::of(why)?, value.slice(2..))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside() -> Aside {
        Aside {
            token: 0x0102,
            bucket: 3,
            key: Bytes::from_static(b"milk"),
            hint_for: 4,
            since_ms: 5,
        }
    }

    #[test]
    fn a_key_says_what_it_was_made_of() {
        let key = aside().store_key();
        assert_eq!(Aside::parse(&key), Some(aside()));
        assert!(key.starts_with(ASIDE_PREFIX) && &key[..] < ASIDE_END);
        for short in 0..ASIDE_PREFIX.len() + 32 {
            assert_eq!(Aside::parse(&key.slice(..short)), None);
        }
    }

    #[test]
    fn what_is_set_aside_has_these_bytes() {
        let key = aside().store_key();
        let golden = b"aside/\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03milk\
            \0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05";
        assert_eq!(&key[..], golden);
        let value = wrap(Why::Old, b"record");
        assert_eq!(&value[..], b"\x01\x02record");
        assert_eq!(
            unwrap(&value),
            Some((Why::Old, Bytes::from_static(b"record")))
        );
    }

    #[test]
    fn what_is_no_record_is_none() {
        for bytes in [&b""[..], b"\x01", b"\x02\x01x", b"\x01\x09x"] {
            assert_eq!(unwrap(&Bytes::copy_from_slice(bytes)), None);
        }
    }
}
