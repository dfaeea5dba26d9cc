//! Series about background work.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Label, family, family_of_one};

/// Comparisons of replicas, and the share of the time that background work may take.
#[derive(Debug)]
pub(in crate::shell) struct Healing {
    compared: [Counter; 2],
    moved_keys: Counter,
    moved_bytes: Counter,
    tree_corrections: Counter,
    scrub_passes: Counter,
    scrub_records: Counter,
    scrub_bytes: Counter,
    mended: Gauge,
    tombstones: [Gauge; 3],
    compacted: Counter,
    dropped: Counter,
    share: Gauge,
    spent: Family<Label, Counter<f64, AtomicU64>>,
}

impl Healing {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let spent = Family::default();
        let help = "Taken by the steps of background jobs";
        registry.register("background_seconds", help, spent.clone());
        let sessions = family::<Counter>(
            registry,
            "antientropy_rounds",
            "Comparisons with peers that ended",
        );
        let outcome = |outcome| sessions.get_or_create(&[("outcome", outcome)]).clone();
        Self {
            spent,
            compared: [outcome("failed"), outcome("agreed")],
            moved_keys: family_of_one(
                registry,
                "antientropy_keys_repaired",
                "Records moved by comparisons",
            ),
            moved_bytes: family_of_one(
                registry,
                "antientropy_bytes",
                "Sent and received by comparisons",
            ),
            tree_corrections: family_of_one(
                registry,
                "antientropy_tree_corrections",
                "Leaves of the tree that were not what is stored",
            ),
            scrub_passes: family_of_one(
                registry,
                "scrub_passes",
                "Passes over all that is stored that ended",
            ),
            scrub_records: family_of_one(registry, "scrub_records", "Read by passes that ended"),
            scrub_bytes: family_of_one(registry, "scrub_bytes", "Read by passes that ended"),
            mended: family_of_one(
                registry,
                "storage_mended_records",
                "Damaged records that have been written anew since the start",
            ),
            tombstones: {
                let family = family::<Gauge>(
                    registry,
                    "tombstones",
                    "What deletes left: at the last scan, waiting, reaped since the start",
                );
                let state = |state| family.get_or_create(&[("state", state)]).clone();
                [state("live"), state("waiting"), state("reaped")]
            },
            compacted: family_of_one(
                registry,
                "clocks_compacted",
                "Clocks that lost the entries of closed epochs",
            ),
            dropped: family_of_one(
                registry,
                "dropped_bucket_records_removed",
                "Records removed because their bucket was dropped",
            ),
            share: family_of_one(
                registry,
                "background_share_thousandths",
                "Of the time, for background work",
            ),
        }
    }

    pub(in crate::shell) fn compared(&self, agreed: bool, keys: u64, bytes: u64) {
        self.compared[usize::from(agreed)].inc();
        self.moved_keys.inc_by(keys);
        self.moved_bytes.inc_by(bytes);
    }

    pub(in crate::shell) fn corrected(&self, leaves: u64) {
        self.tree_corrections.inc_by(leaves);
    }

    pub(in crate::shell) fn scrubbed(&self, records: u64, bytes: u64) {
        self.scrub_passes.inc();
        self.scrub_records.inc_by(records);
        self.scrub_bytes.inc_by(bytes);
    }

    pub(super) fn show_mended(&self, records: u64) {
        self.mended.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// What each job has taken since the start.
    pub(super) fn show_spent(&self, jobs: &[(&'static str, Duration)]) {
        for (job, spent) in jobs {
            let series = self.spent.get_or_create(&[("job", *job)]);
            let more = spent.as_secs_f64() - series.get();
            series.inc_by(more.max(0.0));
        }
    }

    /// All owners agreed that a tombstone, or parts of a clock, may go.
    pub(in crate::shell) fn reaped(&self, gone: bool) {
        if gone {
            self.tombstones[2].inc();
        } else {
            self.compacted.inc();
        }
    }

    pub(in crate::shell) fn dropped(&self, records: u64) {
        self.dropped.inc_by(records);
    }

    pub(super) fn show_tombstones(&self, live: u64, waiting: usize) {
        self.tombstones[0].set(i64::try_from(live).unwrap_or(i64::MAX));
        self.tombstones[1].set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub(super) fn show_share(&self, thousandths: u32) {
        self.share.set(i64::from(thousandths));
    }
}
