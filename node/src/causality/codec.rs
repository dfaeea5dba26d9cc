//! Compact bytes for clocks and operation ids, shared by records and contexts.
//!
//! Numbers are little-endian base-128 varints in their shortest form; every set is in strictly
//! ascending order; so equal content has equal bytes, and anything else is refused. A reader never
//! panics and never allocates more than its input justifies.

use bytes::{BufMut, BytesMut};
use quorate_ring::NodeUuid;

use super::{clock::Clock, dot::Actor};

/// The bytes are not what an encoder makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends a varint.
pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while 0x80 <= value {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low seven bits are wanted"
        )]
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than 0x80 is left")]
    out.put_u8(value as u8);
}

/// Appends a count of things in memory.
pub(crate) fn put_count(out: &mut BytesMut, count: usize) {
    put_varint(out, u64::try_from(count).expect("counts fit 64 bits"));
}

/// Appends a clock: per node its uuid, then its epochs as differences, each with its counter.
pub(crate) fn put_clock(out: &mut BytesMut, clock: &Clock) {
    let groups = || clock.entries().chunk_by(|a, b| a.0.uuid == b.0.uuid);
    put_count(out, groups().count());
    for group in groups() {
        out.put_u128(group[0].0.uuid.get());
        put_count(out, group.len());
        let mut before = 0;
        for (actor, n) in group {
            put_varint(out, actor.epoch - before);
            put_varint(out, *n);
            before = actor.epoch;
        }
    }
}

/// About the bytes that a clock takes.
pub(crate) fn clock_bytes(clock: &Clock) -> usize {
    2 + clock.len() * (16 + 1 + 3 + 3)
}

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = tail;
        Ok(*head)
    }

    pub(crate) fn slice(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = tail;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        // Nearly all are short.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds one bit, and no byte but the first may be zero at the end.
            let fits = shift < 63 || bits < 2;
            value |= bits << shift;
            if byte < 0x80 {
                let shortest = shift == 0 || bits != 0;
                return (fits && shortest).then_some(value).ok_or(Malformed);
            }
        }
        Err(Malformed)
    }

    /// A count of things that take at least `each` bytes.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        let fits = count <= self.rest.len() / each;
        fits.then_some(count).ok_or(Malformed)
    }

    pub(crate) fn clock(&mut self) -> Result<Clock, Malformed> {
        let groups = self.count(19)?;
        let mut entries = Vec::with_capacity(groups * 2);
        for _ in 0..groups {
            let uuid = NodeUuid::new(u128::from_be_bytes(self.array()?));
            let mut epoch = 0_u64;
            let epochs = self.count(2)?;
            if epochs == 0 {
                return Err(Malformed);
            }
            for index in 0..epochs {
                let step = self.varint()?;
                if step == 0 && 0 < index {
                    return Err(Malformed);
                }
                epoch = epoch.checked_add(step).ok_or(Malformed)?;
                entries.push((Actor { uuid, epoch }, self.varint()?));
            }
        }
        // The same node in two groups is out of order or out of shape; both are refused.
        let split = entries
            .windows(2)
            .filter(|pair| pair[0].0.uuid != pair[1].0.uuid)
            .count();
        if split + 1 != groups.max(1) {
            return Err(Malformed);
        }
        Clock::from_sorted(entries).ok_or(Malformed)
    }

    /// How many things that take at least `each` bytes can be left.
    pub(crate) const fn room(&self, each: usize) -> usize {
        self.rest.len() / each
    }

    /// Succeeds if nothing is left.
    pub(crate) const fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}
