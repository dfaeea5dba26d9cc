//! The host of the machine: brings it its inputs and carries out what it wants.
//!
//! Everything runs on one thread, so the node needs no queue in front of it: whoever has read a
//! chunk from a connection hands all its frames to the node at once, and its outputs go straight
//! into the buffers of lanes, which their writers empty in one go. The lock is never contended and
//! never held across an `await`.
//!
//! Decides nothing about requests; that is the node's.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use quorate_client::{
    tls::{Alpn, Credentials, TlsError},
    wire::{ErrorBody, ErrorCode, Frame, Hello, Request, Response, frame::kind},
};
use quorate_gossip::{Instant, State};
use quorate_ring::{Decree, Member, NodeId};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use super::{
    clients::Clients,
    clock::Clock,
    feed::Feed,
    lane::{Lane, Refused},
    link::Link,
    metrics::{Metrics, Op, Place, Snapshot},
    process,
    report::report,
    store_thread::Store,
};
use crate::{
    api::{Output, RequestId},
    event::Event,
    joining::Welcome,
    message::{Message, Principal},
    node::Node,
    store::Completion,
    wire,
};

/// Groups of completions taken at once.
const GROUPS_MAX: usize = 16;

/// The node and all it touches.
pub(super) struct Host {
    inner: Mutex<Inner>,
    /// The next timeout has moved closer.
    sooner: Notify,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) feed: Feed,
    pub(super) clients: Clients,
    pub(super) cluster: u128,
    pub(super) name: String,
    disk_bytes: Arc<AtomicU64>,
    disk: Disk,
    dialler: Dialler,
    /// Cancelled when the node must not go on.
    pub(super) failed: CancellationToken,
}

struct Inner {
    node: Node,
    store: Store,
    links: BTreeMap<NodeId, Arc<Link>>,
    waiting: HashMap<u64, Waiting>,
    next_request: u64,
    /// When the timer task will look again.
    armed: Option<Instant>,
    failure: Option<String>,
}

/// A client that waits for an answer.
struct Waiting {
    asker: Asker,
    op: Op,
    since: Instant,
}

/// Where an answer goes.
enum Asker {
    Lane {
        lane: Arc<Lane>,
        frame: u64,
    },
    Task(oneshot::Sender<Response>),
    /// It has taken the request back.
    Nobody,
}

impl Asker {
    /// Whether it is one of these frames of this lane.
    fn is_among(&self, of: &Arc<Lane>, frames: &BTreeMap<u64, usize>) -> bool {
        match self {
            Self::Lane { lane, frame } => Arc::ptr_eq(lane, of) && frames.contains_key(frame),
            Self::Task(_) | Self::Nobody => false,
        }
    }
}

/// What a host is made of.
pub(super) struct Parts {
    pub(super) node: Node,
    pub(super) store: Store,
    pub(super) dialler: Dialler,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) cluster: u128,
    pub(super) name: String,
    pub(super) disk_bytes: Arc<AtomicU64>,
    pub(super) disk: Disk,
}

/// What links are made of.
pub(super) struct Dialler {
    pub(super) credentials: Mutex<Arc<Credentials>>,
    pub(super) hello: Hello,
    /// To whoever runs them.
    pub(super) links: mpsc::UnboundedSender<Arc<Link>>,
}

impl Dialler {
    fn credentials(&self) -> Arc<Credentials> {
        let credentials = self.credentials.lock();
        credentials.expect("a panic ends the process").clone()
    }

    fn link(&self, member: &Member) -> Result<Link, TlsError> {
        let (name, address) = (member.name.clone(), member.address.clone());
        let credentials = self.credentials();
        let dial = credentials.client_config(Alpn::Peer, Some(&name))?;
        let cluster = credentials.identity().cluster;
        Ok(Link::new(name, address, dial, self.hello.clone(), cluster))
    }
}

/// Where the store lies, and how many bytes are to stay free there.
pub(super) struct Disk {
    pub(super) dir: PathBuf,
    pub(super) free_min: u64,
}

impl Disk {
    /// None of a disk that cannot be asked; it is left to the store, which asks it too.
    fn free(&self) -> Option<u64> {
        fs4::available_space(&self.dir).ok()
    }
}

impl Host {
    pub(super) fn new(parts: Parts) -> Self {
        let host = Self {
            inner: Mutex::new(Inner {
                node: parts.node,
                store: parts.store,
                links: BTreeMap::new(),
                waiting: HashMap::new(),
                next_request: 0,
                armed: None,
                failure: None,
            }),
            sooner: Notify::new(),
            clock: parts.clock,
            metrics: parts.metrics,
            feed: Feed::default(),
            clients: Clients::default(),
            cluster: parts.cluster,
            name: parts.name,
            disk_bytes: parts.disk_bytes,
            disk: parts.disk,
            dialler: parts.dialler,
            failed: CancellationToken::new(),
        };
        host.drain(&mut host.inner());
        host
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("a panic ends the process")
    }

    /// Requests of one client, in the order of their arrival.
    pub(super) fn requests(&self, frames: &mut Vec<Frame>, lane: &Arc<Lane>, from: &Principal) {
        let mut inner = self.inner();
        let now = self.clock.now();
        let taken_back = taken_back(frames);
        for (at, frame) in frames.drain(..).enumerate() {
            let later = taken_back.get(&frame.id).is_some_and(|last| at < *last);
            if later || frame.kind == kind::CANCEL {
                // Neither begun nor answered.
                continue;
            }
            let request = match Request::decode(frame.kind, &frame.body) {
                Ok(request) => request,
                Err(error) => {
                    let text = format!("the request cannot be read: {error}");
                    let error = ErrorBody::new(ErrorCode::InvalidArgument, text);
                    answer(lane, frame.id, &Response::Error(error));
                    continue;
                }
            };
            inner.next_request += 1;
            let id = inner.next_request;
            let waiting = Waiting {
                asker: Asker::Lane {
                    lane: lane.clone(),
                    frame: frame.id,
                },
                op: Op::of(&request),
                since: now.mono,
            };
            inner.waiting.insert(id, waiting);
            inner.node.handle_request(now, RequestId(id), from, request);
        }
        if !taken_back.is_empty() {
            let mut ids = BTreeSet::new();
            for (id, waiting) in &mut inner.waiting {
                if waiting.asker.is_among(lane, &taken_back) {
                    waiting.asker = Asker::Nobody;
                    ids.insert(RequestId(*id));
                }
            }
            self.metrics.taken_back.inc_by(ids.len() as u64);
            inner.node.handle_cancel(now, &ids);
        }
        self.drain(&mut inner);
    }

    /// A request that came without a lane. Only a node that ends leaves it without an answer.
    pub(super) fn ask(&self, request: Request, from: &Principal) -> oneshot::Receiver<Response> {
        let (sender, answer) = oneshot::channel();
        let mut inner = self.inner();
        let now = self.clock.now();
        inner.next_request += 1;
        let id = inner.next_request;
        let waiting = Waiting {
            asker: Asker::Task(sender),
            op: Op::of(&request),
            since: now.mono,
        };
        inner.waiting.insert(id, waiting);
        inner.node.handle_request(now, RequestId(id), from, request);
        self.drain(&mut inner);
        answer
    }

    /// Messages of one peer.
    pub(super) fn messages(&self, messages: &mut Vec<Message>, from: NodeId) {
        let mut inner = self.inner();
        let now = self.clock.now();
        for message in messages.drain(..) {
            if let Message::Gossip(gossip) = &message {
                self.metrics.gossip.received(&gossip.kind);
            }
            inner.node.handle_message(now, from, message);
        }
        self.drain(&mut inner);
    }

    fn completions(&self, groups: &mut Vec<Vec<Completion>>) {
        let mut inner = self.inner();
        let now = self.clock.now();
        for completion in groups.drain(..).flatten() {
            inner.node.handle_completion(now, completion);
        }
        self.drain(&mut inner);
    }

    fn timeout(&self) {
        let mut inner = self.inner();
        inner.node.handle_timeout(self.clock.now());
        self.drain(&mut inner);
    }

    /// Does everything the node wants done.
    fn drain(&self, inner: &mut Inner) {
        let mut ring_changed = false;
        while let Some(output) = inner.node.poll_output() {
            match output {
                Output::Send { to, class, message } => {
                    if let Some(link) = inner.links.get(&to) {
                        link.send(class, &message, &self.metrics);
                    }
                }
                Output::Meet(member) => self.meet(inner, &member),
                Output::Part(node) => {
                    if let Some(link) = inner.links.remove(&node) {
                        link.replace();
                    }
                }
                Output::Reply { id, response } => {
                    if let Some(waiting) = inner.waiting.remove(&id.0) {
                        let took = self.clock.mono().since(waiting.since);
                        self.metrics.served(waiting.op, &response, took);
                        match waiting.asker {
                            Asker::Lane { lane, frame } => answer(&lane, frame, &response),
                            // An error means that it has gone.
                            Asker::Task(task) => drop(task.send(response)),
                            Asker::Nobody => {}
                        }
                    }
                }
                Output::Store(command) => {
                    if let Some(completion) = inner.store.execute(command) {
                        let now = self.clock.now();
                        inner.node.handle_completion(now, completion);
                    }
                }
                Output::Event(event) => {
                    ring_changed |=
                        matches!(event, Event::RingChanged { .. } | Event::MemberMoved { .. });
                    let name = |node| inner.node.name_of(node);
                    report(&event, &name, &self.metrics);
                    let wall_ms = || self.clock.now().wall_ms;
                    self.feed.tell(&event, &name, &self.name, wall_ms);
                    if let Event::StoreFailed { reason } = event {
                        inner.failure = Some(reason);
                        self.failed.cancel();
                    }
                }
            }
        }
        inner.store.submit();
        if ring_changed {
            self.clients.tell(&Response::Ring(inner.node.ring_reply()));
        }
        let next = inner.node.poll_timeout();
        if let Some(next) = next
            && inner.armed.is_none_or(|armed| next < armed)
        {
            inner.armed = Some(next);
            self.sooner.notify_one();
        }
    }

    /// Makes a link where there is none, or where the one there is leads elsewhere.
    fn meet(&self, inner: &mut Inner, member: &Member) {
        let known = inner.links.get(&member.id);
        if known.is_some_and(|link| link.leads_to_member(member)) {
            return;
        }
        match self.dialler.link(member) {
            Ok(link) => {
                let link = Arc::new(link);
                if let Some(old) = inner.links.insert(member.id, link.clone()) {
                    old.replace();
                }
                // Nobody listens only when the node is stopping.
                let _ = self.dialler.links.send(link);
            }
            Err(error) => tracing::error!(node = member.name, %error, "no link can be made"),
        }
    }

    /// Dials with these from now on.
    pub(super) fn renew(&self, credentials: Arc<Credentials>) -> Result<(), TlsError> {
        let inner = self.inner();
        for link in inner.links.values() {
            link.renew(|name| credentials.client_config(Alpn::Peer, Some(name)))?;
        }
        let mut known = self
            .dialler
            .credentials
            .lock()
            .expect("a panic ends the process");
        *known = credentials;
        Ok(())
    }

    /// The way to a node.
    pub(super) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.inner().links.get(&node).cloned()
    }

    /// A node asks to join.
    pub(super) fn welcome(&self, member: &Member) -> Result<Welcome, ErrorBody> {
        let mut inner = self.inner();
        let welcome = inner.node.welcome(self.clock.now(), member);
        self.drain(&mut inner);
        welcome
    }

    /// Another member says where the others are.
    pub(super) fn told_members(&self, members: &[u8]) {
        let mut inner = self.inner();
        inner.node.handle_members(self.clock.now(), members);
        self.drain(&mut inner);
    }

    /// Whether there is a connection to any other node.
    pub(super) fn reaches_anybody(&self) -> bool {
        let inner = self.inner();
        inner.links.values().any(|link| link.round_trip().is_some())
    }

    /// True if the ring has a place for this node.
    pub(super) fn is_in_ring(&self) -> bool {
        let inner = self.inner();
        inner
            .node
            .decree()
            .member(NodeId::of_name(&self.name))
            .is_some()
    }

    /// Wakes the node when it wants to be woken.
    pub(super) async fn run_timer(&self, stop: CancellationToken) {
        let sleep = sleep_until(tokio::time::Instant::now());
        tokio::pin!(sleep);
        loop {
            // Biased: stopping comes first, then an earlier alarm, then the alarm itself.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.sooner.notified() => {}
                () = sleep.as_mut() => self.timeout(),
            }
            let next = {
                let mut inner = self.inner();
                inner.armed = inner.node.poll_timeout();
                inner.armed
            };
            match next {
                Some(next) => sleep.as_mut().reset(self.clock.timer(next)),
                None => return,
            }
        }
    }

    /// Brings the node what the store has done.
    pub(super) async fn run_completions(&self, mut completions: mpsc::Receiver<Vec<Completion>>) {
        let mut groups = Vec::with_capacity(GROUPS_MAX);
        while completions.recv_many(&mut groups, GROUPS_MAX).await != 0 {
            self.completions(&mut groups);
        }
    }

    /// Tells the node now and then how much it holds on disk, and whether space runs out.
    pub(super) fn note_disk_bytes(&self) {
        let bytes = self.disk_bytes.load(Ordering::Relaxed);
        let free = self.disk.free();
        let low = free.is_some_and(|free| free < self.disk.free_min);
        let mut inner = self.inner();
        inner.node.handle_disk_bytes(bytes, free.unwrap_or(0));
        inner.node.handle_disk_low(low);
        self.drain(&mut inner);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.inner().node.is_ready()
    }

    pub(super) fn is_rebuilding(&self) -> bool {
        self.inner().node.is_rebuilding()
    }

    /// What this node knows to be agreed on about the ring.
    pub(super) fn decree(&self) -> Arc<Decree> {
        self.inner().node.decree().clone()
    }

    /// Number of the ring that this node has adopted.
    pub(super) fn ring_epoch(&self) -> u64 {
        self.inner().node.decree().epoch.get()
    }

    /// Refuses new requests from here on.
    pub(super) fn refuse_requests(&self) {
        self.inner().node.drain();
    }

    /// Requests that have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        self.inner().node.in_flight()
    }

    /// What the store said when it failed.
    pub(super) fn failure(&self) -> Option<String> {
        self.inner().failure.clone()
    }

    /// Lets the store's thread end.
    pub(super) fn close_store(&self) {
        self.inner().store.close();
    }

    /// Brings the gauges up to date that take longer than a request may wait.
    fn show_standing(&self) {
        let inner = self.inner();
        let node = &inner.node;
        let (decree, pairs) = (node.decree().clone(), node.pairs());
        let (replicas, progress) = (node.replicas_most(), node.progress_of_moves());
        let rebuilding = (node.is_rebuilding(), node.rebuild_left());
        let set_aside = node.set_aside();
        let links = inner.links.values();
        let rtt = links.filter_map(|link| link.round_trip());
        let rtt = rtt.map(|(name, rtt)| (name, rtt.as_secs_f64())).collect();
        let (kept, most) = node.hints_by_owner();
        let name = |id| node.name_of(id);
        self.metrics.hints.show(&kept, most, &name);
        drop(inner);
        self.metrics.standing.show(&Place {
            decree: &decree,
            me: NodeId::of_name(&self.name),
            replicas,
            progress,
            rebuilding,
            set_aside,
            pairs: &pairs,
            wall_ms: self.clock.now().wall_ms,
            rtt,
        });
    }

    pub(super) fn metrics_text(&self) -> String {
        let snapshot = {
            let inner = self.inner();
            let mut members = [0; 3];
            for member in inner.node.members() {
                let state = inner.node.member_state(member.id).unwrap_or(State::Up);
                members[state as usize - State::Up as usize] += 1;
            }
            Snapshot {
                in_flight: inner.node.in_flight(),
                epoch: inner.node.decree().epoch.get(),
                members,
                uptime: self.clock.mono().since(Instant::START),
                disk_bytes: self.disk_bytes.load(Ordering::Relaxed),
                share: inner.node.background_share(),
                mended: inner.node.mended(),
                spent: inner.node.background_spent(),
                tombstones: inner.node.tombstones(),
                hedging: inner.node.hedging(),
            }
        };
        self.show_standing();
        process::text() + &self.metrics.encode(&snapshot)
    }
}

/// Where in a batch each request that is taken back in it is taken back.
fn taken_back(frames: &[Frame]) -> BTreeMap<u64, usize> {
    let cancels = (0_usize..)
        .zip(frames)
        .filter(|(_, frame)| frame.kind == kind::CANCEL);
    cancels.map(|(at, frame)| (frame.id, at)).collect()
}

/// Frames an answer; one that is too large for a frame becomes an error.
fn answer(lane: &Lane, frame: u64, response: &Response) {
    match lane.push(|buffer| response.append_to(buffer, frame)) {
        // Closed: the client has gone, nobody waits for it.
        Ok(()) | Err(Refused::Closed) => {}
        // It asks but does not read. What it does not know the outcome of is told by the close.
        Err(Refused::Full) => lane.give_up(),
        Err(Refused::Encode(error)) => {
            let text = format!("the answer does not fit into a frame: {error}");
            let error = Response::Error(ErrorBody::new(ErrorCode::Internal, text));
            let _ = lane.push(|buffer| error.append_to(buffer, frame));
        }
    }
}

/// Reads the messages in frames; what makes no sense is counted and skipped.
pub(super) fn decode(frame: &Frame, metrics: &Metrics) -> Option<Message> {
    match wire::decode_frame(frame) {
        Ok(message) => Some(message),
        Err(error) => {
            metrics.undecodable.inc();
            tracing::debug!(kind = frame.kind, %error, "a message makes no sense");
            None
        }
    }
}
