//! The simulator's own random numbers.
//!
//! A saved seed must mean the same run for ever, so the generator is frozen here instead of
//! taken from a library whose distributions may change: PCG RXS-M-XS with 64 bits of state, and
//! whole-number helpers only, since floating point differs between machines. Every part of the
//! world draws from a stream of its own; a new fault does not disturb the workload of old seeds.

use std::time::Duration;

const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    increment: u64,
}

impl Rng {
    /// The stream named `stream` of a run's `seed`.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self {
            state: seed ^ stream.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            increment: (stream << 1) | 1,
        };
        for _ in 0..4 {
            rng.word();
        }
        rng
    }

    /// 64 random bits.
    pub fn word(&mut self) -> u64 {
        let old = self.state;
        self.state = old.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
        let word = ((old >> ((old >> 59) + 5)) ^ old).wrapping_mul(12_605_985_483_714_917_081);
        (word >> 43) ^ word
    }

    /// A number in `0..bound`; zero if `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.word()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a 128-bit product has 64 bits")
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// An index into something of this length.
    pub fn index(&mut self, len: usize) -> usize {
        let bound = u64::try_from(len).expect("lengths have at most 64 bits");
        usize::try_from(self.below(bound)).expect("below a length")
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// True `per_million` times in a million.
    pub fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// Exponentially distributed with this mean, by a logarithm of whole numbers.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let word = self.word() | 1;
        let zeros = u64::from(word.leading_zeros());
        let fraction = (word << (zeros + 1).min(63)) >> 48;
        let log2 = ((zeros + 1) << 16) - fraction;
        let scaled = (u128::from(mean) * u128::from(log2) * 710) >> 26;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    /// A duration between two others, both included.
    pub fn duration(&mut self, low: Duration, high: Duration) -> u64 {
        self.between(nanos(low), nanos(high))
    }
}

/// A duration in the world's unit.
///
/// # Panics
///
/// If it is longer than 584 years.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("durations here are below 584 years")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_frozen() {
        let mut rng = Rng::new(7, 1);
        let first: Vec<u64> = (0..4).map(|_| rng.word()).collect();
        let mut again = Rng::new(7, 1);
        let second: Vec<u64> = (0..4).map(|_| again.word()).collect();
        assert_eq!(first, second);
        assert_eq!(first, FROZEN);
    }

    const FROZEN: [u64; 4] = [
        1_316_796_984_502_728_510,
        11_342_687_426_672_326_874,
        6_607_261_059_568_073_546,
        6_190_915_679_215_291_010,
    ];

    #[test]
    fn the_exponential_has_its_mean() {
        let mut rng = Rng::new(3, 9);
        let sum: u64 = (0..100_000).map(|_| rng.exponential(1_000)).sum();
        assert!((950..1_080).contains(&(sum / 100_000)), "{}", sum / 100_000);
    }

    #[test]
    fn streams_of_one_seed_differ() {
        assert_ne!(Rng::new(1, 1).word(), Rng::new(1, 2).word());
        assert_ne!(Rng::new(1, 1).word(), Rng::new(2, 1).word());
    }
}
