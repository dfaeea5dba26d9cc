//! The ring in force at this node: learned, made durable, adopted, and defended.
//!
//! A decree counts here once it is on disk; from then on everything under way is planned anew, and
//! what was asked under an older epoch is refused wherever the change moves data, also what was
//! taken in before and is not acknowledged yet. Who asks under a newer epoch waits until we have
//! fetched it.
//!
//! Not decided here: how a decree is chosen (`voting`), and when the next one may be (`moving`).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use quorate_gossip::Instant;
use quorate_ring::{BadRing, Decree, NodeId, Phase, Ring, RingEpoch, Staged, Token};

use super::{
    Node,
    moving::Moves,
    reap::{Raise, takes_part},
    voting::Proposing,
};
use crate::{
    agreement::{Acceptor, Ballot, Vote},
    api::Output,
    coordinator::Answer,
    event::Event,
    healing::{
        hints::message::HintMessage,
        reap::{Generations, META_GENERATIONS_KEY},
    },
    identity::Identity,
    message::{Class, Message, RpcId},
    replica::{Address, OpKey},
    ring_message::{Progress, RingMessage},
    store::{
        Command, Table, Ticket, Write,
        aside::{self, META_ASIDE_KEY, Why},
    },
};

/// Where the decree in force is kept in [`Table::Meta`].
pub const META_DECREE_KEY: &[u8] = b"decree";
const META_ACCEPTOR_KEY: &[u8] = b"decree-vote";
const META_STAGED_KEY: &[u8] = b"decree-staged";
const META_PULLED_KEY: &[u8] = b"decree-pulled-by";
const META_CLEAN_KEY: &[u8] = b"decree-clean";
/// Messages kept until the ring they were planned under is known here.
const STASH_MAX: usize = 4_096;

/// What a directory keeps about the ring.
#[derive(Clone, Debug, Default)]
pub struct StoredRing {
    decree: Option<Decree>,
    acceptor: Option<Bytes>,
    staged: Option<Staged>,
    pub(super) pulled: Option<Bytes>,
    pub(super) clean: Option<Bytes>,
    generations: Generations,
    aside: Option<Why>,
}

impl StoredRing {
    /// Reads it with `get`, which looks into [`Table::Meta`].
    ///
    /// # Errors
    ///
    /// If the decree or what is staged is damaged or of a newer release, or `get` fails.
    pub fn read<E: From<BadRing>>(
        mut get: impl FnMut(&'static [u8]) -> Result<Option<Bytes>, E>,
    ) -> Result<Self, E> {
        let decree = get(META_DECREE_KEY)?;
        let staged = get(META_STAGED_KEY)?;
        let generations = get(META_GENERATIONS_KEY)?;
        let generations = generations.map(|bytes| Generations::from_bytes(&bytes));
        // Whatever it says: that it is there means that not all has been set aside.
        let aside = get(META_ASIDE_KEY)?;
        let why = |bytes| aside::unwrap(&bytes).map_or(Why::Lossy, |(why, _)| why);
        Ok(Self {
            aside: aside.map(why),
            decree: decree.map(|bytes| Decree::from_bytes(&bytes)).transpose()?,
            staged: staged.map(|bytes| Staged::from_bytes(&bytes)).transpose()?,
            acceptor: get(META_ACCEPTOR_KEY)?,
            pulled: get(META_PULLED_KEY)?,
            clean: get(META_CLEAN_KEY)?,
            generations: generations.transpose()?.unwrap_or_default(),
        })
    }

    /// How old what is merged may be.
    pub(super) fn generations(&self) -> Generations {
        self.generations.clone()
    }

    /// Why everything that is held is being set aside, if it is.
    pub(super) const fn aside(&self) -> Option<Why> {
        self.aside
    }

    /// The decree in force; that of the founding ring if there has been no other.
    pub(super) fn in_force(&self, founding: &Ring) -> Arc<Decree> {
        let stored = self.decree.clone();
        Arc::new(stored.unwrap_or_else(|| Decree::founding(founding.clone())))
    }

    /// The decree, if the cluster has had one since it was founded.
    #[must_use]
    pub const fn decree(&self) -> Option<&Decree> {
        self.decree.as_ref()
    }
}

/// What happens when a write of the desk is durable.
#[derive(Debug)]
pub(super) enum Stored {
    Vote(NodeId, RpcId, RingEpoch, Ballot, Vote),
    Decree(Arc<Decree>),
    Staged(StagedWaiter),
    Identity(Identity),
    Register(u64, NodeId, Box<Message>),
    Raised(Raise),
    CameBack,
    /// Another part of what is held has been set aside, or all, or it is written down that it will.
    Aside,
    /// So many records that were set aside are dropped, as somebody wanted.
    Discarded(NodeId, RpcId, u64),
    Progress,
}

/// Who waits for staged changes to be durable here.
#[derive(Clone, Copy, Debug)]
pub(super) enum StagedWaiter {
    Op(OpKey),
    Peer(NodeId, RpcId),
    Nobody,
}

/// Everything a node keeps about the ring besides the ring itself.
#[derive(Debug)]
pub(super) struct Desk {
    /// None if what was stored is damaged: then this node does not vote on the next epoch.
    pub(super) acceptor: Option<Acceptor>,
    pub(super) accepted_since: Option<Instant>,
    pub(super) proposing: Option<Proposing>,
    pub(super) round: u64,
    pub(super) staged: Staged,
    writes: BTreeMap<Ticket, Stored>,
    pub(super) adopting: Option<Arc<Decree>>,
    pub(super) reports: BTreeMap<NodeId, Progress>,
    /// Nodes outside of the ring that have said that they hold nothing.
    pub(super) empty_outside: BTreeSet<NodeId>,
    /// Nodes that have left the ring since this one was started, and have not said so yet.
    pub(super) full_outside: BTreeSet<NodeId>,
    /// All generations rise to this one with the decree that is on its way to the disk.
    pub(super) raising: Option<u64>,
    stash: VecDeque<(NodeId, Message)>,
    /// Writes of peers that were under way when a decree was adopted: their acks do not count. A
    /// question that came several times is answered as often.
    fenced: BTreeMap<(NodeId, RpcId), u32>,
    /// Questions that were refused under a ring newer than ours.
    refused: Vec<(NodeId, RpcId)>,
    pub(super) moves: Moves,
    pub(super) next_beat: Instant,
    pub(super) ready_since: Option<Instant>,
}

impl Desk {
    pub(super) fn new(
        stored: StoredRing,
        decree: &Decree,
        identity: &Identity,
        me: NodeId,
        now: Instant,
    ) -> Self {
        let next = decree.epoch.get() + 1;
        let acceptor = match stored.acceptor.as_ref().map(Acceptor::from_bytes) {
            None => Some(Acceptor::new(next)),
            Some(Ok(acceptor)) if acceptor.epoch() < next => Some(Acceptor::new(next)),
            Some(Ok(acceptor)) => Some(acceptor),
            Some(Err(_)) => None,
        };
        let staged = stored
            .staged
            .clone()
            .filter(|staged| decree.epoch <= staged.base())
            .unwrap_or_else(|| Staged::new(decree.epoch));
        Self {
            acceptor,
            accepted_since: Some(now),
            proposing: None,
            round: 0,
            staged,
            writes: BTreeMap::new(),
            adopting: None,
            reports: BTreeMap::new(),
            empty_outside: BTreeSet::new(),
            full_outside: BTreeSet::new(),
            raising: None,
            stash: VecDeque::new(),
            fenced: BTreeMap::new(),
            refused: Vec::new(),
            moves: Moves::new(decree, me, Some((&stored, identity))),
            next_beat: now,
            ready_since: None,
        }
    }

    /// Whether a peer's write was under way when the decree was adopted; asked once an answer.
    fn was_waiting(&mut self, node: NodeId, id: RpcId) -> bool {
        let Some(count) = self.fenced.get_mut(&(node, id)) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.fenced.remove(&(node, id));
        }
        true
    }

    /// Whether a write of that kind is on its way to the disk.
    pub(super) fn is_storing(&self, kind: impl Fn(&Stored) -> bool) -> bool {
        self.writes.values().any(kind)
    }

    /// (messages that wait for a ring, their maximum).
    pub(super) fn stashed(&self) -> (usize, usize) {
        (self.stash.len(), STASH_MAX)
    }
}

/// The ring that reads ask, and the other one that writes need.
pub(super) fn rings(decree: &Decree) -> (Arc<Ring>, Option<Arc<Ring>>) {
    (Arc::new(decree.reading()), decree.other().map(Arc::new))
}

/// A small record about the node itself.
pub(super) fn meta(key: &'static [u8], value: Bytes) -> Write {
    Write::Put {
        table: Table::Meta,
        key: Bytes::from_static(key),
        value,
    }
}

impl Node {
    /// What is agreed on, as far as this node knows.
    #[must_use]
    pub fn decree(&self) -> &Arc<Decree> {
        &self.core.decree
    }

    pub(super) fn ring_message(&mut self, from: NodeId, id: RpcId, message: RingMessage) {
        match message {
            RingMessage::Prepare { epoch, ballot } => self.prepare(from, id, epoch, ballot),
            RingMessage::Propose {
                epoch,
                ballot,
                value,
            } => self.accept(from, id, epoch, ballot, value),
            RingMessage::Voted {
                epoch,
                ballot,
                vote,
            } => self.voted(from, epoch, ballot, vote),
            RingMessage::Decree(bytes) => self.learn_bytes(&bytes),
            RingMessage::Stale(bytes) => self.stale(from, id, &bytes),
            RingMessage::Want => self.send_decree(from),
            RingMessage::Beat(progress) => self.beaten(from, progress),
            RingMessage::Staged(bytes) => self.take_staged(from, id, &bytes),
            RingMessage::Pull { .. } => self.serve_pull(from, id, message),
            RingMessage::Page { .. } | RingMessage::StagedIs(_) => {
                let message = Box::new(Message::Ring { id, message });
                self.answer(from, id, Answer::Other(message));
            }
        }
    }

    pub(super) fn send_ring(&mut self, to: NodeId, id: RpcId, message: RingMessage) {
        self.core
            .send(to, Class::Control, Message::Ring { id, message });
    }

    pub(super) fn send_decree(&mut self, to: NodeId) {
        let bytes = self.core.decree.to_bytes().into();
        self.send_ring(to, RpcId(0), RingMessage::Decree(bytes));
    }

    /// False if the message must not be acted on under the ring in force: it is kept until the
    /// ring is known, or refused.
    pub(super) fn admits(&mut self, from: NodeId, message: &Message) -> bool {
        let (id, epoch, token) = match message {
            Message::Replicate {
                id, epoch, token, ..
            }
            | Message::Fetch {
                id, epoch, token, ..
            } => (*id, *epoch, Some(*token)),
            Message::Hint {
                id,
                body:
                    HintMessage::Keep { epoch, place, .. } | HintMessage::Hand { epoch, place, .. },
            } => (*id, *epoch, Some(place.token)),
            Message::Scan { id, epoch, .. }
            | Message::Ring {
                id,
                message: RingMessage::Pull { epoch, .. },
            } => (*id, *epoch, None),
            Message::Ring {
                message: RingMessage::Prepare { epoch, .. } | RingMessage::Propose { epoch, .. },
                ..
            } => {
                // Votes on an epoch are cast by those who know the one before it.
                let before = RingEpoch::new(epoch.get().saturating_sub(1));
                if self.core.decree.epoch < before {
                    self.postpone(from, message);
                    return false;
                }
                return true;
            }
            Message::Forward { .. }
            | Message::Forwarded { .. }
            | Message::Replicated { .. }
            | Message::Fetched { .. }
            | Message::Scanned { .. }
            | Message::Catalogue { .. }
            | Message::CatalogueStored { .. }
            | Message::Status { .. }
            | Message::StatusReport { .. }
            | Message::Ring { .. }
            | Message::Members { .. }
            | Message::Greet { .. }
            | Message::Greeted { .. }
            | Message::Reap { .. }
            | Message::Tree { .. }
            | Message::Hint { .. }
            | Message::Care { .. }
            | Message::Gossip(_) => return true,
        };
        let decree = &self.core.decree;
        if decree.epoch < epoch {
            self.postpone(from, message);
            return false;
        }
        // Who is in no ring stands in for nobody: it has said, or will say, that it holds nothing.
        let stands_in = matches!(
            message,
            Message::Hint {
                body: HintMessage::Keep { .. },
                ..
            }
        );
        let good = match token {
            _ if stands_in && !takes_part(decree, self.core.me) => false,
            Some(token) => decree.admits(epoch, Token::new(token)),
            None => decree.epoch == epoch,
        };
        if !good {
            self.refuse_stale(from, id);
        }
        good
    }

    pub(crate) fn refuse_stale(&mut self, to: NodeId, id: RpcId) {
        let bytes = self.core.decree.to_bytes().into();
        let message = RingMessage::Stale(bytes);
        self.core
            .send(to, Class::Data, Message::Ring { id, message });
    }

    /// Keeps a message until we know the ring it belongs to, and asks for that.
    fn postpone(&mut self, from: NodeId, message: &Message) {
        if self.desk.stash.len().is_multiple_of(64) {
            self.send_ring(from, RpcId(0), RingMessage::Want);
        }
        if self.desk.stash.len() < STASH_MAX {
            self.desk.stash.push_back((from, message.clone()));
        }
    }

    /// A question of ours was refused.
    fn stale(&mut self, from: NodeId, id: RpcId, bytes: &Bytes) {
        let Ok(decree) = Decree::from_bytes(bytes) else {
            return;
        };
        let (theirs, ours) = (decree.epoch, self.core.decree.epoch);
        if ours < theirs {
            if self.desk.refused.len() < STASH_MAX {
                self.desk.refused.push((from, id));
            }
            self.learn(Arc::new(decree));
            return;
        }
        if theirs < ours {
            self.send_decree(from);
        }
        self.ask_again(from, id);
    }

    fn ask_again(&mut self, from: NodeId, id: RpcId) {
        if !self.core.resend_repair(from, id) {
            self.answer(from, id, Answer::Stale);
        }
    }

    fn learn_bytes(&mut self, bytes: &Bytes) {
        if let Ok(decree) = Decree::from_bytes(bytes) {
            self.learn(Arc::new(decree));
        }
    }

    /// A decree that was chosen: it is adopted once it is on disk.
    pub(super) fn learn(&mut self, decree: Arc<Decree>) {
        let ours = &self.core.decree;
        let known = self.desk.adopting.as_ref().unwrap_or(ours);
        if decree.ring.seed() != ours.ring.seed() {
            return;
        }
        if decree.epoch <= known.epoch {
            let fork = decree.epoch == known.epoch && decree != *known;
            if fork {
                self.core.event(Event::RingFork {
                    epoch: decree.epoch,
                });
            }
            return;
        }
        let next = decree.epoch.get() == known.epoch.get() + 1;
        if next && decree.previous != known.hash() {
            let epoch = decree.epoch;
            self.core.event(Event::RingFork { epoch });
            return;
        }
        self.desk.adopting = Some(Arc::clone(&decree));
        let mut writes = vec![
            self.members_after(&decree),
            meta(META_DECREE_KEY, decree.to_bytes().into()),
        ];
        writes.extend(self.leaving(&decree));
        writes.extend(self.given_up(&decree));
        self.store_ring(writes, Stored::Decree(decree));
    }

    pub(super) fn store_ring(&mut self, writes: Vec<Write>, then: Stored) {
        self.core.tickets += 1;
        let ticket = Ticket(self.core.tickets);
        self.core
            .outputs
            .push_back(Output::Store(Command::Write { ticket, writes }));
        self.desk.writes.insert(ticket, then);
    }

    pub(super) fn store_vote(&mut self, then: Stored) {
        if let Some(acceptor) = &self.desk.acceptor {
            let bytes = acceptor.to_bytes();
            self.store_ring(vec![meta(META_ACCEPTOR_KEY, bytes)], then);
        }
    }

    pub(super) fn store_staged(&mut self, waiter: StagedWaiter) {
        let bytes = self.desk.staged.to_bytes().into();
        self.store_ring(vec![meta(META_STAGED_KEY, bytes)], Stored::Staged(waiter));
    }

    pub(super) fn store_pulled(&mut self) {
        let uuid = self.core.replica.identity().uuid;
        let bytes = self.desk.moves.pulled_bytes(uuid);
        self.store_ring(vec![meta(META_PULLED_KEY, bytes)], Stored::Progress);
    }

    pub(super) fn store_clean(&mut self) {
        let bytes = Bytes::copy_from_slice(&self.core.decree.epoch.get().to_le_bytes());
        self.store_ring(vec![meta(META_CLEAN_KEY, bytes)], Stored::Progress);
    }

    /// False if the write was not one of ours.
    pub(super) fn ring_stored(&mut self, ticket: Ticket) -> bool {
        let Some(stored) = self.desk.writes.remove(&ticket) else {
            return false;
        };
        match stored {
            Stored::Vote(to, id, epoch, ballot, vote) => {
                let message = RingMessage::Voted {
                    epoch,
                    ballot,
                    vote,
                };
                self.send_ring(to, id, message);
            }
            Stored::Decree(decree) => self.adopt(decree),
            Stored::Staged(waiter) => self.staged_stored(waiter),
            Stored::Identity(identity) => self.identity_stored(identity),
            Stored::Register(version, to, answer) => self.register_stored(version, to, *answer),
            Stored::Raised(raise) => self.raised(raise),
            Stored::CameBack => self.desk.next_beat = self.core.now.mono,
            Stored::Aside => self.aside_written(),
            Stored::Discarded(to, id, count) => self.discarded(to, id, count),
            Stored::Progress => {}
        }
        true
    }

    /// A write was refused for want of space; it is asked for again by whoever wanted it.
    pub(super) fn ring_not_stored(&mut self, ticket: Ticket) -> bool {
        let Some(stored) = self.desk.writes.remove(&ticket) else {
            return false;
        };
        match stored {
            Stored::Decree(_) => self.desk.adopting = None,
            Stored::Identity(identity) => self.identity_not_stored(identity),
            Stored::Aside => self.aside_not_written(),
            Stored::Vote(..)
            | Stored::Staged(_)
            | Stored::Register(..)
            | Stored::Raised(_)
            | Stored::CameBack
            | Stored::Discarded(..)
            | Stored::Progress => {}
        }
        true
    }

    fn adopt(&mut self, decree: Arc<Decree>) {
        if decree.epoch <= self.core.decree.epoch {
            return;
        }
        let done = |adopting: &mut Arc<Decree>| adopting.epoch <= decree.epoch;
        self.desk.adopting.take_if(done);
        let core = &mut self.core;
        (core.ring, core.other) = rings(&decree);
        let before = std::mem::replace(&mut core.decree, Arc::clone(&decree));
        core.event(Event::RingChanged {
            epoch: decree.epoch,
            phase: decree.phase,
            hash: decree.hash(),
        });
        let desk = &mut self.desk;
        desk.fenced.clear();
        for waiting in core.replica.peers_waiting() {
            *desk.fenced.entry(waiting).or_default() += 1;
        }
        desk.reports.clear();
        let gone = |node: &NodeId| !takes_part(&decree, *node);
        desk.empty_outside.retain(gone);
        desk.full_outside.extend(before.concerned());
        desk.full_outside.retain(gone);
        desk.ready_since = None;
        desk.accepted_since = None;
        desk.acceptor = Some(Acceptor::new(decree.epoch.get() + 1));
        let stays_out = before.member(core.me).is_none() && decree.member(core.me).is_none();
        let was_clean = desk.moves.is_clean();
        desk.moves = Moves::new(&decree, core.me, None);
        if stays_out && was_clean {
            desk.moves.stay_clean();
        }
        if desk.staged.base() < decree.epoch {
            let staged = std::mem::replace(&mut desk.staged, Staged::new(decree.epoch));
            // Who speaks for a member has no part in what is wanted of the ring.
            if before.phase == Phase::Stable && before.ring == decree.ring {
                desk.staged = staged.rebased(decree.epoch);
            }
        }
        desk.next_beat = core.now.mono;
        self.take_buckets(&decree);
        self.gave_up(&before, &decree);
        self.rebuild_anew(&before);
        if self.is_to_rebuild() {
            self.desk.moves.begin_anew();
        }
        self.keep_those_who_left(&before);
        self.decided(&decree);
        self.buckets_decided(&decree);
        self.reaper.replan(&mut self.core);
        self.plan_anew();
        for (from, id) in std::mem::take(&mut self.desk.refused) {
            self.ask_again(from, id);
        }
        for (from, message) in std::mem::take(&mut self.desk.stash) {
            self.receive(from, message);
        }
        self.carry_on();
    }

    /// Tells every operation that the ring has changed.
    fn plan_anew(&mut self) {
        let keys: Vec<OpKey> = self.running.keys().copied().collect();
        for key in keys {
            if let Some(running) = self.running.get_mut(&key) {
                let flow = running.operation.replan(&mut self.core);
                self.settle(key, flow, None);
            }
        }
    }

    /// True if the ack of a peer's write must not go out: it was taken in under an older ring that
    /// placed the token elsewhere.
    pub(super) fn is_fenced(&mut self, node: NodeId, id: RpcId, address: &Address) -> bool {
        !self.desk.fenced.is_empty()
            && self.desk.was_waiting(node, id)
            && self.core.decree.fences(Token::new(address.token))
    }

    /// The word for the step of the change.
    pub(crate) fn ring_state(&self) -> &'static str {
        match self.core.decree.phase {
            Phase::Stable => Phase::Stable.as_str(),
            Phase::Moving => Phase::Moving.as_str(),
            Phase::Switched => Phase::Switched.as_str(),
        }
    }
}
