//! Stamps: hybrid logical time, for buckets in which the last write wins.
//!
//! The upper 48 bits are unix milliseconds, the lower 16 a counter, so that stamps of one node are
//! distinct and a stamp can always be put above another. Which time goes in, and which stamps are
//! believed, is decided in `crate::hybrid`.

use std::fmt;

/// Bits of the counter.
const COUNTER_BITS: u32 = 16;

/// When a write happened, as far as it matters which of two is the last. Never taken from clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// The first stamp of a unix millisecond.
    #[must_use]
    pub const fn at_ms(ms: u64) -> Self {
        let most = u64::MAX >> COUNTER_BITS;
        Self(if ms < most { ms } else { most } << COUNTER_BITS)
    }

    /// From the number that [`get`](Self::get) gave.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// For formats.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Its unix milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The next one; after all counters of a millisecond comes the next millisecond.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counter = self.0 & (u64::MAX >> (64 - COUNTER_BITS));
        write!(f, "{}.{counter}", self.ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_in_the_order_of_time_and_then_of_count() {
        let stamp = Stamp::at_ms(1_700_000_000_000);
        assert!(stamp < stamp.next());
        assert!(stamp.next() < Stamp::at_ms(1_700_000_000_001));
        assert_eq!(stamp.next().ms(), 1_700_000_000_000);
        assert_eq!(stamp.next().to_string(), "1700000000000.1");
    }
}
