//! Frames: sixteen bytes of header, then a body.
//!
//! Decides where a message begins and ends, which number stands for which message, and how large
//! one may be. The limit is checked on the header, before anything is allocated for the body; while
//! a body trickles in, memory grows with what has arrived, not with what was announced. What the
//! body means is left to [`codec`](super::codec), and for messages between nodes to the node.
//!
//! All integers are little-endian: length of the body (u32), kind (u16), flags (u8), version (u8),
//! request id (u64).

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 16;
/// The layout described here. A header with another version is refused.
pub const VERSION: u8 = 1;
/// Largest value a bucket may permit.
pub const VALUE_BYTES_MAX: usize = 4 << 20;
/// Largest body: a value of the greatest size and what goes with it.
pub const BODY_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);

/// Which message a frame holds. Numbers are given out once and never change their meaning;
/// messages between nodes have 201 to 999, given out by the node.
pub mod kind {
    /// [`Request::Get`](crate::wire::Request::Get).
    pub const GET: u16 = 1;
    /// [`Request::Put`](crate::wire::Request::Put).
    pub const PUT: u16 = 2;
    /// [`Request::Delete`](crate::wire::Request::Delete).
    pub const DELETE: u16 = 3;
    /// [`Request::Keys`](crate::wire::Request::Keys).
    pub const KEYS: u16 = 4;
    /// [`Request::Explain`](crate::wire::Request::Explain).
    pub const EXPLAIN: u16 = 5;
    /// [`Request::Bucket`](crate::wire::Request::Bucket).
    pub const BUCKET: u16 = 6;
    /// [`Request::Ring`](crate::wire::Request::Ring).
    pub const RING: u16 = 7;
    /// [`Request::Status`](crate::wire::Request::Status).
    pub const STATUS: u16 = 8;
    /// [`Request::Healing`](crate::wire::Request::Healing).
    pub const HEALING: u16 = 23;
    /// [`Request::RingChange`](crate::wire::Request::RingChange).
    pub const RING_CHANGE: u16 = 31;
    /// The answer to the request with this id is no longer wanted; nothing answers.
    pub const CANCEL: u16 = 41;
    /// [`Response::Got`](crate::wire::Response::Got).
    pub const GOT: u16 = 101;
    /// [`Response::Written`](crate::wire::Response::Written).
    pub const WRITTEN: u16 = 102;
    /// [`Response::Keys`](crate::wire::Response::Keys).
    pub const KEYS_PAGE: u16 = 103;
    /// [`Response::Explained`](crate::wire::Response::Explained).
    pub const EXPLAINED: u16 = 104;
    /// [`Response::Buckets`](crate::wire::Response::Buckets).
    pub const BUCKETS: u16 = 105;
    /// [`Response::Ring`](crate::wire::Response::Ring).
    pub const RING_IS: u16 = 106;
    /// [`Response::Status`](crate::wire::Response::Status).
    pub const STATUS_IS: u16 = 107;
    /// [`Response::Healing`](crate::wire::Response::Healing).
    pub const HEALING_IS: u16 = 123;
    /// [`Response::Error`](crate::wire::Response::Error).
    pub const ERROR: u16 = 108;
    /// [`Response::RingChange`](crate::wire::Response::RingChange).
    pub const RING_CHANGED: u16 = 131;
    /// First number of the messages between nodes.
    pub const PEER_FIRST: u16 = 201;
    /// Last number of the messages between nodes.
    pub const PEER_LAST: u16 = 999;
    /// [`Hello`](crate::wire::Hello).
    pub const HELLO: u16 = 1000;
    /// [`HelloReply`](crate::wire::HelloReply).
    pub const HELLO_REPLY: u16 = 1001;
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body that follows.
    pub length: u32,
    /// One of [`kind`].
    pub kind: u16,
    /// None is defined yet: written as zero, ignored when read.
    pub flags: u8,
    /// Carried from a request to its answer; zero where there is nothing to answer.
    pub id: u64,
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..4].copy_from_slice(&self.length.to_le_bytes());
        out[4..6].copy_from_slice(&self.kind.to_le_bytes());
        out[6] = self.flags;
        out[7] = VERSION;
        out[8..16].copy_from_slice(&self.id.to_le_bytes());
        out
    }

    /// Reads a header and checks version and length.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [l0, l1, l2, l3, k0, k1, flags, version, id @ ..] = bytes;
        if version != VERSION {
            return Err(FrameError::Version { version });
        }
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length as usize > BODY_BYTES_MAX {
            return Err(FrameError::TooLarge { length });
        }
        Ok(Self {
            length,
            kind: u16::from_le_bytes([k0, k1]),
            flags,
            id: u64::from_le_bytes(id),
        })
    }
}

/// A frame that has arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u16,
    /// None is defined yet.
    pub flags: u8,
    /// Carried from a request to its answer.
    pub id: u64,
    /// `MessagePack`.
    pub body: Bytes,
}

/// Why a stream of bytes is not a stream of frames. The stream cannot be used any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A layout this release does not know.
    #[error("frame version {version} is not known, {VERSION} was expected")]
    Version {
        /// What the header says.
        version: u8,
    },
    /// A body over the limit.
    #[error("a frame body of {length} bytes is over the limit of {BODY_BYTES_MAX}")]
    TooLarge {
        /// What the header says.
        length: u32,
    },
}

/// Why a message could not be made into a frame.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The body would be over the limit.
    #[error("a message of {length} bytes is over the limit of {BODY_BYTES_MAX}")]
    TooLarge {
        /// Bytes of the body.
        length: usize,
    },
    /// The message cannot be expressed.
    #[error("cannot encode the message: {0}")]
    Codec(#[from] rmp_serde::encode::Error),
}

/// Appends one frame with `body` as `MessagePack` (named fields) to `out`; leaves `out` as it was
/// if that fails. Reuse `out`: many frames packed into one write cost a fraction of a write each.
pub fn append<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    kind: u16,
    id: u64,
    body: &T,
) -> Result<(), EncodeError> {
    let start = out.len();
    let result = append_body(out, kind, id, body);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn append_body<T: Serialize + ?Sized>(
    out: &mut BytesMut,
    kind: u16,
    id: u64,
    body: &T,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    rmp_serde::encode::write_named(&mut Sink(out), body)?;
    let length = out.len() - start - HEADER_BYTES;
    let header = Header {
        length: u32::try_from(length)
            .ok()
            .filter(|_| length <= BODY_BYTES_MAX)
            .ok_or(EncodeError::TooLarge { length })?,
        kind,
        flags: 0,
        id,
    };
    out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
    Ok(())
}

/// Appends the frame that takes back the request with this id: an empty map. Work on it that has
/// not begun is dropped.
pub fn append_cancel(out: &mut BytesMut, id: u64) {
    let header = Header {
        length: 1,
        kind: kind::CANCEL,
        flags: 0,
        id,
    };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(&[0x80]);
}

/// `BytesMut` as a writer that grows.
struct Sink<'a>(&'a mut BytesMut);

impl std::io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Memory set aside at once for a body that has not arrived; more follows as more arrives.
const FIRST_RESERVE_BYTES: usize = 64 << 10;

/// Cuts a stream into frames, without IO: [`feed`](Self::feed) it what arrives, then call
/// [`next_frame`](Self::next_frame) until it has no more.
///
/// A body that lies within one chunk is a slice of it; any other is copied once (when larger than
/// 64 KiB, a part of it once more). It holds at most four times the bytes received of one frame,
/// plus 64 KiB, plus what was fed and not yet taken.
#[derive(Debug, Default)]
pub struct FrameReader {
    input: VecDeque<Bytes>,
    head: [u8; HEADER_BYTES],
    head_filled: usize,
    header: Option<Header>,
    body: BytesMut,
}

impl FrameReader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes in the order in which they arrived.
    pub fn feed(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.input.push_back(chunk);
        }
    }

    /// True if the stream may end here: no frame is half read.
    #[must_use]
    pub fn is_at_boundary(&self) -> bool {
        self.input.is_empty() && self.head_filled == 0
    }

    /// The next whole frame, or `None` until more is fed. After an error the stream is useless.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.take_header()? else {
            return Ok(None);
        };
        let Some(body) = self.take_body(header.length as usize) else {
            return Ok(None);
        };
        self.header = None;
        self.head_filled = 0;
        Ok(Some(Frame {
            kind: header.kind,
            flags: header.flags,
            id: header.id,
            body,
        }))
    }

    fn take_header(&mut self) -> Result<Option<Header>, FrameError> {
        if self.header.is_none() {
            while self.head_filled < HEADER_BYTES {
                let Some(front) = self.input.front_mut() else {
                    return Ok(None);
                };
                let taken = front.len().min(HEADER_BYTES - self.head_filled);
                let target = &mut self.head[self.head_filled..self.head_filled + taken];
                front.copy_to_slice(target);
                self.head_filled += taken;
                self.drop_spent_front();
            }
            self.header = Some(Header::decode(self.head)?);
        }
        Ok(self.header)
    }

    fn take_body(&mut self, length: usize) -> Option<Bytes> {
        if self.body.is_empty() {
            if length == 0 {
                return Some(Bytes::new());
            }
            let front = self.input.front_mut()?;
            if front.len() >= length {
                let body = front.split_to(length);
                self.drop_spent_front();
                return Some(body);
            }
        }
        while self.body.len() < length {
            let front = self.input.front_mut()?;
            let taken = front.len().min(length - self.body.len());
            if self.body.capacity() < self.body.len() + taken {
                let grown = (4 * (self.body.len() + taken)).max(FIRST_RESERVE_BYTES);
                self.body.reserve(grown.min(length) - self.body.len());
            }
            self.body.extend_from_slice(&front[..taken]);
            front.advance(taken);
            self.drop_spent_front();
        }
        Some(std::mem::take(&mut self.body).freeze())
    }

    fn drop_spent_front(&mut self) {
        if self.input.front().is_some_and(Bytes::is_empty) {
            self.input.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames_of(reader: &mut FrameReader) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame().unwrap() {
            frames.push(frame);
        }
        frames
    }

    #[test]
    fn a_header_has_these_sixteen_bytes() {
        let header = Header {
            length: 0x0102,
            kind: kind::HELLO,
            flags: 0,
            id: 0x0a0b,
        };
        let bytes = [2, 1, 0, 0, 0xe8, 3, 0, 1, 0x0b, 0x0a, 0, 0, 0, 0, 0, 0];
        assert_eq!(header.encode(), bytes);
        assert_eq!(Header::decode(bytes), Ok(header));
    }

    #[test]
    fn a_body_over_the_limit_is_refused_on_its_header() {
        for length in [u32::MAX, u32::try_from(BODY_BYTES_MAX).unwrap() + 1] {
            let mut bytes = Header {
                length: 0,
                kind: kind::PUT,
                flags: 0,
                id: 1,
            }
            .encode();
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            let mut reader = FrameReader::new();
            reader.feed(Bytes::copy_from_slice(&bytes));
            assert_eq!(reader.next_frame(), Err(FrameError::TooLarge { length }));
            assert_eq!(reader.body.capacity(), 0);
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = [0; HEADER_BYTES];
        bytes[7] = 2;
        assert_eq!(
            Header::decode(bytes),
            Err(FrameError::Version { version: 2 })
        );
    }

    #[test]
    fn an_announced_body_takes_memory_only_as_it_arrives() {
        let header = Header {
            length: u32::try_from(BODY_BYTES_MAX).unwrap(),
            kind: kind::PUT,
            flags: 0,
            id: 1,
        };
        let mut reader = FrameReader::new();
        reader.feed(Bytes::copy_from_slice(&header.encode()));
        for fed in 1..=100 {
            reader.feed(Bytes::from_static(&[7; 1000]));
            assert_eq!(reader.next_frame(), Ok(None));
            assert!(reader.body.capacity() <= 4 * 1000 * fed + FIRST_RESERVE_BYTES);
        }
    }

    #[test]
    fn a_body_within_one_chunk_is_not_copied() {
        let mut out = BytesMut::new();
        append(&mut out, kind::GET, 1, "some words that are long enough").unwrap();
        let chunk = out.freeze();
        let mut reader = FrameReader::new();
        reader.feed(chunk.clone());
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!(frame.body.as_ptr(), chunk[HEADER_BYTES..].as_ptr());
        assert!(reader.is_at_boundary());
    }

    #[test]
    fn a_message_over_the_limit_leaves_the_buffer_as_it_was() {
        let mut out = BytesMut::from(&b"before"[..]);
        let body = Bytes::from(vec![0; BODY_BYTES_MAX]);
        assert!(matches!(
            append(&mut out, kind::PUT, 1, &body),
            Err(EncodeError::TooLarge { .. })
        ));
        assert_eq!(&out[..], b"before");
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            sizes in prop::collection::vec(0_usize..2000, 1..12),
            cuts in prop::collection::vec(1_usize..700, 1..40),
        ) {
            let mut out = BytesMut::new();
            for (id, size) in (0..).zip(&sizes) {
                append(&mut out, kind::PUT, id, &Bytes::from(vec![7; *size])).unwrap();
            }
            let mut whole = FrameReader::new();
            whole.feed(out.clone().freeze());
            let expected = frames_of(&mut whole);
            prop_assert_eq!(expected.len(), sizes.len());

            let mut rest = out.freeze();
            let mut reader = FrameReader::new();
            let mut got = Vec::new();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().unwrap());
                reader.feed(rest.split_to(cut));
                got.append(&mut frames_of(&mut reader));
            }
            prop_assert!(reader.is_at_boundary());
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn random_bytes_never_panic(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        ) {
            let mut reader = FrameReader::new();
            for chunk in chunks {
                reader.feed(Bytes::from(chunk));
                while let Ok(Some(_)) = reader.next_frame() {}
            }
        }
    }
}
