//! Where the last write wins, against sets of writes.
//!
//! In the model a replica knows a set of (stamp, dot) and holds the greatest of them. Clocks are
//! as wrong as they like, replicas lose keys, contexts are as old as they like.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::sample;
use crate::causality::{Container, Context, Dot, Minter, Stamp, coordinate, receive};

const REPLICAS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Put {
        replica: usize,
        wall: u64,
        delete: bool,
    },
    Read {
        replica: usize,
    },
    Send {
        from: usize,
        to: usize,
    },
    Lose {
        replica: usize,
    },
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let replica = || 0..REPLICAS;
    let put = (replica(), 0..20_u64, prop::bool::weighted(0.2));
    let put = put.prop_map(|(replica, wall, delete)| Step::Put {
        replica,
        wall,
        delete,
    });
    let step = prop_oneof![
        4 => put,
        2 => replica().prop_map(|replica| Step::Read { replica }),
        4 => (replica(), replica()).prop_map(|(from, to)| Step::Send { from, to }),
        1 => replica().prop_map(|replica| Step::Lose { replica }),
    ];
    prop::collection::vec(step, 1..40)
}

type Known = BTreeSet<(Stamp, Dot)>;

struct World {
    held: Vec<Option<Container>>,
    known: Vec<Known>,
    minters: Vec<Minter>,
    /// The only client's latest context, and what it stands for.
    read: (Context, Known),
    writes: u128,
}

impl World {
    fn new() -> Self {
        let nodes = 1..=u8::try_from(REPLICAS).expect("a few");
        Self {
            held: vec![None; REPLICAS],
            known: vec![Known::new(); REPLICAS],
            minters: nodes.map(sample::minter).collect(),
            read: (Context::default(), Known::new()),
            writes: 0,
        }
    }

    fn after(history: Vec<Step>) -> Self {
        let mut world = Self::new();
        for step in history {
            world.step(step);
        }
        world
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put {
                replica,
                wall,
                delete,
            } => self.put(replica, wall, delete),
            Step::Read { replica } => {
                if let Some(held) = &self.held[replica] {
                    self.read = (held.context(), self.known[replica].clone());
                }
            }
            Step::Send { from, to } => {
                let Some(incoming) = self.held[from].clone() else {
                    return;
                };
                let local = self.held[to].as_ref();
                let received = receive(local, incoming, &mut self.minters[to]);
                self.held[to] = Some(received.expect("no dot is reused").container);
                let known = self.known[from].clone();
                self.known[to].extend(known);
            }
            Step::Lose { replica } => {
                self.held[replica] = None;
                self.known[replica].clear();
            }
        }
    }

    fn put(&mut self, replica: usize, wall: u64, delete: bool) {
        self.writes += 1;
        let mut write = sample::write(self.writes, (!delete).then_some("value"));
        write.stamp = Some(Stamp::at_ms(wall));
        write.context = self.read.0.clone();
        let local = self.held[replica].as_ref();
        let container = sample::coordinated(local, &mut self.minters[replica], write);
        let (dot, sibling) = container.siblings().next().expect("just written");
        let stamp = sibling.stamp.expect("every version has one");
        let read = self.read.1.clone();
        let known = &mut self.known[replica];
        known.extend(read);
        assert!(
            known.iter().all(|(other, _)| *other < stamp),
            "above all it has seen"
        );
        known.insert((stamp, dot));
        self.held[replica] = Some(container);
    }

    fn held(&self, replica: usize) -> Container {
        self.held[replica].clone().unwrap_or_default()
    }
}

fn synced(a: &Container, b: &Container) -> Container {
    let mut merged = a.clone();
    merged.sync(b).expect("no dot is reused");
    merged
}

/// Versions and clock: superseded ids are forgotten when it suits.
fn state(container: &Container) -> String {
    let versions: Vec<_> = container.siblings().collect();
    format!("{versions:?} {:?}", container.clock())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_replica_holds_the_last_write_it_knows_and_no_other(history in history()) {
        let mut world = World::new();
        for step in history {
            world.step(step);
            for replica in 0..REPLICAS {
                let held = world.held(replica);
                let versions = held.siblings().map(|(dot, sibling)| (sibling.stamp, dot));
                let last = world.known[replica].last().map(|(stamp, dot)| (Some(*stamp), *dot));
                prop_assert_eq!(versions.collect::<Vec<_>>(), Vec::from_iter(last));
            }
        }
    }

    #[test]
    fn merging_where_the_last_write_wins_does_not_depend_on_the_order(history in history()) {
        let world = World::after(history);
        let (a, b, c) = (world.held(0), world.held(1), world.held(2));
        prop_assert_eq!(state(&synced(&a, &b)), state(&synced(&b, &a)));
        let (left, right) = (synced(&synced(&a, &b), &c), synced(&a, &synced(&b, &c)));
        prop_assert_eq!(state(&left), state(&right));
        prop_assert_eq!(state(&synced(&a, &a)), state(&a));
        let ab = synced(&a, &b);
        prop_assert_eq!(state(&synced(&ab, &b)), state(&ab));
    }

    #[test]
    fn values_that_are_left_out_are_not_missed(history in history()) {
        let world = World::after(history);
        for (one, other) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
            super::brief::is_as_good_as_whole(&world.held(one), &world.held(other));
        }
    }

    #[test]
    fn who_has_the_greater_clock_has_the_later_write(history in history()) {
        let world = World::after(history);
        for (a, b) in [(0, 1), (1, 2), (2, 0)] {
            let (a, b) = (world.held(a), world.held(b));
            if a.clock().dominates(b.clock()) {
                prop_assert!(b.stamp() <= a.stamp());
            }
        }
    }
}

#[test]
fn a_request_coordinated_twice_is_live_once_and_can_be_stored() {
    let (mut one, mut two) = (sample::minter(1), sample::minter(2));
    let stamped = |id, ms| {
        let mut write = sample::write(id, Some("milk"));
        write.stamp = Some(Stamp::at_ms(ms));
        write
    };
    let first = sample::coordinated(None, &mut one, stamped(1, 10));
    let replaced = sample::coordinated(Some(&first), &mut one, stamped(2, 20));
    let again = sample::coordinated(None, &mut two, stamped(1, 30));
    for merged in [synced(&replaced, &again), synced(&again, &replaced)] {
        assert_eq!(merged.siblings().len(), 1);
        assert_eq!(merged.stamp(), Some(Stamp::at_ms(30)));
        let parts: Vec<_> = merged.siblings().map(|(dot, s)| (dot, s.clone())).collect();
        let (clock, recent) = (merged.clock().clone(), merged.recent().to_vec());
        assert!(Container::from_parts(parts, clock, recent).is_some());
    }
    let known = coordinate(Some(&replaced), &mut one, stamped(1, 40));
    assert_eq!(known, crate::causality::Coordinated::AlreadyApplied);
}
