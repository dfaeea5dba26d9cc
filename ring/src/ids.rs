//! Identifiers: small, `Copy`, impossible to mix up.
//!
//! A *member* of the ring is known by its name, which is bound to its certificate; [`NodeId`] is
//! the short form of that name which machines compare and messages carry. A [`NodeUuid`] belongs
//! to a data directory instead: wiping or cloning the directory changes it, and versions are
//! minted under it. The two are never interchangeable.

use std::{fmt, io::Cursor};

/// One member, by name. The first 64 bits of the murmur3 hash of the name, so that every node
/// derives the same id without asking; two names that collide are refused when a ring is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The id that belongs to a member's name.
    ///
    /// # Panics
    ///
    /// Never: reading from memory cannot fail.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let hash = murmur3::murmur3_x64_128(&mut Cursor::new(name.as_bytes()), 0)
            .expect("reading from memory cannot fail");
        #[expect(clippy::cast_possible_truncation, reason = "the low half is the id")]
        Self(hash as u64)
    }

    /// Wraps an id read from the wire or from disk.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number itself, for codecs.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{:016x}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One data directory, for life. Random; a wiped, restored or cloned directory gets a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeUuid(u128);

impl NodeUuid {
    /// Stands for any directory: none has been named yet.
    pub const ANY: Self = Self(0);
    /// Stands for none: what the member held is lost, and it has to be rebuilt.
    pub const NONE: Self = Self(u128::MAX);

    /// Wraps a random number, or one read from the wire or from disk.
    #[must_use]
    pub const fn new(raw: u128) -> Self {
        Self(raw)
    }

    /// The number itself, for codecs.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Debug for NodeUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 96)
    }
}

impl fmt::Display for NodeUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every version in every answer is named by one; formatting it as a number is slow.
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).expect("hex digits are ASCII"))
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The number of a ring. The first ring of a cluster is epoch 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingEpoch(u64);

impl RingEpoch {
    /// The epoch of a cluster's first ring.
    pub const FIRST: Self = Self(1);

    /// Wraps an epoch read from the wire or from disk.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number itself, for codecs.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RingEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
