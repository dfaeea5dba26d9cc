//! Many detectors, a lossy network between them, and processes that can stand still or die.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use quorate_gossip::{Config, Event, Gossip, Instant, Message, Output, State};
use quorate_node::{message::Message as Carrier, wire};
use quorate_ring::{NodeId, NodeUuid};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

/// Messages that a process that stands still does not lose.
const BUFFER: usize = 4;

enum Due {
    Wake(usize),
    Deliver(usize, usize, Message),
}

/// A cluster of detectors.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) loss: f64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    nodes: Vec<Option<Gossip>>,
    /// What reached those who stand still.
    paused: BTreeMap<usize, VecDeque<(usize, Message)>>,
    /// Those who take a second or two for every message.
    slow: BTreeSet<usize>,
    queue: BTreeMap<(Instant, u64), Due>,
    sequence: u64,
    /// Opinions of live nodes, once however many share them: (about, incarnation, state).
    opinions: BTreeSet<(usize, u64, State)>,
    rng: Pcg64Mcg,
}

fn id(at: usize) -> NodeId {
    NodeId::new(at as u64 + 1)
}

fn at(id: NodeId) -> usize {
    usize::try_from(id.get()).unwrap() - 1
}

impl World {
    pub(crate) fn new(count: usize, loss: f64, config: Config, seed: u64) -> Self {
        let node = |at: usize| {
            let process = (NodeUuid::new(at as u128 + 1), 1);
            let peers = (0..count).map(id);
            let seed = seed * 1_000 + at as u64;
            Gossip::new(config.clone(), id(at), process, peers, seed, Instant::START)
        };
        let mut world = Self {
            now: Instant::START,
            loss,
            messages: 0,
            bytes: 0,
            nodes: (0..count).map(|at| Some(node(at))).collect(),
            paused: BTreeMap::new(),
            slow: BTreeSet::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            opinions: BTreeSet::new(),
            rng: Pcg64Mcg::seed_from_u64(seed),
        };
        for at in 0..count {
            world.flush(at);
        }
        world
    }

    /// It never comes back.
    pub(crate) fn kill(&mut self, at: usize) {
        self.nodes[at] = None;
    }

    /// It is starved: its timers fire, and whatever it receives lies there for a second or two.
    pub(crate) fn starve(&mut self, at: usize) {
        self.slow.insert(at);
    }

    /// All have what they need.
    pub(crate) fn feed(&mut self) {
        self.slow.clear();
    }

    /// Its timers do not fire, and what reaches it waits.
    pub(crate) fn pause(&mut self, at: usize) {
        self.paused.entry(at).or_default();
    }

    /// It finds that its timers are overdue, and then what has reached it and fitted into its
    /// socket's buffer.
    pub(crate) fn resume(&mut self, at: usize) {
        let inbox = self.paused.remove(&at).unwrap_or_default();
        self.wake(at);
        for (from, message) in inbox {
            self.deliver(from, at, message);
        }
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(first) = self.queue.first_entry() {
            if end < first.key().0 {
                break;
            }
            let ((now, _), due) = first.remove_entry();
            self.now = now;
            match due {
                Due::Wake(at) => self.wake(at),
                Due::Deliver(from, to, message) => match self.paused.get_mut(&to) {
                    Some(inbox) if inbox.len() < BUFFER => inbox.push_back((from, message)),
                    Some(_) => {}
                    None => self.deliver(from, to, message),
                },
            }
        }
        self.now = end;
    }

    fn push(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), due);
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        if let Some(node) = &mut self.nodes[to] {
            node.handle_message(self.now, id(from), message);
            self.drain(to);
        }
    }

    fn wake(&mut self, at: usize) {
        if self.paused.contains_key(&at) {
            return;
        }
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

    fn drain(&mut self, by: usize) {
        while let Some(output) = self.nodes[by].as_mut().unwrap().poll_output() {
            match output {
                Output::Event(Event::Changed(update)) => {
                    let about = at(update.node);
                    if self.nodes[about].is_some() {
                        let opinion = (about, update.incarnation, update.state);
                        self.opinions.insert(opinion);
                    }
                }
                Output::Send { to, message } => {
                    let carried = wire::encode(&Carrier::Gossip(message.clone())).unwrap();
                    self.messages += 1;
                    self.bytes += carried.len() as u64;
                    if self.rng.random::<f64>() < self.loss {
                        continue;
                    }
                    let mut delay = Duration::from_micros(self.rng.random_range(100..2_000));
                    if self.slow.contains(&at(to)) {
                        delay *= 1_000;
                    }
                    self.push(self.now + delay, Due::Deliver(by, at(to), message));
                }
            }
        }
    }

    /// How many think it down.
    pub(crate) fn seen_down(&self, about: usize) -> usize {
        let others = self.nodes.iter().enumerate().filter(|(by, _)| *by != about);
        let opinions = others.filter_map(|(_, node)| node.as_ref()?.state(id(about)));
        opinions.filter(|state| *state == State::Down).count()
    }

    /// How often it was thought to be that while it lived.
    pub(crate) fn accusations(&self, about: usize, state: State) -> usize {
        let hit = |opinion: &&(usize, u64, State)| opinion.0 == about && opinion.2 == state;
        self.opinions.iter().filter(hit).count()
    }

    /// The same for all.
    pub(crate) fn accused(&self, state: State) -> usize {
        let nodes = 0..self.nodes.len();
        nodes.map(|about| self.accusations(about, state)).sum()
    }
}
