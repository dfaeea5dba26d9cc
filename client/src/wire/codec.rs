//! Bodies: which bytes stand for which request or answer.
//!
//! Bodies are `MessagePack` maps with named fields. A reader skips names it does not know and takes
//! defaults for those it misses, so that releases next to each other understand each other; it
//! refuses bytes after the body, unknown kinds, and nesting deeper than [`DEPTH_MAX`]. Lengths in
//! a body are never believed: nothing is set aside for bytes that are not there.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::{
    BucketInfo, Request, Response,
    frame::{self, EncodeError, kind},
};

/// Deepest nesting of a body; our own messages nest five deep.
pub const DEPTH_MAX: usize = 32;

/// Why a body means nothing. The stream it came from is still in order.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A number this release does not know.
    #[error("message kind {kind} is not known here")]
    UnknownKind {
        /// What the header says.
        kind: u16,
    },
    /// Not the body that belongs to the kind.
    #[error("the body does not fit its kind: {0}")]
    Body(#[from] rmp_serde::decode::Error),
    /// More bytes than the body has.
    #[error("there are bytes after the body")]
    TrailingBytes,
}

/// Reads one body, which `T` may borrow from; also used for messages between nodes.
pub fn decode_body<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, DecodeError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(body);
    deserializer.set_max_depth(DEPTH_MAX);
    let value = T::deserialize(&mut deserializer)?;
    // The reader does not say how far it got. Asking for one more value (which cannot nest) fails
    // to read its first byte exactly when nothing is left.
    match bool::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        Ok(_) | Err(_) => Err(DecodeError::TrailingBytes),
    }
}

/// A body without fields; later ones may be added.
#[derive(Serialize, Deserialize)]
struct Empty {}

/// A list has a map around it, so that fields may be added.
#[derive(Serialize)]
struct BucketsBody<'a> {
    buckets: &'a [BucketInfo],
}

#[derive(Deserialize)]
struct BucketsOwned {
    buckets: Vec<BucketInfo>,
}

impl Request {
    /// The number that stands for this request.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Get(_) => kind::GET,
            Self::Put(_) => kind::PUT,
            Self::Delete(_) => kind::DELETE,
            Self::Keys(_) => kind::KEYS,
            Self::Explain(_) => kind::EXPLAIN,
            Self::Bucket(_) => kind::BUCKET,
            Self::Ring => kind::RING,
            Self::Status => kind::STATUS,
            Self::Healing(_) => kind::HEALING,
            Self::RingChange(_) => kind::RING_CHANGE,
        }
    }

    /// Appends this request as a frame.
    pub fn append_to(&self, out: &mut BytesMut, id: u64) -> Result<(), EncodeError> {
        let kind = self.kind();
        match self {
            Self::Get(body) => frame::append(out, kind, id, body),
            Self::Put(body) | Self::Delete(body) => frame::append(out, kind, id, body),
            Self::Keys(body) => frame::append(out, kind, id, body),
            Self::Explain(body) => frame::append(out, kind, id, body),
            Self::Bucket(body) => frame::append(out, kind, id, body),
            Self::RingChange(body) => frame::append(out, kind, id, body),
            Self::Ring | Self::Status => frame::append(out, kind, id, &Empty {}),
            Self::Healing(body) => frame::append(out, kind, id, body),
        }
    }

    /// What it is called in traces, and the bucket it is about, if there is one.
    #[must_use]
    pub fn named(&self) -> (&'static str, &str) {
        match self {
            Self::Get(get) => ("get", &get.bucket[..]),
            Self::Put(write) => ("put", &write.bucket[..]),
            Self::Delete(write) => ("delete", &write.bucket[..]),
            Self::Keys(keys) => ("keys", &keys.bucket[..]),
            Self::Explain(explain) => ("explain", &explain.bucket[..]),
            Self::Bucket(bucket) => ("bucket", &bucket.name[..]),
            Self::Ring => ("ring", ""),
            Self::Status => ("status", ""),
            Self::Healing(healing) => ("healing", &healing.bucket[..]),
            Self::RingChange(_) => ("ring_change", ""),
        }
    }

    /// Reads the request in a frame's body.
    pub fn decode(kind: u16, body: &[u8]) -> Result<Self, DecodeError> {
        Ok(match kind {
            kind::GET => Self::Get(decode_body(body)?),
            kind::PUT => Self::Put(decode_body(body)?),
            kind::DELETE => Self::Delete(decode_body(body)?),
            kind::KEYS => Self::Keys(decode_body(body)?),
            kind::EXPLAIN => Self::Explain(decode_body(body)?),
            kind::BUCKET => Self::Bucket(decode_body(body)?),
            kind::RING => decode_body(body).map(|Empty {}| Self::Ring)?,
            kind::STATUS => decode_body(body).map(|Empty {}| Self::Status)?,
            kind::HEALING => Self::Healing(decode_body(body)?),
            kind::RING_CHANGE => Self::RingChange(decode_body(body)?),
            _ => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}

impl Response {
    /// The number that stands for this answer.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Got(_) => kind::GOT,
            Self::Written(_) => kind::WRITTEN,
            Self::Keys(_) => kind::KEYS_PAGE,
            Self::Explained(_) => kind::EXPLAINED,
            Self::Buckets(_) => kind::BUCKETS,
            Self::Ring(_) => kind::RING_IS,
            Self::Status(_) => kind::STATUS_IS,
            Self::Healing(_) => kind::HEALING_IS,
            Self::RingChange(_) => kind::RING_CHANGED,
            Self::Error(_) => kind::ERROR,
        }
    }

    /// Appends this answer as a frame.
    pub fn append_to(&self, out: &mut BytesMut, id: u64) -> Result<(), EncodeError> {
        let kind = self.kind();
        match self {
            Self::Got(body) => frame::append(out, kind, id, body),
            Self::Written(body) => frame::append(out, kind, id, body),
            Self::Keys(body) => frame::append(out, kind, id, body),
            Self::Explained(body) => frame::append(out, kind, id, body),
            Self::Buckets(buckets) => frame::append(out, kind, id, &BucketsBody { buckets }),
            Self::Ring(body) => frame::append(out, kind, id, body),
            Self::Status(body) => frame::append(out, kind, id, body),
            Self::Healing(body) => frame::append(out, kind, id, body),
            Self::RingChange(body) => frame::append(out, kind, id, body),
            Self::Error(body) => frame::append(out, kind, id, body),
        }
    }

    /// Reads the answer in a frame's body.
    pub fn decode(kind: u16, body: &[u8]) -> Result<Self, DecodeError> {
        Ok(match kind {
            kind::GOT => Self::Got(decode_body(body)?),
            kind::WRITTEN => Self::Written(decode_body(body)?),
            kind::KEYS_PAGE => Self::Keys(decode_body(body)?),
            kind::EXPLAINED => Self::Explained(decode_body(body)?),
            kind::BUCKETS => {
                Self::Buckets(decode_body(body).map(|body: BucketsOwned| body.buckets)?)
            }
            kind::RING_IS => Self::Ring(decode_body(body)?),
            kind::STATUS_IS => Self::Status(decode_body(body)?),
            kind::HEALING_IS => Self::Healing(decode_body(body)?),
            kind::RING_CHANGED => Self::RingChange(decode_body(body)?),
            kind::ERROR => Self::Error(decode_body(body)?),
            _ => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}
