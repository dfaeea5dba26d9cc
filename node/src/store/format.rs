//! The bytes of a record: what is stored of a key, and what replicas send each other.
//!
//! ```text
//! magic 'Q' | version 1 | flags | crc32c u32 | body
//! ```
//!
//! The checksum is over the bucket, the key, the first three bytes and the body, so that a record
//! found under another key, or one whose dots rotted, is as damaged as one whose value did. The
//! body has one form only; anything else is refused, so equal records have equal bytes. A reader
//! never panics and never allocates more than its input justifies.
//!
//! A checksum finds accidents. It is no protection against someone who can write to the disk.

use bytes::{BufMut, Bytes, BytesMut};

use crate::causality::{
    Actor, Clock, Container, Dot, OpId, RecentOp, Sibling, Stamp,
    codec::{self, Malformed, Reader},
};

/// The format this release writes.
pub const RECORD_VERSION: u8 = 1;

const MAGIC: u8 = b'Q';
const HEADER_BYTES: usize = 7;
const FLAG_SUSPECT: u8 = 1;
const HAS_VALUE: u8 = 1;
const HAS_EXPIRY: u8 = 2;
const HAS_STAMP: u8 = 4;
/// Least and most bytes of a version, its value apart.
const SIBLING_BYTES_MIN: usize = 36;
/// What a version mostly takes, its value apart.
const SIBLING_BYTES: usize = 33 + 2 + 2 + 6 + 6 + 3;
const RECENT_GROUP_BYTES_MIN: usize = 8 + 1 + RECENT_BYTES_MIN;
const RECENT_BYTES_MIN: usize = 16 + 8 + 1;
/// What a recent operation mostly takes, its group apart.
const RECENT_BYTES: usize = 16 + 8 + 3;

/// What a replica stores of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Versions and clock.
    pub container: Container,
    /// This replica lost an earlier state of the key, and has not yet learnt from all the others
    /// what it may have held: the record must not count towards a read.
    pub suspect: bool,
}

/// The record is not what this release wrote for that key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CorruptRecord {
    /// It is too short, or does not begin like a record.
    #[error("the bytes are no record")]
    NotARecord,
    /// Damaged, or written by a newer release.
    #[error("the record has format {0}; this release knows {RECORD_VERSION}")]
    UnknownVersion(u8),
    /// Damaged, or the record of another key.
    #[error("the record's checksum does not fit its content and key")]
    Checksum,
    /// The checksum fits, the content does not.
    #[error("the record's checksum fits but its content is malformed")]
    Malformed,
}

impl From<Malformed> for CorruptRecord {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

/// The key of an object in the store: ordered by token, so that a partition is one range.
#[must_use]
pub fn object_key(token: u64, bucket: u64, key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + key.len());
    out.put_u64(token);
    out.put_u64(bucket);
    out.put_slice(key);
    out.freeze()
}

/// Token, bucket and key of an [`object_key`]; none if it is too short to be one.
#[must_use]
pub fn parse_object_key(bytes: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (token, rest) = bytes.split_first_chunk()?;
    let (bucket, key) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(*token), u64::from_be_bytes(*bucket), key))
}

/// The key of a hint: those for one owner lie together, in order of token.
#[must_use]
pub fn hint_key(owner: u64, token: u64, bucket: u64, key: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(24 + key.len());
    out.put_u64(owner);
    out.put_u64(token);
    out.put_u64(bucket);
    out.put_slice(key);
    out.freeze()
}

/// Owner, token, bucket and key of a [`hint_key`]; none if it is too short to be one.
#[must_use]
pub fn parse_hint_key(bytes: &[u8]) -> Option<(u64, u64, u64, &[u8])> {
    let (owner, rest) = bytes.split_first_chunk()?;
    let (token, bucket, key) = parse_object_key(rest)?;
    Some((u64::from_be_bytes(*owner), token, bucket, key))
}

/// The bytes of a record, bound to its bucket and key.
#[must_use]
pub fn encode(bucket: u64, key: &[u8], record: &Record) -> Bytes {
    let container = &record.container;
    let mut out = BytesMut::with_capacity(bytes_likely(container));
    out.put_u8(MAGIC);
    out.put_u8(RECORD_VERSION);
    out.put_u8(if record.suspect { FLAG_SUSPECT } else { 0 });
    out.put_u32_le(0);
    codec::put_clock(&mut out, container.clock());
    codec::put_count(&mut out, container.siblings().len());
    for (dot, sibling) in container.siblings() {
        put_sibling(&mut out, container.clock(), dot, sibling);
    }
    put_recent(&mut out, container.recent());
    let crc = checksum(bucket, key, &out);
    out[3..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    out.freeze()
}

/// About what the record takes: room that is not used stays with the bytes as long as they live.
fn bytes_likely(container: &Container) -> usize {
    let values: usize = container
        .siblings()
        .map(|(_, sibling)| SIBLING_BYTES + sibling.value.as_ref().map_or(0, Bytes::len))
        .sum();
    let recent = container.recent();
    let groups = recent.chunk_by(|a, b| a.op.principal == b.op.principal);
    let recent = groups.count() * (8 + 1) + recent.len() * RECENT_BYTES + 8;
    HEADER_BYTES + codec::clock_bytes(container.clock()) + 2 + values + recent
}

fn put_sibling(out: &mut BytesMut, clock: &Clock, dot: Dot, sibling: &Sibling) {
    let index = clock
        .position(dot.actor)
        .expect("a container's clock covers its versions");
    codec::put_count(out, index);
    codec::put_varint(out, dot.n);
    let value = if sibling.value.is_some() {
        HAS_VALUE
    } else {
        0
    };
    let expiry = if sibling.expires_at_ms.is_some() {
        HAS_EXPIRY
    } else {
        0
    };
    let stamp = if sibling.stamp.is_some() {
        HAS_STAMP
    } else {
        0
    };
    out.put_u8(value | expiry | stamp);
    out.put_u64_le(sibling.op.principal);
    out.put_u128_le(sibling.op.id);
    out.put_u64_le(sibling.request_hash);
    codec::put_varint(out, sibling.written_at_ms);
    if let Some(at) = sibling.expires_at_ms {
        codec::put_varint(out, at);
    }
    if let Some(stamp) = sibling.stamp {
        out.put_u64_le(stamp.get());
    }
    if let Some(value) = &sibling.value {
        codec::put_count(out, value.len());
        out.put_slice(value);
    }
}

/// Operations by principal, their times counted back from the newest: a key that is written often
/// has many of them.
fn put_recent(out: &mut BytesMut, recent: &[RecentOp]) {
    let groups = || recent.chunk_by(|a, b| a.op.principal == b.op.principal);
    codec::put_count(out, groups().count());
    let Some(newest) = recent.iter().map(|known| known.at_ms).max() else {
        return;
    };
    codec::put_varint(out, newest);
    for group in groups() {
        out.put_u64_le(group[0].op.principal);
        codec::put_count(out, group.len());
        for known in group {
            out.put_u128_le(known.op.id);
            out.put_u64_le(known.request_hash);
            codec::put_varint(out, newest - known.at_ms);
        }
    }
}

/// Over everything but the checksum itself.
fn checksum(bucket: u64, key: &[u8], bytes: &[u8]) -> u32 {
    let key_bytes = u64::try_from(key.len()).expect("lengths fit 64 bits");
    let mut head = [0; 16];
    head[..8].copy_from_slice(&bucket.to_le_bytes());
    head[8..].copy_from_slice(&key_bytes.to_le_bytes());
    let mut crc = crc32c::crc32c_append(crc32c::crc32c(&head), key);
    crc = crc32c::crc32c_append(crc, &bytes[..3]);
    crc32c::crc32c_append(crc, &bytes[HEADER_BYTES..])
}

/// Reads the record of a key. Values are parts of `bytes`, not copies.
///
/// # Errors
///
/// If the bytes are not exactly what [`encode`] makes for this bucket and key.
pub fn decode(bucket: u64, key: &[u8], bytes: &Bytes) -> Result<Record, CorruptRecord> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(CorruptRecord::NotARecord);
    };
    let [magic, version, flags, crc @ ..] = *header;
    if magic != MAGIC {
        return Err(CorruptRecord::NotARecord);
    }
    if version != RECORD_VERSION {
        return Err(CorruptRecord::UnknownVersion(version));
    }
    if u32::from_le_bytes(crc) != checksum(bucket, key, bytes) {
        return Err(CorruptRecord::Checksum);
    }
    if flags & !FLAG_SUSPECT != 0 {
        return Err(CorruptRecord::Malformed);
    }
    let mut reader = Reader::new(body);
    let clock = reader.clock()?;
    let siblings = read_siblings(&mut reader, &clock, bytes)?;
    let recent = read_recent(&mut reader)?;
    reader.end()?;
    let container = Container::from_parts(siblings, clock, recent).ok_or(Malformed)?;
    Ok(Record {
        container,
        suspect: flags & FLAG_SUSPECT != 0,
    })
}

fn read_siblings(
    reader: &mut Reader<'_>,
    clock: &Clock,
    bytes: &Bytes,
) -> Result<Vec<(Dot, Sibling)>, Malformed> {
    let count = reader.count(SIBLING_BYTES_MIN)?;
    let mut siblings = Vec::with_capacity(count);
    for _ in 0..count {
        let index = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
        let (actor, _): (Actor, u64) = *clock.entries().get(index).ok_or(Malformed)?;
        let n = reader.varint()?;
        let flags = reader.byte()?;
        if flags & !(HAS_VALUE | HAS_EXPIRY | HAS_STAMP) != 0 {
            return Err(Malformed);
        }
        let op = OpId {
            principal: u64::from_le_bytes(reader.array()?),
            id: u128::from_le_bytes(reader.array()?),
        };
        let request_hash = u64::from_le_bytes(reader.array()?);
        let written_at_ms = reader.varint()?;
        let has_expiry = flags & HAS_EXPIRY != 0;
        let expires_at_ms = has_expiry.then(|| reader.varint()).transpose()?;
        let stamp = if flags & HAS_STAMP != 0 {
            Some(Stamp::new(u64::from_le_bytes(reader.array()?)))
        } else {
            None
        };
        let value = if flags & HAS_VALUE != 0 {
            let length = reader.count(1)?;
            Some(bytes.slice_ref(reader.slice(length)?))
        } else {
            None
        };
        let sibling = Sibling {
            value,
            op,
            request_hash,
            written_at_ms,
            expires_at_ms,
            stamp,
        };
        siblings.push((Dot { actor, n }, sibling));
    }
    Ok(siblings)
}

fn read_recent(reader: &mut Reader<'_>) -> Result<Vec<RecentOp>, Malformed> {
    let groups = reader.count(RECENT_GROUP_BYTES_MIN)?;
    if groups == 0 {
        return Ok(Vec::new());
    }
    let mut recent = Vec::with_capacity(reader.room(RECENT_BYTES_MIN));
    let newest = reader.varint()?;
    let (mut found_newest, mut before) = (false, None);
    for _ in 0..groups {
        let principal = u64::from_le_bytes(reader.array()?);
        let count = reader.count(RECENT_BYTES_MIN)?;
        if count == 0 || before.replace(principal) == Some(principal) {
            return Err(Malformed);
        }
        for _ in 0..count {
            let id = u128::from_le_bytes(reader.array()?);
            let request_hash = u64::from_le_bytes(reader.array()?);
            let age = reader.varint()?;
            found_newest |= age == 0;
            recent.push(RecentOp {
                op: OpId { principal, id },
                request_hash,
                at_ms: newest.checked_sub(age).ok_or(Malformed)?,
            });
        }
    }
    found_newest.then_some(recent).ok_or(Malformed)
}

#[cfg(test)]
mod tests;
