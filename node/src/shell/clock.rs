//! The only clock: what the machines are told the time is.

use std::time::{Instant as StdInstant, SystemTime, UNIX_EPOCH};

use quorate_gossip::Instant;

use crate::api::Moment;

/// Counts from the start of the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: StdInstant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            start: StdInstant::now(),
        }
    }

    /// The time of both kinds.
    pub(super) fn now(self) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Moment {
            mono: self.mono(),
            wall_ms: wall.map_or(0, |wall| {
                u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
            }),
        }
    }

    /// The time that never goes back.
    pub(super) fn mono(self) -> Instant {
        let nanos = self.start.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// When the runtime's timer has to go off for `instant`.
    pub(super) fn timer(self, instant: Instant) -> tokio::time::Instant {
        (self.start + instant.since(Instant::START)).into()
    }
}
