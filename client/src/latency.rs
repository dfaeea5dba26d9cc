//! What is known of how fast nodes answer, and when to ask a second one.
//!
//! Pure: told samples and the time. [`Latency`] is one node's, as TCP would measure it, and fades
//! while there are no samples, so that a node that was slow once is tried again. [`Hedging`] is all
//! reads' together: from which latency on a read is worth asking again elsewhere, and whether the
//! budget allows it. The budget grows by a twentieth of a request with every answer; the emptier
//! it is, the higher the percentile that has to be exceeded. So a slow node costs a few requests
//! more, and a slow cluster is not asked twice as much.

use std::time::Duration;

use tokio::time::Instant;

const LIMIT_MIN: Duration = Duration::from_millis(30);
const LIMIT_MAX: Duration = Duration::from_secs(1);
/// Without a sample for so long, what a node's answers took counts half.
const HALF_LIFE: Duration = Duration::from_secs(2);

/// How long answers of one node take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Latency {
    mean_us: u64,
    deviation_us: u64,
    at: Option<Instant>,
}

impl Latency {
    pub(crate) fn record(&mut self, sample: Duration, now: Instant) {
        let sample = u64::try_from(sample.as_micros()).unwrap_or(u64::MAX / 16);
        self.at = Some(now);
        if self.mean_us == 0 {
            self.mean_us = sample.max(1);
            self.deviation_us = sample / 2;
            return;
        }
        let off = sample.abs_diff(self.mean_us);
        self.deviation_us = (3 * self.deviation_us + off) / 4;
        self.mean_us = ((7 * self.mean_us + sample) / 8).max(1);
    }

    /// What to expect of the next answer; zero if nothing is known.
    pub(crate) fn expected(self, now: Instant) -> Duration {
        let Some(at) = self.at else {
            return Duration::ZERO;
        };
        let halves = now.duration_since(at).as_millis() / HALF_LIFE.as_millis();
        let halves = u32::try_from(halves).unwrap_or(u32::MAX);
        Duration::from_micros(self.mean_us.checked_shr(halves).unwrap_or(0))
    }

    /// How long to wait for an answer before its node is taken for slow.
    pub(crate) fn limit(self) -> Duration {
        if self.mean_us == 0 {
            return LIMIT_MAX;
        }
        let limit = self.mean_us.saturating_add(8 * self.deviation_us);
        Duration::from_micros(limit).clamp(LIMIT_MIN, LIMIT_MAX)
    }
}

/// Ranges of latency, four to each doubling, from 64 us to about a minute.
const RANGES: usize = 80;
const LEAST_US: u64 = 64;
/// After so many samples each counts half, so that the percentile follows.
const SAMPLES_MAX: u32 = 4_096;
/// With fewer samples nothing is known of a tail.
const SAMPLES_MIN: u32 = 100;
/// No shorter than what timers can tell, and than what a machine's scheduler may add.
const HEDGE_MIN: Duration = Duration::from_millis(2);
/// One extra request, in these units; an answer earns one.
const HEDGE: u32 = 20;
/// Extra requests that may be saved up.
const HEDGES_MAX: u32 = 64;
/// Reads slower than this share (per thousand) are asked again: with a full budget, and with none.
const FULL_PER_MILLE: u32 = 980;
const EMPTY_PER_MILLE: u32 = 999;

/// When a read is worth a second request.
#[derive(Clone, Debug)]
pub(crate) struct Hedging {
    counts: [u32; RANGES],
    samples: u32,
    saved: u32,
}

impl Hedging {
    pub(crate) const fn new() -> Self {
        Self {
            counts: [0; RANGES],
            samples: 0,
            saved: HEDGES_MAX * HEDGE,
        }
    }

    /// A read was answered.
    pub(crate) fn record(&mut self, took: Duration) {
        self.saved = (self.saved + 1).min(HEDGES_MAX * HEDGE);
        self.counts[range(took)] += 1;
        self.samples += 1;
        if SAMPLES_MAX <= self.samples {
            self.samples = 0;
            for count in &mut self.counts {
                *count /= 2;
                self.samples += *count;
            }
        }
    }

    /// How long a read waits before another node is asked as well; none while too little is known.
    pub(crate) fn delay(&self) -> Option<Duration> {
        if self.samples < SAMPLES_MIN {
            return None;
        }
        let spent = HEDGES_MAX * HEDGE - self.saved;
        let span = EMPTY_PER_MILLE - FULL_PER_MILLE;
        let per_mille = FULL_PER_MILLE + span * spent / (HEDGES_MAX * HEDGE);
        let faster = u64::from(self.samples) * u64::from(per_mille) / 1000;
        let mut below = 0;
        let at = self.counts.iter().position(|count| {
            below += u64::from(*count);
            faster < below
        });
        let delay = ceiling(at.unwrap_or(RANGES - 1));
        Some(delay.clamp(HEDGE_MIN, LIMIT_MAX))
    }

    /// Takes one extra request from the budget; false if there is none left.
    pub(crate) fn spend(&mut self) -> bool {
        match self.saved.checked_sub(HEDGE) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }
}

/// Which range a latency falls into.
fn range(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let scaled = (us / (LEAST_US / 4)).max(4);
    let doublings = scaled.ilog2() - 2;
    let quarter = (scaled >> doublings) - 4;
    let at = u64::from(doublings) * 4 + quarter;
    usize::try_from(at).map_or(RANGES - 1, |at| at.min(RANGES - 1))
}

/// Where a range ends.
fn ceiling(range: usize) -> Duration {
    let range = u64::try_from(range).expect("few ranges");
    Duration::from_micros(((range % 4 + 5) << (range / 4)) * (LEAST_US / 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_limit_follows_what_is_measured() {
        let now = Instant::now();
        let mut latency = Latency::default();
        assert_eq!(latency.limit(), LIMIT_MAX);
        for _ in 0..100 {
            latency.record(Duration::from_micros(500), now);
        }
        assert_eq!(latency.limit(), LIMIT_MIN);
        for _ in 0..100 {
            latency.record(Duration::from_millis(100), now);
        }
        assert!(latency.limit() >= Duration::from_millis(100));
        latency.record(Duration::MAX, now);
        assert_eq!(latency.limit(), LIMIT_MAX);
    }

    #[test]
    fn a_node_that_was_slow_once_is_worth_a_try_later() {
        let now = Instant::now();
        let mut latency = Latency::default();
        assert_eq!(latency.expected(now), Duration::ZERO);
        latency.record(Duration::from_millis(800), now);
        assert_eq!(latency.expected(now), Duration::from_millis(800));
        let later = now + 3 * HALF_LIFE;
        assert_eq!(latency.expected(later), Duration::from_millis(100));
        let much_later = now + 1000 * HALF_LIFE;
        assert_eq!(latency.expected(much_later), Duration::ZERO);
    }

    #[test]
    fn the_delay_is_what_all_but_a_few_reads_take() {
        let mut hedging = Hedging::new();
        assert_eq!(hedging.delay(), None);
        for count in 0..1000 {
            let slow = count % 100 == 0;
            hedging.record(Duration::from_millis(if slow { 300 } else { 10 }));
        }
        let delay = hedging.delay().unwrap();
        assert!(Duration::from_millis(10) <= delay && delay < Duration::from_millis(14));
    }

    #[test]
    fn the_emptier_the_budget_the_longer_the_delay() {
        let mut hedging = Hedging::new();
        for count in 0..1000 {
            let slow = 985 <= count;
            hedging.record(Duration::from_millis(if slow { 300 } else { 5 }));
        }
        let full = hedging.delay().unwrap();
        while hedging.spend() {}
        let empty = hedging.delay().unwrap();
        assert!(full < empty, "{full:?} {empty:?}");
    }

    #[test]
    fn no_more_than_a_twentieth_of_the_reads_is_asked_twice() {
        let mut hedging = Hedging::new();
        let mut extra = 0;
        for _ in 0..100_000 {
            extra += u32::from(hedging.spend());
            hedging.record(Duration::from_millis(5));
        }
        assert!(extra <= 100_000 / HEDGE + HEDGES_MAX, "{extra}");
        assert!(100_000 / HEDGE <= extra, "{extra}");
    }

    #[test]
    fn the_delay_forgets() {
        let mut hedging = Hedging::new();
        (0..10_000).for_each(|_| hedging.record(Duration::from_millis(200)));
        assert!(Duration::from_millis(200) <= hedging.delay().unwrap());
        (0..30_000).for_each(|_| hedging.record(Duration::from_millis(3)));
        assert!(hedging.delay().unwrap() < Duration::from_millis(5));
    }

    proptest! {
        #[test]
        fn a_latency_lies_within_its_range(us in 0_u64..1 << 40) {
            let took = Duration::from_micros(us);
            let at = range(took);
            prop_assert!(at == RANGES - 1 || took < ceiling(at));
            prop_assert!(at == 0 || ceiling(at - 1) <= took);
        }
    }
}
