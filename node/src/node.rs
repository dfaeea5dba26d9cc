//! A node: routes requests, messages, completions and time to the operations they belong to.
//!
//! Decides who may do what, what is admitted, and which operation answers. It never awaits, reads
//! a clock or touches a file: it is told, and hands out what it wants done.

mod aside;
mod begin;
mod cancel;
mod care;
mod catalogue;
mod clock;
mod foresight;
mod healing;
mod hints;
mod joining;
mod moving;
mod places;
mod readiness;
mod reading;
mod reap;
mod rebuilding;
mod recovery;
mod ring;
mod salvage;
mod staging;
mod standing;
mod view;
mod voting;

pub use joining::META_MEMBERS_KEY;
pub(crate) use moving::RingNews;
pub use ring::{META_DECREE_KEY, StoredRing};
pub use view::Gauges;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quorate_client::wire::{ErrorBody, ErrorCode, Request, Response};
use quorate_gossip::{Config as GossipConfig, Event as MemberEvent, Instant, State};
use quorate_ring::{NodeId, Ring};

use self::{
    aside::Asides, catalogue::CatalogueWaiter, hints::Inquiries, rebuilding::Rebuild, ring::Desk,
    salvage::Salvage, standing::Standing,
};
use crate::{
    api::{Moment, Output, RequestId},
    bucket::BadCatalogue,
    causality::ContextKey,
    coordinator::{Answer, Flow, Operation, local_scan::LocalScan},
    core::{Core, Notice, Origin},
    event::Event,
    forwards::Forwards,
    healing::{
        Mechanism, anti_entropy::AntiEntropy, hints::Hints, inspect::Inspections, reap::Reaper,
    },
    identity::Identity,
    limits::Limits,
    message::{BucketId, Class, Message, Principal, RpcId, Verdict},
    register::Register,
    replica::{Address, Caller, Done, Job, Merge, OpKey, Refusal},
    store::{Completion, Ticket},
};

/// What a node is made of.
#[derive(Debug)]
pub struct Options {
    /// This node's own id.
    pub me: NodeId,
    /// The ring with which the cluster was founded. If a decree is stored it only says how many
    /// replicas the first bucket has.
    pub ring: Arc<Ring>,
    /// What the store holds about the ring.
    pub stored_ring: StoredRing,
    /// Id of the cluster.
    pub cluster: u128,
    /// Name of the cluster, for people.
    pub cluster_name: String,
    /// Authenticates contexts; the same on every node.
    pub context_key: ContextKey,
    /// From `identity::start`, durable by now.
    pub identity: Identity,
    /// What the store holds under [`META_CATALOGUE_KEY`](crate::identity::META_CATALOGUE_KEY).
    pub catalogue: Option<Bytes>,
    /// True if a completed write is on disk for good (`durability = sync`).
    pub durable_writes: bool,
    /// Maxima and waiting times.
    pub limits: Limits,
    /// How members are probed.
    pub gossip: GossipConfig,
    /// Random, and different in every process: ids of questions begin with it.
    pub seed: u64,
}

#[derive(Debug)]
struct Running {
    operation: Operation,
    wake: Instant,
}

/// A node of the cluster.
#[derive(Debug)]
pub struct Node {
    pub(crate) core: Core,
    running: BTreeMap<OpKey, Running>,
    timers: BTreeSet<(Instant, OpKey)>,
    scans: BTreeMap<Ticket, LocalScan>,
    catalogue_writes: BTreeMap<Ticket, CatalogueWaiter>,
    forwards: Forwards,
    /// Damaged records whose replicas are being asked what they held.
    recoveries: BTreeMap<Address, OpKey>,
    healing: Box<dyn Mechanism>,
    hints: Hints,
    inquiries: Inquiries,
    inspections: Inspections,
    reaper: Reaper,
    desk: Desk,
    standing: Standing,
    rebuild: Rebuild,
    asides: Asides,
    salvage: Salvage,
    /// The ring with which the cluster began.
    founding: Arc<Ring>,
    next_compare: Instant,
    ready: bool,
    /// The process is about to end.
    draining: bool,
    failed: bool,
}

impl Node {
    /// A node that has not spoken to anybody yet.
    ///
    /// # Errors
    ///
    /// If the stored catalogue cannot be read.
    pub fn new(options: Options, now: Moment) -> Result<Self, BadCatalogue> {
        let identity = options.identity;
        let stored = options.stored_ring.clone();
        let founding = Arc::clone(&options.ring);
        let catalogue = catalogue::at_start(&options)?;
        let core = Self::core(options, catalogue, now);
        let unfinished = stored.aside();
        let desk = Desk::new(stored, &core.decree, &identity, core.me, now.mono);
        let mut node = Self {
            healing: Box::new(AntiEntropy::new(&core)),
            hints: Hints::new(now.mono),
            inquiries: Inquiries::default(),
            reaper: Reaper::new(core.now.mono),
            core,
            inspections: Inspections::default(),
            desk,
            standing: Standing::new(identity, Register::default(), now.mono),
            rebuild: Rebuild::default(),
            asides: Asides::new(now.mono),
            salvage: Salvage::default(),
            founding,
            running: BTreeMap::new(),
            timers: BTreeSet::new(),
            scans: BTreeMap::new(),
            catalogue_writes: BTreeMap::new(),
            forwards: Forwards::default(),
            recoveries: BTreeMap::new(),
            next_compare: now.mono + Duration::from_millis(1),
            ready: false,
            draining: false,
            failed: false,
        };
        node.go_on_setting_aside(unfinished);
        node.begin_to_speak();
        Ok(node)
    }

    fn begin_to_speak(&mut self) {
        self.meet_members();
        self.weigh();
        self.compare_catalogues(true);
        self.pump();
    }

    /// A client asks. Exactly one [`Output::Reply`] follows.
    pub fn handle_request(
        &mut self,
        now: Moment,
        id: RequestId,
        principal: &Principal,
        request: Request,
    ) {
        self.core.now = now;
        let bytes = match &request {
            Request::Put(write) | Request::Delete(write) => {
                write.key.len() + write.value.as_ref().map_or(0, Bytes::len)
            }
            Request::Get(_)
            | Request::Keys(_)
            | Request::Explain(_)
            | Request::Bucket(_)
            | Request::Ring
            | Request::Status
            | Request::Healing(_)
            | Request::RingChange(_) => 0,
        };
        match self.admit(&request, bytes) {
            Ok(()) => {
                self.core.requests += 1;
                self.core.request_bytes += bytes;
                let since = now.mono;
                let origin = Origin::Client { id, bytes, since };
                self.begin(origin, principal, request);
            }
            Err(limit) => {
                self.core.event(Event::Refused { limit });
                let message = format!("limit {limit} is reached on this node; nothing was applied");
                let response = Response::Error(ErrorBody::overloaded(limit, message));
                self.core.outputs.push_back(Output::Reply { id, response });
            }
        }
        self.pump();
    }

    fn admit(&self, request: &Request, bytes: usize) -> Result<(), &'static str> {
        let core = &self.core;
        if self.draining || self.failed || (core.upkeep.drains && is_data(request)) {
            return Err("draining");
        }
        if core.limits.requests_max <= core.requests {
            return Err("requests_in_flight");
        }
        if core.limits.request_bytes_max < core.request_bytes + bytes {
            return Err("request_bytes_in_flight");
        }
        Ok(())
    }

    /// A peer says something.
    pub fn handle_message(&mut self, now: Moment, from: NodeId, message: Message) {
        self.core.now = now;
        if !self.core.knows(from) || self.failed {
            return;
        }
        self.core.places.reached(from);
        if !matches!(message, Message::Gossip(_)) {
            self.core.gossip.note_alive(now.mono, from);
        }
        self.receive(from, message);
        self.pump();
    }

    fn receive(&mut self, from: NodeId, message: Message) {
        let read = !self.core.sets_aside || !aside::reads_the_store(&message);
        if read && self.admits(from, &message) {
            self.route(from, message);
        }
    }

    fn route(&mut self, from: NodeId, message: Message) {
        match message {
            Message::Ring { id, message } => self.ring_message(from, id, message),
            Message::Forward {
                id,
                principal,
                budget,
                write,
                stand_in,
            } => {
                if !self.forwards.is_new(from, id, budget) {
                    return;
                }
                let deadline = self.core.now.mono + budget.min(self.core.limits.timeout_max);
                let order = (write, stand_in);
                self.begin_forwarded(from, id, &principal, order, deadline);
            }
            Message::Forwarded { id, response } => {
                self.answer(from, id, Answer::Forwarded(Box::new(response)));
            }
            Message::Replicate {
                id,
                bucket,
                token,
                key,
                record,
                generation,
                ..
            } => {
                let address = place_of(token, bucket, key);
                self.replicate((from, id), &address, &record, generation);
            }
            Message::Replicated { id, verdict } => {
                let good = matches!(verdict, Verdict::Durable | Verdict::Stored);
                if !self.core.repaired(from, id, good) {
                    self.answer(from, id, Answer::Replicated(verdict));
                }
            }
            Message::Fetch {
                id,
                bucket,
                token,
                key,
                whole_max,
                ..
            } => {
                let address = place_of(token, bucket, key);
                let caller = Caller::Reader(from, id, whole_max);
                self.core.submit_for(caller, &address, Job::Read);
            }
            Message::Fetched { .. } => self.take_fetched(from, message),
            Message::Scan { .. } => self.start_scan(from, message),
            Message::Catalogue { id, catalogue } => {
                self.take_catalogue(&catalogue, CatalogueWaiter::Peer(from, id));
            }
            Message::Status { id, catalogue_hash } => self.report(from, id, catalogue_hash),
            Message::StatusReport { .. } => self.take_report(from, message),
            Message::Scanned { id, .. } | Message::CatalogueStored { id, .. } => {
                self.answer(from, id, Answer::Other(Box::new(message)));
            }
            Message::Tree { id, body } => self.tree_message(from, id, body),
            Message::Hint { id, body } => self.hint_message(from, id, body),
            Message::Care { id, body } => self.care_message(from, id, body),
            Message::Reap { id, body } => self.reap_message(from, id, body),
            Message::Members { members, .. } => self.take_members(&members),
            Message::Greet {
                who, left, heard, ..
            } => self.greeted_by(from, &who, left, &heard),
            Message::Greeted { .. } => self.greeting_answered(from, &message),
            Message::Gossip(message) => self.gossip_message(from, message),
        }
    }

    fn take_report(&mut self, from: NodeId, message: Message) {
        if let Message::StatusReport {
            id,
            catalogue,
            wall_ms,
            ..
        } = &message
        {
            let id = *id;
            self.hear_clock(from, id, *wall_ms);
            if let Some(catalogue) = catalogue {
                self.take_catalogue(catalogue, CatalogueWaiter::Nobody);
            }
            self.answer(from, id, Answer::Other(Box::new(message)));
        }
    }

    fn gossip_message(&mut self, from: NodeId, message: quorate_gossip::Message) {
        let now = self.core.now.mono;
        self.core.gossip.handle_message(now, from, message);
    }

    fn report(&mut self, from: NodeId, id: RpcId, catalogue_hash: u64) {
        let differs = self.core.catalogue.hash() != catalogue_hash;
        let catalogue = differs.then(|| self.core.catalogue.to_bytes());
        let status = Box::new(crate::coordinator::status::own(&self.core));
        let report = Message::StatusReport {
            id,
            status,
            catalogue,
            wall_ms: self.core.now.wall_ms,
        };
        self.core.send(from, Class::Control, report);
    }

    fn replicate(
        &mut self,
        (from, id): (NodeId, RpcId),
        address: &Address,
        record: &Bytes,
        generation: u64,
    ) {
        match crate::store::format::decode(address.bucket.0, &address.key, record) {
            Ok(decoded) => {
                let job = Job::Apply(Merge {
                    incoming: decoded.container,
                    // Whether the sender is sure of its own copy says nothing about ours.
                    bytes: (!decoded.suspect).then(|| record.clone()),
                    heals: None,
                    generation,
                });
                self.core.submit_for(Caller::Peer(from, id), address, job);
            }
            Err(_) => {
                self.core.event(Event::DamagedMessage { from });
                let verdict = Verdict::Failed("the record arrived damaged".to_owned());
                self.core
                    .send(from, Class::Data, Message::Replicated { id, verdict });
            }
        }
    }

    fn start_scan(&mut self, from: NodeId, message: Message) {
        let Message::Scan { id, .. } = &message else {
            return;
        };
        let id = *id;
        if self.core.limits.scans_max <= self.scans.len() {
            let error = Some("limit scans is reached".to_owned());
            let answer = Message::Scanned {
                id,
                items: Vec::new(),
                more: false,
                error,
            };
            return self.core.send(from, Class::Data, answer);
        }
        self.core.tickets += 1;
        let ticket = Ticket(self.core.tickets);
        if let Some((scan, command)) = LocalScan::start(from, ticket, message) {
            self.scans.insert(ticket, scan);
            self.core.outputs.push_back(Output::Store(command));
        }
    }

    /// The store has done something.
    pub fn handle_completion(&mut self, now: Moment, completion: Completion) {
        self.core.now = now;
        if self.failed {
            return;
        }
        match completion {
            Completion::Read { ticket, value } => {
                if self.core.hybrid.read(ticket, &value, now) {
                    self.lease_stamps();
                } else {
                    self.core
                        .replica
                        .handle_read(&mut self.core.tickets, ticket, value);
                }
            }
            Completion::Written { ticket, durable } => {
                if let Some(waiter) = self.catalogue_writes.remove(&ticket) {
                    self.catalogue_stored(waiter);
                } else if !self.core.hybrid.written(ticket, true) && !self.ring_stored(ticket) {
                    self.core.replica.handle_written(ticket, durable);
                }
            }
            Completion::Full { ticket } => {
                self.core.event(Event::Refused { limit: "disk_full" });
                if self.catalogue_writes.remove(&ticket).is_none()
                    && !self.core.hybrid.written(ticket, false)
                    && !self.ring_not_stored(ticket)
                {
                    self.core.replica.handle_full(ticket);
                }
            }
            Completion::Scanned {
                ticket,
                items,
                more,
            } => {
                let items = self.ring_scanned(ticket, items, more);
                if let Some(items) = items
                    && !self.hints.scanned(&mut self.core, ticket, &items, more)
                    && !self.healing.scanned(&mut self.core, ticket, &items, more)
                    && !self
                        .inspections
                        .scanned(&mut self.core, ticket, &items, more)
                    && let Some(mut scan) = self.scans.remove(&ticket)
                    && let Some(command) = scan.handle(&mut self.core, ticket, items, more)
                {
                    self.scans.insert(ticket, scan);
                    self.core.outputs.push_back(Output::Store(command));
                }
            }
            Completion::Failed { reason, .. } => {
                self.failed = true;
                self.core.event(Event::StoreFailed { reason });
            }
        }
        self.pump();
    }

    /// Time has passed; early calls change nothing.
    pub fn handle_timeout(&mut self, now: Moment) {
        self.core.now = now;
        while let Some((wake, key)) = self.timers.first().copied()
            && wake <= now.mono
        {
            self.timers.pop_first();
            if let Some(running) = self.running.get_mut(&key) {
                let flow = running.operation.timeout(&mut self.core);
                // An operation that asks to be woken in the past would spin.
                self.settle(key, flow, Some(wake));
            }
        }
        if self.core.gossip.poll_timeout() <= now.mono {
            self.core.gossip.handle_timeout(now.mono);
        }
        if !self.core.sets_aside {
            self.care_timeout();
        }
        if self.ring_wakes() <= now.mono {
            self.ring_timeout();
        }
        if self.next_compare <= now.mono {
            self.core.expire_repairs();
            self.lease_stamps();
            self.compare_catalogues(false);
        }
        self.pump();
    }

    /// What is done with the records that are held.
    fn care_timeout(&mut self) {
        let now = self.core.now.mono;
        if self.healing.poll_timeout() <= now {
            self.healing.timeout(&mut self.core);
        }
        if self.hints.poll_timeout() <= now {
            self.hand_over();
        }
        if self.reaper.wakes() <= now {
            let unclean = self.unclean_outsider();
            self.reaper.timeout(&mut self.core, unclean);
        }
    }

    /// The next instant at which [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.failed {
            return None;
        }
        let next = self.next_compare.min(self.core.gossip.poll_timeout());
        let care = [
            self.healing.poll_timeout(),
            self.hints.poll_timeout(),
            self.reaper.wakes(),
        ];
        let care = care.into_iter().filter(|_| !self.core.sets_aside);
        let next = care.fold(next.min(self.ring_wakes()), Instant::min);
        Some(
            self.timers
                .first()
                .map_or(next, |(wake, _)| next.min(*wake)),
        )
    }

    /// Hands out what is to be done, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.core.outputs.pop_front()?;
        // A node whose store has failed says nothing any more but why.
        if self.failed && !matches!(output, Output::Event(_)) {
            return self.poll_output();
        }
        Some(output)
    }

    /// How many bytes the store takes, for `cluster status`, and how many are free beside it.
    pub fn handle_disk_bytes(&mut self, bytes: u64, free: u64) {
        self.core.upkeep.disk_bytes = bytes;
        self.core.upkeep.disk_free = free;
    }

    /// Whether less space is left than the operator wants to keep. While it is so, this node takes
    /// no new data as a coordinator; deletes and everything between replicas go on.
    pub fn handle_disk_low(&mut self, low: bool) {
        if low && !self.core.disk_low {
            self.core.event(Event::Refused { limit: "disk_full" });
        }
        self.core.disk_low = low;
    }

    fn answer(&mut self, from: NodeId, id: RpcId, answer: Answer) {
        let (key, round) = OpKey::of(id);
        if let Some(running) = self.running.get_mut(&key)
            && running.operation.round() == round
        {
            let flow = running.operation.answer(&mut self.core, from, answer);
            self.settle(key, flow, None);
        }
    }

    fn settle(&mut self, key: OpKey, flow: Flow, fired: Option<Instant>) {
        let Some(running) = self.running.get_mut(&key) else {
            return;
        };
        match flow {
            Flow::Over => {
                self.timers.remove(&(running.wake, key));
                self.running.remove(&key);
                self.recoveries.retain(|_, recovery| *recovery != key);
                self.core.upkeep.recovering = self.recoveries.len();
            }
            Flow::Until(wake) => {
                let wake = match fired {
                    Some(_) => wake.max(self.core.now.mono + Duration::from_millis(1)),
                    None => wake,
                };
                if wake != running.wake || fired.is_some() {
                    self.timers.remove(&(running.wake, key));
                    self.timers.insert((wake, key));
                    running.wake = wake;
                }
            }
        }
    }

    pub(crate) fn run(&mut self, key: OpKey, operation: Operation) {
        let flow = operation.wait();
        let Flow::Until(wake) = flow else { return };
        self.timers.insert((wake, key));
        self.running.insert(key, Running { operation, wake });
    }

    /// Delivers everything the parts of the node have for each other, until nothing is left.
    pub(crate) fn pump(&mut self) {
        loop {
            while let Some(command) = self.core.replica.poll_command() {
                self.core.outputs.push_back(Output::Store(command));
            }
            if let Some(change) = self.core.replica.poll_change() {
                if change.address.is_hint() {
                    self.hints.changed(self.core.now.mono);
                } else {
                    self.core.upkeep.mended += u64::from(change.mends());
                    self.healing.changed(&self.core, change);
                }
            } else if let Some((caller, address, done)) = self.core.replica.poll_done() {
                self.deliver(caller, &address, done);
            } else if let Some((key, notice)) = self.core.notices.pop_front() {
                let mut spawn = Vec::new();
                if let Some(running) = self.running.get_mut(&key) {
                    let flow = running.operation.notice(&mut self.core, notice, &mut spawn);
                    self.settle(key, flow, None);
                }
                for (key, operation) in spawn {
                    self.run(key, operation);
                }
            } else if let Some(message) = self.core.loopback.pop_front() {
                self.receive(self.core.me, message);
            } else if let Some(news) = self.core.ring_news.pop_front() {
                self.ring_news(news);
            } else if let Some(news) = self.core.hint_news.pop_front() {
                self.hints.news(&mut self.core, news);
            } else if let Some(damage) = self.core.replica.poll_damaged() {
                self.doubt(damage);
            } else if let Some(output) = self.core.gossip.poll_output() {
                self.gossiped(output);
            } else {
                break;
            }
        }
        self.set_aside_more();
        if !self.ready && self.core.peers_asked && self.has_waited_enough() {
            self.ready = true;
            self.core.event(Event::Ready);
        }
    }

    fn gossiped(&mut self, output: quorate_gossip::Output) {
        match output {
            quorate_gossip::Output::Send { to, message } => {
                self.core.send(to, Class::Gossip, Message::Gossip(message));
            }
            quorate_gossip::Output::Event(event) => {
                let MemberEvent::Changed(update) = event;
                if update.state == State::Up {
                    self.core.upkeep.draining.remove(&update.node);
                    // It may have missed bucket changes while it was away, or we while we were.
                    self.next_compare = self.next_compare.min(self.core.now.mono);
                    self.healing.peer_up(&mut self.core, update.node);
                    self.hints.peer_up(&mut self.core, update.node);
                    self.greet(update.node);
                    self.tell(update.node);
                }
                self.core.event(Event::Membership(event));
            }
        }
    }

    /// Whether an operation counts what is stored here, and that does not count yet.
    fn is_to_wait(&self, key: OpKey) -> bool {
        let running = self.running.get(&key);
        !self.core.vouches() && running.is_some_and(|running| running.operation.counts_copies())
    }

    fn deliver(&mut self, caller: Caller, address: &Address, done: Done) {
        match caller {
            Caller::Nobody => {}
            Caller::Tree(task) => self.healing.done(&mut self.core, task, address, done),
            Caller::Holder(node, id) | Caller::Receipt(node, id) => {
                self.deliver_to_holder((node, id), address, done);
            }
            Caller::Inquiry(number) => self.inquired(number, address, done),
            Caller::Reap(task) => self.reaper.voter.done(&mut self.core, task, address, done),
            Caller::Op(key) if matches!(done, Done::Stored { .. }) && self.is_to_wait(key) => {
                self.core.unvouched.push((key, done));
            }
            Caller::Op(key) => self.core.notices.push_back((key, Notice::Local(done))),
            Caller::Peer(node, id) => {
                if self.is_fenced(node, id, address) && matches!(done, Done::Stored { .. }) {
                    return self.refuse_stale(node, id);
                }
                let message = match done {
                    // To be asked again: if this directory is refused, what it holds counts for
                    // nothing.
                    Done::Stored { .. } if !self.core.vouches() => {
                        replicated(id, Verdict::Overloaded(UNHEARD.to_owned()))
                    }
                    Done::Stored { durable: true } => replicated(id, Verdict::Durable),
                    Done::Stored { durable: false } => replicated(id, Verdict::Stored),
                    Done::Refused(Refusal::Limit(limit)) => {
                        self.core.event(Event::Refused { limit });
                        replicated(id, Verdict::Overloaded(limit.to_owned()))
                    }
                    // To be sent again, when the sender has read it again.
                    Done::Refused(Refusal::OldGeneration) => {
                        self.core.tell_behind(node, address.token);
                        replicated(id, Verdict::Overloaded("write_generation".to_owned()))
                    }
                    Done::Refused(refusal) => {
                        if refusal == Refusal::EqualDotsDiffer {
                            self.core.event(Event::EqualDotsDiffer {
                                bucket: address.bucket,
                                key: address.key.clone(),
                                from: node,
                            });
                        }
                        replicated(id, Verdict::Failed(format!("{refusal:?}")))
                    }
                    Done::Read(_) | Done::Coordinated { .. } | Done::Reaping(_) => return,
                };
                self.core.send(node, Class::Data, message);
            }
            Caller::Reader(node, id, whole_max) => {
                self.deliver_to_reader((node, id, whole_max), address, done);
            }
        }
    }
}

/// What is stored here does not count yet: nobody has taken note of this process.
const UNHEARD: &str = "unheard";

fn place_of(token: u64, bucket: BucketId, key: Bytes) -> Address {
    let hint_for = None;
    Address {
        token,
        bucket,
        key,
        hint_for,
    }
}

/// True for what a client can ask another node for just as well.
const fn is_data(request: &Request) -> bool {
    matches!(
        request,
        Request::Get(_) | Request::Put(_) | Request::Delete(_) | Request::Keys(_)
    )
}

fn replicated(id: RpcId, verdict: Verdict) -> Message {
    Message::Replicated { id, verdict }
}

/// An error answer.
pub(crate) fn refuse(code: ErrorCode, message: impl Into<String>) -> Response {
    Response::Error(ErrorBody::new(code, message))
}
