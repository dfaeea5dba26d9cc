//! How the detector does at scale: 200 nodes, three messages in ten lost.
//!
//! One queue of deliveries and wake-ups, one seed, simulated time. Prints the false-down rate, the
//! time to detect a death and the messages per node; asserts only what must hold: traffic does not
//! grow with the cluster, and no live node stays down once the loss stops.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::print_stdout, reason = "what was measured is the point")]

use std::{collections::BTreeMap, time::Duration};

use quorate_gossip::{Config, Event, Gossip, Instant, Message, Output, State};
use quorate_ring::{NodeId, NodeUuid};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

enum Due {
    Wake(usize),
    Deliver(usize, usize, Message),
}

struct World {
    now: Instant,
    nodes: Vec<Option<Gossip>>,
    queue: BTreeMap<(Instant, u64), Due>,
    sequence: u64,
    sent: u64,
    loss: f64,
    downs: Vec<(Instant, usize)>,
    rng: Pcg64Mcg,
}

fn id(at: usize) -> NodeId {
    NodeId::new(at as u64 + 1)
}

impl World {
    fn new(count: usize, loss: f64, seed: u64) -> Self {
        let node = |at: usize| {
            let process = (NodeUuid::new(at as u128 + 1), 1);
            let peers = (0..count).map(id);
            let seed = seed * 1_000 + at as u64;
            Gossip::new(Config::lan(), id(at), process, peers, seed, Instant::START)
        };
        let mut world = Self {
            now: Instant::START,
            nodes: (0..count).map(|at| Some(node(at))).collect(),
            queue: BTreeMap::new(),
            sequence: 0,
            sent: 0,
            loss,
            downs: Vec::new(),
            rng: Pcg64Mcg::seed_from_u64(seed),
        };
        for at in 0..count {
            world.flush(at);
        }
        world
    }

    fn push(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), due);
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(first) = self.queue.first_entry() {
            if end < first.key().0 {
                break;
            }
            let ((now, _), due) = first.remove_entry();
            self.now = now;
            match due {
                Due::Wake(at) => self.wake(at),
                Due::Deliver(from, to, message) => {
                    if let Some(node) = &mut self.nodes[to] {
                        node.handle_message(now, id(from), message);
                        self.drain(to);
                    }
                }
            }
        }
        self.now = end;
    }

    fn wake(&mut self, at: usize) {
        if let Some(node) = &mut self.nodes[at] {
            if node.poll_timeout() <= self.now {
                node.handle_timeout(self.now);
            }
            self.flush(at);
        }
    }

    /// Sends what is to be sent and sets the next alarm, at most 50 ms ahead: a message may have
    /// made an earlier one necessary.
    fn flush(&mut self, at: usize) {
        self.drain(at);
        let next = self.nodes[at].as_ref().unwrap().poll_timeout();
        let soonest = self.now + Duration::from_millis(1);
        let latest = self.now + Duration::from_millis(50);
        self.push(next.clamp(soonest, latest), Due::Wake(at));
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.nodes[at].as_mut().unwrap().poll_output() {
            match output {
                Output::Event(Event::Changed(update)) if update.state == State::Down => {
                    let about = usize::try_from(update.node.get()).unwrap() - 1;
                    self.downs.push((self.now, about));
                }
                Output::Event(Event::Changed(_)) => {}
                Output::Send { to, message } => {
                    self.sent += 1;
                    if self.rng.random::<f64>() < self.loss {
                        continue;
                    }
                    let delay = Duration::from_micros(self.rng.random_range(100..2_000));
                    let to = usize::try_from(to.get()).unwrap() - 1;
                    self.push(self.now + delay, Due::Deliver(at, to, message));
                }
            }
        }
    }

    fn seen_down(&self, about: usize) -> usize {
        let others = self.nodes.iter().enumerate().filter(|(by, _)| *by != about);
        let opinions = others.filter_map(|(_, node)| node.as_ref()?.state(id(about)));
        opinions.filter(|state| *state == State::Down).count()
    }
}

#[test]
fn traffic_per_node_does_not_grow_with_the_cluster() {
    let per_node = |count: usize| {
        let mut world = World::new(count, 0.0, 5);
        world.run(Duration::from_secs(20));
        f64::from(u32::try_from(world.sent).unwrap())
            / f64::from(u32::try_from(count).unwrap())
            / 20.0
    };
    let (small, large) = (per_node(20), per_node(200));
    println!("messages sent per node and second: 20 nodes {small:.2}, 200 nodes {large:.2}");
    assert!(large <= small * 1.2);
}

#[test]
fn heavy_loss_among_two_hundred_leaves_no_live_node_down() {
    const COUNT: usize = 200;
    let mut world = World::new(COUNT, 0.3, 7);
    world.run(Duration::from_secs(30));
    let wrong = world.downs.len();
    let pairs = COUNT * (COUNT - 1);
    println!("30 % loss, 30 s: {wrong} false downs over {pairs} pairs of nodes");
    let (dead, died) = (17, world.now);
    world.nodes[dead] = None;
    world.downs.clear();
    world.run(Duration::from_secs(45));
    let about_dead = world.downs.iter().filter(|(_, about)| *about == dead);
    let times: Vec<Duration> = about_dead.map(|(at, _)| at.since(died)).collect();
    assert!(!times.is_empty(), "somebody noticed the death");
    // With such loss the first may have been wrong about a node that lived until just now.
    let (half, seen) = (times[times.len() / 2], world.seen_down(dead));
    println!("death noticed by half of them after {half:?}, by {seen} nodes in 45 s");
    world.loss = 0.0;
    world.run(Duration::from_mins(1));
    for about in (0..COUNT).filter(|about| *about != dead) {
        assert_eq!(world.seen_down(about), 0, "node {about} lives");
    }
    assert_eq!(
        world.seen_down(dead),
        COUNT - 1,
        "and the dead one is known as dead"
    );
}
