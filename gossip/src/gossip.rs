//! The failure detector and the spreading of its findings, as one machine.
//!
//! Once per interval one member is pinged; if it is silent, others are asked to ping it; if they
//! hear nothing either it is suspected, and if it does not refute in time it is thought down.
//! Findings ride on the same messages, each a bounded number of times, and pages of all rows are
//! exchanged now and then for what got lost. A member that is down is pinged now and then, with
//! the news about itself on board, so that it refutes and returns.
//!
//! Not decided here: who is a member, and what being down means for requests.

mod probing;
mod spreading;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use quorate_ring::{NodeId, NodeUuid};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use self::probing::{Probe, Relay};
use crate::{
    config::Config,
    health::Health,
    member::{State, Update},
    message::{Kind, Message},
    time::Instant,
};

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
    /// While it is suspected: when that has lasted long enough.
    refute_until: Instant,
    /// It has not answered the last probe.
    missed: bool,
    /// The process that spoke last: not the row's own until it has outbid its predecessor.
    process: (NodeUuid, u64),
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
            refute_until: now,
            missed: false,
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
    health: Health,
    next_sync: Instant,
    /// The first member of the next page.
    sync_from: NodeId,
    /// Whether anybody has answered the last page.
    synced: bool,
    round: u32,
    number: u64,
    outputs: VecDeque<Output>,
    rng: Pcg64Mcg,
    /// Decides about pages alone, so that they do not change who is probed when.
    pages: Pcg64Mcg,
}

/// A page that nobody answers is followed by another after so many intervals of probes.
const RETRY_PROBES: u32 = 2;

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
        let mut pages = Pcg64Mcg::seed_from_u64(seed ^ 0x5341_4745);
        let first_sync = config.probe_interval.mul_f64(1.0 + pages.random::<f64>());
        Self {
            health: Health::new(config.health_max),
            next_sync: now + first_sync,
            sync_from: NodeId::new(0),
            synced: false,
            pages,
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

    /// A node is of no interest any more.
    pub fn remove(&mut self, node: NodeId) {
        self.rows.remove(&node);
        self.news.remove(&node);
        self.probe.take_if(|probe| probe.target == node);
        self.relays.retain(|_, relay| relay.for_node != node);
        self.order.retain(|next| *next != node);
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

    /// How badly this process is doing: zero is well, [`Config::health_max`] the worst.
    #[must_use]
    pub const fn health(&self) -> u32 {
        self.health.score()
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
            self.answered();
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
        let Message {
            kind,
            me,
            mut updates,
        } = message;
        updates.truncate(kind.updates_max());
        self.learn(now, me);
        for update in &updates {
            self.learn(now, *update);
        }
        if let Some(row) = self.rows.get_mut(&from) {
            row.heard = now;
            row.process = (me.uuid, me.boot);
        }
        match kind {
            Kind::Ping(number) => self.send(from, Kind::Ack(number)),
            Kind::Ack(number) => self.acked(number),
            Kind::PingRequest { number, target } => self.relay(now, from, number, target),
            Kind::Nack(number) => self.nacked(number),
            Kind::Push { first, last } => self.pushed(from, (first, last), &updates),
            Kind::Pull => self.pulled(now),
        }
    }

    /// Time has passed; early calls change nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_delay(now);
        self.expire_relays(now);
        self.expire_suspects(now);
        self.probe_through_others(now);
        if self.next_probe <= now {
            self.next_probe = now + self.health.scale(self.config.probe_interval);
            let again = self.probe.take().and_then(|probe| self.missed(now, &probe));
            if let Some(target) = again.or_else(|| self.next_target()) {
                self.start_probe(now, target);
            }
        }
        if self.next_sync <= now {
            self.push_page(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        let mut next = self.next_probe.min(self.next_sync);
        if let Some(probe) = &self.probe
            && !probe.indirect
        {
            next = next.min(self.indirect_at(probe));
        }
        let relays = self.relays.values().map(Relay::wakes);
        let suspects = self.rows.values();
        let suspects = suspects.filter(|row| row.update.state == State::Suspect);
        let suspects = suspects.map(|row| row.refute_until);
        relays.chain(suspects).fold(next, Instant::min)
    }

    /// Hands out what is to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How long a dead member may at most pass for living, in a cluster of this size.
    #[must_use]
    pub fn detection_bound(&self) -> Duration {
        let pass = u32::try_from(self.rows.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(4);
        self.config.probe_interval.saturating_mul(pass) + self.suspicion() * 2
    }
}
