//! One put or delete at its coordinator.
//!
//! Mint locally, send the whole state to the other replicas while the local disk is still at work,
//! and answer when enough distinct replicas have it durable. What may have been minted or sent and
//! has no quorum by the deadline is *unknown*; only what was refused before minting is *not
//! applied*. A retry, or a write with a precondition, first asks a quorum what it holds, so that an
//! operation that another coordinator applied is found and not applied again. Who stands in for
//! replicas that are down or silent is in `standby`.

mod standby;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quorate_client::wire::{ErrorBody, ErrorCode, Response, Version, WriteReply};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{
    Answer, Flow, Operation,
    read::{Quorum, ReadOp, StandIns},
};
use crate::{
    bucket::Bucket,
    causality::{Container, Context, Dot, OpId, Sibling, Write as VersionWrite},
    core::{Core, Notice, Origin, ReadOutcome},
    event::Event,
    healing::reap::slot_of,
    hybrid,
    message::{Class, Verdict},
    replica::{Address, Done, Held, Intent, Job, OpKey, Precondition, Refusal, Stored},
};

/// A write that has passed every check.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) bucket: Bucket,
    pub(crate) address: Address,
    pub(crate) replicas: Vec<NodeId>,
    /// The replicas in the other ring of a change: a quorum of them is needed as well.
    pub(crate) others: Vec<NodeId>,
    pub(crate) op: OpId,
    pub(crate) request_hash: u64,
    pub(crate) context: Context,
    pub(crate) value: Option<Bytes>,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) precondition: Precondition,
    pub(crate) retry: bool,
    pub(crate) w: u8,
    pub(crate) pw: u8,
    /// Others may stand in for replicas that are down or silent.
    pub(crate) sloppy: bool,
    /// The coordinator is no replica: it stands in for this one.
    pub(crate) stand_in_for: Option<NodeId>,
    pub(crate) deadline: Instant,
}

impl Plan {
    /// The replica that this node may stand in for as the coordinator, if it may: one that is down,
    /// or else the first, which then was silent.
    pub(crate) fn absent(&self, core: &Core) -> Option<NodeId> {
        let n = self.bucket.info.n;
        let may = self.sloppy && core.fallbacks(&self.address, n).contains(&core.me);
        let mut owners = self.replicas.iter().copied();
        let down = owners.clone().find(|node| !core.is_up(*node));
        down.or_else(|| owners.next()).filter(|_| may)
    }
}

#[derive(Debug)]
enum Phase {
    /// A quorum is being asked what it holds.
    Asking,
    /// The local replica is minting.
    Minting,
    /// Copies are on their way.
    Replicating {
        dot: Option<Dot>,
        stored: Arc<Stored>,
        /// What is sent: the state with the write in it, and the write generation it is of.
        sent: (Bytes, u64),
    },
}

#[derive(Debug)]
struct Copy {
    sent: Instant,
    again: Instant,
    wait: Duration,
    /// When another is asked to stand in, unless it has answered by then.
    given_up: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct WriteOp {
    key: OpKey,
    origin: Origin,
    plan: Plan,
    phase: Phase,
    asked: bool,
    waiting: BTreeMap<NodeId, Copy>,
    stored: BTreeSet<NodeId>,
    durable: BTreeSet<NodeId>,
    /// Who was asked to stand in, and for whom.
    stand_ins: BTreeMap<NodeId, NodeId>,
    /// Of them, those who have it on disk.
    hinted: BTreeSet<NodeId>,
    /// Rises with the ring: answers to what was asked under an older one do not count.
    round: u8,
}

impl WriteOp {
    /// Starts a write whose key this node is a replica of.
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        plan: Plan,
        spawn: &mut Vec<(OpKey, Operation)>,
    ) -> Option<Self> {
        if let Some(error) = standby::out_of_reach(core, &plan) {
            core.reply(origin, Response::Error(error));
            return None;
        }
        let stand_ins = plan.stand_in_for.map(|owner| (core.me, owner));
        let mut op = Self {
            key,
            origin,
            plan,
            phase: Phase::Minting,
            asked: false,
            waiting: BTreeMap::new(),
            stored: BTreeSet::new(),
            durable: BTreeSet::new(),
            stand_ins: stand_ins.into_iter().collect(),
            hinted: BTreeSet::new(),
            round: 0,
        };
        if op.plan.retry || op.plan.precondition != Precondition::None {
            spawn.extend(op.ask(core));
        } else {
            op.mint(core, None, 0);
        }
        Some(op)
    }

    /// Asks as many replicas as it takes to meet every quorum of this write.
    fn ask(&mut self, core: &mut Core) -> Option<(OpKey, Operation)> {
        self.phase = Phase::Asking;
        self.asked = true;
        let n = self.plan.bucket.info.n.min(core.ring.replicas_max());
        let quorum = (n - self.plan.w + 1).max(n / 2 + 1);
        let read = core.op_key();
        let op = ReadOp::inner(
            core,
            read,
            self.key,
            (self.plan.address.clone(), self.plan.replicas.clone()),
            Quorum {
                all: quorum,
                primaries: 0,
                stand_ins: if self.plan.sloppy {
                    StandIns::ForTheSilent
                } else {
                    StandIns::Never
                },
            },
            self.plan.deadline,
        )?;
        Some((read, Operation::Read(Box::new(op))))
    }

    fn mint(&mut self, core: &mut Core, base: Option<Container>, generation: u64) {
        self.phase = Phase::Minting;
        let lww = self.plan.bucket.is_lww();
        let stamp = match lww.then(|| core.stamp()).transpose() {
            Ok(stamp) => stamp,
            Err(limit) => {
                let refused = Done::Refused(Refusal::Limit(limit));
                return core.notices.push_back((self.key, Notice::Local(refused)));
            }
        };
        let plan = &self.plan;
        let write = VersionWrite {
            op: plan.op,
            request_hash: plan.request_hash,
            context: plan.context.clone(),
            value: plan.value.clone(),
            written_at_ms: core.now.wall_ms,
            expires_at_ms: plan.expires_at_ms,
            stamp,
            now_ms: core.time_ms(),
        };
        let intent = Intent {
            write,
            base,
            generation,
            siblings_max: plan.bucket.info.siblings_max as usize,
            stamp_max: lww.then(|| core.hybrid.stamp_max(core.now)),
            disk_low: core.disk_low,
            precondition: plan.precondition.clone(),
        };
        let job = Job::Coordinate(Box::new(intent));
        core.submit(self.key, &self.minted_at(), job);
    }

    /// Where this node's own copy goes: among its records, or among what it keeps for others.
    fn minted_at(&self) -> Address {
        match self.plan.stand_in_for {
            None => self.plan.address.clone(),
            Some(owner) => self.plan.address.hint(owner),
        }
    }

    pub(crate) fn wait(&self) -> Flow {
        let next = |copy: &Copy| copy.given_up.map_or(copy.again, |at| at.min(copy.again));
        let next = self.waiting.values().map(next).min();
        Flow::Until(next.map_or(self.plan.deadline, |next| next.min(self.plan.deadline)))
    }

    pub(crate) fn notice(
        &mut self,
        core: &mut Core,
        notice: Notice,
        spawn: &mut Vec<(OpKey, Operation)>,
    ) -> Flow {
        match notice {
            Notice::Read(ReadOutcome::Quorum(container, generation)) => {
                self.mint(core, Some(container), generation);
                self.wait()
            }
            Notice::Read(ReadOutcome::Failed(error)) => self.fail(core, error),
            Notice::Local(Done::Coordinated { dot, rule, stored }) => {
                if let Some(dot) = dot {
                    core.event(Event::Minted {
                        bucket: self.plan.bucket.id,
                        key: self.plan.address.key.clone(),
                        dot,
                        op: self.plan.op,
                        stamp: stored.record.container.stamp(),
                        rule,
                    });
                }
                self.warn(core, &stored.record.container);
                let sent = (
                    stored.bytes.clone(),
                    core.generation(self.plan.address.token),
                );
                self.phase = Phase::Replicating { dot, stored, sent };
                self.replicate(core);
                self.wait()
            }
            Notice::Local(Done::Stored { durable }) => {
                self.count(core.me, durable);
                self.check(core)
            }
            Notice::Local(Done::Refused(Refusal::Unreadable)) if !self.asked => {
                self.ask_first(core, spawn)
            }
            // Something was reaped while the others were asked.
            Notice::Local(Done::Refused(Refusal::OldGeneration)) => self.ask_first(core, spawn),
            Notice::Local(Done::Refused(refusal)) => {
                if matches!(self.phase, Phase::Replicating { .. }) {
                    // The local disk refused after the state had been sent.
                    return self.wait();
                }
                let error = self.refused(&refusal);
                self.fail(core, error)
            }
            Notice::Local(Done::Read(held)) => self.refreshed(core, &held),
            Notice::Local(Done::Reaping(_)) | Notice::Repaired(_) => self.wait(),
        }
    }

    fn ask_first(&mut self, core: &mut Core, spawn: &mut Vec<(OpKey, Operation)>) -> Flow {
        let Some(read) = self.ask(core) else {
            let error = core.unavailable("w", self.plan.w, &self.plan.replicas);
            return self.fail(core, error);
        };
        spawn.push(read);
        self.wait()
    }

    /// The write generation of a slot has risen: what was minted before may be refused.
    pub(crate) fn refresh(&mut self, core: &mut Core, slot: u8) -> Flow {
        let sends = matches!(self.phase, Phase::Replicating { .. });
        if sends && slot_of(self.plan.address.token) == slot {
            core.submit(self.key, &self.minted_at(), Job::Latest);
        }
        self.wait()
    }

    /// This node's state now, if the write is in it. If it is gone, it was reaped with the write or
    /// set aside, and nothing is sent any more.
    fn refreshed(&mut self, core: &mut Core, held: &Held) -> Flow {
        let generation = core.generation(self.plan.address.token);
        if let (Phase::Replicating { dot, stored, sent }, Held::Present(latest)) =
            (&mut self.phase, held)
        {
            let (container, before) = (&latest.record.container, &stored.record.container);
            // A repeated write has no dot of its own.
            let is_in = dot.map_or_else(
                || {
                    container.knows(self.plan.op).is_some()
                        || container.clock().dominates(before.clock())
                },
                |dot| container.clock().covers(dot),
            );
            if is_in {
                *sent = (latest.bytes.clone(), generation);
                let waiting: Vec<NodeId> = self.waiting.keys().copied().collect();
                for node in waiting {
                    self.send(core, node);
                }
            }
        }
        self.wait()
    }

    fn warn(&self, core: &mut Core, container: &Container) {
        let count = container.siblings().count();
        if self.plan.bucket.info.siblings_warn as usize <= count {
            core.event(Event::ManySiblings {
                bucket: self.plan.bucket.id,
                key: self.plan.address.key.clone(),
                count,
            });
        }
    }

    fn replicate(&mut self, core: &mut Core) {
        for node in self.holders() {
            if node == core.me || self.stored.contains(&node) {
                continue;
            }
            // To one that is thought down too: the thought may be wrong, and nothing waits for it.
            self.dispatch(core, node);
            if self.plan.sloppy && !core.is_up(node) {
                self.is_away(core, node);
            }
        }
    }

    fn dispatch(&mut self, core: &mut Core, node: NodeId) {
        let wait = core.patience(node);
        let sent = core.now.mono;
        let copy = Copy {
            sent,
            again: sent + wait * 2,
            wait: wait * 2,
            given_up: self.plan.sloppy.then_some(sent + wait),
        };
        self.waiting.insert(node, copy);
        self.send(core, node);
    }

    /// Every node that is to hold the write, once.
    fn holders(&self) -> Vec<NodeId> {
        let mut holders = self.plan.replicas.clone();
        let others = self.plan.others.iter();
        holders.extend(others.filter(|node| !self.plan.replicas.contains(node)));
        holders
    }

    /// True if another node waits for it.
    pub(crate) const fn is_forwarded(&self) -> bool {
        matches!(self.origin, Origin::Peer { .. })
    }

    /// True if `me` is one of them.
    pub(crate) fn is_owned_by(&self, me: NodeId) -> bool {
        self.plan.replicas.contains(&me) || self.plan.others.contains(&me)
    }

    /// The ring has changed: other nodes have to hold the write. Those that do already, do.
    pub(crate) fn replan(&mut self, core: &mut Core) -> Flow {
        self.plan.replicas = core.owners(&self.plan.address);
        self.plan.others = core.others(&self.plan.address, self.plan.bucket.info.n);
        // Who has the write and is not to hold it any more may hand it on at any time.
        let holders = self.holders();
        // Who is rebuilt may have lost what it has acknowledged.
        let has = |node: &NodeId| {
            holders.contains(node) && (*node == core.me || !core.decree.suspends(*node))
        };
        self.stored.retain(has);
        self.forget_stand_ins(core, &holders);
        self.round = self.round.wrapping_add(1);
        if matches!(self.phase, Phase::Replicating { .. }) {
            self.waiting.clear();
            self.replicate(core);
        }
        self.check(core)
    }

    pub(crate) const fn round(&self) -> u8 {
        self.round
    }

    fn send(&self, core: &mut Core, node: NodeId) {
        let Phase::Replicating { sent, .. } = &self.phase else {
            return;
        };
        let ((bytes, generation), address) = (sent, &self.plan.address);
        let id = self.key.rpc(self.round);
        let message = match self.stand_ins.get(&node) {
            None => core.replicate(address, id, bytes, *generation),
            Some(owner) => standby::keep(core, address, id, *owner, (bytes, *generation)),
        };
        core.send(node, Class::Data, message);
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        let verdict = match answer {
            Answer::Replicated(verdict) => verdict,
            Answer::Stale => {
                if self.waiting.contains_key(&from) {
                    self.send(core, from);
                }
                return self.wait();
            }
            Answer::Fetched { .. } | Answer::Forwarded(_) | Answer::Other(_) => {
                return self.wait();
            }
        };
        match verdict {
            Verdict::Durable | Verdict::Stored => {
                if let Some(copy) = self.waiting.remove(&from) {
                    core.peers.answered(from, core.now.mono.since(copy.sent));
                    self.count(from, verdict == Verdict::Durable);
                }
            }
            Verdict::Overloaded(_) | Verdict::Failed(_) if self.stand_ins.contains_key(&from) => {
                self.refused_to_stand_in(core, from);
            }
            Verdict::Overloaded(_) => {
                if let Some(copy) = self.waiting.get_mut(&from) {
                    // It is there, so nobody stands in for it.
                    copy.given_up = None;
                    copy.wait *= 2;
                    copy.again = core.now.mono + copy.wait;
                }
            }
            Verdict::Failed(_) => {
                self.waiting.remove(&from);
            }
        }
        self.check(core)
    }

    /// What a node had of the write is set aside.
    pub(crate) fn forget_copy(&mut self, node: NodeId) {
        self.stored.remove(&node);
        self.durable.remove(&node);
        self.hinted.remove(&node);
    }

    /// Acks are counted by node, so a node never counts twice.
    fn count(&mut self, node: NodeId, durable: bool) {
        if self.stand_ins.contains_key(&node) {
            if durable {
                self.hinted.insert(node);
                self.durable.insert(node);
            }
            return;
        }
        if !self.is_owned_by(node) {
            // It was a replica when it was asked.
            return;
        }
        self.stored.insert(node);
        if durable {
            self.durable.insert(node);
        }
    }

    fn check(&mut self, core: &mut Core) -> Flow {
        let Phase::Replicating { dot, stored, .. } = &self.phase else {
            return self.wait();
        };
        let (held, primaries) = self.counted();
        if held < usize::from(self.plan.w) || primaries < usize::from(self.plan.pw) {
            return self.wait();
        }
        let container = &stored.record.container;
        let context = core.context_key.seal(
            core.cluster,
            self.plan.bucket.id.0,
            &self.plan.address.key,
            &container.context(),
        );
        let own = *dot;
        let siblings = container.siblings();
        let reply = WriteReply {
            context,
            siblings: siblings
                .map(|(dot, s)| version(dot, s, Some(dot) != own))
                .collect(),
            durable_on: core.names(self.durable.iter().copied()),
            stored_on: core.names(self.everywhere()),
            primaries: u8::try_from(primaries).unwrap_or(u8::MAX),
            hinted: u8::try_from(self.hinted.len()).unwrap_or(u8::MAX),
            op_id: Bytes::copy_from_slice(&self.plan.op.id.to_be_bytes()),
        };
        core.reply(self.origin, Response::Written(reply));
        Flow::Over
    }

    pub(crate) const fn origin(&self) -> Origin {
        self.origin
    }

    /// Whoever asked does not wait any more. What was minted goes on.
    pub(crate) fn give_up(&self, core: &mut Core) -> Flow {
        if self.withdraw(core) {
            let message = "given up by whoever asked for it before it was begun";
            return self.fail(core, ErrorBody::new(ErrorCode::Unavailable, message));
        }
        self.wait()
    }

    /// True if nothing has been minted, and now nothing will be.
    fn withdraw(&self, core: &mut Core) -> bool {
        match self.phase {
            Phase::Asking => true,
            Phase::Minting => core.replica.withdraw(&self.minted_at(), self.key),
            Phase::Replicating { .. } => false,
        }
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        let now = core.now.mono;
        if self.plan.deadline <= now {
            let error = if self.withdraw(core) {
                self.not_begun()
            } else {
                self.late(core)
            };
            return self.fail(core, error);
        }
        let due: Vec<NodeId> = self
            .waiting
            .iter()
            .filter(|(_, copy)| copy.again <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            self.send(core, node);
            if let Some(copy) = self.waiting.get_mut(&node) {
                core.peers.silent(node, now.since(copy.sent));
                copy.wait *= 2;
                copy.again = now + copy.wait;
            }
        }
        self.give_up_the_silent(core);
        self.wait()
    }

    fn late(&self, core: &Core) -> ErrorBody {
        let key = Core::show_key(&self.plan.address.key);
        let silent = core.names(self.waiting.keys().copied());
        let mut error = ErrorBody::new(
            ErrorCode::UnknownOutcome,
            format!(
                "{} of {} replicas of key {key} confirmed in time, w={} needed (silent: {}). The \
                 write may appear later. Retry with the same --op-id, or ask for fewer with --w",
                self.stored.len() + self.hinted.len(),
                self.plan.replicas.len(),
                self.plan.w.max(self.plan.pw),
                silent.join(", "),
            ),
        );
        error.stored_on = core.names(self.everywhere());
        error
    }

    /// The time was up before anything was minted.
    fn not_begun(&self) -> ErrorBody {
        let key = Core::show_key(&self.plan.address.key);
        let message = match self.phase {
            Phase::Asking => format!("too few replicas of key {key} answered in time"),
            Phase::Minting | Phase::Replicating { .. } => {
                format!("the time was up before this node came to key {key}")
            }
        };
        let message = format!("{message}; nothing was applied");
        ErrorBody::new(ErrorCode::Unavailable, message)
    }

    fn refused(&self, refusal: &Refusal) -> ErrorBody {
        let key = Core::show_key(&self.plan.address.key);
        let (code, message) = match refusal {
            Refusal::Limit(limit) => {
                let message = hybrid::explain(limit).map_or_else(
                    || format!("limit {limit} is reached; nothing was applied, try later"),
                    |why| format!("{why}; nothing was applied, try later"),
                );
                return ErrorBody::overloaded(limit, message);
            }
            Refusal::OpIdReused => (
                ErrorCode::OpIdReused,
                format!("this operation id wrote something else to key {key}; use a new one"),
            ),
            Refusal::TooManySiblings(count) => (
                ErrorCode::TooManySiblings,
                format!(
                    "key {key} has {count} siblings; read it and write with the context you get, \
                     which merges them"
                ),
            ),
            Refusal::PreconditionFailed => (
                ErrorCode::Conflict,
                format!("the precondition does not hold for key {key}; nothing was applied"),
            ),
            Refusal::Unreadable | Refusal::OldGeneration => (
                ErrorCode::Unavailable,
                format!("the coordinator's copy of key {key} is damaged and not repaired yet"),
            ),
            Refusal::EqualDotsDiffer => (
                ErrorCode::Internal,
                format!("replicas of key {key} hold different values under one dot"),
            ),
        };
        ErrorBody::new(code, message)
    }

    fn fail(&self, core: &mut Core, error: ErrorBody) -> Flow {
        core.reply(self.origin, Response::Error(error));
        Flow::Over
    }
}

/// A version as clients see it.
pub(crate) fn version(dot: Dot, sibling: &Sibling, with_value: bool) -> Version {
    // A uuid, two colons, and two numbers that are rarely long.
    let mut name = String::with_capacity(48);
    write!(name, "{dot}").expect("a string takes everything");
    Version {
        dot: name,
        value: sibling.value.clone().filter(|_| with_value),
        tombstone: sibling.value.is_none(),
        written_at_ms: sibling.written_at_ms,
        op_id: Bytes::copy_from_slice(&sibling.op.id.to_be_bytes()),
    }
}
