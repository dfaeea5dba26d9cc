//! When the next operation begins.
//!
//! Closed loop: when the client's last one has ended. Open loop: the n-th is due n / rate after the
//! start, whatever the answers to the others. A client takes whichever is due next, and its latency
//! counts from when it was due, so that a stall shows in all operations it held up, not only in
//! those under way. Operations that were due and that no client was free to begin are counted.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// Timers of threads are not finer than this.
const NAP_MIN: Duration = Duration::from_micros(50);
const NAP_MAX: Duration = Duration::from_millis(100);

/// What the clients of a run keep to.
#[derive(Debug)]
pub(crate) struct Pace {
    started: Instant,
    stopped: AtomicBool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    rate: u64,
    /// One for each operation that is due and not taken. Tokio's own timers are too coarse, so a
    /// thread adds them.
    due: Semaphore,
    given: AtomicU64,
    taken: AtomicU64,
}

impl Pace {
    /// Begins now. In an open loop, somebody has to [`drive`](Self::drive) it.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        let open = rate.map(|rate| Open {
            rate,
            due: Semaphore::new(0),
            given: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        });
        Self {
            started: Instant::now(),
            stopped: AtomicBool::new(false),
            open,
        }
    }

    /// When the next operation was due, once it is; none at the end.
    pub(crate) async fn next(&self) -> Option<Instant> {
        let Some(open) = &self.open else {
            let goes_on = !self.stopped.load(Ordering::Relaxed);
            return goes_on.then(Instant::now);
        };
        open.due.acquire().await.ok()?.forget();
        let number = open.taken.fetch_add(1, Ordering::Relaxed);
        Some(self.started + open.time_of(number))
    }

    /// Lets operations become due until the end; blocks its thread.
    pub(crate) fn drive(&self) {
        let Some(open) = &self.open else { return };
        while !open.due.is_closed() {
            let now = self.started.elapsed();
            let given = open.given.load(Ordering::Relaxed);
            let due = open.due_by(now);
            let more = usize::try_from(due.saturating_sub(given)).unwrap_or(0);
            let more = more.min(Semaphore::MAX_PERMITS - open.due.available_permits());
            open.due.add_permits(more);
            let given = given + more as u64;
            open.given.store(given, Ordering::Relaxed);
            let left = open.time_of(given).saturating_sub(self.started.elapsed());
            thread::sleep(left.clamp(NAP_MIN, NAP_MAX));
        }
    }

    /// Nothing begins any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(open) = &self.open {
            open.due.close();
        }
    }

    /// Operations that are due and have not begun.
    pub(crate) fn behind(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| {
            let given = open.given.load(Ordering::Relaxed);
            given.saturating_sub(open.taken.load(Ordering::Relaxed))
        })
    }
}

impl Open {
    fn time_of(&self, number: u64) -> Duration {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many are due: the first at once.
    fn due_by(&self, elapsed: Duration) -> u64 {
        let due = elapsed.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(due).unwrap_or(u64::MAX - 1) + 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn operations_are_due_at_even_steps_however_late_they_begin() {
        let pace = Arc::new(Pace::new(Some(1_000)));
        let driver = thread::spawn({
            let pace = pace.clone();
            move || pace.drive()
        });
        let first = pace.next().await.unwrap();
        thread::sleep(Duration::from_millis(20));
        for number in 1..20 {
            let due = pace.next().await.unwrap();
            assert_eq!(due - first, Duration::from_millis(number));
        }
        while pace.behind() < 5 {
            thread::sleep(Duration::from_millis(1));
        }
        pace.stop();
        assert!(
            pace.next().await.is_none(),
            "what is due is not begun after the end"
        );
        driver.join().unwrap();
        assert!(5 <= pace.behind());
    }

    #[tokio::test]
    async fn a_closed_loop_goes_on_until_it_is_stopped() {
        let pace = Pace::new(None);
        assert!(pace.next().await.is_some());
        assert_eq!(pace.behind(), 0);
        pace.stop();
        assert!(pace.next().await.is_none());
    }
}
