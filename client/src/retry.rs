//! When to try again, and when to stop.
//!
//! Pure: told how often something failed, it says how long to wait. Pauses are drawn from a seeded
//! generator, anywhere between nothing and a ceiling that doubles (full jitter: it spreads a crowd
//! of clients best); tries beyond the first draw on a budget that only successes refill, so that
//! clients do not finish off a cluster that is failing already.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rand_pcg::{Pcg32, rand_core::Rng};

use crate::wire::ErrorCode;

const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Growing pauses with jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    rng: Pcg32,
    ceiling: Duration,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Pcg32::new(seed, 0),
            ceiling: PAUSE_FIRST,
        }
    }

    /// The next pause: anything up to its ceiling, which doubles each time.
    pub(crate) fn pause(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(PAUSE_MAX);
        ceiling * (self.rng.next_u32() >> 16) / (1 << 16)
    }
}

/// What to do about an error a node answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another try would end the same way.
    Final,
    /// Another node may do better; after a few it is pointless.
    Few,
    /// Worth trying until the deadline.
    Again,
}

impl Verdict {
    pub(crate) const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Unavailable | ErrorCode::Internal => Self::Few,
            ErrorCode::Overloaded | ErrorCode::UnknownOutcome | ErrorCode::Stale => Self::Again,
            ErrorCode::InvalidArgument
            | ErrorCode::UnknownBucket
            | ErrorCode::BadContext
            | ErrorCode::NotAvailableYet
            | ErrorCode::NotFound
            | ErrorCode::Conflict
            | ErrorCode::TooManySiblings
            | ErrorCode::OpIdReused
            | ErrorCode::Denied => Self::Final,
        }
    }
}

/// Tries beyond the first that a client may make before anything succeeds again: enough for a
/// node that dies under a thousand requests.
const BUDGET_TRIES: u64 = 1024;
/// One try in these units; a success earns a fifth of a try.
const TRY: u64 = 5;

/// A budget for tries beyond the first.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Budget {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(BUDGET_TRIES * TRY))
    }

    /// Something succeeded.
    pub(crate) fn earn(&self) {
        // Two successes at once may earn one share too many: no harm, and no loop.
        if self.0.load(Ordering::Relaxed) < BUDGET_TRIES * TRY {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes one try; false if there is none left.
    pub(crate) fn spend(&self) -> bool {
        let spend = |left: u64| left.checked_sub(TRY);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_ceiling_and_stay_within_it() {
        let mut backoff = Backoff::new(1);
        let mut ceiling = PAUSE_FIRST;
        for _ in 0..20 {
            assert!(backoff.pause() <= ceiling);
            ceiling = (ceiling * 2).min(PAUSE_MAX);
        }
    }

    #[test]
    fn pauses_lie_anywhere_below_their_ceiling() {
        let first = (0..1000).map(|seed| Backoff::new(seed).pause().as_millis());
        let found: std::collections::BTreeSet<_> = first.collect();
        assert!((0..PAUSE_FIRST.as_millis()).all(|ms| found.contains(&ms)));
    }

    #[test]
    fn pauses_are_a_function_of_the_seed() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..8).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(7), pauses(7));
        assert_ne!(pauses(7), pauses(8));
    }

    #[test]
    fn the_budget_ends_and_successes_refill_it() {
        let budget = Budget::new();
        for _ in 0..BUDGET_TRIES {
            assert!(budget.spend());
        }
        assert!(!budget.spend());
        for _ in 0..TRY {
            budget.earn();
        }
        assert!(budget.spend());
        assert!(!budget.spend());
    }

    #[test]
    fn the_budget_does_not_grow_beyond_its_start() {
        let budget = Budget::new();
        (0..100).for_each(|_| budget.earn());
        let tries = 0..2 * BUDGET_TRIES;
        let spent = tries.take_while(|_| budget.spend()).count();
        assert_eq!(spent as u64, BUDGET_TRIES);
    }
}
