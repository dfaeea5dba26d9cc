//! Growth measured: how even a cluster stays, and how much moves, from 3 to 30 nodes.
//!
//! `cargo test -p quorate-ring --test growth -- --nocapture` prints the table of the README.
//! Everything is computed, so it is the same everywhere.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a test may fail, its counts are small, and its table is for people"
)]

use std::collections::BTreeSet;

use quorate_ring::{Change, Decree, Member, NodeId, Partition, Partitions, Plan, Ring, Staged};

const ME: NodeId = NodeId::new(1);
const N: usize = 3;

/// A kind of cluster.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    partitions: u32,
    zones: usize,
    weights: u32,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "equal nodes, one zone",
        partitions: 256,
        zones: 1,
        weights: 1,
    },
    Kind {
        name: "equal nodes, 3 zones",
        partitions: 256,
        zones: 3,
        weights: 1,
    },
    Kind {
        name: "weights 1 to 4, 3 zones",
        partitions: 256,
        zones: 3,
        weights: 4,
    },
    Kind {
        name: "weights 1 to 4, 3 zones",
        partitions: 1024,
        zones: 3,
        weights: 4,
    },
];

impl Kind {
    /// Weights change every time all zones have had one, so that all zones weigh the same at last.
    fn member(self, at: usize) -> Member {
        let weight = 1 + u32::try_from(at / self.zones).unwrap() % self.weights;
        let (name, zone) = (format!("n{at}"), format!("z{}", at % self.zones));
        Member::new(&name, "127.0.0.1:1", &zone, weight).unwrap()
    }

    fn founded(self) -> Decree {
        let members = (0..3).map(|at| self.member(at)).collect();
        let partitions = Partitions::new(self.partitions).unwrap();
        Decree::founding(Ring::founding(members, partitions, 7, 5).unwrap())
    }
}

/// What steps of growth came to.
#[derive(Default)]
struct Growth {
    /// Fullest node over the mean, per weight, at the end.
    last: f64,
    /// The worst step's, over the best that is possible with these zones.
    worst: f64,
    /// Moved over the least that must move: of all steps together, and of the worst.
    moved: f64,
    minimum: f64,
    worst_ratio: f64,
}

fn grow(kind: Kind, stops: impl IntoIterator<Item = usize>) -> Growth {
    let mut decree = kind.founded();
    let mut growth = Growth::default();
    for stop in stops {
        let mut staged = Staged::new(decree.epoch);
        for at in decree.ring.members().len()..stop {
            assert!(staged.stage(ME, Change::Join(kind.member(at))));
        }
        let plan = Plan::new(&decree, &staged, N).unwrap();
        check_spread(&plan.ring, kind.zones);
        growth.last = plan.balance.1;
        growth.worst = growth.worst.max(plan.balance.1 / best(&plan.ring));
        growth.moved += plan.moved_share;
        growth.minimum += plan.minimum_share;
        let ratio = plan.moved_share / plan.minimum_share;
        growth.worst_ratio = growth.worst_ratio.max(ratio);
        decree = Decree::founding(plan.ring);
    }
    growth
}

fn check_spread(ring: &Ring, zones: usize) {
    for partition in (0..ring.partitions().count()).map(Partition) {
        let owners = ring.list(partition).owners(N).iter();
        let here: BTreeSet<&str> = owners
            .map(|id| ring.member(*id).unwrap().zone.as_str())
            .collect();
        assert_eq!(here.len(), N.min(zones));
    }
}

/// The least that the fullest node can hold over the mean, per weight. With as many zones as
/// replicas each zone holds one of every key, however few its nodes are; and whole replicas are
/// held, not parts.
fn best(ring: &Ring) -> f64 {
    let weights: u32 = ring.members().iter().map(|member| member.weight).sum();
    let partitions = f64::from(ring.partitions().count());
    let mean = partitions * N as f64 / f64::from(weights);
    let zones: BTreeSet<&str> = ring.members().iter().map(|m| m.zone.as_str()).collect();
    let full = ring.members().iter().map(|member| {
        let zone = ring
            .members()
            .iter()
            .filter(|other| other.zone == member.zone);
        let zone: u32 = zone.map(|other| other.weight).sum();
        let share = if zones.len() == N {
            partitions / f64::from(zone)
        } else {
            mean
        };
        (share * f64::from(member.weight)).ceil() / f64::from(member.weight) / mean
    });
    full.fold(1.0, f64::max)
}

#[test]
fn growth_from_three_to_thirty_nodes_is_even_and_moves_little() {
    println!(
        "| cluster | partitions | growth | fullest / mean at 30 \
         | fullest / best possible, worst step | moved / least possible, all steps \
         | the same, worst step |"
    );
    println!("|---|---|---|---|---|---|---|");
    for kind in KINDS {
        let one_by_one = grow(kind, 4..=30);
        let by_tens = grow(kind, [10, 20, 30]);
        for (how, growth) in [("one by one", &one_by_one), ("to 10, 20, 30", &by_tens)] {
            println!(
                "| {} | {} | {how} | {:.3} | {:.3} | {:.3} | {:.3} |",
                kind.name,
                kind.partitions,
                growth.last,
                growth.worst,
                growth.moved / growth.minimum,
                growth.worst_ratio,
            );
            assert!(growth.worst <= 1.02, "as even as zones allow");
            assert!(
                growth.moved <= 1.10 * growth.minimum,
                "hardly more than must"
            );
        }
    }
}
