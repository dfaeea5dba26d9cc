//! One read at its coordinator.
//!
//! Ask as many replicas as the quorum needs, ourselves first and slow ones last; ask another when
//! one takes long (`hedge`), is damaged, or may have forgotten the key. Merge what they hold; of
//! large values one copy is enough (`brief`).
//! When a majority is asked and the answers differ, those behind are brought up to date *before*
//! the answer goes out, so that a later majority read cannot go back behind this one; otherwise
//! they are brought up to date without waiting. A repair is always a merge.

mod answers;
mod brief;
mod hedge;
mod mend;

use std::collections::{BTreeMap, BTreeSet};

use quorate_client::wire::{ErrorBody, ErrorCode, GetReply, Response};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use self::{answers::is_too_far_ahead, brief::Known};
use super::{Flow, write::version};
use crate::{
    bucket::Bucket,
    causality::{Actor, Clock, Container},
    core::{Core, Notice, Origin, ReadOutcome, Voice},
    event::Event,
    healing::{hints::message::HintMessage, message::Place, reap::slot_of},
    message::{Class, Message, RpcId},
    replica::{Address, DamageId, Done, Held, Job, OpKey},
};

/// What a client wants to know.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) bucket: Bucket,
    pub(crate) quorum: Quorum,
    /// What the client has seen of the key already.
    pub(crate) seen: Clock,
}

/// Who wants to know.
#[derive(Debug)]
enum Reader {
    Client {
        origin: Origin,
        bucket: Bucket,
        /// What the answer has to cover.
        seen: Clock,
    },
    /// Another operation of this node.
    Inner(OpKey),
    /// Nobody: this node's own record is damaged or suspect, and all others are asked, also for
    /// what they keep for each other.
    Recovery,
}

/// Whether those who may stand in for replicas are asked for what they keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StandIns {
    Never,
    /// If too few replicas are up.
    ForTheDown,
    /// Also if one is silent.
    ForTheSilent,
}

/// How many have to answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quorum {
    pub(crate) all: u8,
    /// Replicas among them.
    pub(crate) primaries: u8,
    pub(crate) stand_ins: StandIns,
}

#[derive(Debug)]
enum Asked {
    Waiting {
        sent: Instant,
        /// Also for large values.
        whole: bool,
        /// When another is asked in its stead, if that may be.
        hedge: Option<Instant>,
    },
    Answered {
        known: Known,
        counts: bool,
    },
    Failed,
}

impl Asked {
    const fn known(&self) -> Option<&Known> {
        match self {
            Self::Answered { known, .. } => Some(known),
            Self::Waiting { .. } | Self::Failed => None,
        }
    }
}

#[derive(Debug)]
enum Phase {
    Gathering,
    /// Waiting until enough replicas hold what is about to be answered.
    Repairing {
        merged: Container,
        holders: BTreeSet<NodeId>,
    },
}

#[derive(Debug)]
pub(crate) struct ReadOp {
    key: OpKey,
    reader: Reader,
    address: Address,
    replicas: Vec<NodeId>,
    wanted: Quorum,
    quorum: u8,
    /// No replicas, but asked what they keep for some.
    stand_ins: Vec<NodeId>,
    asked: BTreeMap<NodeId, Asked>,
    phase: Phase,
    /// When another is asked, whatever it costs.
    late: Instant,
    /// When to look at the silent again, at the latest; not moved by answers.
    wake: Instant,
    deadline: Instant,
    own_suspect: bool,
    /// What is known to be wrong with our own record since before the others were asked.
    damage: Option<DamageId>,
    /// This node's write generation when the first replica was asked.
    generation: u64,
}

impl ReadOp {
    /// A client's read. Answers at once, and is none, if too few replicas are up.
    pub(crate) fn client(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        wanted: Wanted,
        place: (Address, Vec<NodeId>),
        deadline: Instant,
    ) -> Option<Self> {
        let Wanted {
            bucket,
            quorum,
            seen,
        } = wanted;
        let reader = Reader::Client {
            origin,
            bucket,
            seen,
        };
        let op = Self::begin(core, key, reader, place, quorum, deadline);
        op.map_err(|replicas| {
            let error = core.unavailable("r", quorum.all.max(quorum.primaries), &replicas);
            core.reply(origin, Response::Error(error));
        })
        .ok()
    }

    /// A read for another operation; none if too few replicas are up.
    pub(crate) fn inner(
        core: &mut Core,
        key: OpKey,
        parent: OpKey,
        place: (Address, Vec<NodeId>),
        quorum: Quorum,
        deadline: Instant,
    ) -> Option<Self> {
        let reader = Reader::Inner(parent);
        let op = Self::begin(core, key, reader, place, quorum, deadline);
        op.map_err(|_| {
            let error = ErrorBody::new(
                ErrorCode::Unavailable,
                "too few replicas are up to find out whether this write was applied before",
            );
            let failed = Notice::Read(ReadOutcome::Failed(error));
            core.notices.push_back((parent, failed));
        })
        .ok()
    }

    /// Asks all other replicas what our own damaged record has lost; none if there are no others,
    /// or not all of them are up.
    pub(crate) fn recovery(
        core: &mut Core,
        key: OpKey,
        place: (Address, Vec<NodeId>),
        deadline: Instant,
    ) -> Option<Self> {
        let all = u8::try_from(place.1.len()).unwrap_or(u8::MAX);
        if all < 2 {
            return None;
        }
        let quorum = Quorum {
            all,
            primaries: all,
            stand_ins: StandIns::Never,
        };
        Self::begin(core, key, Reader::Recovery, place, quorum, deadline).ok()
    }

    fn begin(
        core: &mut Core,
        key: OpKey,
        reader: Reader,
        place: (Address, Vec<NodeId>),
        wanted: Quorum,
        deadline: Instant,
    ) -> Result<Self, Vec<NodeId>> {
        let (address, replicas) = place;
        let generation = core.generation(address.token);
        let mut op = Self {
            key,
            reader,
            address,
            replicas,
            wanted,
            quorum: wanted.all.max(wanted.primaries),
            stand_ins: Vec::new(),
            asked: BTreeMap::new(),
            phase: Phase::Gathering,
            late: deadline,
            wake: deadline,
            deadline,
            own_suspect: false,
            damage: None,
            generation,
        };
        op.damage = core.replica.damage(&op.address);
        op.own_suspect = op.is_recovery();
        core.hedging.read();
        if op.ask_first(core) {
            core.try_others(&op.address, &op.replicas);
            Ok(op)
        } else {
            Err(op.replicas)
        }
    }

    /// Asks as many as it takes; false if too few are up.
    fn ask_first(&mut self, core: &mut Core) -> bool {
        let mut order = core.by_speed(&self.replicas);
        self.stand_ins.clear();
        self.quorum = self.wanted.all.max(self.wanted.primaries);
        if order.len() < usize::from(self.quorum) {
            if order.len() < usize::from(self.wanted.primaries) {
                return false;
            }
            self.quorum = self.wanted.all;
            self.stand_ins = self.may_stand_in(core, StandIns::ForTheDown);
            order.extend(self.stand_ins.iter().copied());
            if order.len() < usize::from(self.quorum) {
                return false;
            }
        }
        let mut whole = true;
        for node in order.into_iter().take(usize::from(self.quorum)) {
            if node != core.me || !self.is_recovery() {
                self.ask(core, node, whole);
                whole = self.is_recovery();
            }
        }
        if self.is_recovery() {
            self.ask_for_hints(core);
        }
        true
    }

    /// Of a write that this node has acknowledged together with one who stood in, nobody else has
    /// anything: what is kept for other owners counts for healing like what they hold.
    fn ask_for_hints(&mut self, core: &mut Core) {
        let n = u8::try_from(self.replicas.len()).unwrap_or(u8::MAX);
        self.stand_ins = core.fallbacks_up(&self.address, n);
        self.stand_ins.retain(|node| *node != core.me);
        for node in self.stand_ins.clone() {
            self.ask(core, node, true);
        }
    }

    /// Those who may be asked what they keep for replicas, one for each replica.
    fn may_stand_in(&self, core: &Core, why: StandIns) -> Vec<NodeId> {
        let asks = match self.wanted.stand_ins {
            StandIns::Never => false,
            StandIns::ForTheDown => why == StandIns::ForTheDown,
            StandIns::ForTheSilent => true,
        };
        if !asks {
            return Vec::new();
        }
        let n = u8::try_from(self.replicas.len()).unwrap_or(u8::MAX);
        let mut up = core.fallbacks_up(&self.address, n);
        up.truncate(self.replicas.len());
        up
    }

    const fn is_recovery(&self) -> bool {
        matches!(self.reader, Reader::Recovery)
    }

    /// Asks a node what it holds; unless it has to be the whole, without values that are large.
    fn ask(&mut self, core: &mut Core, node: NodeId, whole: bool) {
        let sent = core.now.mono;
        let hedge = self.hedge_at(core, node);
        let waiting = Asked::Waiting { sent, whole, hedge };
        self.asked.insert(node, waiting);
        self.late = sent + core.patience(node);
        self.wake = hedge
            .map_or(self.late, |at| at.min(self.late))
            .min(self.wake);
        if self.stand_ins.contains(&node) {
            let body = HintMessage::Ask {
                place: Place::from(&self.address),
            };
            let id = RpcId(self.key.0);
            return core.send(node, Class::Data, Message::Hint { id, body });
        }
        if node == core.me {
            core.submit(self.key, &self.address, Job::Read);
            return;
        }
        core.peers.asks(node, sent);
        let message = Message::Fetch {
            id: RpcId(self.key.0),
            epoch: core.ring.epoch(),
            bucket: self.address.bucket,
            token: self.address.token,
            key: self.address.key.clone(),
            whole_max: (!whole).then_some(core.limits.whole_max),
        };
        core.send(node, Class::Data, message);
    }

    pub(crate) fn notice(&mut self, core: &mut Core, notice: Notice) -> Flow {
        match notice {
            // It may be what has been reaped since.
            Notice::Local(Done::Read(_)) if !core.vouches() => self.failed(core, core.me),
            Notice::Local(Done::Read(held)) => {
                let me = core.me;
                let alone = core.voice == Voice::Alone && self.quorum == 1;
                let counts = core.replica.counts() || alone;
                match held {
                    Held::Absent => self.took(core, me, Known::Nothing, counts),
                    Held::Present(stored) if is_too_far_ahead(core, &stored.record) => {
                        self.failed(core, me)
                    }
                    Held::Present(stored) => {
                        let suspect = stored.record.suspect;
                        self.own_suspect |= suspect;
                        self.took(core, me, Known::Whole(stored), !suspect && counts)
                    }
                    Held::Unreadable => {
                        self.own_suspect = true;
                        self.failed(core, me)
                    }
                }
            }
            Notice::Local(Done::Refused(_)) => self.failed(core, core.me),
            Notice::Local(Done::Stored { .. }) => self.repaired(core, core.me),
            Notice::Repaired(node) => self.repaired(core, node),
            Notice::Local(Done::Coordinated { .. } | Done::Reaping(_)) | Notice::Read(_) => {
                self.wait()
            }
        }
    }

    fn took(&mut self, core: &mut Core, node: NodeId, known: Known, counts: bool) -> Flow {
        self.asked.insert(node, Asked::Answered { known, counts });
        if !matches!(self.phase, Phase::Gathering) {
            return self.wait();
        }
        self.check(core)
    }

    fn failed(&mut self, core: &mut Core, node: NodeId) -> Flow {
        if !matches!(self.phase, Phase::Gathering) {
            // A repair was refused, not the question.
            return self.wait();
        }
        self.asked.insert(node, Asked::Failed);
        self.check(core)
    }

    fn counted(&self) -> usize {
        let counts = |asked: &&Asked| matches!(asked, Asked::Answered { counts: true, .. });
        self.asked.values().filter(counts).count()
    }

    /// Answers that count and are not those of replicas.
    fn stood_in(&self) -> usize {
        let counts = |(node, asked): &(&NodeId, &Asked)| {
            matches!(asked, Asked::Answered { counts: true, .. }) && self.stand_ins.contains(node)
        };
        self.asked.iter().filter(counts).count()
    }

    /// Answers that count; in a recovery our own never does.
    fn needed(&self) -> usize {
        match self.reader {
            Reader::Recovery => usize::from(self.quorum) - 1 + self.stand_ins.len(),
            Reader::Client { .. } | Reader::Inner(_) => usize::from(self.quorum),
        }
    }

    fn check(&mut self, core: &mut Core) -> Flow {
        let (counted, needed) = (self.counted(), self.needed());
        if counted < needed {
            let waiting = |asked: &&Asked| matches!(asked, Asked::Waiting { .. });
            let open = self.asked.values().filter(waiting).count();
            if counted + open < needed && !self.ask_another(core) && open == 0 {
                return self.short(core);
            }
            return self.wait();
        }
        if let Some(flow) = self.look_further(core) {
            return flow;
        }
        if let Some(agreed) = self.agreed() {
            return self.end(core, Ok(&agreed.record.container));
        }
        match self.gather(core) {
            Ok(Some(merged)) => self.mend(core, merged),
            Ok(None) => self.wait(),
            Err(_) => {
                core.event(Event::EqualDotsDiffer {
                    bucket: self.address.bucket,
                    key: self.address.key.clone(),
                    from: core.me,
                });
                let message = "replicas hold different values under one dot";
                let error = ErrorBody::new(ErrorCode::Internal, message);
                self.end(core, Err(error))
            }
        }
    }

    /// What the reader has seen of the key already; nothing unless it is a client.
    const fn seen(&self) -> Option<&Clock> {
        match &self.reader {
            Reader::Client { seen, .. } => Some(seen),
            Reader::Inner(_) | Reader::Recovery => None,
        }
    }

    /// A quorum has answered, but with less than the reader has seen: all other replicas are asked
    /// as well. What none of them has is not there to be shown; a key that nobody knows of at all
    /// is, and the reader may make of that what it can. So is one of which all replicas know only
    /// later epochs: the clock was compacted. None if there is nothing to look for.
    fn look_further(&mut self, core: &mut Core) -> Option<Flow> {
        let seen = self.seen().filter(|seen| !seen.is_empty())?.clone();
        let mut found = Clock::new();
        let known = self.asked.values().filter_map(Asked::known);
        for outline in known.filter_map(Known::outline) {
            found.join(outline.clock());
        }
        if found.dominates(&seen) {
            return None;
        }
        while self.ask_another(core) {}
        let waiting = |asked: &Asked| matches!(asked, Asked::Waiting { .. });
        if self.asked.values().any(waiting) {
            return Some(self.wait());
        }
        let later = |(actor, n): (Actor, u64)| {
            n <= found.get(actor) || actor.epoch < found.highest(actor.uuid).0
        };
        let all = self.counted() - self.stood_in() == self.replicas.len();
        if all && (found.is_empty() || seen.iter().all(later)) {
            return None;
        }
        Some(self.stale(core))
    }

    fn stale(&self, core: &mut Core) -> Flow {
        let silent = self.replicas.iter().copied();
        let silent = silent.filter(|node| !self.has_answered(*node));
        let message = format!(
            "{} of {} replicas of key {} answered, and none has all that this session has seen \
             (no answer from: {}). Try again when they are back",
            self.counted(),
            self.replicas.len(),
            Core::show_key(&self.address.key),
            core.names(silent).join(", "),
        );
        self.end(core, Err(ErrorBody::new(ErrorCode::Stale, message)))
    }

    fn has_answered(&self, node: NodeId) -> bool {
        matches!(self.asked.get(&node), Some(Asked::Answered { .. }))
    }

    pub(crate) const fn origin(&self) -> Option<Origin> {
        match &self.reader {
            Reader::Client { origin, .. } => Some(*origin),
            Reader::Inner(_) | Reader::Recovery => None,
        }
    }

    /// Whoever asked does not wait any more.
    pub(crate) fn give_up(&self, core: &mut Core) -> Flow {
        core.replica.withdraw(&self.address, self.key);
        let message = "given up by whoever asked for it";
        self.end(core, Err(ErrorBody::new(ErrorCode::Unavailable, message)))
    }

    /// The ring has changed: if other nodes have to be asked, the read begins again.
    pub(crate) fn replan(&mut self, core: &mut Core) -> Flow {
        let replicas = core.owners(&self.address);
        if replicas == self.replicas && matches!(self.phase, Phase::Gathering) {
            return self.wait();
        }
        self.replicas = replicas;
        self.restart(core)
    }

    /// Begins again, if it is about a key of that slot: its write generation has risen.
    pub(crate) fn refresh(&mut self, core: &mut Core, slot: u8) -> Flow {
        if slot_of(self.address.token) == slot {
            self.restart(core)
        } else {
            self.wait()
        }
    }

    fn restart(&mut self, core: &mut Core) -> Flow {
        self.generation = core.generation(self.address.token);
        self.asked.clear();
        self.phase = Phase::Gathering;
        self.own_suspect = self.is_recovery();
        self.damage = core.replica.damage(&self.address);
        if self.is_recovery() {
            self.wanted.all = u8::try_from(self.replicas.len()).unwrap_or(u8::MAX);
            self.wanted.primaries = self.wanted.all;
        }
        if !self.ask_first(core) {
            return self.short(core);
        }
        self.wait()
    }

    fn short(&mut self, core: &mut Core) -> Flow {
        let gathering = matches!(self.phase, Phase::Gathering);
        if gathering && self.needed() <= self.counted() {
            // A quorum has answered: what is missing is what the reader has seen.
            return self.stale(core);
        }
        let good: Vec<NodeId> = self
            .asked
            .iter()
            .filter(|(_, asked)| matches!(asked, Asked::Answered { counts: true, .. }))
            .map(|(node, _)| *node)
            .collect();
        let others = self
            .replicas
            .iter()
            .copied()
            .filter(|node| !good.contains(node));
        let message = format!(
            "{} of {} replicas of key {} answered in time, r={} needed (no usable answer from {}). \
             Try again, or ask for fewer with --r",
            good.len(),
            self.replicas.len(),
            Core::show_key(&self.address.key),
            self.quorum,
            core.names(others).join(", "),
        );
        self.end(core, Err(ErrorBody::new(ErrorCode::Unavailable, message)))
    }

    fn end(&self, core: &mut Core, result: Result<&Container, ErrorBody>) -> Flow {
        match &self.reader {
            Reader::Recovery => {}
            Reader::Inner(parent) => {
                let outcome = match result {
                    Ok(container) => ReadOutcome::Quorum(container.clone(), self.generation),
                    Err(error) => ReadOutcome::Failed(error),
                };
                core.notices.push_back((*parent, Notice::Read(outcome)));
            }
            Reader::Client { origin, bucket, .. } => {
                let response = match result {
                    Ok(container) => Response::Got(self.reply(core, bucket, container)),
                    Err(error) => Response::Error(error),
                };
                core.reply(*origin, response);
            }
        }
        Flow::Over
    }

    fn reply(&self, core: &Core, bucket: &Bucket, merged: &Container) -> GetReply {
        let live = merged.live_values(core.time_ms());
        let key = &self.address.key;
        let seal = || {
            core.context_key
                .seal(core.cluster, bucket.id.0, key, &merged.context())
        };
        GetReply {
            siblings: live
                .map(|(dot, sibling)| version(dot, sibling, true))
                .collect(),
            context: (!merged.clock().is_empty()).then(seal),
            asked: u8::try_from(self.asked.len()).unwrap_or(u8::MAX),
            answered: u8::try_from(self.counted()).unwrap_or(u8::MAX),
            stand_ins: u8::try_from(self.stood_in()).unwrap_or(u8::MAX),
        }
    }
}
