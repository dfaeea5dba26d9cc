//! Partitions: the token space cut into Q equal parts, Q a power of two.

use std::ops::RangeInclusive;

use crate::token::Token;

/// Fewest partitions of a ring.
pub const PARTITIONS_MIN: u32 = 8;
/// Most partitions of a ring.
pub const PARTITIONS_MAX: u32 = 65_536;

/// One part of the token space, numbered from zero in order of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// How many parts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions {
    bits: u32,
}

impl Partitions {
    /// `count` parts, if that is a power of two in range.
    #[must_use]
    pub const fn new(count: u32) -> Option<Self> {
        if count.is_power_of_two() && PARTITIONS_MIN <= count && count <= PARTITIONS_MAX {
            Some(Self {
                bits: count.trailing_zeros(),
            })
        } else {
            None
        }
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u32 {
        1 << self.bits
    }

    /// The part a token lies in.
    #[must_use]
    pub const fn of(self, token: Token) -> Partition {
        #[expect(clippy::cast_possible_truncation, reason = "at most 16 bits are left")]
        Partition((token.get() >> (64 - self.bits)) as u32)
    }

    /// The tokens of a part.
    ///
    /// # Panics
    ///
    /// If there is no such part.
    #[must_use]
    pub fn tokens(self, partition: Partition) -> RangeInclusive<u64> {
        assert!(partition.0 < self.count(), "no such partition");
        let width = 64 - self.bits;
        let first = u64::from(partition.0) << width;
        first..=first + ((1 << width) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_tokens_without_gap_or_overlap() {
        for count in [8, 256, 65_536] {
            let partitions = Partitions::new(count).unwrap();
            let mut next = Some(0);
            for partition in (0..count).map(Partition) {
                let tokens = partitions.tokens(partition);
                assert_eq!(next, Some(*tokens.start()));
                assert_eq!(partitions.of(Token::new(*tokens.start())), partition);
                assert_eq!(partitions.of(Token::new(*tokens.end())), partition);
                next = tokens.end().checked_add(1);
            }
            assert_eq!(next, None);
        }
    }

    #[test]
    fn odd_counts_are_refused() {
        for count in [0, 1, 4, 9, 100, 131_072] {
            assert_eq!(Partitions::new(count), None);
        }
    }
}
