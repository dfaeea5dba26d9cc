//! Values whose time is over are removed, not only hidden.
//!
//! The scan that audits the tree comes upon every record in the end and tells which have values
//! that expire. Each replica removes those values by itself, and what is left is what a delete
//! leaves, under the version's own name: nothing has to be agreed on, and what repair brings from
//! a replica that has not come so far is the same version. The time is the cluster's, not this
//! node's; and since what is removed does not come back, it is removed only when a majority of
//! clocks has been heard, and so much later that no clock that is believed still shows it. A few
//! at a time, with rests as the governor says; the audit waits until those found are done.
//!
//! Not decided here: when a value stops being shown (`Sibling::is_live_value`), and when the
//! tombstones go.

use std::{collections::VecDeque, time::Duration};

use quorate_gossip::Instant;

use crate::{
    core::Core,
    healing::governor::Work,
    replica::{Address, Caller, Job},
};

/// Records changed in one step.
const STEP_MAX: usize = 32;
/// How long a step is taken to be.
const STEP: Duration = Duration::from_millis(5);

/// Records found with values whose time is over.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    due: VecDeque<Address>,
    rests: Option<Instant>,
}

impl Expiry {
    /// A scan's page has these records with values that expire, each with the time of the first.
    pub(crate) fn found(&mut self, core: &Core, mortal: Vec<(Address, u64)>) {
        if let Some(past_ms) = past_ms(core) {
            let over = mortal.into_iter().filter(|(_, at_ms)| *at_ms <= past_ms);
            self.due.extend(over.map(|(address, _)| address));
        }
    }

    /// Removes the values of a few of them, if it is time.
    pub(crate) fn step(&mut self, core: &mut Core) {
        let now = core.now.mono;
        if self.due.is_empty() || self.rests.is_some_and(|rests| now < rests) {
            return;
        }
        let Some(before_ms) = past_ms(core) else {
            return self.due.clear();
        };
        self.rests = Some(now + STEP + core.governor.rest_of(Work::Expiry, STEP));
        let few = STEP_MAX.min(core.limits.replica_keys_max / 4).max(1);
        for _ in 0..few {
            if let Some(address) = self.due.pop_front() {
                // One that is refused is found again by the next audit.
                core.submit_for(Caller::Nobody, &address, Job::Expire { before_ms });
            }
        }
    }

    /// When there is more to do; none if there is nothing.
    pub(crate) fn wakes(&self, now: Instant) -> Option<Instant> {
        (!self.due.is_empty()).then(|| self.rests.unwrap_or(now))
    }
}

/// The time that is over for certain.
fn past_ms(core: &Core) -> Option<u64> {
    let members = core.ring.members().len();
    core.hybrid.certainly_past_ms(core.now, members)
}
