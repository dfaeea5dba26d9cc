//! What every operation of a node shares: the ring, the clock it was told, the peers, the local
//! replica, and the outbox.
//!
//! Operations never call each other: they leave notices here, which the node delivers in order.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quorate_client::wire::{ErrorBody, ErrorCode, Response};
use quorate_gossip::{Gossip, Instant, State};
use quorate_ring::{Decree, Member, NodeId, NodeUuid, Ring, Token};
use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use crate::{
    api::{Moment, Output, RequestId},
    bucket::{Bucket, Catalogue},
    causality::{Container, ContextKey, Stamp},
    event::Event,
    healing::{
        governor::{Asked, Governor},
        hints::HintNews,
        reap::{Generations, Queue, ReapMessage, send, slot_of},
    },
    hedging::Hedging,
    hybrid::Hybrid,
    joining::Outsider,
    limits::Limits,
    message::{Class, Message, RpcId},
    node::RingNews,
    peers::Peers,
    places::Places,
    replica::{Address, Caller, Done, Job, OpKey, Refusal, Replica},
    store::format::{self, Record},
};

/// The limit that stands against all work on records while they are set aside.
pub(crate) const SETTING_ASIDE: &str = "setting_aside";
/// So far along the ring somebody is looked for who stands in.
const FALLBACKS_MAX: usize = 16;

/// Who waits for an operation's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Client {
        id: RequestId,
        bytes: usize,
        since: Instant,
    },
    Peer {
        node: NodeId,
        rpc: RpcId,
    },
}

/// What a finished read tells the operation that wanted it.
#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// A quorum answered; what they hold together, and the write generation they were asked under.
    Quorum(Container, u64),
    Failed(ErrorBody),
}

/// Something one part of the node tells an operation.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The local replica has finished a job.
    Local(Done),
    /// A read started on the operation's behalf is over.
    Read(ReadOutcome),
    /// A repair the operation waits for is durable on that replica.
    Repaired(NodeId),
}

/// Repairs of one replica that are under way, so that a thousand readers of one stale key cause
/// one message.
#[derive(Debug)]
pub(crate) struct Repair {
    pub(crate) container: Container,
    /// The write generation under which it was read.
    pub(crate) generation: u64,
    pub(crate) rpc: RpcId,
    pub(crate) waiting: Vec<OpKey>,
    pub(crate) until: Instant,
}

/// How far this node and its peers are apart, for `cluster status`.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    pub(crate) keys: u64,
    /// The peer whose last agreement is the oldest, and when that was.
    pub(crate) oldest: Option<(NodeId, Instant)>,
}

/// How this node and what it stores are, for those who look after them.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// Nodes that want no requests of clients: they are asked last.
    pub(crate) draining: BTreeSet<NodeId>,
    /// True while this node wants none.
    pub(crate) drains: bool,
    /// Damaged records found.
    pub(crate) corrupt: u64,
    /// Records that could not be read and have been written anew.
    pub(crate) mended: u64,
    /// Damaged records whose replicas are being asked.
    pub(crate) recovering: usize,
    /// When the last pass of the scrub ended.
    pub(crate) scrubbed: Option<Instant>,
    /// Records that are set aside, and their bytes, as of the last count.
    pub(crate) aside: (u64, u64),
    /// They have to be counted again.
    pub(crate) aside_changed: bool,
    pub(crate) disk_bytes: u64,
    /// Bytes free where the store lies; zero if nobody has said.
    pub(crate) disk_free: u64,
}

/// How far this process may speak for its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Too few others have taken note of it yet.
    Unheard,
    /// Nobody takes note: it answers reads of one copy.
    Alone,
    /// What is held here may lack what this node has acknowledged.
    Rebuilding,
    Full,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) me: NodeId,
    /// What is agreed on.
    pub(crate) decree: Arc<Decree>,
    /// The ring that reads ask.
    pub(crate) ring: Arc<Ring>,
    /// The other ring that writes need, while a change is under way.
    pub(crate) other: Option<Arc<Ring>>,
    /// Nodes that have joined the cluster and are not in the ring.
    pub(crate) outsiders: BTreeMap<NodeId, Outsider>,
    /// Where members are who have moved, and who was forgotten.
    pub(crate) places: Places,
    pub(crate) ring_news: VecDeque<RingNews>,
    pub(crate) hint_news: VecDeque<HintNews>,
    pub(crate) cluster: u128,
    pub(crate) cluster_name: String,
    pub(crate) context_key: ContextKey,
    pub(crate) limits: Limits,
    pub(crate) catalogue: Catalogue,
    pub(crate) peers: Peers,
    /// How many reads may be hedged.
    pub(crate) hedging: Hedging,
    pub(crate) gossip: Gossip,
    pub(crate) replica: Replica,
    pub(crate) now: Moment,
    pub(crate) started: Instant,
    pub(crate) voice: Voice,
    /// Everything that is held is being set aside: nothing is read or taken in.
    pub(crate) sets_aside: bool,
    /// Operations that are told that something is stored here as soon as that counts.
    pub(crate) unvouched: Vec<(OpKey, Done)>,
    /// True once the peers that could be reached have compared catalogues with us.
    pub(crate) peers_asked: bool,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) loopback: VecDeque<Message>,
    pub(crate) notices: VecDeque<(OpKey, Notice)>,
    pub(crate) repairs: BTreeMap<(Address, NodeId), Repair>,
    pub(crate) repair_rpcs: BTreeMap<(NodeId, RpcId), Address>,
    pub(crate) requests: usize,
    pub(crate) request_bytes: usize,
    pub(crate) upkeep: Upkeep,
    /// Less space is left than `disk_free_min`.
    pub(crate) disk_low: bool,
    pub(crate) tickets: u64,
    /// What time it is, where that matters.
    pub(crate) hybrid: Hybrid,
    /// Paces everything that no client waits for.
    pub(crate) governor: Governor,
    /// How far replicas are apart, as the last comparisons found.
    pub(crate) behind: Behind,
    /// How old what is merged here may be.
    pub(crate) generations: Generations,
    /// Keys that could be reaped.
    pub(crate) lapsed: Queue,
    pub(crate) next_op: u64,
    pub(crate) rng: Pcg64Mcg,
}

impl Core {
    pub(crate) fn op_key(&mut self) -> OpKey {
        self.next_op += 1;
        OpKey(self.next_op)
    }

    pub(crate) fn send(&mut self, to: NodeId, class: Class, message: Message) {
        if to == self.me {
            self.loopback.push_back(message);
            return;
        }
        self.outputs.push_back(Output::Send { to, class, message });
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Answers whoever asked; admission is given back.
    pub(crate) fn reply(&mut self, origin: Origin, response: Response) {
        match origin {
            Origin::Client { id, bytes, since } => {
                // What is asked of all nodes, or waits for them, says nothing of how busy this is.
                let took = self.now.mono.since(since);
                if let Response::Got(_) = response {
                    self.governor.observe(Asked::Get, took);
                } else if let Response::Written(_) = response {
                    self.governor.observe(Asked::Put, took);
                }
                self.requests -= 1;
                self.request_bytes -= bytes;
                self.outputs.push_back(Output::Reply { id, response });
            }
            Origin::Peer { node, rpc } => {
                self.send(node, Class::Data, Message::Forwarded { id: rpc, response });
            }
        }
    }

    pub(crate) fn submit(&mut self, op: OpKey, address: &Address, job: Job) {
        self.submit_for(Caller::Op(op), address, job);
    }

    pub(crate) fn submit_for(&mut self, caller: Caller, address: &Address, job: Job) {
        let now = self.now;
        if self.sets_aside {
            return self.replica.refuse(caller, address.clone(), SETTING_ASIDE);
        }
        // Buckets' ids are never used again: what comes late brings nothing back.
        let brings = matches!(job, Job::Apply(_) | Job::Coordinate(_));
        if brings && self.catalogue.is_dropped(address.bucket) {
            return self
                .replica
                .refuse(caller, address.clone(), "bucket_dropped");
        }
        let current = self.generation(address.token);
        if job.generation().is_some_and(|read| read < current) {
            let why = Refusal::OldGeneration;
            return self.replica.refuse_for(caller, address.clone(), why);
        }
        let Self {
            replica,
            limits,
            tickets,
            hybrid,
            ..
        } = self;
        if let Job::Apply(merge) | Job::Settle(merge) = &job
            && let Some(stamp) = merge.incoming.stamp()
        {
            if hybrid.refuses(stamp, now) {
                let limit = "clock_skew";
                self.outputs
                    .push_back(Output::Event(Event::Refused { limit }));
                return replica.refuse(caller, address.clone(), limit);
            }
            hybrid.observe(stamp);
        }
        replica.submit(limits, tickets, address.clone(), caller, job);
    }

    /// Whether what is stored here may count as stored for others. A directory that nobody has
    /// taken note of may turn out to be an old one; and what one takes in that is not the node's
    /// any more, before that is agreed on, is set aside.
    pub(crate) fn vouches(&self) -> bool {
        let known = match self.voice {
            Voice::Full | Voice::Alone => true,
            Voice::Unheard => false,
            Voice::Rebuilding => {
                let named = self.decree.directory(self.me);
                named.is_none_or(|named| named == NodeUuid::NONE)
            }
        };
        known && !self.sets_aside
    }

    /// The write generation of what is read or minted now.
    pub(crate) fn generation(&self, token: u64) -> u64 {
        self.generations.of(slot_of(token))
    }

    /// The job that puts a record out of the way, where only a person finds it.
    pub(crate) fn set_aside(&mut self, record: Bytes) -> Job {
        self.upkeep.aside_changed = true;
        Job::SetAside(record, self.now.wall_ms)
    }

    /// Tells a node that what it sent was read too long ago.
    pub(crate) fn tell_behind(&mut self, to: NodeId, token: u64) {
        let slot = slot_of(token);
        let generation = self.generations.of(slot);
        if to != self.me {
            send(self, to, RpcId(0), ReapMessage::Behind { slot, generation });
        }
    }

    /// Forgets the repairs of a slot: what they carry was read before its generation rose.
    pub(crate) fn forget_repairs(&mut self, slot: u8) {
        let old = |(address, _): &(Address, NodeId), _: &mut Repair| slot_of(address.token) == slot;
        let old = self.repairs.extract_if(.., old);
        let rpcs: Vec<_> = old.map(|((_, node), repair)| (node, repair.rpc)).collect();
        for rpc in rpcs {
            self.repair_rpcs.remove(&rpc);
        }
    }

    /// True unless gossip thinks the node is down.
    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        node == self.me || self.gossip.state(node) != Some(State::Down)
    }

    pub(crate) fn name(&self, node: NodeId) -> String {
        let outsider = || self.outsiders.get(&node).map(|outsider| &outsider.member);
        let member = self.decree.member(node).or_else(outsider);
        member.map_or_else(|| node.to_string(), |member| member.name.clone())
    }

    /// True for members of the ring, and for nodes that have joined and own nothing yet.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.decree.member(node).is_some() || self.outsiders.contains_key(&node)
    }

    /// A member of the ring where it is now.
    pub(crate) fn located(&self, member: &Member) -> Member {
        let mut member = member.clone();
        if let Some(address) = self.places.address(member.id) {
            address.clone_into(&mut member.address);
        }
        member
    }

    /// The ring that reads ask, for those who route by it: with members where they are now.
    pub(crate) fn routing_ring(&self) -> Ring {
        self.ring.relocated(|node| self.places.address(node))
    }

    /// The key's replicas in the other ring, whose quorum a write needs as well; none if there is
    /// no other, or it does not differ.
    pub(crate) fn others(&self, address: &Address, n: u8) -> Vec<NodeId> {
        let token = Token::new(address.token);
        let Some(other) = self.other.as_ref().filter(|_| self.decree.moved(token)) else {
            return Vec::new();
        };
        other.preference(token).owners(usize::from(n)).to_vec()
    }

    /// The key's replicas in the ring that reads ask.
    pub(crate) fn owners(&self, address: &Address) -> Vec<NodeId> {
        let n = self.catalogue.replicas(address.bucket).unwrap_or(0);
        let preference = self.ring.preference(Token::new(address.token));
        preference.owners(usize::from(n)).to_vec()
    }

    /// Nodes that may stand in for replicas of the key, in order; the replicas of either ring are
    /// not among them.
    pub(crate) fn fallbacks(&self, address: &Address, n: u8) -> Vec<NodeId> {
        let token = Token::new(address.token);
        let mut holders = self.owners(address);
        holders.extend(self.others(address, n));
        let other = self.other.as_ref().filter(|_| self.decree.moved(token));
        let mut found = Vec::new();
        for ring in [Some(&self.ring), other].into_iter().flatten() {
            let walk = ring.fallbacks(ring.partitions().of(token), usize::from(n));
            // No more can be found, and the walk is long.
            let most = ring.members().len().saturating_sub(usize::from(n));
            for node in walk.take(most.min(FALLBACKS_MAX)) {
                if !holders.contains(&node) && !found.contains(&node) {
                    found.push(node);
                }
            }
        }
        found
    }

    /// Those of them that are up.
    pub(crate) fn fallbacks_up(&self, address: &Address, n: u8) -> Vec<NodeId> {
        let mut all = self.fallbacks(address, n);
        all.retain(|node| self.is_up(*node));
        all
    }

    /// Whether this node is a replica of the key, in the ring that reads ask or in the other.
    pub(crate) fn belongs_here(&self, address: &Address) -> bool {
        self.belongs_to(self.me, address)
    }

    fn belongs_to(&self, node: NodeId, address: &Address) -> bool {
        let n = self.catalogue.replicas(address.bucket).unwrap_or(0);
        self.owners(address).contains(&node) || self.others(address, n).contains(&node)
    }

    pub(crate) fn names(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<String> {
        let mut names: Vec<_> = nodes.into_iter().map(|node| self.name(node)).collect();
        names.sort_unstable();
        names
    }

    /// The key's address and its replicas, in order of preference.
    pub(crate) fn locate(&self, bucket: &Bucket, key: &Bytes) -> (Address, Vec<NodeId>) {
        let token = Token::of(self.ring.seed(), &bucket.info.name, key);
        let address = Address {
            token: token.get(),
            bucket: bucket.id,
            key: key.clone(),
            hint_for: None,
        };
        let preference = self.ring.preference(token);
        (
            address,
            preference.owners(usize::from(bucket.info.n)).to_vec(),
        )
    }

    /// The replicas that are worth asking, ourselves first and slow ones last.
    pub(crate) fn by_speed(&self, replicas: &[NodeId]) -> Vec<NodeId> {
        let mut order: Vec<_> = replicas
            .iter()
            .copied()
            .filter(|node| self.is_up(*node))
            .collect();
        order.sort_by_key(|node| {
            let own = *node != self.me;
            let suspect = self.gossip.state(*node) == Some(State::Suspect);
            let draining = self.upkeep.draining.contains(node);
            (own, suspect, draining, self.peers.expected(*node))
        });
        order
    }

    /// Asks a replica that is asked nothing else, to learn how quick it is by now. Of one that
    /// gossip thinks down nobody needs to know.
    pub(crate) fn try_others(&mut self, address: &Address, replicas: &[NodeId]) {
        let now = self.now.mono;
        let up = |node: &NodeId| *node != self.me && self.is_up(*node);
        let up: Vec<NodeId> = replicas.iter().copied().filter(up).collect();
        let Some(node) = self.peers.due(&up, now) else {
            return;
        };
        let rpc = RpcId(self.op_key().0);
        self.peers.tries(node, rpc, now);
        let message = Message::Fetch {
            id: rpc,
            epoch: self.ring.epoch(),
            bucket: address.bucket,
            token: address.token,
            key: address.key.clone(),
            whole_max: Some(0),
        };
        self.send(node, Class::Data, message);
    }

    pub(crate) fn patience(&self, node: NodeId) -> Duration {
        self.peers.limit(node, &self.limits)
    }

    pub(crate) fn deadline(&self, timeout_ms: u32) -> Instant {
        let wanted = Duration::from_millis(u64::from(timeout_ms));
        self.now.mono + wanted.min(self.limits.timeout_max)
    }

    /// Brings one replica up to date, once however many operations want it. False if too many
    /// repairs are under way.
    pub(crate) fn repair(
        &mut self,
        address: &Address,
        replica: NodeId,
        (merged, bytes, mut generation): (&Container, &Bytes, u64),
        waiter: Option<OpKey>,
    ) -> bool {
        let slot = (address.clone(), replica);
        if let Some(repair) = self.repairs.get_mut(&slot)
            && repair.container.clock().dominates(merged.clock())
        {
            repair.waiting.extend(waiter);
            return true;
        }
        if self.limits.repairs_max <= self.repairs.len() && !self.repairs.contains_key(&slot) {
            return false;
        }
        let rpc = RpcId(self.op_key().0);
        let mut waiting = Vec::from_iter(waiter);
        let mut container = merged.clone();
        let mut bytes = bytes.clone();
        if let Some(old) = self.repairs.remove(&slot) {
            self.repair_rpcs.remove(&(replica, old.rpc));
            // Who waited for the old one waits for all that it carried, so that goes along.
            if container.sync(&old.container).is_ok() {
                generation = generation.min(old.generation);
                waiting.extend(old.waiting);
                let container = container.clone();
                let suspect = false;
                let record = Record { container, suspect };
                bytes = format::encode(address.bucket.0, &address.key, &record);
            }
        }
        let until = self.now.mono + self.patience(replica) * 8;
        let repair = Repair {
            container,
            generation,
            rpc,
            waiting,
            until,
        };
        self.repairs.insert(slot, repair);
        self.repair_rpcs.insert((replica, rpc), address.clone());
        self.event(Event::ReadRepair {
            replica,
            blocking: waiter.is_some(),
        });
        let message = self.replicate(address, rpc, &bytes, generation);
        self.send(replica, Class::Data, message);
        true
    }

    /// The message that carries a record; `generation` is that of its reading or minting.
    pub(crate) fn replicate(
        &self,
        address: &Address,
        id: RpcId,
        record: &Bytes,
        generation: u64,
    ) -> Message {
        Message::Replicate {
            id,
            epoch: self.ring.epoch(),
            bucket: address.bucket,
            token: address.token,
            key: address.key.clone(),
            record: record.clone(),
            generation,
        }
    }

    /// A replica has a repair durable, or will not take it.
    pub(crate) fn repaired(&mut self, from: NodeId, rpc: RpcId, good: bool) -> bool {
        let Some(address) = self.repair_rpcs.remove(&(from, rpc)) else {
            return false;
        };
        if let Some(repair) = self.repairs.remove(&(address, from))
            && good
        {
            for op in repair.waiting {
                self.notices.push_back((op, Notice::Repaired(from)));
            }
        }
        true
    }

    /// Sends a repair again that was refused under an older ring, unless the key is no longer that
    /// node's: nobody there would hand it over again. False if it is not a repair.
    pub(crate) fn resend_repair(&mut self, to: NodeId, rpc: RpcId) -> bool {
        let Some(address) = self.repair_rpcs.get(&(to, rpc)).cloned() else {
            return false;
        };
        if !self.belongs_to(to, &address) {
            return self.repaired(to, rpc, false);
        }
        if let Some(repair) = self.repairs.get(&(address.clone(), to)) {
            let record = Record {
                container: repair.container.clone(),
                suspect: false,
            };
            let bytes = format::encode(address.bucket.0, &address.key, &record);
            let message = self.replicate(&address, rpc, &bytes, repair.generation);
            self.send(to, Class::Data, message);
        }
        true
    }

    /// Forgets repairs that nobody answered.
    pub(crate) fn expire_repairs(&mut self) {
        let now = self.now.mono;
        let stale = self.repairs.extract_if(.., |_, repair| repair.until <= now);
        let rpcs: Vec<_> = stale
            .map(|((_, node), repair)| (node, repair.rpc))
            .collect();
        for rpc in rpcs {
            self.repair_rpcs.remove(&rpc);
        }
    }

    /// A random duration below `bound`, to keep retries apart.
    pub(crate) fn jitter(&mut self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos(self.rng.random_range(0..nanos))
    }

    /// The time in unix milliseconds that decides what has expired.
    pub(crate) fn time_ms(&self) -> u64 {
        self.hybrid.time_ms(self.now)
    }

    /// A stamp for a write where the last one wins, or the limit that stands against it.
    pub(crate) fn stamp(&mut self) -> Result<Stamp, &'static str> {
        let members = self.ring.members().len();
        self.hybrid.take(self.now, members)
    }

    /// Quotes a key for people: text if it is text, hex otherwise, never longer than a line.
    pub(crate) fn show_key(key: &[u8]) -> String {
        match std::str::from_utf8(key) {
            Ok(text) if text.len() <= 64 => format!("{text:?}"),
            Ok(_) | Err(_) => format!("of {} bytes", key.len()),
        }
    }

    pub(crate) fn unavailable(&self, what: &str, needed: u8, replicas: &[NodeId]) -> ErrorBody {
        let down = self.names(replicas.iter().copied().filter(|n| !self.is_up(*n)));
        let up = replicas.len() - down.len();
        ErrorBody::new(
            ErrorCode::Unavailable,
            format!(
                "{up} of {} replicas are up, {what}={needed} needed (down: {}); nothing was \
                 applied. Start them, or ask for fewer with --{what}",
                replicas.len(),
                down.join(", "),
            ),
        )
    }
}
