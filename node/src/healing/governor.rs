//! One governor for all background work: it yields to requests of clients.
//!
//! It watches how long requests take and how many are in progress. While a slow window or a long
//! queue says that the node is busy, background work gets a smaller share of the time; while
//! nothing does, the share grows again, up to all of it when nobody asks for anything. A job does a
//! step, and then rests so long that its steps take no more than the share: the rule of Garage's
//! tranquilizer. No job ever starves: there is a least share.
//!
//! Not decided here: what the jobs are, how large a step is, and limits in bytes.

use std::time::Duration;

use quorate_gossip::Instant;

/// Shares are in thousandths of the time.
pub(crate) const SHARE_ALL: u32 = 1_000;
const SHARE_LEAST: u32 = 20;
/// What a quiet window adds.
const SHARE_STEP: u32 = 60;
const WINDOW: Duration = Duration::from_millis(200);
/// Requests are slow if so much of a window's slowest hundredth takes longer than this, or than
/// five times what has been usual.
const SLOW: Duration = Duration::from_millis(25);
const TIMES_USUAL: u64 = 5;
const REST_MAX: Duration = Duration::from_secs(2);
/// A request in one of so many buckets, each twice as long as the one before, from 64 us.
const BUCKETS: usize = 20;

/// Whose step it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Comparisons with other replicas.
    Compare = 0,
    /// Reading all that is stored: for the trees, and for damage.
    Scrub = 1,
    /// Removing values whose time is over.
    Expiry = 2,
    /// Taking in what a change of the ring brings.
    Transfer = 3,
}

/// Names of the jobs, in the order of their numbers.
pub(crate) const WORKS: [&str; 4] = ["compare", "scrub", "expiry", "transfer"];

/// Watches requests, and says how much background work may do.
#[derive(Debug)]
pub(crate) struct Governor {
    share: u32,
    window: [u32; BUCKETS],
    count: u32,
    ends: Option<Instant>,
    /// The p99 that has been usual, in microseconds.
    usual_us: u64,
    /// Time that the steps of each job have taken, in microseconds.
    spent_us: [u64; WORKS.len()],
}

impl Default for Governor {
    fn default() -> Self {
        Self {
            share: SHARE_ALL,
            window: [0; BUCKETS],
            count: 0,
            ends: None,
            usual_us: 0,
            spent_us: [0; WORKS.len()],
        }
    }
}

impl Governor {
    /// A client's request has been answered.
    pub(crate) fn observe(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (us >> 6).checked_ilog2().map_or(0, |log| log as usize + 1);
        self.window[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
    }

    /// Closes the window if it is over. `in_flight` requests of at most `max` are in progress.
    pub(crate) fn tick(&mut self, now: Instant, in_flight: usize, max: usize) {
        let ends = *self.ends.get_or_insert(now + WINDOW);
        if now < ends {
            return;
        }
        self.ends = Some(now + WINDOW);
        let p99 = self.p99_us();
        let slow = u64::try_from(SLOW.as_micros()).unwrap_or(u64::MAX);
        let crowded = max < 4 * in_flight;
        let busy = 0 < self.count && slow.max(TIMES_USUAL * self.usual_us) < p99;
        if crowded || busy {
            self.share = (self.share / 2).max(SHARE_LEAST);
        } else if self.count == 0 {
            self.share = SHARE_ALL;
        } else {
            self.share = (self.share + SHARE_STEP).min(SHARE_ALL / 2);
        }
        if 0 < self.count {
            self.usual_us = (15 * self.usual_us + p99) / 16;
        }
        self.window = [0; BUCKETS];
        self.count = 0;
    }

    fn p99_us(&self) -> u64 {
        let beyond = self.count / 100;
        let mut above = 0;
        for (bucket, count) in self.window.iter().enumerate().rev() {
            above += count;
            if beyond < above {
                return 64 << bucket;
            }
        }
        0
    }

    /// The share of the time that background work may take, in thousandths.
    pub(crate) const fn share(&self) -> u32 {
        self.share
    }

    /// How long a job rests after a step that took so long.
    pub(crate) fn rest_of(&mut self, work: Work, step: Duration) -> Duration {
        let us = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
        let spent = &mut self.spent_us[work as usize];
        *spent = spent.saturating_add(us);
        self.rest(step)
    }

    /// What the steps of each job have taken so far.
    pub(crate) fn spent(&self) -> [(&'static str, Duration); WORKS.len()] {
        let micros = self.spent_us.map(Duration::from_micros);
        std::array::from_fn(|at| (WORKS[at], micros[at]))
    }

    /// How long to rest after a step that took so long.
    pub(crate) fn rest(&self, step: Duration) -> Duration {
        let rest = step * (SHARE_ALL - self.share) / self.share;
        rest.min(REST_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ms: u64) -> Instant {
        Instant::START + Duration::from_millis(ms)
    }

    #[test]
    fn slow_requests_shrink_the_share_and_quiet_gives_it_back() {
        let mut governor = Governor::default();
        governor.tick(after(0), 0, 100);
        assert_eq!(governor.rest(Duration::from_millis(10)), Duration::ZERO);
        for window in 1..=10 {
            for _ in 0..100 {
                governor.observe(Duration::from_millis(2));
            }
            governor.tick(after(window * 200), 1, 100);
        }
        assert_eq!(governor.share(), SHARE_ALL / 2);
        for window in 11..=13 {
            for _ in 0..100 {
                governor.observe(Duration::from_millis(300));
            }
            governor.tick(after(window * 200), 1, 100);
        }
        let busy = governor.share();
        assert!(busy < SHARE_ALL / 4, "{busy}");
        assert!(Duration::from_millis(30) < governor.rest(Duration::from_millis(10)));
        governor.tick(after(14 * 200), 0, 100);
        assert_eq!(governor.share(), SHARE_ALL);
    }

    #[test]
    fn what_each_job_takes_is_told() {
        let mut governor = Governor::default();
        governor.rest_of(Work::Scrub, Duration::from_millis(3));
        governor.rest_of(Work::Scrub, Duration::from_millis(4));
        let spent = governor.spent();
        assert_eq!(spent[1], ("scrub", Duration::from_millis(7)));
        assert_eq!(spent[3], ("transfer", Duration::ZERO));
    }

    #[test]
    fn a_crowd_shrinks_the_share_but_never_to_nothing() {
        let mut governor = Governor::default();
        for window in 0..50 {
            governor.tick(after(window * 200), 90, 100);
        }
        assert_eq!(governor.share(), SHARE_LEAST);
        assert!(governor.rest(Duration::from_mins(1)) <= REST_MAX);
    }
}
