//! One governor for all background work: it yields to requests of clients.
//!
//! It counts the requests that are slower than they are without background work, and how many are
//! in progress. When more than may be are slow, or a long queue says that the node is busy,
//! background work gets a smaller share of the time; while neither is so, the share grows again,
//! slowly, and is all of it when nobody asks for anything. A job does a step, and then rests so
//! long that its steps take no more than the share: the rule of Garage's tranquilizer. No job ever
//! starves: there is a least share.
//!
//! So that it is known what requests take while all jobs rest, all of them are silent together now
//! and then; what requests take while they work is never learned as usual, however long they work.
//!
//! Not decided here: what the jobs are, how large a step is, and limits in bytes.

mod latency;

use std::time::Duration;

use quorate_gossip::Instant;

use self::latency::Latency;

/// Shares are in thousandths of the time.
pub(crate) const SHARE_ALL: u32 = 1_000;
const SHARE_LEAST: u32 = 20;
/// What a window adds that is not busy: the least becomes half of the time in half a minute.
const SHARE_STEP: u32 = 3;
const WINDOW: Duration = Duration::from_millis(200);
/// Of so many windows the first ones are silent.
const ROUND: u32 = 16;
const SILENT: u32 = 2;
/// What jobs have done is felt for so many windows.
const AFTERMATH: u32 = 1;
/// Nobody asks for anything after so many windows without an answer.
const IDLE: u32 = 25;
const REST_MAX: Duration = Duration::from_secs(2);

/// What a client has asked for; gets and puts take differently long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Get = 0,
    Put = 1,
}

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
    asked: [Latency; 2],
    ends: Option<Instant>,
    /// Counts windows, so that some of them are silent.
    windows: u32,
    /// A job has worked in this window.
    worked: bool,
    /// Windows since one has.
    rested: u32,
    /// Windows since a request was answered.
    idle: u32,
    /// Time that the steps of each job have taken, in microseconds.
    spent_us: [u64; WORKS.len()],
}

impl Default for Governor {
    fn default() -> Self {
        Self {
            share: SHARE_ALL,
            asked: [Latency::new(), Latency::new()],
            ends: None,
            windows: 0,
            worked: false,
            rested: 0,
            idle: IDLE,
            spent_us: [0; WORKS.len()],
        }
    }
}

impl Governor {
    /// A client's request has been answered.
    pub(crate) fn observe(&mut self, asked: Asked, took: Duration) {
        self.asked[asked as usize].observe(took);
    }

    /// Closes the window if it is over. `in_flight` requests of at most `max` are in progress.
    pub(crate) fn tick(&mut self, now: Instant, in_flight: usize, max: usize) {
        let ends = *self.ends.get_or_insert(now + WINDOW);
        if now < ends {
            return;
        }
        self.ends = Some(now + WINDOW);
        self.rested = if std::mem::take(&mut self.worked) {
            0
        } else {
            self.rested.saturating_add(1)
        };
        let mut any = false;
        for asked in &mut self.asked {
            any |= asked.close(AFTERMATH < self.rested);
        }
        self.idle = if any { 0 } else { self.idle.saturating_add(1) };
        let crowded = max < 4 * in_flight;
        if !crowded && IDLE <= self.idle {
            self.share = SHARE_ALL;
        } else if crowded || self.asked.iter().any(Latency::is_disturbed) {
            self.share = (self.share / 2).max(SHARE_LEAST);
        } else if !self.asked.iter().any(Latency::is_slow) {
            self.share = (self.share + SHARE_STEP).min(SHARE_ALL / 2);
        }
        self.windows = self.windows.wrapping_add(1);
    }

    /// For how long all jobs are to be silent from now on, if they are.
    fn silence(&self) -> Duration {
        let window = self.windows % ROUND;
        let left = match window {
            _ if self.share == SHARE_ALL => 0,
            0..SILENT => SILENT - window,
            _ if window + 1 == ROUND => SILENT + 1,
            _ => 0,
        };
        WINDOW * left
    }

    /// The share of the time that background work may take, in thousandths.
    pub(crate) const fn share(&self) -> u32 {
        self.share
    }

    /// How large a step may be that takes `most` when nobody asks for anything: as large a part of
    /// that as the share is of the time, but `least`. Requests wait behind a whole step, however
    /// long a job rests after it.
    pub(crate) fn portion(&self, most: u32, least: u32) -> usize {
        let part = u64::from(most) * u64::from(self.share) / u64::from(SHARE_ALL);
        usize::try_from(part).map_or(usize::MAX, |part| part.max(least as usize))
    }

    /// The share for a job that another node does and that costs this one something, in
    /// thousandths; a step of it has just been done.
    pub(crate) fn lend(&mut self) -> u32 {
        self.worked = true;
        if self.silence().is_zero() {
            self.share
        } else {
            SHARE_LEAST
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
        rest_at(self.share, step).max(self.silence())
    }
}

fn rest_at(share: u32, step: Duration) -> Duration {
    let rest = step * (SHARE_ALL - share) / share;
    rest.min(REST_MAX)
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
                governor.observe(Asked::Put, Duration::from_millis(2));
            }
            governor.tick(after(window * 200), 1, 100);
        }
        assert_eq!(governor.share(), SHARE_ALL / 2);
        for window in 11..=13 {
            for _ in 0..100 {
                governor.observe(Asked::Put, Duration::from_millis(300));
            }
            governor.tick(after(window * 200), 1, 100);
        }
        let busy = governor.share();
        assert!(busy < SHARE_ALL / 4, "{busy}");
        assert!(Duration::from_millis(30) < governor.rest(Duration::from_millis(10)));
        for window in 14..14 + u64::from(IDLE) {
            assert!(governor.share() < SHARE_ALL);
            governor.tick(after(window * 200), 0, 100);
        }
        assert_eq!(governor.share(), SHARE_ALL);
    }

    #[test]
    fn steps_are_as_large_as_the_share() {
        let mut governor = Governor::default();
        assert_eq!(governor.portion(64, 8), 64);
        for (share, portion) in [(SHARE_ALL / 2, 32), (SHARE_ALL / 4, 16), (SHARE_LEAST, 8)] {
            governor.share = share;
            assert_eq!(governor.portion(64, 8), portion);
        }
        governor.share = SHARE_ALL;
        assert_eq!(u32::try_from(governor.portion(u32::MAX, 0)), Ok(u32::MAX));
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
                governor.observe(Asked::Get, took);
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
                assert!(slower < 1.15 && 0.019 < share, "{base}: {slower} {share}");
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
                    governor.observe(Asked::Put, Duration::from_millis(ms));
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
        assert_eq!(windows(&mut governor, 400, 40), SHARE_ALL / 2);
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
