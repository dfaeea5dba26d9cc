//! A change of the ring on its way: transfers, progress, and the next step.
//!
//! A new owner pulls each of its ranges from every old owner that is not given up, and remembers
//! durably which of these transfers are complete. All members tell each other how far they are; the
//! next step is proposed by whoever sees that its condition holds, the first voter that is up
//! before the others. When a ring has become stable, each node hands over what it holds and does
//! not own, and deletes it once every owner has it on disk.
//!
//! Not decided here: how a step is agreed on (`voting`), how one transfer runs (`coordinator`).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use quorate_gossip::Instant;
use quorate_ring::{Decree, NodeId, NodeUuid, Partition, Phase, Ring, RingEpoch, Token};
use rand::RngExt as _;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Node,
    reap::takes_part,
    ring::{Stored, StoredRing},
};
use crate::{
    api::Output,
    coordinator::{
        Operation,
        pull::{PullOp, Range},
        push::PushOp,
    },
    healing::reap::{Generations, slot_of},
    identity::Identity,
    message::{BucketId, RpcId},
    replica::{Address, Caller, Job, OpKey},
    ring_message::{Item, Progress, RingMessage},
    store::{Command, Table, Ticket, Unreadable, format},
};

/// How often members tell each other how far they are during a change.
const BEAT: Duration = Duration::from_millis(200);
/// How often one random other is told at other times.
const REST: Duration = Duration::from_secs(1);
/// All are told for so long that a change is over here, since some of it may be lost.
const FAREWELL: Duration = Duration::from_secs(1);
/// Transfers that run at the same time.
const PULLS_MAX: usize = 4;
/// Records that are handed over at the same time.
const PUSHES_MAX: usize = 64;
/// Completed transfers that are remembered in one write.
const SAVE_EVERY: usize = 16;
const PAGE_ITEMS: usize = 256;
const PAGE_BYTES: usize = 256 << 10;

/// What a transfer tells the node when it is over.
#[derive(Debug)]
pub(crate) enum RingNews {
    /// A page has been taken in.
    Received(u64),
    /// A transfer is complete.
    Pulled(OpKey),
    /// A record has been handed over and deleted, or kept because something came in between.
    Pushed(OpKey),
}

#[derive(Debug)]
struct Serving {
    to: NodeId,
    id: RpcId,
    after: Bytes,
    /// When it was asked for.
    generations: Generations,
}

#[derive(Debug)]
struct Sweep {
    /// The page that is being read.
    ticket: Option<Ticket>,
    /// When it was asked for.
    generations: Generations,
    /// Where the next page begins; none at the end.
    next: Option<Bytes>,
    found: usize,
    /// Something was on its way to the disk when a page was asked for.
    overtook: bool,
    pushes: BTreeSet<OpKey>,
    again: Instant,
}

/// This node's part in the last change.
#[derive(Debug)]
pub(super) struct Moves {
    epoch: u64,
    tasks: Vec<Range>,
    done: BTreeSet<usize>,
    saved: usize,
    running: BTreeMap<OpKey, usize>,
    bytes: u64,
    serving: BTreeMap<Ticket, Serving>,
    clean: bool,
    /// What was last said of that, with hints for others counted in, and since when if it is news.
    said_clean: bool,
    said_since: Option<Instant>,
    sweep: Option<Sweep>,
}

impl Moves {
    pub(super) fn new(
        decree: &Decree,
        me: NodeId,
        stored: Option<(&StoredRing, &Identity)>,
    ) -> Self {
        let epoch = decree.epoch.get();
        let tasks = tasks(decree, me);
        let pulled = stored.and_then(|(stored, identity)| {
            let bytes = stored.pulled.as_ref()?;
            Some(read_pulled(bytes, epoch, identity.uuid))
        });
        let done = pulled.unwrap_or_default();
        let clean = stored.and_then(|(stored, _)| stored.clean.as_ref());
        let named = clean.is_some_and(|bytes| bytes[..] == epoch.to_le_bytes());
        // A directory that was another's, or is an old one, may hold what is not its own.
        let strange = stored.is_some_and(|(_, identity)| identity.rebuilding);
        let clean = !strange && (named || decree.old.is_none());
        Self {
            epoch,
            saved: done.len(),
            done: done.into_iter().filter(|at| *at < tasks.len()).collect(),
            tasks,
            running: BTreeMap::new(),
            bytes: 0,
            serving: BTreeMap::new(),
            clean,
            said_clean: clean,
            said_since: None,
            sweep: None,
        }
    }

    /// What was taken in may be lost, and what is here may belong to others.
    pub(super) fn begin_anew(&mut self) {
        self.done.clear();
        self.clean = false;
    }

    pub(super) fn pulled_bytes(&self, uuid: NodeUuid) -> Bytes {
        let mut out = BytesMut::with_capacity(24 + 4 * self.done.len());
        out.put_u64_le(self.epoch);
        out.put_u128_le(uuid.get());
        for at in &self.done {
            out.put_u32_le(u32::try_from(*at).unwrap_or(u32::MAX));
        }
        out.freeze()
    }

    /// Nothing is read from the store any more for anybody, and nothing that was taken in counts.
    pub(super) fn stop_transfers(&mut self) {
        self.serving.clear();
        self.running.clear();
        self.sweep = None;
        self.begin_anew();
    }

    pub(super) const fn is_clean(&self) -> bool {
        self.clean
    }

    /// The ring gave this node nothing, and gives it nothing now.
    pub(super) const fn stay_clean(&mut self) {
        self.clean = true;
        self.said_clean = true;
    }

    /// Whether everybody should hear again how far this node is.
    fn is_news(&mut self, clean: bool, now: Instant) -> bool {
        if self.said_clean != clean {
            self.said_clean = clean;
            self.said_since = Some(now);
        }
        let recent = |since: Instant| now < since + FAREWELL;
        !self.clean || self.said_since.is_some_and(recent)
    }

    fn is_complete(&self) -> bool {
        self.done.len() == self.tasks.len()
    }
}

/// What this directory has pulled in this epoch.
fn read_pulled(bytes: &Bytes, epoch: u64, uuid: NodeUuid) -> BTreeSet<usize> {
    let head = bytes.split_first_chunk::<8>();
    let Some((head, Some((directory, tail)))) =
        head.map(|(head, tail)| (head, tail.split_first_chunk::<16>()))
    else {
        return BTreeSet::new();
    };
    if u64::from_le_bytes(*head) != epoch || u128::from_le_bytes(*directory) != uuid.get() {
        return BTreeSet::new();
    }
    let numbers = tail.as_chunks::<4>().0.iter();
    numbers
        .map(|bytes| u32::from_le_bytes(*bytes) as usize)
        .collect()
}

/// What `me` has to pull: every range it gets, from every old owner that is not given up.
fn tasks(decree: &Decree, me: NodeId) -> Vec<Range> {
    let mut tasks = Vec::new();
    let Some(old) = decree
        .old
        .as_ref()
        .filter(|_| decree.phase == Phase::Moving)
    else {
        return tasks;
    };
    let finer = if old.partitions().count() < decree.ring.partitions().count() {
        &decree.ring
    } else {
        old
    };
    let place = |ring: &Ring, token| {
        let list = ring.preference(token).owners(usize::MAX);
        list.iter().position(|node| *node == me)
    };
    for partition in (0..finer.partitions().count()).map(Partition) {
        let tokens = finer.partitions().tokens(partition);
        let token = Token::new(*tokens.start());
        let Some(after) = place(&decree.ring, token) else {
            continue;
        };
        if place(old, token).is_some_and(|before| before <= after) {
            continue;
        }
        for source in old.preference(token).owners(usize::MAX) {
            if *source != me && !decree.dead.contains(source) {
                tasks.push(Range {
                    first: *tokens.start(),
                    last: *tokens.end(),
                    source: *source,
                    again: false,
                });
            }
        }
    }
    tasks
}

impl Node {
    pub(super) fn ring_wakes(&self) -> Instant {
        let sweep = self.desk.moves.sweep.as_ref();
        let sweep = sweep.filter(|sweep| sweep.ticket.is_none() && sweep.pushes.is_empty());
        let wakes = sweep.map(|sweep| sweep.again);
        let wakes = wakes.into_iter().chain(self.voting_wakes());
        let wakes = wakes.chain(self.salvage_wakes());
        let wakes = wakes.chain([self.standing.wakes(), self.asides.wakes()]);
        wakes.fold(self.desk.next_beat, Instant::min)
    }

    pub(super) fn ring_timeout(&mut self) {
        self.voting_timeout();
        self.aside_timeout();
        self.standing_timeout();
        if self.desk.next_beat <= self.core.now.mono {
            self.beat();
        }
        self.carry_on();
    }

    /// Everything that may be due now.
    pub(super) fn carry_on(&mut self) {
        self.leave_behind();
        if self.core.sets_aside {
            return;
        }
        self.start_pulls();
        self.sweep();
        self.come_back();
        self.advance();
        self.tend();
    }

    fn progress(&self) -> Progress {
        let moves = &self.desk.moves;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Progress {
            epoch: self.core.decree.epoch.get(),
            uuid: self.core.replica.identity().uuid.get(),
            staged: xxh3_64(&self.desk.staged.to_bytes()),
            done: count(moves.done.len()),
            total: count(moves.tasks.len()),
            bytes: moves.bytes,
            disk_bytes: self.core.upkeep.disk_bytes,
            disk_free: self.core.upkeep.disk_free,
            clean: moves.clean && !self.keeps_hints_outside() && !self.is_away_outside(),
            draining: self.draining || self.core.upkeep.drains,
        }
    }

    /// Whether this node is in no ring any more and still keeps hints: they go first.
    pub(super) fn keeps_hints_outside(&self) -> bool {
        let core = &self.core;
        !takes_part(&core.decree, core.me) && core.replica.holds_hint_in(&(0..=u64::MAX))
    }

    /// Whether it is not on disk yet that this node, outside of the ring, holds nothing.
    fn is_away_outside(&self) -> bool {
        let coming = |stored: &Stored| matches!(stored, Stored::CameBack);
        let core = &self.core;
        !takes_part(&core.decree, core.me)
            && (core.generations.is_away() || self.desk.is_storing(coming))
    }

    /// How far each member is, ourselves included, as far as they have said under this epoch.
    pub(super) fn progresses(&self) -> BTreeMap<NodeId, Progress> {
        let mut all = self.desk.reports.clone();
        all.insert(self.core.me, self.progress());
        all
    }

    fn beat(&mut self) {
        self.forget_the_lost();
        let progress = self.progress();
        let core = &mut self.core;
        let news = self.desk.moves.is_news(progress.clean, core.now.mono);
        let busy = core.decree.phase != Phase::Stable || news;
        self.desk.next_beat = core.now.mono + if busy { BEAT } else { REST };
        let mut peers = core.decree.concerned();
        peers.extend(core.outsiders.keys().copied());
        peers.retain(|node| *node != core.me);
        // Nothing is reaped before all know that who is outside holds nothing.
        let outside = !takes_part(&core.decree, core.me);
        if !busy && !outside && !peers.is_empty() {
            let one = core.rng.random_range(0..peers.len());
            peers = vec![peers.swap_remove(one)];
        }
        // Who cannot reach this node where it is now has to be told by it.
        peers.extend(self.core.places.unaware());
        peers.sort_unstable();
        peers.dedup();
        for node in &peers {
            self.send_ring(*node, RpcId(0), RingMessage::Beat(progress));
        }
        self.tell_members(&peers);
    }

    /// Somebody is there who may know nothing of how far this node is.
    pub(super) fn tell(&mut self, node: NodeId) {
        let progress = self.progress();
        self.send_ring(node, RpcId(0), RingMessage::Beat(progress));
    }

    /// Something has changed that everybody should know at once.
    pub(super) fn tell_all(&mut self) {
        let progress = self.progress();
        let mut peers = self.core.decree.concerned();
        peers.extend(self.core.outsiders.keys().copied());
        peers.retain(|node| *node != self.core.me);
        for node in peers {
            self.send_ring(node, RpcId(0), RingMessage::Beat(progress));
        }
    }

    pub(super) fn beaten(&mut self, from: NodeId, progress: Progress) {
        if progress.draining {
            self.core.upkeep.draining.insert(from);
        } else {
            self.core.upkeep.draining.remove(&from);
        }
        let ours = self.core.decree.epoch.get();
        if progress.epoch < ours {
            return self.send_decree(from);
        }
        if ours < progress.epoch {
            return self.send_ring(from, RpcId(0), RingMessage::Want);
        }
        let bytes = self.desk.staged.to_bytes();
        if xxh3_64(&bytes) != progress.staged {
            self.send_ring(from, RpcId(0), RingMessage::Staged(bytes.into()));
        }
        if self.core.knows(from) {
            self.note_outsider(from, progress.clean);
            if self.desk.reports.insert(from, progress).is_none() {
                // It has adopted this ring after what we said under it.
                self.tell(from);
            }
        }
        self.carry_on();
    }

    /// Proposes the next step if everybody whose part it needs has done it.
    fn advance(&mut self) {
        let decree = std::sync::Arc::clone(&self.core.decree);
        if decree.phase == Phase::Stable || self.desk.proposing.is_some() {
            return;
        }
        if !self.is_step_done(&decree) {
            self.desk.ready_since = None;
            return;
        }
        let now = self.core.now.mono;
        let since = *self.desk.ready_since.get_or_insert(now);
        let mut up = decree.voters.iter().filter(|v| self.core.is_up(v.node));
        let rank = up.position(|voter| voter.node == self.core.me);
        let rank = u32::try_from(rank.unwrap_or(decree.voters.len())).unwrap_or(u32::MAX);
        if now < since + Duration::from_secs(1).saturating_mul(rank) {
            return;
        }
        let uuid = |node| self.uuid_of(node);
        let next = if decree.phase == Phase::Moving {
            decree.switched(uuid)
        } else {
            decree.settled(uuid)
        };
        self.propose_alone(&next);
    }

    fn is_step_done(&self, decree: &Decree) -> bool {
        let reports = self.progresses();
        decree.concerned().iter().all(|node| {
            let Some(report) = reports.get(node) else {
                return false;
            };
            // Who is being rebuilt takes part: nothing waits for what it held.
            let pulled = decree.phase != Phase::Moving || report.done == report.total;
            report.epoch == decree.epoch.get() && pulled
        })
    }

    fn start_pulls(&mut self) {
        if self.core.decree.phase != Phase::Moving {
            return;
        }
        while self.desk.moves.running.len() < PULLS_MAX {
            let moves = &self.desk.moves;
            let busy: BTreeSet<usize> = moves.running.values().copied().collect();
            let open = |at: &usize| !moves.done.contains(at) && !busy.contains(at);
            let up = |at: &usize| self.core.is_up(moves.tasks[*at].source);
            let Some(at) = (0..moves.tasks.len()).find(|at| open(at) && up(at)) else {
                return;
            };
            let range = moves.tasks[at];
            let key = self.core.op_key();
            let op = PullOp::start(&mut self.core, key, range);
            self.desk.moves.running.insert(key, at);
            self.run(key, Operation::Pull(Box::new(op)));
        }
    }

    pub(super) fn ring_news(&mut self, news: RingNews) {
        match news {
            RingNews::Received(bytes) => self.desk.moves.bytes += bytes,
            RingNews::Pulled(key) if self.rebuild.pulled(key) => self.tend(),
            RingNews::Pulled(key) => {
                let moves = &mut self.desk.moves;
                if let Some(at) = moves.running.remove(&key) {
                    moves.done.insert(at);
                    if moves.is_complete() || moves.saved + SAVE_EVERY <= moves.done.len() {
                        moves.saved = moves.done.len();
                        self.store_pulled();
                    }
                    if self.desk.moves.is_complete() {
                        self.desk.next_beat = self.core.now.mono;
                    }
                }
                self.start_pulls();
            }
            RingNews::Pushed(key) => {
                if let Some(sweep) = &mut self.desk.moves.sweep {
                    sweep.pushes.remove(&key);
                }
                self.sweep();
            }
        }
    }

    /// A new owner wants what we hold of a range.
    pub(super) fn serve_pull(&mut self, from: NodeId, id: RpcId, message: RingMessage) {
        let RingMessage::Pull {
            first, last, after, ..
        } = message
        else {
            return;
        };
        if self.core.limits.scans_max <= self.desk.moves.serving.len() {
            let error = Some("limit scans is reached".to_owned());
            let (items, next) = (Vec::new(), Bytes::new());
            let page = RingMessage::Page {
                after,
                items,
                next,
                error,
                share: 0,
            };
            return self.send_ring(from, id, page);
        }
        let start = if after.is_empty() {
            format::object_key(first, 0, b"")
        } else {
            after.clone()
        };
        let end = last
            .checked_add(1)
            .map_or_else(Bytes::new, |end| format::object_key(end, 0, b""));
        let ticket = self.scan_objects(start, end);
        let serving = Serving {
            to: from,
            id,
            after,
            generations: self.core.generations.clone(),
        };
        self.desk.moves.serving.insert(ticket, serving);
    }

    fn scan_objects(&mut self, start: Bytes, end: Bytes) -> Ticket {
        self.core.tickets += 1;
        let ticket = Ticket(self.core.tickets);
        self.core.outputs.push_back(Output::Store(Command::Scan {
            ticket,
            table: Table::Objects,
            start,
            end,
            items_max: PAGE_ITEMS,
            bytes_max: PAGE_BYTES,
        }));
        ticket
    }

    /// A page of our own store has come. None if the ticket is not ours.
    pub(super) fn ring_scanned(
        &mut self,
        ticket: Ticket,
        page: Result<Vec<(Bytes, Bytes)>, Unreadable>,
        more: bool,
    ) -> Option<Result<Vec<(Bytes, Bytes)>, Unreadable>> {
        let page = self.aside_scanned(ticket, page, more)?;
        let page = self.salvage_scanned(ticket, page, more)?;
        if let Some(serving) = self.desk.moves.serving.remove(&ticket) {
            self.send_page(serving, page, more);
            return None;
        }
        let swept = |sweep: &Sweep| sweep.ticket == Some(ticket);
        if self.desk.moves.sweep.as_ref().is_some_and(swept) {
            self.swept(page, more);
            return None;
        }
        Some(page)
    }

    fn send_page(
        &mut self,
        serving: Serving,
        page: Result<Vec<(Bytes, Bytes)>, Unreadable>,
        more: bool,
    ) {
        let Serving {
            to,
            id,
            after,
            generations,
        } = serving;
        let mut items = Vec::new();
        let (mut next, mut error) = (Bytes::new(), None);
        match page {
            Err(unreadable) => error = Some(unreadable.reason),
            Ok(page) => {
                if more && let Some((key, _)) = page.last() {
                    next = successor(key);
                }
                for (store_key, record) in page {
                    items.extend(self.readable(&store_key, record, &generations));
                }
            }
        }
        let page = RingMessage::Page {
            after,
            items,
            next,
            error,
            share: self.core.governor.lend(),
        };
        let message = crate::message::Message::Ring { id, message: page };
        self.core.send(to, crate::message::Class::Bulk, message);
    }

    /// The record, unless it is damaged: then the other replicas are asked for it, and the new
    /// owner gets it from them too.
    fn readable(
        &mut self,
        store_key: &Bytes,
        record: Bytes,
        generations: &Generations,
    ) -> Option<Item> {
        let (token, bucket, key) = format::parse_object_key(store_key)?;
        let bucket = BucketId(bucket);
        let key = store_key.slice_ref(key);
        if format::decode(bucket.0, &key, &record).is_err() {
            let address = Address {
                token,
                bucket,
                key,
                hint_for: None,
            };
            self.core.submit_for(Caller::Nobody, &address, Job::Read);
            return None;
        }
        Some(Item {
            bucket,
            token,
            key,
            record,
            generation: generations.of(slot_of(token)),
        })
    }

    /// Goes on handing over what does not belong here.
    fn sweep(&mut self) {
        let core = &self.core;
        if core.decree.phase != Phase::Stable || self.desk.moves.clean {
            return;
        }
        let now = core.now.mono;
        let stray = |address: &Address| !address.is_hint() && !core.belongs_here(address);
        let strays = self.running.values().any(|r| r.operation.strays(core.me))
            || core.replica.in_work().any(stray);
        let sweep = self.desk.moves.sweep.get_or_insert(Sweep {
            ticket: None,
            generations: Generations::default(),
            next: Some(Bytes::from_static(&[0])),
            found: 0,
            overtook: false,
            pushes: BTreeSet::new(),
            again: now,
        });
        if sweep.ticket.is_some() || !sweep.pushes.is_empty() || now < sweep.again {
            return;
        }
        sweep.overtook |= strays;
        if let Some(next) = sweep.next.take() {
            let ticket = self.scan_objects(next, Bytes::new());
            if let Some(sweep) = &mut self.desk.moves.sweep {
                sweep.generations = self.core.generations.clone();
                sweep.ticket = Some(ticket);
            }
            return;
        }
        let found = sweep.found;
        sweep.next = Some(Bytes::from_static(&[0]));
        sweep.found = 0;
        sweep.again = now + REST;
        // What an operation that began under the old ring still leaves here is found next time.
        let overtook = std::mem::take(&mut sweep.overtook);
        if found == 0 && !overtook {
            self.desk.moves.clean = true;
            self.desk.moves.sweep = None;
            self.store_clean();
            self.desk.next_beat = now;
        }
    }

    fn swept(&mut self, page: Result<Vec<(Bytes, Bytes)>, Unreadable>, more: bool) {
        let now = self.core.now.mono;
        let Some(sweep) = &mut self.desk.moves.sweep else {
            return;
        };
        sweep.ticket = None;
        let generations = sweep.generations.clone();
        let Ok(page) = page else {
            // The store will not read here; what it holds stays.
            sweep.found += 1;
            sweep.again = now + REST;
            return;
        };
        let mut stray = Vec::new();
        let mut next = None;
        for (store_key, record) in &page {
            if PUSHES_MAX <= stray.len() {
                next = Some(store_key.clone());
                break;
            }
            stray.extend(self.stray(store_key, record));
        }
        if next.is_none() && more {
            next = page.last().map(|(key, _)| successor(key));
        }
        let mut pushes = BTreeSet::new();
        let found = stray.len();
        for (address, owners, record) in stray {
            if self.core.generations.is_refused(slot_of(address.token)) {
                let job = self.core.set_aside(record);
                self.core.submit_for(Caller::Nobody, &address, job);
                continue;
            }
            let key = self.core.op_key();
            let record = (record, generations.of(slot_of(address.token)));
            let op = PushOp::start(&mut self.core, key, address, owners, record);
            self.run(key, Operation::Push(Box::new(op)));
            pushes.insert(key);
        }
        if let Some(sweep) = &mut self.desk.moves.sweep {
            sweep.found += found;
            sweep.next = next;
            sweep.pushes = pushes;
        }
        self.sweep();
    }

    /// A record that this node does not own, and who does.
    fn stray(&self, store_key: &Bytes, record: &Bytes) -> Option<(Address, Vec<NodeId>, Bytes)> {
        let (token, bucket, key) = format::parse_object_key(store_key)?;
        let n = self.core.catalogue.replicas(BucketId(bucket))?;
        let owners = self.core.ring.preference(Token::new(token));
        let owners = owners.owners(usize::from(n));
        if owners.contains(&self.core.me) {
            return None;
        }
        let address = Address {
            token,
            bucket: BucketId(bucket),
            key: store_key.slice_ref(key),
            hint_for: None,
        };
        Some((address, owners.to_vec(), record.clone()))
    }

    /// The epoch and the step, for answers.
    pub(super) fn ring_epoch(&self) -> RingEpoch {
        self.core.decree.epoch
    }
}

/// The smallest key above `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
