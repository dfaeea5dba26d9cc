//! One governor for all background work: it yields to requests of clients.
//!
//! It watches how long requests take and how many are in progress. While a slow window or a long
//! queue says that the node is busy, background work gets a smaller share of the time; while
//! nothing does, the share grows again, up to all of it when nobody asks for anything. A job does a
//! step, and then rests so long that its steps take no more than the share: the rule of Garage's
//! tranquilizer. No job ever starves: there is a least share.
//!
//! Slow is what takes half as long again as it does while all jobs rest. So that this is known, all
//! of them are silent together now and then; what requests take while they work is never learned
//! as usual, however long they work.
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
/// One of so many windows is silent.
const SILENT: u32 = 16;
/// Nobody minds if so much of a window's slowest hundredth takes no longer than this.
const SLOW: Duration = Duration::from_millis(2);
/// The same while it is not known what is usual.
const SLOW_UNKNOWN: Duration = Duration::from_millis(25);
const REST_MAX: Duration = Duration::from_secs(2);
/// A request in one of so many buckets: four for each power of two from 64 us.
const BUCKETS: usize = 80;
const BUCKET_FIRST_US: u64 = 64;

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
    /// Counts windows, so that one of some is silent.
    windows: u32,
    /// A job has worked in this window.
    worked: bool,
    /// The p99 that is usual while all jobs rest, in microseconds; zero if that is not known.
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
            windows: 0,
            worked: false,
            usual_us: 0,
            spent_us: [0; WORKS.len()],
        }
    }
}

impl Governor {
    /// A client's request has been answered.
    pub(crate) fn observe(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.window[bucket(us)] += 1;
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
        let crowded = max < 4 * in_flight;
        let busy = 0 < self.count && self.limit_us() < p99;
        if crowded || busy {
            self.share = (self.share / 2).max(SHARE_LEAST);
        } else if self.count == 0 {
            self.share = SHARE_ALL;
        } else {
            self.share = (self.share + SHARE_STEP).min(SHARE_ALL / 2);
        }
        if 0 < self.count && !self.worked {
            self.usual_us = match self.usual_us {
                0 => p99,
                usual => (7 * usual + p99) / 8,
            };
        }
        self.window = [0; BUCKETS];
        self.count = 0;
        self.worked = false;
        self.windows = self.windows.wrapping_add(1);
    }

    /// What takes longer is slow.
    fn limit_us(&self) -> u64 {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        match self.usual_us {
            0 => us(SLOW_UNKNOWN),
            usual => us(SLOW).max(usual.saturating_mul(3) / 2),
        }
    }

    fn p99_us(&self) -> u64 {
        let beyond = self.count / 100;
        let mut above = 0;
        for (bucket, count) in self.window.iter().enumerate().rev() {
            above += count;
            if beyond < above {
                return bucket_us(bucket);
            }
        }
        0
    }

    /// True if all jobs are to be silent in the window after this one.
    const fn is_silence_next(&self) -> bool {
        self.share < SHARE_ALL && self.windows % SILENT == SILENT - 1
    }

    /// The share of the time that background work may take, in thousandths.
    pub(crate) const fn share(&self) -> u32 {
        self.share
    }

    /// The share for a job that another node does and that costs this one something, in
    /// thousandths; a step of it has just been done.
    pub(crate) fn lend(&mut self) -> u32 {
        self.worked = true;
        if self.is_silence_next() {
            SHARE_LEAST
        } else {
            self.share
        }
    }

    /// How long a job rests after a step that took so long.
    pub(crate) fn rest_of(&mut self, work: Work, step: Duration) -> Duration {
        self.rest_with(work, step, SHARE_ALL)
    }

    /// The same for a job of which another node bears a part, and has lent this share.
    pub(crate) fn rest_with(&mut self, work: Work, step: Duration, lent: u32) -> Duration {
        let us = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
        let spent = &mut self.spent_us[work as usize];
        *spent = spent.saturating_add(us);
        let own = self.rest(step);
        own.max(rest_at(lent.clamp(SHARE_LEAST, SHARE_ALL), step))
    }

    /// What the steps of each job have taken so far.
    pub(crate) fn spent(&self) -> [(&'static str, Duration); WORKS.len()] {
        let micros = self.spent_us.map(Duration::from_micros);
        std::array::from_fn(|at| (WORKS[at], micros[at]))
    }

    /// How long to rest after a step that took so long.
    pub(crate) fn rest(&mut self, step: Duration) -> Duration {
        self.worked = true;
        let rest = rest_at(self.share, step);
        if self.is_silence_next() {
            rest.max(2 * WINDOW)
        } else {
            rest
        }
    }
}

fn rest_at(share: u32, step: Duration) -> Duration {
    let rest = step * (SHARE_ALL - share) / share;
    rest.min(REST_MAX)
}

/// The bucket of requests that take so long.
fn bucket(us: u64) -> usize {
    let Some(octave) = (us / BUCKET_FIRST_US).checked_ilog2() else {
        return 0;
    };
    let quarter = (us >> octave) / (BUCKET_FIRST_US / 4) - 4;
    let bucket = 4 * u64::from(octave) + quarter + 1;
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// What all in a bucket take less than.
fn bucket_us(bucket: usize) -> u64 {
    let (octave, quarter) = (bucket / 4, bucket as u64 % 4);
    (BUCKET_FIRST_US / 4 * (4 + quarter)) << octave
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_pcg::Pcg64Mcg;

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

    #[test]
    fn every_request_is_in_the_bucket_that_ends_above_it() {
        for us in (0..5_000).chain([9_999, 100_000, 1_000_000, 10_000_000]) {
            let at = bucket(us);
            assert!(us < bucket_us(at), "{us} in {at}");
            assert!(at == 0 || bucket_us(at - 1) <= us, "{us} in {at}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    /// A node whose requests take `base` while it is alone, and longer by `harm` times as much
    /// while a job works, which never ends. How many times `base` requests took in the last 200
    /// windows, and how much of the time the job worked.
    fn beside_a_job(base: u64, harm: f64, seed: u64) -> (f64, f64) {
        let mut governor = Governor::default();
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let (mut begins, mut ends) = (0, 0);
        let (mut sum, mut requests, mut worked) = (0.0, 0.0, 0.0);
        for ms in 0..200 * 1_000 {
            if ms == begins {
                ends = ms + 20;
            }
            let works = ms < ends;
            let judged = 160_000 <= ms;
            if ms % 4 == 0 {
                let noise = 0.7 + 0.6 * rng.random::<f64>();
                let harm = if works { 1.0 + harm } else { 1.0 };
                let took = Duration::from_micros(base).mul_f64(noise * harm);
                governor.observe(took);
                if judged {
                    sum += took.as_secs_f64() * 1e6;
                    requests += 1.0;
                }
            }
            if works && judged {
                worked += 1.0;
            }
            if ms + 1 == ends {
                begins = ends + millis(governor.rest(Duration::from_millis(20)));
            }
            governor.tick(after(ms), 1, 100);
        }
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let base = base as f64;
        (sum / requests / base, worked / 40_000.0)
    }

    fn millis(time: Duration) -> u64 {
        u64::try_from(time.as_millis()).expect("a short time")
    }

    #[test]
    fn a_job_that_harms_gets_little_for_ever_and_one_that_does_not_gets_much() {
        for seed in 0..4 {
            for base in [3_000, 20_000, 80_000] {
                let (slower, share) = beside_a_job(base, 0.1, seed);
                assert!(slower < 1.1 && 0.3 < share, "{base}: {slower} {share}");
                let (slower, share) = beside_a_job(base, 5.0, seed);
                assert!(slower < 1.35 && 0.02 < share, "{base}: {slower} {share}");
            }
        }
    }

    #[test]
    fn requests_that_are_slow_by_themselves_are_not_blamed_on_a_job_for_long() {
        let mut governor = Governor::default();
        let mut at = 0;
        let mut windows = |governor: &mut Governor, count: u32, ms: u64| {
            for window in 0..count {
                at += 200;
                for _ in 0..50 {
                    governor.observe(Duration::from_millis(ms));
                }
                // The job rests for longer than a window when it has the least share.
                if window % 10 == 0 || SHARE_LEAST < governor.share() {
                    governor.rest(Duration::from_millis(30));
                }
                governor.tick(after(at), 1, 100);
            }
            governor.share()
        };
        assert_eq!(windows(&mut governor, 64, 5), SHARE_ALL / 2);
        assert_eq!(windows(&mut governor, 5, 40), SHARE_LEAST);
        assert_eq!(windows(&mut governor, 100, 40), SHARE_ALL / 2);
    }

    #[test]
    fn what_another_node_lends_counts_if_it_is_less() {
        let mut governor = Governor::default();
        governor.tick(after(0), 0, 100);
        let step = Duration::from_millis(10);
        let rest = governor.rest_with(Work::Transfer, step, SHARE_ALL);
        assert_eq!(rest, Duration::ZERO);
        let rest = governor.rest_with(Work::Transfer, step, SHARE_ALL / 2);
        assert_eq!(rest, step);
        let rest = governor.rest_with(Work::Transfer, step, 0);
        assert!(rest <= REST_MAX && 40 * step < rest);
    }
}
