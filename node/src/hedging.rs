//! How many reads may be hedged.
//!
//! A replica that takes longer than it nearly always does may be at something else for a while;
//! if another is asked in its stead, the first answer counts. That cuts the tail (Dean and
//! Barroso, The Tail at Scale, 2013). It also is more work, and when everything is slow it makes
//! everything slower: so hedges are paid from an allowance to which each read adds a twentieth of
//! one. What is not spent is kept, up to a few, for when a replica is suddenly slow.

/// Of one hedge, in hundredths: what a read adds.
const EARNED: u32 = 5;
const PRICE: u32 = 100;
const FIRST: u32 = 10 * PRICE;
const MOST: u32 = 50 * PRICE;

/// What has been hedged and what may be.
#[derive(Clone, Copy, Debug)]
pub struct Hedging {
    credit: u32,
    reads: u64,
    hedged: u64,
    denied: u64,
}

impl Default for Hedging {
    fn default() -> Self {
        Self {
            credit: FIRST,
            reads: 0,
            hedged: 0,
            denied: 0,
        }
    }
}

impl Hedging {
    /// A read begins.
    pub(crate) fn read(&mut self) {
        self.reads += 1;
        self.credit = MOST.min(self.credit + EARNED);
    }

    /// True if another replica may be asked now.
    pub(crate) const fn may(&mut self) -> bool {
        if self.credit < PRICE {
            self.denied += 1;
            return false;
        }
        self.credit -= PRICE;
        self.hedged += 1;
        true
    }

    /// Hedges so far.
    #[must_use]
    pub const fn hedged(&self) -> u64 {
        self.hedged
    }

    /// Times that the allowance was spent.
    #[must_use]
    pub const fn denied(&self) -> u64 {
        self.denied
    }

    /// True if there have been no more hedges than reads paid for.
    #[must_use]
    pub fn is_within_budget(&self) -> bool {
        let paid = u64::from(FIRST) + self.reads * u64::from(EARNED);
        self.hedged * u64::from(PRICE) <= paid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_all_reads_may_be_hedged_and_a_few_at_once() {
        let mut hedging = Hedging::default();
        for _ in 0..10_000 {
            hedging.read();
            hedging.may();
        }
        assert!((500..=510).contains(&hedging.hedged()), "{hedging:?}");
        assert!(9_000 < hedging.denied() && hedging.is_within_budget());
        for _ in 0..10_000 {
            hedging.read();
        }
        let before = hedging.hedged();
        while hedging.may() {}
        assert_eq!(hedging.hedged() - before, 50);
    }
}
