//! Contexts: what a client has seen of a key, sealed so that it can only give it back.
//!
//! A forged context could delete what its author never saw, so a context carries a keyed BLAKE3
//! over the cluster, the bucket, the key and itself. It is opaque, not secret: the clock in it
//! names nodes and counts, no values.
//!
//! Not decided here: where the cluster's key comes from, and its rotation.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    clock::Clock,
    codec::{self, Malformed, Reader},
    dot::OpId,
    stamp::Stamp,
};

/// Operation ids carried at most. Beyond it a duplicate of a retried write can outlive the write
/// that replaced it, until the copies meet.
pub const SEEN_MAX: usize = 128;

const FORMAT: u8 = 1;
/// With a stamp at its end.
const FORMAT_STAMPED: u8 = 2;
const MAC_BYTES: usize = 16;
const OP_BYTES: usize = 24;

/// What a writer had seen of a key. The empty one belongs to a blind write, which replaces
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Covers every version the writer was shown.
    pub clock: Clock,
    /// The operations behind those versions, in ascending order, each once.
    pub seen: Vec<OpId>,
    /// Where the last write wins: the stamp of what the writer was shown.
    pub stamp: Option<Stamp>,
}

/// Why a context was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadContext {
    /// It was given out for another key.
    #[error("the context belongs to another key")]
    OtherKey,
    /// It is of a format this release does not know.
    #[error("the context has format {0}; this release knows {FORMAT_STAMPED}")]
    UnknownFormat(u8),
    /// It was not made by this cluster for this bucket and key, or was changed since.
    #[error("the context is damaged, forged, or of another cluster or bucket")]
    NotOurs,
}

impl Context {
    /// Puts the operations in order and keeps at most [`SEEN_MAX`] of them.
    #[must_use]
    pub fn new(clock: Clock, mut seen: Vec<OpId>) -> Self {
        seen.sort_unstable();
        seen.dedup();
        seen.truncate(SEEN_MAX);
        let stamp = None;
        Self { clock, seen, stamp }
    }

    /// The same with a stamp.
    #[must_use]
    pub fn with_stamp(self, stamp: Option<Stamp>) -> Self {
        Self { stamp, ..self }
    }

    /// True if the writer had seen nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clock.is_empty() && self.seen.is_empty()
    }
}

/// The cluster's secret for contexts.
#[derive(Clone)]
pub struct ContextKey([u8; 32]);

impl fmt::Debug for ContextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContextKey(..)")
    }
}

impl ContextKey {
    /// Wraps a secret that all nodes of the cluster share and nobody else knows.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// Fills `out` with a secret for another purpose; each purpose has its own.
    pub(crate) fn derive(&self, purpose: &str, out: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // No context's MAC is over so short a text: that begins with 32 bytes of its own.
        hasher.update(purpose.as_bytes());
        hasher.finalize_xof().fill(out);
    }

    /// Makes the opaque bytes handed to a client.
    #[must_use]
    pub fn seal(&self, cluster: u128, bucket: u64, key: &[u8], context: &Context) -> Bytes {
        let clock_bytes = codec::clock_bytes(&context.clock);
        let bytes = 1 + 8 + clock_bytes + 10 + 8 + context.seen.len() * OP_BYTES + MAC_BYTES;
        let mut out = BytesMut::with_capacity(bytes);
        let stamped = context.stamp.is_some();
        out.put_u8(if stamped { FORMAT_STAMPED } else { FORMAT });
        out.put_u64_le(xxh3_64(key));
        codec::put_clock(&mut out, &context.clock);
        codec::put_count(&mut out, context.seen.len());
        for op in &context.seen {
            out.put_u64_le(op.principal);
            out.put_u128_le(op.id);
        }
        if let Some(stamp) = context.stamp {
            out.put_u64_le(stamp.get());
        }
        let mac = self.mac(cluster, bucket, key, &out);
        out.put_slice(&mac);
        out.freeze()
    }

    /// Reads a context that a client gave back for this key.
    ///
    /// # Errors
    ///
    /// If this cluster did not make it for this bucket and key, or it was changed since.
    pub fn open(
        &self,
        cluster: u128,
        bucket: u64,
        key: &[u8],
        token: &[u8],
    ) -> Result<Context, BadContext> {
        let (body, mac) = token
            .split_last_chunk::<MAC_BYTES>()
            .ok_or(BadContext::NotOurs)?;
        let mut reader = Reader::new(body);
        let stamped = match reader.byte() {
            Ok(FORMAT) => false,
            Ok(FORMAT_STAMPED) => true,
            Ok(other) => return Err(BadContext::UnknownFormat(other)),
            Err(Malformed) => return Err(BadContext::NotOurs),
        };
        if !same(&self.mac(cluster, bucket, key, body), mac) {
            // Only now worth a better word: the hash is no secret, and no proof either.
            let hash = reader.array().map(u64::from_le_bytes);
            return match hash {
                Ok(hash) if hash != xxh3_64(key) => Err(BadContext::OtherKey),
                Ok(_) | Err(Malformed) => Err(BadContext::NotOurs),
            };
        }
        read_body(reader, stamped).map_err(|Malformed| BadContext::NotOurs)
    }

    fn mac(&self, cluster: u128, bucket: u64, key: &[u8], body: &[u8]) -> [u8; MAC_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        let mut head = [0; 32];
        head[..16].copy_from_slice(&cluster.to_le_bytes());
        head[16..24].copy_from_slice(&bucket.to_le_bytes());
        let key_bytes = u64::try_from(key.len()).expect("lengths fit 64 bits");
        head[24..].copy_from_slice(&key_bytes.to_le_bytes());
        hasher.update(&head).update(key).update(body);
        let hash = hasher.finalize();
        *hash
            .as_bytes()
            .first_chunk()
            .expect("a hash is longer than its part")
    }
}

fn read_body(mut reader: Reader<'_>, stamped: bool) -> Result<Context, Malformed> {
    reader.array::<8>()?;
    let clock = reader.clock()?;
    let count = reader.count(OP_BYTES)?;
    let mut seen = Vec::with_capacity(count);
    for _ in 0..count {
        seen.push(OpId {
            principal: u64::from_le_bytes(reader.array()?),
            id: u128::from_le_bytes(reader.array()?),
        });
    }
    let stamp = if stamped {
        Some(Stamp::new(u64::from_le_bytes(reader.array()?)))
    } else {
        None
    };
    reader.end()?;
    Ok(Context { clock, seen, stamp })
}

/// Compares without telling, by the time it takes, where the first difference is.
fn same(a: &[u8; MAC_BYTES], b: &[u8; MAC_BYTES]) -> bool {
    let different = a.iter().zip(b).fold(0, |bits, (a, b)| bits | (a ^ b));
    std::hint::black_box(different) == 0
}
