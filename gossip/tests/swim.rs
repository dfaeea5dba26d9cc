//! A cluster of detectors on a lossy network that only exists in this file.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use quorate_gossip::{Config, Gossip, Instant, Message, Output, State, Update};
use quorate_ring::{NodeId, NodeUuid};
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

struct Cluster {
    now: Instant,
    nodes: Vec<Option<Gossip>>,
    flying: BTreeMap<(Instant, u64), (usize, usize, Message)>,
    sent: u64,
    loss: f64,
    rng: Pcg64Mcg,
}

fn id(at: usize) -> NodeId {
    NodeId::new(at as u64 + 1)
}

fn detector(at: usize, count: usize, boot: u64, now: Instant) -> Gossip {
    let process = (NodeUuid::new(at as u128 + 1), boot);
    Gossip::new(
        Config::local(),
        id(at),
        process,
        (0..count).map(id),
        at as u64,
        now,
    )
}

impl Cluster {
    fn new(count: usize, loss: f64, seed: u64) -> Self {
        let nodes = (0..count)
            .map(|at| Some(detector(at, count, 1, Instant::START)))
            .collect();
        let rng = Pcg64Mcg::seed_from_u64(seed);
        Self {
            now: Instant::START,
            nodes,
            flying: BTreeMap::new(),
            sent: 0,
            loss,
            rng,
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Duration::from_millis(5);
            while let Some(first) = self.flying.first_entry() {
                if self.now < first.key().0 {
                    break;
                }
                let (from, to, message) = first.remove();
                if let Some(node) = &mut self.nodes[to] {
                    node.handle_message(self.now, id(from), message);
                }
            }
            for at in 0..self.nodes.len() {
                self.step(at);
            }
        }
    }

    fn step(&mut self, at: usize) {
        let Some(node) = &mut self.nodes[at] else {
            return;
        };
        if node.poll_timeout() <= self.now {
            node.handle_timeout(self.now);
        }
        while let Some(output) = node.poll_output() {
            if let Output::Send { to, message } = output {
                self.sent += 1;
                if self.rng.random::<f64>() < self.loss {
                    continue;
                }
                let delay = Duration::from_millis(self.rng.random_range(1..20));
                let to = usize::try_from(to.get()).unwrap() - 1;
                self.flying
                    .insert((self.now + delay, self.sent), (at, to, message));
            }
        }
    }

    fn seen(&self, by: usize, about: usize) -> State {
        self.nodes[by].as_ref().unwrap().state(id(about)).unwrap()
    }

    fn all_see(&self, about: usize, state: State) -> bool {
        let live = (0..self.nodes.len()).filter(|by| *by != about && self.nodes[*by].is_some());
        live.into_iter().all(|by| self.seen(by, about) == state)
    }
}

#[test]
fn a_quiet_cluster_stays_up() {
    let mut cluster = Cluster::new(7, 0.0, 1);
    cluster.run(Duration::from_mins(2));
    assert!((0..7).all(|at| cluster.all_see(at, State::Up)));
}

#[test]
fn everybody_learns_of_a_death_and_of_the_return() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(8, 0.05, seed);
        cluster.run(Duration::from_secs(5));
        cluster.nodes[3] = None;
        let bound = cluster.nodes[0].as_ref().unwrap().detection_bound();
        cluster.run(bound * 2);
        assert!(cluster.all_see(3, State::Down), "seed {seed}");
        cluster.nodes[3] = Some(detector(3, 8, 2, cluster.now));
        cluster.run(bound * 2);
        cluster.loss = 0.0;
        cluster.run(bound * 2);
        assert!(cluster.all_see(3, State::Up), "seed {seed}");
        let row = cluster.nodes[0].as_ref().unwrap().row(id(3)).unwrap().0;
        assert_eq!(row.boot, 2, "seed {seed}: the new process is known as such");
    }
}

#[test]
fn heavy_loss_leaves_nobody_down_for_ever() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(10, 0.3, seed);
        cluster.run(Duration::from_mins(1));
        cluster.loss = 0.0;
        cluster.run(Duration::from_secs(30));
        assert!(
            (0..10).all(|at| cluster.all_see(at, State::Up)),
            "seed {seed}"
        );
    }
}

#[test]
fn a_node_cut_off_thinks_the_others_down_and_comes_back() {
    let mut cluster = Cluster::new(5, 0.0, 9);
    cluster.run(Duration::from_secs(2));
    let away = cluster.nodes[4].take();
    cluster.run(Duration::from_secs(10));
    cluster.nodes[4] = away;
    cluster.run(Duration::from_secs(20));
    assert!((0..5).all(|at| cluster.all_see(at, State::Up)));
}

fn update() -> impl Strategy<Value = Update> {
    (0_u64..4, 1_u8..4).prop_map(|(incarnation, state)| Update {
        node: id(0),
        uuid: NodeUuid::new(1),
        boot: 1,
        incarnation,
        state: [State::Up, State::Suspect, State::Down][usize::from(state) - 1],
    })
}

proptest! {
    #[test]
    fn news_has_one_order_whatever_comes_first(a in update(), b in update(), c in update()) {
        let merge = |x: Update, y: Update| if y.beats(&x) { y } else { x };
        prop_assert_eq!(merge(a, b), merge(b, a));
        prop_assert_eq!(merge(merge(a, b), c), merge(a, merge(b, c)));
        prop_assert_eq!(merge(a, a), a);
    }
}
