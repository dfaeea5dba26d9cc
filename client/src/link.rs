//! One node as the client knows it: its address, the lane to it if there is one, and how the last
//! tries to get one went.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::{
    lane::Lane,
    latency::Latency,
    retry::Backoff,
    routing::{Candidate, Health},
};

/// How long a node is asked last that has sent us away because it drains.
const SENT_AWAY: Duration = Duration::from_secs(2);

/// Why there is no lane.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct DialError {
    pub(crate) message: String,
    /// The node, or we, refuse for a reason that time does not change.
    pub(crate) denied: bool,
}

#[derive(Debug)]
struct Tries {
    /// Why the last one failed and when the next may be made.
    failed: Option<(DialError, Instant)>,
    backoff: Option<Backoff>,
}

/// How a node has answered, and what it owes.
#[derive(Debug, Default)]
struct Record {
    latency: Latency,
    in_flight: usize,
    /// When it last answered, or began to owe an answer after it owed none.
    heard: Option<Instant>,
}

impl Record {
    /// Whether it owes answers and has given none for much longer than it usually takes.
    fn is_silent(&self, now: Instant) -> bool {
        let silence = self.heard.map(|heard| now.duration_since(heard));
        0 < self.in_flight && silence.is_some_and(|silence| 2 * self.latency.limit() < silence)
    }
}

/// One node.
#[derive(Debug)]
pub(crate) struct Link {
    /// The name its certificate must have, once known from the ring.
    pub(crate) name: Option<String>,
    pub(crate) address: String,
    /// Held while a lane is being made, so that it is made once.
    pub(crate) dialling: tokio::sync::Mutex<()>,
    lane: ArcSwapOption<Lane>,
    tries: Mutex<Tries>,
    wanted: AtomicBool,
    record: Mutex<Record>,
    /// Until then it is asked last: it has sent us away.
    drains: Mutex<Option<Instant>>,
}

impl Link {
    pub(crate) fn new(name: Option<String>, address: String) -> Self {
        Self {
            name,
            address,
            dialling: tokio::sync::Mutex::new(()),
            lane: ArcSwapOption::empty(),
            tries: Mutex::new(Tries {
                failed: None,
                backoff: None,
            }),
            wanted: AtomicBool::new(false),
            record: Mutex::default(),
            drains: Mutex::new(None),
        }
    }

    /// How people know it.
    pub(crate) fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} ({})", self.address),
            None => self.address.clone(),
        }
    }

    /// The lane, if it is open.
    pub(crate) fn lane(&self) -> Option<Arc<Lane>> {
        self.lane.load_full().filter(|lane| !lane.is_closed())
    }

    pub(crate) fn opened(&self, lane: Arc<Lane>) {
        let mut tries = self.tries();
        tries.failed = None;
        tries.backoff = None;
        self.lane.store(Some(lane));
    }

    pub(crate) fn failed(&self, error: DialError, now: Instant, seed: u64) {
        let mut tries = self.tries();
        let backoff = tries.backoff.get_or_insert_with(|| Backoff::new(seed));
        let pause = backoff.pause();
        tries.failed = Some((error, now + pause));
    }

    /// Why not to try at present.
    pub(crate) fn resting(&self, now: Instant) -> Option<DialError> {
        let tries = self.tries();
        let (error, until) = tries.failed.as_ref()?;
        (now < *until).then(|| error.clone())
    }

    /// Why the last try failed, if it did.
    pub(crate) fn last_error(&self) -> Option<DialError> {
        self.tries().failed.as_ref().map(|(error, _)| error.clone())
    }

    /// What routing should think of it. Being asked about makes it wanted.
    pub(crate) fn candidate(&self, replica: bool, now: Instant) -> Candidate {
        let health = self.health();
        let record = self.record();
        Candidate {
            health,
            replica,
            in_flight: record.in_flight,
            latency: record.latency.expected(now),
            silent: record.is_silent(now),
        }
    }

    fn health(&self) -> Health {
        if self.is_draining() {
            return Health::Down;
        }
        if self
            .lane
            .load()
            .as_ref()
            .is_some_and(|lane| !lane.is_closed())
        {
            return Health::Up;
        }
        self.wanted.store(true, Ordering::Relaxed);
        // A lane that has just closed says that the node is gone, until a try says otherwise.
        if self.lane.load().is_some() || self.tries().failed.is_some() {
            Health::Down
        } else {
            Health::Untried
        }
    }

    /// It wants no requests at present.
    pub(crate) fn sent_away(&self, now: Instant) {
        *self.drains.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + SENT_AWAY);
    }

    fn is_draining(&self) -> bool {
        let drains = self.drains.lock().unwrap_or_else(PoisonError::into_inner);
        drains.is_some_and(|until| Instant::now() < until)
    }

    /// Whether a lane should be made in the background.
    pub(crate) fn wants_dial(&self, now: Instant) -> bool {
        self.wanted.load(Ordering::Relaxed)
            && self.resting(now).is_none()
            && self.lane().is_none()
            && self.dialling.try_lock().is_ok()
    }

    /// It gets a request.
    pub(crate) fn begin(self: &Arc<Self>, now: Instant) -> InFlight {
        let mut record = self.record();
        if record.in_flight == 0 {
            record.heard = Some(now);
        }
        record.in_flight += 1;
        InFlight(self.clone())
    }

    /// It has answered a request.
    pub(crate) fn answered(&self, took: Duration, now: Instant) {
        let mut record = self.record();
        record.latency.record(took, now);
        record.heard = Some(now);
    }

    /// How long to wait for it before it is taken for slow.
    pub(crate) fn limit(&self) -> Duration {
        self.record().latency.limit()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one request until dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Link>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.record().in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_owes_answers_and_gives_none_is_silent() {
        let link = Arc::new(Link::new(None, "a:1".to_owned()));
        let start = Instant::now();
        let silent = |at| link.candidate(true, at).silent;
        for _ in 0..50 {
            let flight = link.begin(start);
            link.answered(Duration::from_millis(1), start);
            drop(flight);
        }
        let later = start + Duration::from_mins(1);
        assert!(!silent(later), "it owes nothing");
        let flight = link.begin(later);
        assert!(!silent(later + Duration::from_millis(50)));
        assert!(silent(later + Duration::from_millis(100)));
        link.answered(Duration::from_millis(90), later + Duration::from_millis(90));
        assert!(!silent(later + Duration::from_millis(100)));
        drop(flight);
        assert_eq!(link.candidate(true, later).in_flight, 0);
    }
}
