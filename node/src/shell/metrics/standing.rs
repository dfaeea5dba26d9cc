//! Series about how things stand: partitions, transfers, replicas that agree, links.
//!
//! Looked up when somebody asks. What takes long, the partitions of a large ring, is counted once
//! for each ring.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use quorate_ring::{Decree, NodeId, Phase, Ring};

use super::{Label, family, family_of_one};
use crate::{healing::message::PairReport, ring_message::Progress};

type Peer = [(&'static str, String); 1];

/// Gauges of one node's place in its cluster.
#[derive(Debug)]
pub(in crate::shell) struct Standing {
    owned: Family<Label, Gauge>,
    transfers: Gauge,
    transfer_bytes: Counter,
    received: AtomicU64,
    pairs: Family<Label, Gauge>,
    behind_keys: Gauge,
    rebuilding: Gauge,
    rebuild_left: Gauge,
    set_aside: [Gauge; 2],
    agreed: Gauge<f64, AtomicU64>,
    rtt: Family<Peer, Gauge<f64, AtomicU64>>,
    counted: Mutex<(u64, usize)>,
}

/// What is looked up for it.
pub(in crate::shell) struct Place<'a> {
    pub(in crate::shell) decree: &'a Decree,
    pub(in crate::shell) me: NodeId,
    /// Largest number of replicas of a bucket.
    pub(in crate::shell) replicas: usize,
    pub(in crate::shell) progress: Progress,
    /// Whether this node is being rebuilt, and the transfers that are left.
    pub(in crate::shell) rebuilding: (bool, usize),
    /// Records that it has set aside, and their bytes.
    pub(in crate::shell) set_aside: (u64, u64),
    pub(in crate::shell) pairs: &'a [PairReport],
    pub(in crate::shell) wall_ms: u64,
    /// Round-trip time in seconds, by name of the peer.
    pub(in crate::shell) rtt: Vec<(String, f64)>,
}

impl Standing {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let transfers = family::<Gauge>(registry, "transfers_active", "Not completed yet");
        let moved = family::<Counter>(
            registry,
            "transfer_bytes",
            "Received for changes of the ring",
        );
        let rtt = Family::default();
        registry.register_with_unit("quic_rtt", "To each peer", Unit::Seconds, rtt.clone());
        let agreed = Gauge::default();
        registry.register_with_unit(
            "antientropy_last_success_timestamp",
            "When the pair of replicas that has waited longest last agreed; 0 if one never has",
            Unit::Seconds,
            agreed.clone(),
        );
        Self {
            owned: family(registry, "ring_partitions_owned", "Partitions of this node"),
            transfers: transfers.get_or_create(&[("direction", "in")]).clone(),
            transfer_bytes: moved.get_or_create(&[("direction", "in")]).clone(),
            received: AtomicU64::new(0),
            pairs: family(
                registry,
                "antientropy_pairs",
                "Peers compared with, by what was found",
            ),
            behind_keys: family_of_one(
                registry,
                "antientropy_keys_behind",
                "Keys known to differ from a peer's",
            ),
            rebuilding: family_of_one(
                registry,
                "rebuilding",
                "1 while the copies of this node count for no read",
            ),
            rebuild_left: family_of_one(
                registry,
                "rebuild_transfers_left",
                "Until this node is rebuilt",
            ),
            set_aside: [
                family_of_one(
                    registry,
                    "set_aside_records",
                    "That this node keeps for quorate salvage",
                ),
                family_of_one(registry, "set_aside_bytes", "Of those records"),
            ],
            agreed,
            rtt,
            counted: Mutex::new((0, 0)),
        }
    }

    pub(in crate::shell) fn show(&self, place: &Place<'_>) {
        let ring = (place.decree.epoch.get(), place.replicas);
        let mut counted = self.counted.lock().expect("a panic ends the process");
        if *counted != ring {
            *counted = ring;
            let owned = partitions(place.decree, place.me, place.replicas);
            for (state, count) in ["stable", "incoming", "outgoing"].into_iter().zip(owned) {
                self.owned.get_or_create(&[("state", state)]).set(count);
            }
        }
        drop(counted);
        let (rebuilding, left) = place.rebuilding;
        self.rebuilding.set(i64::from(rebuilding));
        self.rebuild_left
            .set(i64::try_from(left).unwrap_or(i64::MAX));
        let (records, bytes) = place.set_aside;
        for (gauge, value) in self.set_aside.iter().zip([records, bytes]) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        let Progress {
            done, total, bytes, ..
        } = place.progress;
        self.transfers.set(i64::from(total.saturating_sub(done)));
        // Each change counts anew.
        let before = self.received.swap(bytes, Ordering::Relaxed);
        let more = bytes.checked_sub(before).unwrap_or(bytes);
        self.transfer_bytes.inc_by(more);
        self.show_pairs(place);
        self.rtt.clear();
        for (peer, seconds) in &place.rtt {
            self.rtt
                .get_or_create(&[("peer", peer.clone())])
                .set(*seconds);
        }
    }

    fn show_pairs(&self, place: &Place<'_>) {
        let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let count = |state, is: fn(&PairReport) -> bool| {
            let pairs = place.pairs.iter().filter(|pair| is(pair)).count();
            let series = self.pairs.get_or_create(&[("state", state)]);
            series.set(gauge(pairs as u64));
        };
        count("agreed", |pair| {
            pair.behind_keys == 0 && pair.trouble.is_empty()
        });
        count("behind", |pair| pair.behind_keys != 0);
        count("failed", |pair| {
            pair.behind_keys == 0 && !pair.trouble.is_empty()
        });
        let behind = place.pairs.iter().map(|pair| pair.behind_keys).sum();
        self.behind_keys.set(gauge(behind));
        let agreed = |pair: &PairReport| {
            pair.agreed_ms_ago
                .map_or(0, |ago| place.wall_ms.saturating_sub(ago))
        };
        let oldest = place.pairs.iter().map(agreed).min().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of our times fit")]
        self.agreed.set(oldest as f64 / 1e3);
    }
}

/// Partitions that a node has and keeps, gets, and gives up. While their number changes, those of
/// the finer ring are counted.
fn partitions(decree: &Decree, me: NodeId, replicas: usize) -> [i64; 3] {
    let reading = decree.reading();
    let other = decree.other().unwrap_or_else(|| reading.clone());
    let (before, after) = match decree.phase {
        Phase::Switched => (&other, &reading),
        Phase::Stable | Phase::Moving => (&reading, &other),
    };
    let finer = if before.partitions().count() < after.partitions().count() {
        after
    } else {
        before
    };
    let mut counts = [0; 3];
    for partition in 0..finer.partitions().count() {
        let first = *finer
            .partitions()
            .tokens(quorate_ring::Partition(partition))
            .start();
        let owns = |ring: &Ring| {
            let list = ring.preference(quorate_ring::Token::new(first));
            list.owners(replicas).contains(&me)
        };
        match (owns(before), owns(after)) {
            (true, true) => counts[0] += 1,
            (false, true) => counts[1] += 1,
            (true, false) => counts[2] += 1,
            (false, false) => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use quorate_ring::{Member, NodeUuid, Partitions};

    use super::*;

    fn ring(names: &[&str], partitions: u32) -> Ring {
        let members = names
            .iter()
            .map(|name| Member::new(name, "127.0.0.1:1", "z", 1).unwrap());
        let partitions = Partitions::new(partitions).unwrap();
        Ring::founding(members.collect(), partitions, 1, 1).unwrap()
    }

    #[test]
    fn partitions_are_kept_or_on_their_way() {
        let (old, new) = (NodeId::of_name("n1"), NodeId::of_name("n2"));
        let uuid = |_| NodeUuid::new(1);
        let stable = Decree::founding(ring(&["n1"], 64));
        assert_eq!(partitions(&stable, old, 1), [64, 0, 0]);
        let moving = stable.moving(ring(&["n2"], 128), Vec::new(), String::new(), uuid);
        for decree in [&moving, &moving.switched(uuid)] {
            assert_eq!(partitions(decree, old, 1), [0, 0, 128]);
            assert_eq!(partitions(decree, new, 1), [0, 128, 0]);
        }
    }

    #[test]
    fn bytes_received_only_rise_and_peers_that_left_are_forgotten() {
        let mut registry = Registry::with_prefix("quorate");
        let standing = Standing::new(&mut registry);
        let decree = Decree::founding(ring(&["n1"], 64));
        let mut place = Place {
            decree: &decree,
            me: NodeId::of_name("n1"),
            replicas: 3,
            rebuilding: (false, 0),
            set_aside: (0, 0),
            progress: Progress::default(),
            pairs: &[],
            wall_ms: 0,
            rtt: vec![("n2".to_owned(), 0.5)],
        };
        for bytes in [100, 150, 20] {
            place.progress.bytes = bytes;
            standing.show(&place);
        }
        place.rtt = vec![("n3".to_owned(), 0.25)];
        standing.show(&place);
        let mut out = String::new();
        text::encode(&mut out, &registry).unwrap();
        for line in [
            "quorate_transfer_bytes_total{direction=\"in\"} 170",
            "quorate_ring_partitions_owned{state=\"stable\"} 64",
            "quorate_quic_rtt_seconds{peer=\"n3\"} 0.25",
        ] {
            assert!(out.contains(line), "{line} is missing in\n{out}");
        }
        assert!(!out.contains("n2"), "{out}");
    }
}
