//! One read at its coordinator.
//!
//! Ask as many replicas as the quorum needs, ourselves first and slow ones last; ask another when
//! one is silent beyond its limit, damaged, or may have forgotten the key. Merge what they hold.
//! When a majority is asked and the answers differ, those behind are brought up to date *before*
//! the answer goes out, so that a later majority read cannot go back behind this one; otherwise
//! they are brought up to date without waiting. A repair is always a merge.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use quorate_client::wire::{ErrorBody, ErrorCode, GetReply, Response};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow, write::version};
use crate::{
    bucket::Bucket,
    causality::Container,
    core::{Core, Notice, Origin, ReadOutcome, Voice},
    event::Event,
    message::{Class, Message, ReplicaState, RpcId},
    replica::{Address, Caller, Done, Held, Job, Merge, OpKey, Stored},
    store::format::{self, Record},
};

/// Who wants to know.
#[derive(Debug)]
enum Reader {
    Client {
        origin: Origin,
        bucket: Bucket,
    },
    /// Another operation of this node.
    Inner(OpKey),
    /// Nobody: this node's own record is damaged or suspect, and all others are asked.
    Recovery,
}

#[derive(Debug)]
enum Asked {
    Waiting {
        sent: Instant,
    },
    Answered {
        held: Option<Arc<Stored>>,
        counts: bool,
    },
    Failed,
}

impl Asked {
    fn stored(&self) -> Option<&Arc<Stored>> {
        match self {
            Self::Answered { held, .. } => held.as_ref(),
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
    quorum: u8,
    asked: BTreeMap<NodeId, Asked>,
    phase: Phase,
    hedge: Instant,
    deadline: Instant,
    own_suspect: bool,
}

impl ReadOp {
    /// A client's read. Answers at once, and is none, if too few replicas are up.
    pub(crate) fn client(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        bucket: Bucket,
        quorum: u8,
        place: (Address, Vec<NodeId>),
        deadline: Instant,
    ) -> Option<Self> {
        let reader = Reader::Client { origin, bucket };
        let op = Self::begin(core, key, reader, place, quorum, deadline);
        op.map_err(|replicas| {
            let error = core.unavailable("r", quorum, &replicas);
            core.reply(origin, Response::Error(error));
        })
        .ok()
    }

    /// A read for another operation; none if too few replicas are up.
    pub(crate) fn inner(
        core: &mut Core,
        key: OpKey,
        parent: OpKey,
        address: Address,
        replicas: Vec<NodeId>,
        quorum: u8,
        deadline: Instant,
    ) -> Option<Self> {
        let place = (address, replicas);
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
        let quorum = u8::try_from(place.1.len()).unwrap_or(u8::MAX);
        if quorum < 2 {
            return None;
        }
        Self::begin(core, key, Reader::Recovery, place, quorum, deadline).ok()
    }

    fn begin(
        core: &mut Core,
        key: OpKey,
        reader: Reader,
        place: (Address, Vec<NodeId>),
        quorum: u8,
        deadline: Instant,
    ) -> Result<Self, Vec<NodeId>> {
        let (address, replicas) = place;
        let mut op = Self {
            key,
            reader,
            address,
            replicas,
            quorum,
            asked: BTreeMap::new(),
            phase: Phase::Gathering,
            hedge: deadline,
            deadline,
            own_suspect: false,
        };
        op.own_suspect = op.is_recovery();
        let order = core.by_speed(&op.replicas);
        if order.len() < usize::from(quorum) {
            return Err(op.replicas);
        }
        for node in order.into_iter().take(usize::from(quorum)) {
            if node != core.me || !op.is_recovery() {
                op.ask(core, node);
            }
        }
        Ok(op)
    }

    const fn is_recovery(&self) -> bool {
        matches!(self.reader, Reader::Recovery)
    }

    fn ask(&mut self, core: &mut Core, node: NodeId) {
        let sent = core.now.mono;
        self.asked.insert(node, Asked::Waiting { sent });
        self.hedge = sent + core.patience(node);
        if node == core.me {
            core.submit(self.key, &self.address, Job::Read);
            return;
        }
        let message = Message::Fetch {
            id: RpcId(self.key.0),
            epoch: core.ring.epoch(),
            bucket: self.address.bucket,
            token: self.address.token,
            key: self.address.key.clone(),
        };
        core.send(node, Class::Data, message);
    }

    /// Asks the next best replica that has not been asked yet.
    fn ask_another(&mut self, core: &mut Core) -> bool {
        let order = core.by_speed(&self.replicas);
        let next = order
            .into_iter()
            .find(|node| !self.asked.contains_key(node))
            .filter(|node| *node != core.me || !self.is_recovery());
        if let Some(node) = next {
            self.ask(core, node);
        }
        next.is_some()
    }

    pub(crate) fn wait(&self) -> Flow {
        match self.phase {
            Phase::Gathering => Flow::Until(self.hedge.min(self.deadline)),
            Phase::Repairing { .. } => Flow::Until(self.deadline),
        }
    }

    pub(crate) fn notice(&mut self, core: &mut Core, notice: Notice) -> Flow {
        match notice {
            Notice::Local(Done::Read(held)) => {
                let me = core.me;
                let alone = core.voice == Voice::Alone && self.quorum == 1;
                let counts = core.replica.counts() || alone;
                match held {
                    Held::Absent => self.took(core, me, None, counts),
                    Held::Present(stored) if is_too_far_ahead(core, &stored.record) => {
                        self.failed(core, me)
                    }
                    Held::Present(stored) => {
                        let suspect = stored.record.suspect;
                        self.own_suspect |= suspect;
                        self.took(core, me, Some(stored), !suspect && counts)
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
            Notice::Local(Done::Coordinated { .. }) | Notice::Read(_) => self.wait(),
        }
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        let Some(Asked::Waiting { sent }) = self.asked.get(&from) else {
            return self.wait();
        };
        let (state, suspect) = match answer {
            Answer::Fetched { state, suspect } => (state, suspect),
            Answer::Stale => {
                self.ask(core, from);
                return self.wait();
            }
            Answer::Replicated(_) | Answer::Forwarded(_) | Answer::Other(_) => return self.wait(),
        };
        core.peers.answered(from, core.now.mono.since(*sent));
        match state {
            ReplicaState::Absent => self.took(core, from, None, !suspect),
            ReplicaState::Present(bytes) => {
                if let Some(stored) = self.has_same(&bytes) {
                    return self.took(core, from, Some(stored), !suspect);
                }
                match format::decode(self.address.bucket.0, &self.address.key, &bytes) {
                    Ok(record) if is_too_far_ahead(core, &record) => self.failed(core, from),
                    Ok(record) => {
                        let stored = Arc::new(Stored { record, bytes });
                        self.took(core, from, Some(stored), !suspect)
                    }
                    Err(_) => {
                        core.event(Event::DamagedMessage { from });
                        self.failed(core, from)
                    }
                }
            }
            ReplicaState::Unreadable => self.failed(core, from),
        }
    }

    /// What another replica has answered, if it is the same to the byte.
    fn has_same(&self, bytes: &Bytes) -> Option<Arc<Stored>> {
        let mut stored = self.asked.values().filter_map(Asked::stored);
        stored.find(|stored| stored.bytes == *bytes).cloned()
    }

    fn took(
        &mut self,
        core: &mut Core,
        node: NodeId,
        held: Option<Arc<Stored>>,
        counts: bool,
    ) -> Flow {
        self.asked.insert(node, Asked::Answered { held, counts });
        if !matches!(self.phase, Phase::Gathering) {
            return self.wait();
        }
        self.check(core)
    }

    fn failed(&mut self, core: &mut Core, node: NodeId) -> Flow {
        self.asked.insert(node, Asked::Failed);
        if !matches!(self.phase, Phase::Gathering) {
            return self.wait();
        }
        self.check(core)
    }

    fn counted(&self) -> usize {
        let counts = |asked: &&Asked| matches!(asked, Asked::Answered { counts: true, .. });
        self.asked.values().filter(counts).count()
    }

    /// Answers that count; in a recovery our own never does.
    fn needed(&self) -> usize {
        match self.reader {
            Reader::Recovery => usize::from(self.quorum) - 1,
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
        if let Some(agreed) = self.agreed() {
            return self.end(core, Ok(&agreed.record.container));
        }
        let mut merged = Container::new();
        for stored in self.asked.values().filter_map(Asked::stored) {
            if merged.sync(&stored.record.container).is_err() {
                core.event(Event::EqualDotsDiffer {
                    bucket: self.address.bucket,
                    key: self.address.key.clone(),
                    from: core.me,
                });
                let message = "replicas hold different values under one dot";
                let error = ErrorBody::new(ErrorCode::Internal, message);
                return self.end(core, Err(error));
            }
        }
        self.mend(core, merged)
    }

    /// What all who answered hold, if it is the same to the byte and nobody doubts it.
    fn agreed(&self) -> Option<Arc<Stored>> {
        let mut answered = self.asked.values().filter_map(|asked| match asked {
            Asked::Answered { held, .. } => Some(held.as_ref()),
            Asked::Waiting { .. } | Asked::Failed => None,
        });
        let first = answered.next().flatten()?;
        let same = |held: Option<&Arc<Stored>>| held.is_some_and(|held| held.bytes == first.bytes);
        (!self.own_suspect && answered.all(same)).then(|| Arc::clone(first))
    }

    /// Brings the replicas that answered up to date; waits for that if a later read of a majority
    /// might otherwise miss what this one shows.
    fn mend(&mut self, core: &mut Core, merged: Container) -> Flow {
        let behind = |held: &Option<Arc<Stored>>| match held {
            Some(stored) => !same(&stored.record.container, &merged),
            None => !merged.clock().is_empty(),
        };
        let mut holders = BTreeSet::new();
        let mut stale = Vec::new();
        for (node, asked) in &self.asked {
            if let Asked::Answered { held, .. } = asked {
                if behind(held) {
                    stale.push(*node);
                } else {
                    holders.insert(*node);
                }
            }
        }
        let healing = self.own_suspect && self.others_answered(core.me);
        if healing && !stale.contains(&core.me) {
            holders.remove(&core.me);
            stale.push(core.me);
        }
        if stale.is_empty() {
            return self.end(core, Ok(&merged));
        }
        let majority = self.replicas.len() < 2 * usize::from(self.quorum);
        let blocking = majority && holders.len() < self.holders_needed();
        let record = Record {
            container: merged.clone(),
            suspect: false,
        };
        let bytes = format::encode(self.address.bucket.0, &self.address.key, &record);
        for node in stale {
            self.repair(core, node, &merged, &bytes, blocking, healing);
        }
        if blocking {
            self.phase = Phase::Repairing { merged, holders };
            return self.wait();
        }
        self.end(core, Ok(&merged))
    }

    fn repair(
        &self,
        core: &mut Core,
        node: NodeId,
        merged: &Container,
        bytes: &Bytes,
        blocking: bool,
        healing: bool,
    ) {
        if node != core.me {
            core.repair(
                &self.address,
                node,
                merged,
                bytes,
                blocking.then_some(self.key),
            );
            return;
        }
        let job = Job::Apply(Merge {
            incoming: merged.clone(),
            bytes: Some(bytes.clone()),
            complete: healing,
        });
        core.event(Event::ReadRepair {
            replica: node,
            blocking,
        });
        let caller = if blocking {
            Caller::Op(self.key)
        } else {
            Caller::Nobody
        };
        core.submit_for(caller, &self.address, job);
    }

    fn others_answered(&self, me: NodeId) -> bool {
        let counts = |node: &NodeId| {
            matches!(
                self.asked.get(node),
                Some(Asked::Answered { counts: true, .. })
            )
        };
        self.replicas.iter().filter(|node| **node != me).all(counts)
    }

    /// The ring has changed: if other nodes have to be asked, the read begins again.
    pub(crate) fn replan(&mut self, core: &mut Core) -> Flow {
        let replicas = core.owners(&self.address);
        if replicas == self.replicas && matches!(self.phase, Phase::Gathering) {
            return self.wait();
        }
        self.replicas = replicas;
        self.asked.clear();
        self.phase = Phase::Gathering;
        self.own_suspect = self.is_recovery();
        if self.is_recovery() {
            self.quorum = u8::try_from(self.replicas.len()).unwrap_or(u8::MAX);
        }
        let order = core.by_speed(&self.replicas);
        if order.len() < usize::from(self.quorum) {
            return self.short(core);
        }
        for node in order.into_iter().take(usize::from(self.quorum)) {
            if node != core.me || !self.is_recovery() {
                self.ask(core, node);
            }
        }
        self.wait()
    }

    /// So many that any later read of a majority meets one of them, also if this one asks more.
    fn holders_needed(&self) -> usize {
        self.replicas.len() - self.replicas.len() / 2
    }

    fn repaired(&mut self, core: &mut Core, node: NodeId) -> Flow {
        let needed = self.holders_needed();
        let Phase::Repairing { merged, holders } = &mut self.phase else {
            return self.wait();
        };
        holders.insert(node);
        if holders.len() < needed {
            return self.wait();
        }
        let merged = std::mem::take(merged);
        self.end(core, Ok(&merged))
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        let now = core.now.mono;
        if self.deadline <= now {
            return self.short(core);
        }
        if matches!(self.phase, Phase::Gathering) && self.hedge <= now {
            for (node, asked) in &self.asked {
                if let Asked::Waiting { sent } = asked {
                    core.peers.silent(*node, now.since(*sent));
                }
            }
            if !self.ask_another(core) {
                self.ask_again(core);
            }
        }
        self.wait()
    }

    /// Everyone has been asked: questions or answers may have been lost.
    fn ask_again(&mut self, core: &mut Core) {
        let waiting = |(node, asked): (&NodeId, &Asked)| {
            matches!(asked, Asked::Waiting { .. }).then_some(*node)
        };
        let silent: Vec<NodeId> = self.asked.iter().filter_map(waiting).collect();
        let patience = silent.iter().map(|node| core.patience(*node)).max();
        for node in silent {
            if node != core.me {
                self.ask(core, node);
            }
        }
        let pause = patience.unwrap_or(core.limits.replica_limit_max) * 2;
        self.hedge = core.now.mono + pause + core.jitter(pause);
    }

    fn short(&mut self, core: &mut Core) -> Flow {
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
                    Ok(container) => ReadOutcome::Quorum(container.clone()),
                    Err(error) => ReadOutcome::Failed(error),
                };
                core.notices.push_back((*parent, Notice::Read(outcome)));
            }
            Reader::Client { origin, bucket } => {
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
        }
    }
}

/// True if the record bears a stamp that nobody believes, so that it must not win.
fn is_too_far_ahead(core: &mut Core, record: &Record) -> bool {
    let stamp = record.container.stamp();
    let refused = stamp.is_some_and(|stamp| core.hybrid.refuses(stamp, core.now));
    if refused {
        core.event(Event::Refused {
            limit: "clock_skew",
        });
    }
    refused
}

/// True if two states have the same versions and the same clock.
fn same(a: &Container, b: &Container) -> bool {
    let dots = |(dot, _)| dot;
    a.clock() == b.clock() && a.siblings().map(dots).eq(b.siblings().map(dots))
}
