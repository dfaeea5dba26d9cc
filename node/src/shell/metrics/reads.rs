//! What reads cost beyond what they need.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

use super::family;
use crate::hedging::Hedging;

/// Reads that asked one more replica because one took long.
#[derive(Debug)]
pub(super) struct Reads {
    hedged: Counter,
    denied: Counter,
}

impl Reads {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let help = "Times that a replica took long and another was asked, or the budget was spent";
        let hedges = family::<Counter>(registry, "hedged_reads", help);
        let outcome = |outcome| hedges.get_or_create(&[("outcome", outcome)]).clone();
        Self {
            hedged: outcome("asked"),
            denied: outcome("denied"),
        }
    }

    pub(super) fn show(&self, hedging: &Hedging) {
        for (counter, now) in [
            (&self.hedged, hedging.hedged()),
            (&self.denied, hedging.denied()),
        ] {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
    }
}
