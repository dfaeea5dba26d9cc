//! One node as the client knows it: its address, the lane to it if there is one, and how the last
//! tries to get one went.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::{lane::Lane, retry::Backoff, retry::Latency, routing::Health};

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
    /// Until then it is asked last: it has sent us away.
    drains: Mutex<Option<Instant>>,
    in_flight: AtomicUsize,
    latency: Mutex<Latency>,
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
            drains: Mutex::new(None),
            in_flight: AtomicUsize::new(0),
            latency: Mutex::new(Latency::default()),
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
    pub(crate) fn health(&self) -> Health {
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

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    pub(crate) fn record(&self, sample: Duration) {
        self.latency_mut().record(sample);
    }

    /// How long to wait for it before asking another as well.
    pub(crate) fn limit(&self) -> Duration {
        self.latency_mut().limit()
    }

    fn latency_mut(&self) -> MutexGuard<'_, Latency> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
