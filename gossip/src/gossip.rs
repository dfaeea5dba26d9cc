//! The failure detector and the spreading of its findings, as one machine.
//!
//! Once per interval one member is pinged; if it is silent, others are asked to ping it; if they
//! hear nothing either it is suspected, and if it does not refute in time it is thought down.
//! Findings ride on the same messages, each a bounded number of times. A member that is down is
//! pinged now and then, with the news about itself on board, so that it refutes and returns.
//!
//! Not decided here: who is a member, and what being down means for requests.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use quorate_ring::{NodeId, NodeUuid};
use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_pcg::Pcg64Mcg;

use crate::{
    config::Config,
    member::{State, Update},
    time::Instant,
};

/// Most news one message carries.
pub const UPDATES_MAX: usize = 8;
/// Most probes on behalf of others in progress.
const RELAYS_MAX: usize = 64;

/// A message between detectors. `me` is the sender's own row, so every message is a sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it asks or answers.
    pub kind: Kind,
    /// The sender.
    pub me: Update,
    /// News, at most [`UPDATES_MAX`].
    pub updates: Vec<Update>,
}

/// What a message asks or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answer with an ack of this number.
    Ping(u64),
    /// The answer to a ping.
    Ack(u64),
    /// Ping that member for me and pass on its answer.
    PingRequest {
        /// To be repeated in the ack.
        number: u64,
        /// Whom to ping.
        target: NodeId,
    },
}

/// A change of opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member's state or process changed; the row as it is now.
    Changed(Update),
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message; it may be lost.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to say.
        message: Message,
    },
    /// Tell whoever routes.
    Event(Event),
}

#[derive(Debug)]
struct Row {
    update: Update,
    since: Instant,
    heard: Instant,
    /// The process that spoke last: not the row's own until it has outbid its predecessor.
    process: (NodeUuid, u64),
}

#[derive(Debug)]
struct Probe {
    target: NodeId,
    number: u64,
    sent: Instant,
    indirect: bool,
}

#[derive(Debug)]
struct Relay {
    for_node: NodeId,
    for_number: u64,
    until: Instant,
}

impl Row {
    /// Of a node that nobody has heard from.
    const fn new(now: Instant, node: NodeId) -> Self {
        Self {
            update: Update {
                node,
                uuid: NodeUuid::new(0),
                boot: 0,
                incarnation: 0,
                state: State::Up,
            },
            since: now,
            heard: now,
            process: (NodeUuid::new(0), 0),
        }
    }
}

/// Membership as one node sees it.
#[derive(Debug)]
pub struct Gossip {
    config: Config,
    me: Update,
    rows: BTreeMap<NodeId, Row>,
    order: VecDeque<NodeId>,
    probe: Option<Probe>,
    relays: BTreeMap<u64, Relay>,
    news: BTreeMap<NodeId, u32>,
    next_probe: Instant,
    round: u32,
    number: u64,
    outputs: VecDeque<Output>,
    rng: Pcg64Mcg,
}

impl Gossip {
    /// Begins with every peer assumed up.
    #[must_use]
    pub fn new(
        config: Config,
        me: NodeId,
        process: (NodeUuid, u64),
        peers: impl IntoIterator<Item = NodeId>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let peers = peers.into_iter().filter(|peer| *peer != me);
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let first = config.probe_interval.mul_f64(rng.random());
        Self {
            config,
            me: Update {
                node: me,
                uuid: process.0,
                boot: process.1,
                incarnation: 1,
                state: State::Up,
            },
            rows: peers.map(|node| (node, Row::new(now, node))).collect(),
            order: VecDeque::new(),
            probe: None,
            relays: BTreeMap::new(),
            news: BTreeMap::from([(me, 0)]),
            next_probe: now + first,
            round: 0,
            number: rng.random::<u64>() >> 1,
            outputs: VecDeque::new(),
            rng,
        }
    }

    /// Another node is to be watched from now on.
    pub fn add(&mut self, now: Instant, node: NodeId) {
        if node != self.me.node {
            self.rows.entry(node).or_insert_with(|| Row::new(now, node));
        }
    }

    /// This process goes on under another directory.
    pub fn rename(&mut self, uuid: NodeUuid, boot: u64) {
        (self.me.uuid, self.me.boot) = (uuid, boot);
        self.me.incarnation += 1;
        self.news.insert(self.me.node, 0);
    }

    /// What is thought of a member; none for a stranger.
    #[must_use]
    pub fn state(&self, node: NodeId) -> Option<State> {
        if node == self.me.node {
            return Some(State::Up);
        }
        self.rows.get(&node).map(|row| row.update.state)
    }

    /// The row of a member, and since when it has that state.
    #[must_use]
    pub fn row(&self, node: NodeId) -> Option<(Update, Instant)> {
        self.rows.get(&node).map(|row| (row.update, row.since))
    }

    /// A peer has shown that it lives, by whatever it sent.
    pub fn note_alive(&mut self, now: Instant, node: NodeId) {
        let Some(row) = self.rows.get_mut(&node) else {
            return;
        };
        row.heard = now;
        let missed = row.update.state != State::Up;
        if self
            .probe
            .as_ref()
            .is_some_and(|probe| probe.target == node)
        {
            self.probe = None;
        }
        if missed && self.probe.is_none() {
            self.start_probe(now, node);
        }
    }

    /// A message has come. Strangers are ignored.
    pub fn handle_message(&mut self, now: Instant, from: NodeId, message: Message) {
        if !self.rows.contains_key(&from) || message.me.node != from {
            return;
        }
        self.learn(now, message.me);
        for update in message.updates.into_iter().take(UPDATES_MAX) {
            self.learn(now, update);
        }
        if let Some(row) = self.rows.get_mut(&from) {
            row.heard = now;
            row.process = (message.me.uuid, message.me.boot);
        }
        match message.kind {
            Kind::Ping(number) => self.send(from, Kind::Ack(number)),
            Kind::Ack(number) => self.acked(number),
            Kind::PingRequest { number, target } => self.relay(now, from, number, target),
        }
    }

    fn acked(&mut self, number: u64) {
        if self
            .probe
            .as_ref()
            .is_some_and(|probe| probe.number == number)
        {
            self.probe = None;
        }
        if let Some(relay) = self.relays.remove(&number) {
            self.send(relay.for_node, Kind::Ack(relay.for_number));
        }
    }

    fn relay(&mut self, now: Instant, from: NodeId, number: u64, target: NodeId) {
        if !self.rows.contains_key(&target) || RELAYS_MAX <= self.relays.len() {
            return;
        }
        self.number += 1;
        let until = now + self.config.probe_interval;
        let relay = Relay {
            for_node: from,
            for_number: number,
            until,
        };
        self.relays.insert(self.number, relay);
        self.send(target, Kind::Ping(self.number));
    }

    /// Time has passed; early calls change nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.relays.retain(|_, relay| now < relay.until);
        self.expire_suspects(now);
        if let Some(probe) = &mut self.probe
            && !probe.indirect
            && probe.sent + self.config.probe_timeout <= now
        {
            probe.indirect = true;
            let (number, target) = (probe.number, probe.target);
            for helper in self.helpers(target) {
                self.send(helper, Kind::PingRequest { number, target });
            }
        }
        if self.next_probe <= now {
            self.next_probe = now + self.config.probe_interval;
            if let Some(probe) = self.probe.take() {
                self.missed(now, probe.target);
            }
            if let Some(target) = self.next_target() {
                self.start_probe(now, target);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let mut next = self.next_probe;
        if let Some(probe) = &self.probe
            && !probe.indirect
        {
            next = next.min(probe.sent + self.config.probe_timeout);
        }
        let suspects = self
            .rows
            .values()
            .filter(|row| row.update.state == State::Suspect);
        suspects
            .map(|row| row.since + self.config.suspicion)
            .fold(next, Instant::min)
    }

    /// Hands out what is to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn start_probe(&mut self, now: Instant, target: NodeId) {
        self.number += 1;
        let number = self.number;
        self.probe = Some(Probe {
            target,
            number,
            sent: now,
            indirect: false,
        });
        self.send(target, Kind::Ping(number));
    }

    fn missed(&mut self, now: Instant, target: NodeId) {
        let Some(row) = self.rows.get(&target) else {
            return;
        };
        let quiet = self.config.probe_interval;
        if row.update.state == State::Up && quiet <= now.since(row.heard) {
            let update = Update {
                state: State::Suspect,
                ..row.update
            };
            self.learn(now, update);
        }
    }

    fn expire_suspects(&mut self, now: Instant) {
        let over = |row: &&Row| {
            row.update.state == State::Suspect && row.since + self.config.suspicion <= now
        };
        let down: Vec<_> = self
            .rows
            .values()
            .filter(over)
            .map(|row| row.update)
            .collect();
        for update in down {
            self.learn(
                now,
                Update {
                    state: State::Down,
                    ..update
                },
            );
        }
    }

    /// Random order, each member once per pass (SWIM, section 4.3); a pass over those that are
    /// not down, with one of the others now and then.
    fn next_target(&mut self) -> Option<NodeId> {
        self.round = self.round.wrapping_add(1);
        let down = self
            .rows
            .iter()
            .filter(|(_, row)| row.update.state == State::Down);
        let down: Vec<NodeId> = down.map(|(node, _)| *node).collect();
        let revive = self.round.is_multiple_of(self.config.revive_every);
        if !down.is_empty() && (revive || down.len() == self.rows.len()) {
            return Some(down[self.rng.random_range(0..down.len())]);
        }
        loop {
            if self.order.is_empty() {
                let live = self
                    .rows
                    .iter()
                    .filter(|(_, row)| row.update.state != State::Down);
                let mut live: Vec<NodeId> = live.map(|(node, _)| *node).collect();
                if live.is_empty() {
                    return None;
                }
                live.shuffle(&mut self.rng);
                self.order = live.into();
            }
            let target = self.order.pop_front()?;
            if self.state(target) != Some(State::Down) {
                return Some(target);
            }
        }
    }

    fn helpers(&mut self, target: NodeId) -> Vec<NodeId> {
        let up = self
            .rows
            .iter()
            .filter(|(_, row)| row.update.state == State::Up);
        let mut up: Vec<NodeId> = up
            .map(|(node, _)| *node)
            .filter(|node| *node != target)
            .collect();
        up.shuffle(&mut self.rng);
        up.truncate(self.config.indirect);
        up
    }

    /// Takes over news that beats what is known, and passes it on.
    fn learn(&mut self, now: Instant, update: Update) {
        if update.node == self.me.node {
            // Somebody thinks ill of us, or remembers an earlier process: outbid it.
            let other = (update.uuid, update.boot) != (self.me.uuid, self.me.boot);
            let above = self.me.incarnation < update.incarnation;
            if update.state != State::Up || above || (other && update.incarnation != 0) {
                self.me.incarnation = self.me.incarnation.max(update.incarnation) + 1;
                self.news.insert(self.me.node, 0);
            }
            return;
        }
        let Some(row) = self.rows.get_mut(&update.node) else {
            return;
        };
        if !update.beats(&row.update) {
            return;
        }
        let before = row.update;
        row.update = update;
        self.news.insert(update.node, 0);
        if (before.state, before.uuid, before.boot) != (update.state, update.uuid, update.boot) {
            row.since = now;
            self.outputs
                .push_back(Output::Event(Event::Changed(update)));
        }
    }

    fn send(&mut self, to: NodeId, kind: Kind) {
        let mut updates = Vec::with_capacity(UPDATES_MAX);
        // News about the receiver first: it is the one who can refute it.
        if let Some(row) = self.rows.get(&to)
            && (row.update.state != State::Up || row.process != (row.update.uuid, row.update.boot))
        {
            updates.push(row.update);
        }
        let often = 3 * (usize::BITS - self.rows.len().leading_zeros()) + 3;
        let mut fresh: Vec<(u32, NodeId)> = self.news.iter().map(|(n, sent)| (*sent, *n)).collect();
        fresh.sort_unstable();
        for (sent, node) in fresh {
            if UPDATES_MAX <= updates.len() {
                break;
            }
            if let Some(row) = self.rows.get(&node)
                && node != to
            {
                updates.push(row.update);
            }
            if often <= sent + 1 {
                self.news.remove(&node);
            } else {
                self.news.insert(node, sent + 1);
            }
        }
        let message = Message {
            kind,
            me: self.me,
            updates,
        };
        self.outputs.push_back(Output::Send { to, message });
    }

    /// How long a dead member may at most pass for living, in a cluster of this size.
    #[must_use]
    pub fn detection_bound(&self) -> Duration {
        let pass = u32::try_from(self.rows.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(4);
        self.config.probe_interval.saturating_mul(pass) + self.config.suspicion * 2
    }
}
