//! Write generations: of each part of the key space, what this node still takes in.
//!
//! The key space is cut by the first byte of the token, whatever the ring's partitions are, so that
//! a change of the ring changes nothing here and all generations fit into one small record. In the
//! upper half of a generation is the epoch of the ring under which it was agreed on.

use std::collections::BTreeSet;

use bytes::{BufMut as _, Bytes, BytesMut};
use quorate_ring::{BadRing, RingEpoch};

/// Where they are kept in [`Table::Meta`](crate::store::Table::Meta).
pub(crate) const META_GENERATIONS_KEY: &[u8] = b"generations";

const SLOTS: usize = 256;
const MAGIC: &[u8; 4] = b"QGEN";
const FORMAT: u16 = 1;
const HEADER_BYTES: usize = 4 + 2 + 8;
const BYTES: usize = HEADER_BYTES + 8 * SLOTS + 4;

/// The slot of a token.
#[must_use]
pub const fn slot_of(token: u64) -> u8 {
    token.to_be_bytes()[0]
}

/// One number for each slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Generations {
    /// In force: durable.
    values: Vec<u64>,
    /// In force once the writes under way are durable.
    planned: Vec<u64>,
    /// Under which ring this node was out of it, while it may still hold what it held before; zero
    /// for never.
    away: u64,
    /// Slots of which nobody takes in any more what this node held when it left.
    refused: BTreeSet<u8>,
}

impl Default for Generations {
    fn default() -> Self {
        Self {
            values: vec![0; SLOTS],
            planned: vec![0; SLOTS],
            away: 0,
            refused: BTreeSet::new(),
        }
    }
}

impl Generations {
    pub(crate) fn of(&self, slot: u8) -> u64 {
        self.values[usize::from(slot)]
    }

    pub(crate) const fn is_away(&self) -> bool {
        self.away != 0
    }

    /// This node is out of the ring.
    pub(crate) fn leave(&mut self, epoch: RingEpoch) {
        if self.away == 0 {
            self.away = epoch.get();
        }
    }

    /// It holds nothing any more.
    pub(crate) fn come_back(&mut self) {
        self.away = 0;
        self.refused.clear();
    }

    /// Something was reaped in that slot since this node left the ring.
    pub(crate) fn refuse(&mut self, slot: u8) {
        self.refused.insert(slot);
    }

    /// True if nobody takes in what this node held of the slot when it left.
    pub(crate) fn is_refused(&self, slot: u8) -> bool {
        self.refused.contains(&slot)
    }

    /// True if a generation was agreed on before this node was out of the ring, if it ever was:
    /// with its consent, or before it held anything.
    pub(crate) const fn concerns(&self, generation: u64) -> bool {
        self.away == 0 || generation >> 32 < self.away
    }

    /// The least generation of a slot that is above `most` and all of earlier rings.
    pub(crate) fn next(most: u64, epoch: RingEpoch) -> u64 {
        (most + 1).max(Self::first_of(epoch))
    }

    /// A slot's generation is going to be this one; the record to be made durable first.
    pub(crate) fn plan(&mut self, slot: u8, generation: u64) -> Bytes {
        let planned = &mut self.planned[usize::from(slot)];
        *planned = generation.max(*planned);
        self.to_bytes()
    }

    /// The least generation of the rings from this one on.
    pub(crate) const fn first_of(epoch: RingEpoch) -> u64 {
        epoch.get() << 32
    }

    /// All slots' generations are going to be at least this one; the record to be made durable
    /// first.
    pub(crate) fn plan_all(&mut self, generation: u64) -> Bytes {
        for planned in &mut self.planned {
            *planned = generation.max(*planned);
        }
        self.to_bytes()
    }

    /// The record is durable. True if that changed something.
    pub(crate) fn raise(&mut self, slot: u8, generation: u64) -> bool {
        let value = &mut self.values[usize::from(slot)];
        let higher = *value < generation;
        *value = generation.max(*value);
        higher
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(BYTES);
        out.put_slice(MAGIC);
        out.put_u16_le(FORMAT);
        out.put_u64_le(self.away);
        for value in &self.planned {
            out.put_u64_le(*value);
        }
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.freeze()
    }

    /// # Errors
    ///
    /// If the record is damaged or of a newer release: without it, it is not known what may be
    /// taken in.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BadRing> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BadRing::Damaged)?;
        let (format, _) = rest.split_first_chunk().ok_or(BadRing::Damaged)?;
        let format = u16::from_le_bytes(*format);
        if FORMAT < format {
            return Err(BadRing::NewerFormat(format));
        }
        let (body, crc) = bytes.split_last_chunk().ok_or(BadRing::Damaged)?;
        if bytes.len() != BYTES || crc32c::crc32c(body).to_le_bytes() != *crc {
            return Err(BadRing::Damaged);
        }
        let numbers = body[6..].as_chunks::<8>().0.iter();
        let mut numbers = numbers.map(|bytes| u64::from_le_bytes(*bytes));
        let away = numbers.next().ok_or(BadRing::Damaged)?;
        let values: Vec<u64> = numbers.collect();
        Ok(Self {
            planned: values.clone(),
            values,
            away,
            refused: BTreeSet::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_counts_once_it_is_durable() {
        let mut generations = Generations::default();
        let record = generations.plan(7, 5);
        assert_eq!(generations.of(7), 0);
        assert_eq!(Generations::from_bytes(&record).unwrap().of(7), 5);
        assert!(generations.raise(7, 5));
        assert!(!generations.raise(7, 4));
        assert_eq!((generations.of(7), generations.of(8)), (5, 0));
    }

    #[test]
    fn records_written_one_after_the_other_never_go_back() {
        let mut generations = Generations::default();
        generations.plan(7, 5);
        let record = generations.plan(8, 3);
        let read = Generations::from_bytes(&record).unwrap();
        assert_eq!((read.of(7), read.of(8)), (5, 3));
    }

    #[test]
    fn all_slots_can_be_raised_at_once() {
        let mut generations = Generations::default();
        let high = Generations::next(0, RingEpoch::new(9));
        generations.plan(7, high);
        let first = Generations::first_of(RingEpoch::new(4));
        let read = Generations::from_bytes(&generations.plan_all(first)).unwrap();
        assert_eq!((read.of(7), read.of(8)), (high, first));
    }

    #[test]
    fn a_ring_begins_above_all_earlier_ones() {
        let first = Generations::next(0, RingEpoch::new(1));
        assert!(first < Generations::next(first, RingEpoch::new(1)));
        let busy = first + 1_000_000;
        assert!(busy < Generations::next(first, RingEpoch::new(2)));
    }

    #[test]
    fn who_left_the_ring_takes_part_in_nothing_agreed_on_since() {
        let mut generations = Generations::default();
        let before = Generations::next(7, RingEpoch::new(2));
        let since = Generations::next(7, RingEpoch::new(3));
        assert!(generations.concerns(since));
        generations.leave(RingEpoch::new(3));
        generations.leave(RingEpoch::new(9));
        assert!(generations.concerns(before) && !generations.concerns(since));
        generations.come_back();
        assert!(generations.concerns(since));
    }

    #[test]
    fn any_damage_is_noticed() {
        let mut generations = Generations::default();
        generations.leave(RingEpoch::new(3));
        let good = generations.plan(255, u64::MAX);
        assert!(Generations::from_bytes(&good).unwrap().is_away());
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            assert!(Generations::from_bytes(&bad).is_err(), "byte {at}");
            assert!(Generations::from_bytes(&good[..at]).is_err());
        }
    }
}
