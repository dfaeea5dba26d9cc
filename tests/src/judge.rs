//! Shows the oracles what nodes say and do.
//!
//! An answer is judged at the moment a node gives it, whether or not it ever reaches its client:
//! what a node has said, it has to stand by.

mod moved;
mod reap;

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use quorate_client::wire::{ErrorCode, Response, Verified, WriteReply};
use quorate_node::{
    causality::{ContextKey, Dot, OpId, SEEN_MAX},
    event::Event as NodeEvent,
    store::{
        Table,
        format::{self, Record},
    },
};

use quorate_ring::Decree;

use crate::{
    history::{OpIndex, Outcome, Reuse, Seen, place},
    options::Extras,
    oracle::{
        Broken, Listing, Ruling, bounds, causality, conditional, contexts, durability, idempotence,
        identity, merkle, outcome, phantom, session::Read,
    },
    process::{CLUSTER, CONTEXT_SECRET},
    workload::{Attempt, Call, versions},
    world::World,
};

/// `w` of the bucket: what a quorum read leaves behind when it has repaired what it saw.
const W_BUCKET: u8 = 2;

impl World {
    /// Takes note of a broken promise; the first one counts.
    pub(crate) fn rule(&mut self, ruling: Ruling) {
        if let Err(broken) = ruling {
            self.trace.line(self.now, format_args!("{broken}"));
            self.broken.get_or_insert(broken);
        }
    }

    /// A node says something about itself. True if it says that it has to stop.
    pub(crate) fn judge_event(&mut self, node: usize, event: &NodeEvent) -> bool {
        if self.trace.prints() {
            let name = &self.processes[node].name;
            self.trace.line(self.now, format_args!("{name}: {event:?}"));
        }
        self.words.note(node, event, self.now);
        match event {
            NodeEvent::Minted {
                key,
                dot,
                op,
                stamp,
                ..
            } => {
                if let (Some(stamp), Some(index)) = (stamp, self.history.find_number(op.id)) {
                    self.history.ops[index.at()].stamps.push(*stamp);
                }
                self.judge_minted(node, key, *dot, *op);
                false
            }
            NodeEvent::StoreFailed { .. } => true,
            NodeEvent::Refused { .. } => {
                self.refusals += 1;
                false
            }
            NodeEvent::TreeCorrected { leaves } => self.judge_corrected(node, *leaves),
            NodeEvent::CorruptRecord { key, .. } => {
                self.reported.insert((node, key.clone()));
                false
            }
            NodeEvent::EqualDotsDiffer { .. } => self.never("causality (P2, W1, W4)", event),
            // Nothing in this world damages messages, so the sender spread damage.
            NodeEvent::DamagedMessage { .. } => self.never("no phantom (P8)", event),
            NodeEvent::RingFork { .. } => self.never("single ring history (W8)", event),
            NodeEvent::StoodIn { .. }
            | NodeEvent::HintHanded { .. }
            | NodeEvent::HintLost { .. } => {
                self.kept.note(event);
                false
            }
            NodeEvent::Reaped { .. } => {
                self.judge_reaped(node, event);
                false
            }
            NodeEvent::Fenced { .. } => self.judge_fenced(node),
            // What it was put back to is out of the way.
            NodeEvent::SetAside { .. } | NodeEvent::Rebuilt => {
                self.displaced.remove(&node);
                false
            }
            NodeEvent::RingChanged { .. }
            | NodeEvent::ReapBlocked { .. }
            | NodeEvent::DroppedRemoved { .. }
            | NodeEvent::RingForced { .. }
            | NodeEvent::Scrubbed { .. }
            | NodeEvent::Rebuilding { .. }
            | NodeEvent::ReadRepair { .. }
            | NodeEvent::ManySiblings { .. }
            | NodeEvent::Compared { .. }
            | NodeEvent::Membership(_)
            | NodeEvent::MemberMoved { .. }
            | NodeEvent::MemberForgotten { .. }
            | NodeEvent::Ready => false,
        }
    }

    /// A node's tree was not what is stored.
    fn judge_corrected(&mut self, node: usize, leaves: u64) -> bool {
        let harmed = self.rotted.iter().any(|(harmed, _)| *harmed == node);
        if !harmed && !self.options.extras.lying_disk {
            let ruling = merkle::astray(&self.processes[node].name, leaves, self.now);
            self.rule(ruling);
        }
        false
    }

    /// A node's directory is taken for an old one.
    fn judge_fenced(&mut self, node: usize) -> bool {
        if !self.touched.contains(&node) {
            let name = &self.processes[node].name;
            self.rule(Err(identity::refused(name, self.now)));
        }
        false
    }

    /// A node says what it must never have to say.
    fn never(&mut self, promise: &'static str, event: &NodeEvent) -> bool {
        self.rule(Err(Broken::new(promise, self.now, format!("{event:?}"))));
        false
    }

    /// A node says which dot it gave to an operation.
    fn judge_minted(&mut self, node: usize, key: &Bytes, dot: Dot, op: OpId) {
        let Some(index) = self.history.find_number(op.id) else {
            let detail = format!("a dot was minted for {op:?}, nobody's operation");
            self.rule(Err(Broken::new("no phantom (P8)", self.now, detail)));
            return;
        };
        self.words.minted(node, index);
        let number = self.history.op(index).key;
        let is_owner = self.layout.owners[place(number)].contains(&node);
        self.kept.coordinated += u64::from(!is_owner);
        if self.history.op(index).may_hide() {
            self.deleted.insert(number);
        }
        let at = self.now;
        if *key != self.workload.keys()[place(number)] {
            let detail = format!("{index:?} was minted for {key:?}");
            self.rule(Err(Broken::new("no phantom (P8)", at, detail)));
        }
        let ruling = outcome::minted(&self.history, index, at);
        self.rule(ruling);
        let ruling = contexts::minted(&self.history, index, at);
        self.rule(ruling);
        if self.remembers_operations(number) {
            let ruling = idempotence::minted(&self.history, index, self.deaths, at);
            self.rule(ruling);
        }
        let op = &mut self.history.ops[index.at()];
        if op.reuse == Reuse::Tried {
            op.reuse = Reuse::Minted;
        }
        let ruling = causality::minted(&mut self.history, number, dot, index, at);
        self.rule(ruling);
    }

    /// A node has adopted a decree about the ring.
    pub(crate) fn judge_ring(&mut self, decree: &Arc<Decree>) {
        let before = Arc::clone(self.rings.newest());
        match self.rings.adopted(decree, self.now) {
            Ok(true) => {
                self.judge_named(&before, decree);
                self.judge_moved(&before, decree);
                self.words.decided(decree.epoch.get());
                self.layout.follow(&decree.ring, self.options.replicas);
                let ruling = self.definers.history.adopted(decree, self.now);
                self.rule(ruling);
                self.turn(decree);
            }
            Ok(false) => {}
            Err(broken) => self.rule(Err(broken)),
        }
    }

    /// A node answers a request.
    pub(crate) fn judge_reply(&mut self, node: usize, attempt: &Attempt, response: Response) {
        if self.trace.prints() {
            let (name, serial) = (&self.processes[node].name, attempt.serial);
            self.trace
                .line(self.now, format_args!("{name}: {serial} = {response:?}"));
        }
        if let Response::Healing(reply) = &response
            && let Some(verified) = &reply.verified
        {
            self.verified = Some(Verified::clone(verified));
        }
        let judged = self.judge_response(node, attempt, &response);
        let seen = judged.unwrap_or_else(|broken| {
            self.rule(Err(broken));
            None
        });
        self.send_answer(attempt.serial, response, seen);
    }

    fn judge_response(
        &mut self,
        node: usize,
        attempt: &Attempt,
        response: &Response,
    ) -> Result<Option<Seen>, Broken> {
        match (&attempt.call, response) {
            (Call::Write(index), Response::Error(error)) => {
                contexts::refused(&self.history, *index, error.code, self.now)?;
                idempotence::refused(&self.history, *index, error.code, self.now)?;
                let (history, session) = (&mut self.history, &self.session);
                conditional::refused(history, session, *index, error.code, self.now)?;
                if error.code != ErrorCode::UnknownOutcome {
                    outcome::refused(&mut self.history, *index, error.code, self.now)?;
                }
                Ok(None)
            }
            (Call::Define(mark), _) => {
                self.judge_definition(*mark, response)?;
                Ok(None)
            }
            (Call::Read(_) | Call::Reuse(_), Response::Error(_)) | (Call::Operate, _) => Ok(None),
            (Call::Reuse(index), Response::Written(_)) => {
                if self.remembers_operations(self.history.op(*index).key) {
                    idempotence::reused(&self.history, *index, self.deaths, self.now)?;
                }
                Ok(None)
            }
            (Call::Write(index), Response::Written(reply)) => {
                let listing = self.listing(self.history.op(*index).key, response)?;
                self.judge_ack(node, *index, reply)?;
                Ok(self.seen(&listing, Some(&reply.context)))
            }
            (Call::Read(read), Response::Got(reply)) => {
                self.judge_cover(attempt, reply)?;
                let listing = self.listing(read.key, response)?;
                let seen = self.seen(&listing, reply.context.as_ref());
                let primaries = reply.answered - reply.stand_ins;
                self.kept.read += u64::from(0 < reply.stand_ins);
                let counted = (primaries, reply.stand_ins);
                self.judge_read(read, counted, &listing, seen.as_ref())?;
                Ok(seen)
            }
            (Call::Read(_) | Call::Write(_) | Call::Reuse(_), _) => {
                let detail = format!("{:?} was answered by {response:?}", attempt.call);
                Err(Broken::new("no phantom (P8)", self.now, detail))
            }
        }
    }

    /// Recognises what an answer lists, and checks what holds for every list.
    fn listing(&self, key: u32, response: &Response) -> Result<Listing, Broken> {
        let at = self.now;
        let (versions, _) = versions(response).unwrap_or_default();
        let with_value = matches!(response, Response::Got(_));
        let mut ops = Vec::with_capacity(versions.len());
        for version in versions {
            let index = phantom::recognise(&self.history, key, version, with_value, at)?;
            phantom::minted(&self.history, index, at)?;
            ops.push(index);
        }
        let listing = Listing { key, at, ops };
        causality::listed(&self.history, &listing)?;
        outcome::listed(&self.history, &listing)?;
        idempotence::listed(&self.history, &listing)?;
        conditional::listed(&self.history, &self.session, &listing)?;
        Ok(listing)
    }

    fn judge_read(
        &mut self,
        read: &Read,
        (primaries, stand_ins): (u8, u8),
        listing: &Listing,
        seen: Option<&Seen>,
    ) -> Ruling {
        let shown = seen.map_or(&listing.ops[..], |seen| &seen.ops);
        // Only replicas promise to have what others acknowledged.
        let read = &Read {
            r: read.r.min(primaries),
            ..read.clone()
        };
        self.session
            .answered(&mut self.history, read, listing, shown)?;
        // What a read shows while data moves, or with the help of stand-ins, a later one may not
        // show; what was acknowledged, it does.
        let lasts = self.rings.is_stable() && stand_ins == 0 && !self.session.is_moot(read);
        if self.options.replicas < read.r + W_BUCKET && lasts {
            for &index in shown {
                if self.is_forgotten(read.key, index) {
                    continue;
                }
                let (history, at) = (&mut self.history, self.now);
                self.session.established(history, index, W_BUCKET, at);
            }
        }
        Ok(())
    }

    /// Whether a replica's disk has been damaged behind its back, and has not got this operation
    /// again. Its memory may still show it, but what one read of a quorum has shown then is not on
    /// as many disks.
    fn is_forgotten(&self, key: u32, index: OpIndex) -> bool {
        let mut owners = self.layout.owners[place(key)].iter();
        owners.any(|&node| self.rotted.contains(&(node, key)) && !self.covers(node, index))
    }

    /// Whether replicas can be asked to know the latest operations on a key: not if one of them
    /// lost its record, or takes back what it had in memory when its disk is full; and with wrong
    /// clocks the latest operations are not those that are kept longest. While the ring changes, a
    /// node that was a replica hands the write on, and what it handed on first may come late.
    fn remembers_operations(&self, key: u32) -> bool {
        let classes = &self.options.classes;
        let damaged = |node| self.rotted.contains(&(node, key));
        !classes.disk_full
            && !classes.clock
            && self.options.ring_interval.is_none()
            && !self.layout.owners[place(key)]
                .iter()
                .any(|&node| damaged(node))
    }

    fn judge_ack(&mut self, node: usize, index: OpIndex, reply: &WriteReply) -> Ruling {
        self.kept.counted += u64::from(0 < reply.hinted);
        let op = &mut self.history.ops[index.at()];
        let (key, w) = (op.key, op.w);
        if !matches!(op.outcome, Outcome::Acknowledged { .. }) {
            let owner = self.layout.owners[place(key)].contains(&node);
            op.prompt = op.attempts == 1 && owner && !op.sloppy;
            op.lent = reply.primaries < w;
            op.outcome = Outcome::Acknowledged { at: self.now };
        }
        let mut missing = Vec::new();
        let mut holders = 0_usize;
        let mut last = None;
        for name in &reply.durable_on {
            let node = self.layout.names.iter().position(|known| known == name);
            if node.is_some_and(|node| self.is_on_disk(node, index, &mut last)) {
                holders += 1;
            } else if !node.is_some_and(|node| self.is_kept(node, index))
                && !node.is_some_and(|node| self.rotted.contains(&(node, key)))
            {
                missing.push(name.clone());
            }
        }
        let handed_on = |name: &String| !self.layout.owner_names[place(key)].contains(name);
        let handed_on = 0 < reply.hinted && missing.iter().all(handed_on);
        if (self.options.ring_interval.is_some() || handed_on) && !missing.is_empty() {
            // Who had it and owns it no more, or kept it for another, may have handed it on; then
            // enough others have it.
            let all = 0..self.processes.len();
            let (own, not): (Vec<usize>, Vec<usize>) =
                all.partition(|node| self.is_on_disk(*node, index, &mut last));
            holders = own.len();
            // It may have been handed on to one that lost it since.
            let harmed = |node: usize| self.rotted.contains(&(node, key));
            let had = |node: &&usize| self.is_kept(**node, index) || harmed(**node);
            let had = not.iter().filter(had);
            if usize::from(w) <= holders + had.count() {
                missing.clear();
            }
        }
        let holders = u8::try_from(holders).unwrap_or(u8::MAX);
        // A copy may have been damaged between its sync and this answer: then later reads have
        // one copy less to meet.
        let w = w.min(holders).min(reply.primaries);
        // If the only replica loses its directory, or this record, only who stood in has it, whom
        // reads need not ask.
        let alone = reply.primaries == 1 && 0 < reply.hinted;
        let options = &self.options;
        let may_lose = options.extras != Extras::NONE || options.classes.harm_records();
        let w = if alone && may_lose { 0 } else { w };
        let ack = durability::Ack {
            op: index,
            at: self.now,
            durable_on: &reply.durable_on,
            preference: &self.layout.owner_names[place(key)],
            missing,
            hinted: reply.hinted,
            primaries: reply.primaries,
        };
        durability::acknowledged(&self.history, &ack)?;
        self.session
            .established(&mut self.history, index, w, self.now);
        self.session.replaces(&mut self.history, index, w, self.now);
        Ok(())
    }

    /// Whether a node's synced disk covers an operation. Replicas mostly hold the same bytes, so
    /// the record read `last` is kept.
    fn is_on_disk(
        &mut self,
        node: usize,
        index: OpIndex,
        last: &mut Option<(Bytes, Record)>,
    ) -> bool {
        let key = self.history.op(index).key;
        let Some(bytes) = self.bytes(node, key) else {
            return self.was_reaped(index);
        };
        if last.as_ref().is_none_or(|(known, _)| *known != bytes) {
            *last = self.decode(key, &bytes).map(|record| (bytes, record));
        }
        let Some((_, record)) = last else {
            return false;
        };
        let clock = record.container.clock();
        let mut dots = self.history.op(index).dots.iter();
        let covered = dots.any(|&dot| clock.covers(dot)) || self.was_reaped(index);
        // A node that lost a key to others and got it back begins anew.
        for deleted in self.processes[node].disk.take_deleted() {
            let number = self
                .layout
                .store_keys
                .iter()
                .position(|key| *key == deleted);
            if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
                self.causality.forget(node, number);
            }
        }
        let ruling = self.causality.clock(node, key, clock, self.now);
        self.rule(ruling);
        covered
    }

    /// True if all owners had it, and it is gone with what it left, or with what replaced it.
    pub(crate) fn was_reaped(&self, index: OpIndex) -> bool {
        let op = self.history.op(index);
        let seen = self.reaped_clocks.get(&op.key);
        let covered = seen.is_some_and(|seen| op.dots.iter().any(|&dot| seen.covers(dot)));
        covered || self.reaped_ops.contains(&index)
    }

    /// The record of a key on a node's synced disk, if it is there and readable.
    #[must_use]
    pub fn record(&self, node: usize, key: u32) -> Option<Record> {
        let bytes = self.bytes(node, key)?;
        self.decode(key, &bytes)
    }

    pub(crate) fn bytes(&self, node: usize, key: u32) -> Option<Bytes> {
        let stored = &self.layout.store_keys[place(key)];
        self.processes[node].disk.synced(Table::Objects, stored)
    }

    fn decode(&self, key: u32, bytes: &Bytes) -> Option<Record> {
        let name = &self.workload.keys()[place(key)];
        format::decode(self.layout.bucket.0, name, bytes).ok()
    }

    /// What a context stands for: the versions listed beside it, and deletes and what has expired,
    /// which are not listed; only these are taken from the context itself. It names a limited
    /// number of them; with more, those count that its clock covers.
    fn seen(&self, listing: &Listing, context: Option<&Bytes>) -> Option<Seen> {
        let context = context?;
        let mut ops = listing.ops.clone();
        if self.deleted.contains(&listing.key) {
            let name = &self.workload.keys()[place(listing.key)];
            let secret = ContextKey::new(CONTEXT_SECRET);
            let opened = secret
                .open(CLUSTER, self.layout.bucket.0, name, context)
                .ok()?;
            let named = opened.seen.len();
            for op in opened.seen {
                if let Some(index) = self.history.find_number(op.id)
                    && self.history.op(index).may_hide()
                    && !ops.contains(&index)
                {
                    ops.push(index);
                }
            }
            if SEEN_MAX <= named {
                for (&dot, &index) in &self.history.dots[place(listing.key)] {
                    if opened.clock.covers(dot)
                        && self.history.op(index).may_hide()
                        && !ops.contains(&index)
                    {
                        ops.push(index);
                    }
                }
            }
        }
        Some(Seen {
            context: context.clone(),
            ops: Rc::from(ops),
        })
    }

    /// A request did not reach a node, for certain.
    pub(crate) fn judge_refusal(&mut self, attempt: &Attempt) {
        if let Call::Write(index) = attempt.call {
            let code = ErrorCode::Unavailable;
            let ruling = outcome::refused(&mut self.history, index, code, self.now);
            self.rule(ruling);
        }
    }

    /// A node answers what it has answered already.
    pub(crate) fn judge_second_reply(&mut self, node: usize, request: u64) {
        let name = &self.processes[node].name;
        let broken = bounds::answered_twice(name, request, self.now);
        self.rule(Err(broken));
    }

    /// Checks what has to hold at any time.
    pub(crate) fn audit(&mut self) {
        let mut rulings = Vec::new();
        for process in self.processes.iter().filter(|process| process.is_up()) {
            rulings.push(bounds::levels(&process.name, &process.levels(), self.now));
            if let Some(node) = &process.machine
                && !node.hedging().is_within_budget()
            {
                let hedging = node.hedging();
                rulings.push(Err(bounds::above_budget(&process.name, &hedging, self.now)));
            }
            let overdue = process
                .waiting
                .iter()
                .find(|(_, waiting)| waiting.deadline + bounds::SLACK < self.now);
            if let Some((request, waiting)) = overdue {
                let (name, due) = (&process.name, waiting.deadline);
                rulings.push(Err(bounds::unanswered(name, *request, due, self.now)));
            }
        }
        for ruling in rulings {
            self.rule(ruling);
        }
    }
}
