//! How long requests of one kind take: what is usual while all jobs rest, and how many are slow.
//!
//! Usual is what the 99th percentile of most windows does not exceed in which no job works: of
//! eight, two may be disturbed by something else, and it rises little at a time. Slow is a request
//! that takes half as long again. By that choice about one in a hundred is slow for as long as the
//! 99th percentile is at most half as large again as it is without any background work; so they
//! are counted, and may be that many.
//!
//! Not decided here: what becomes of background work when there are more.

use std::{collections::VecDeque, time::Duration};

/// A request in one of so many buckets: eight for each power of two from 64 us.
const BUCKETS: usize = 160;
const BUCKET_FIRST_US: u64 = 64;
const PER_OCTAVE: usize = 8;
/// Nobody minds if requests take no longer than this.
const SLOW_LEAST_US: u64 = 500;
/// What is slow while it is not known what is usual.
const SLOW_UNKNOWN_US: u64 = 25_000;
/// So many requests say what is usual in one window; with fewer, in several.
const USUAL_REQUESTS: u32 = 12;
/// So many such windows are remembered, and so many of them decide.
const USUAL_WINDOWS: usize = 8;
const USUAL_DECIDE: usize = 6;
/// By one part in so many what is usual rises for each of them at most.
const USUAL_RISE: u64 = 20;
/// Lately is about so many windows.
const MEMORY: u64 = 64;
/// One in so many may be slow.
const MAY_BE_SLOW: u64 = 100;
/// And so many besides, which otherwise would decide where few requests come.
const SPARE: u64 = 2;

/// Requests by how long they took.
#[derive(Clone, Debug)]
struct Counts {
    buckets: [u32; BUCKETS],
    all: u32,
}

impl Counts {
    const NONE: Self = Self {
        buckets: [0; BUCKETS],
        all: 0,
    };

    fn add(&mut self, us: u64) {
        self.buckets[bucket(us)] += 1;
        self.all += 1;
    }

    fn add_all(&mut self, others: &Self) {
        for (ours, count) in self.buckets.iter_mut().zip(&others.buckets) {
            *ours += count;
        }
        self.all += others.all;
    }

    /// The 99th percentile, in microseconds.
    fn p99_us(&self) -> u64 {
        let beyond = self.all / 100;
        let mut above = 0;
        for (at, count) in self.buckets.iter().enumerate().rev() {
            above += count;
            if beyond < above {
                return u64::midpoint(begin_us(at), begin_us(at + 1));
            }
        }
        0
    }

    /// How many took so long or longer.
    fn from(&self, us: u64) -> u32 {
        let first = (0..BUCKETS).find(|at| us <= begin_us(*at));
        first.map_or(0, |first| self.buckets[first..].iter().sum())
    }
}

/// What is known of requests of one kind.
#[derive(Debug)]
pub(super) struct Latency {
    window: Counts,
    /// While all jobs rested, until there are enough of them.
    rested: Counts,
    /// The 99th percentiles of what was enough, the newest last, in microseconds.
    percentiles: VecDeque<u64>,
    usual_us: Option<u64>,
    /// Requests of late and the slow ones among them, in parts of [`MEMORY`].
    seen: u64,
    slow: u64,
    /// The last window had more slow ones than may be.
    disturbed: bool,
}

impl Latency {
    pub(super) const fn new() -> Self {
        Self {
            window: Counts::NONE,
            rested: Counts::NONE,
            percentiles: VecDeque::new(),
            usual_us: None,
            seen: 0,
            slow: 0,
            disturbed: false,
        }
    }

    pub(super) fn observe(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.window.add(us);
    }

    /// A window is over; if all jobs `rested`, it was usual. Says whether there were requests.
    pub(super) fn close(&mut self, rested: bool) -> bool {
        let slow = u64::from(self.window.from(self.limit_us()));
        let count = u64::from(self.window.all);
        self.seen = self.seen * (MEMORY - 1) / MEMORY + count * MEMORY;
        self.slow = self.slow * (MEMORY - 1) / MEMORY + slow * MEMORY;
        self.disturbed = count < slow * MAY_BE_SLOW;
        if rested && 0 < count {
            self.rested.add_all(&self.window);
            if USUAL_REQUESTS <= self.rested.all {
                self.learn();
            }
        }
        self.window = Counts::NONE;
        0 < count
    }

    fn learn(&mut self) {
        let rested = std::mem::replace(&mut self.rested, Counts::NONE);
        self.percentiles.push_back(rested.p99_us());
        if USUAL_WINDOWS < self.percentiles.len() {
            self.percentiles.pop_front();
        }
        let mut sorted: Vec<u64> = self.percentiles.iter().copied().collect();
        sorted.sort_unstable();
        let Some(&now) = sorted.get(USUAL_DECIDE - 1) else {
            return;
        };
        let before = self.usual_us.unwrap_or(now);
        self.usual_us = Some(now.min(before + before.div_ceil(USUAL_RISE)));
    }

    /// True if too many requests of late were slow.
    pub(super) const fn is_slow(&self) -> bool {
        self.seen / MAY_BE_SLOW + SPARE * MEMORY < self.slow
    }

    /// True if that is still going on.
    pub(super) const fn is_disturbed(&self) -> bool {
        self.is_slow() && self.disturbed
    }

    /// What takes longer is slow.
    fn limit_us(&self) -> u64 {
        self.usual_us.map_or(SLOW_UNKNOWN_US, |usual| {
            SLOW_LEAST_US.max(usual.saturating_mul(3) / 2)
        })
    }
}

/// The bucket of requests that take so long.
fn bucket(us: u64) -> usize {
    let Some(octave) = (us / BUCKET_FIRST_US).checked_ilog2() else {
        return 0;
    };
    let part = (us >> octave) / (BUCKET_FIRST_US / PER_OCTAVE as u64) - PER_OCTAVE as u64;
    let bucket = PER_OCTAVE as u64 * u64::from(octave) + part + 1;
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The least of a bucket.
fn begin_us(bucket: usize) -> u64 {
    let Some(before) = bucket.checked_sub(1) else {
        return 0;
    };
    let (octave, part) = (before / PER_OCTAVE, before % PER_OCTAVE);
    (BUCKET_FIRST_US / PER_OCTAVE as u64 * (PER_OCTAVE + part) as u64) << octave
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Windows of a hundred requests, of which so many take 50 ms and the others 4.
    fn windows(latency: &mut Latency, windows: u32, slow: u32, rested: bool) {
        for _ in 0..windows {
            for request in 0..100 {
                latency.observe(if request < slow { ms(50) } else { ms(4) });
            }
            assert!(latency.close(rested));
        }
    }

    #[test]
    fn every_request_is_in_the_bucket_that_begins_below_it() {
        for us in (0..5_000).chain([9_999, 100_000, 1_000_000, 10_000_000]) {
            let at = bucket(us);
            assert!(begin_us(at) <= us && us < begin_us(at + 1), "{us} in {at}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn slow_is_half_as_long_again_as_usual() {
        let mut latency = Latency::new();
        assert_eq!(latency.limit_us(), SLOW_UNKNOWN_US);
        windows(&mut latency, 10, 0, true);
        let limit = latency.limit_us();
        assert!((5_300..6_700).contains(&limit), "{limit}");
        // What is seen while jobs work is never learned.
        windows(&mut latency, 1_000, 50, false);
        assert_eq!(latency.limit_us(), limit);
    }

    #[test]
    fn one_in_a_hundred_is_too_many_and_fewer_are_not() {
        let mut latency = Latency::new();
        windows(&mut latency, 100, 0, true);
        for _ in 0..20 {
            windows(&mut latency, 1, 1, false);
            windows(&mut latency, 1, 0, false);
        }
        assert!(!latency.is_slow());
        windows(&mut latency, 100, 2, false);
        assert!(latency.is_slow());
        windows(&mut latency, 100, 0, false);
        assert!(!latency.is_slow());
    }

    #[test]
    fn two_slow_requests_decide_nothing() {
        let mut latency = Latency::new();
        latency.observe(ms(100));
        latency.observe(ms(100));
        latency.close(false);
        assert!(!latency.is_slow());
    }

    #[test]
    fn what_is_usual_changes_little_at_a_time() {
        let mut latency = Latency::new();
        windows(&mut latency, 1_000, 0, true);
        let before = latency.limit_us();
        windows(&mut latency, 2, 100, true);
        assert_eq!(latency.limit_us(), before);
        windows(&mut latency, 10, 100, true);
        assert!(latency.is_slow() && latency.limit_us() < 2 * before);
        windows(&mut latency, 300, 100, true);
        assert!(!latency.is_slow());
        windows(&mut latency, 8, 0, true);
        assert_eq!(latency.limit_us(), before);
    }
}
