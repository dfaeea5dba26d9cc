//! Series about what is kept for replicas that were down.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use quorate_ring::NodeId;

use super::{family, family_of_one};
use crate::healing::hints::message::Kept;

type Target = [(&'static str, String); 1];

/// Hints kept, and what becomes of them.
#[derive(Debug)]
pub(in crate::shell) struct Hints {
    pending: Family<Target, Gauge>,
    bytes: Family<Target, Gauge>,
    oldest: Family<Target, Gauge>,
    most: Gauge,
    stored: Counter,
    replayed: [Counter; 2],
}

impl Hints {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let outcomes = family::<Counter>(registry, "hints_replayed", "Hints that are gone");
        let outcome = |outcome| outcomes.get_or_create(&[("outcome", outcome)]).clone();
        let mut gauges = |name, help| {
            let gauges = Family::<Target, Gauge>::default();
            registry.register(name, help, gauges.clone());
            gauges
        };
        let pending = gauges("hints_pending", "Hints kept, by whom they are for");
        let bytes = gauges("hints_pending_bytes", "What they count as");
        let oldest = Family::<Target, Gauge>::default();
        registry.register_with_unit(
            "hint_oldest_age",
            "Age of the oldest, as far as is known",
            Unit::Seconds,
            oldest.clone(),
        );
        Self {
            pending,
            bytes,
            oldest,
            most: family_of_one(registry, "hint_bytes_limit", "What they may count as"),
            stored: family_of_one(
                registry,
                "hints_stored",
                "Times another was asked to stand in",
            ),
            replayed: [outcome("lost"), outcome("delivered")],
        }
    }

    pub(in crate::shell) fn stored(&self) {
        self.stored.inc();
    }

    pub(in crate::shell) fn replayed(&self, well: bool) {
        self.replayed[usize::from(well)].inc();
    }

    /// What is kept now; for all others nothing is.
    pub(in crate::shell) fn show(
        &self,
        kept: &[(NodeId, Kept)],
        most: usize,
        name: &dyn Fn(NodeId) -> String,
    ) {
        let value = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for family in [&self.pending, &self.bytes, &self.oldest] {
            family.clear();
        }
        for (owner, kept) in kept {
            let target = [("target", name(*owner))];
            self.pending.get_or_create(&target).set(value(kept.count));
            self.bytes.get_or_create(&target).set(value(kept.bytes));
            let seconds = value(kept.oldest_ms / 1_000);
            self.oldest.get_or_create(&target).set(seconds);
        }
        self.most.set(i64::try_from(most).unwrap_or(i64::MAX));
    }
}
