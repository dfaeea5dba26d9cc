//! One node's process: the product's machine, its clocks, its disk, and its lives.
//!
//! A process can die between any two inputs or in a step of its disk, stand still, and be started
//! again on what its disk kept; starting goes through the same identity rules as the shell's.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use quorate_gossip::Config as GossipConfig;
use quorate_node::{
    causality::ContextKey,
    identity::{self, META_CATALOGUE_KEY, META_IDENTITY_KEY},
    limits::Limits,
    message::Message,
    node::{META_MEMBERS_KEY, Node, Options as NodeOptions, StoredRing},
    register::META_REGISTER_KEY,
    store::{Command, Completion, Table, Ticket},
};
use quorate_ring::{BadRing, Member, NodeId, NodeUuid, Ring};

use crate::{
    clock::Clock,
    disk::Disk,
    layout,
    options::{Options, TreeOptions},
    oracle::bounds::Level,
    rng::Rng,
    workload::Attempt,
};

/// The secret under which contexts are sealed.
pub const CONTEXT_SECRET: [u8; 32] = [0x51; 32];
/// The simulated cluster's id.
pub const CLUSTER: u128 = 0x5175_6f72_6174_6500_0000_0000_0000_0001;

/// Something that reaches a machine.
#[derive(Debug)]
pub enum Input {
    /// A client's request.
    Request(Box<Attempt>),
    /// A peer's message.
    Message(NodeId, Box<Message>),
    /// Finished disk work.
    Completion(Completion),
    /// The time it asked for has come.
    Timeout,
    /// A client takes back the attempt of this number.
    TakeBack(u64),
}

/// A request that waits for its answer.
#[derive(Debug)]
pub struct Waiting {
    /// Whose it is.
    pub attempt: Box<Attempt>,
    /// World time by which it has to be answered.
    pub deadline: u64,
}

/// How a process is going to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// Before the input after so many others; stays down for so long.
    AfterInputs(u32, u64),
    /// When its disk's current or next commit ends, before it hears of it.
    InStep(u64),
    /// When it is told that a sync failed, by its own will; stays down for so long.
    OnStoreFailure(u64),
}

/// One process.
#[derive(Debug)]
pub struct Process {
    /// The member's name.
    pub name: String,
    /// The same in short.
    pub id: NodeId,
    /// Where it listens.
    pub address: String,
    /// Where it looks for the others.
    pub links: BTreeMap<NodeId, String>,
    /// What it believes the time to be.
    pub clock: Clock,
    /// What it stores.
    pub disk: Disk,
    /// Counts the data directories that it has had.
    pub directories: usize,
    /// Counts its starts, so that timers and disk work of an earlier life are recognised.
    pub life: u32,
    /// The machine, while the process lives.
    pub machine: Option<Box<Node>>,
    /// Whether it stands still.
    pub paused: bool,
    /// What reaches it meanwhile.
    pub backlog: VecDeque<Input>,
    /// The earliest planned timer.
    pub timer: Option<u64>,
    /// Requests that it has not answered.
    pub waiting: BTreeMap<u64, Waiting>,
    /// Names requests.
    pub requests: u64,
    /// How it is going to die, if that is certain.
    pub doom: Option<Doom>,
    rng: Rng,
}

impl Process {
    /// A member that has never been started.
    #[must_use]
    pub fn new(name: String, clock: Clock, disk: Disk, rng: Rng) -> Self {
        Self {
            id: NodeId::of_name(&name),
            address: layout::Layout::member(&name).address,
            links: BTreeMap::new(),
            name,
            clock,
            disk,
            directories: 1,
            life: 0,
            machine: None,
            paused: false,
            backlog: VecDeque::new(),
            timer: None,
            waiting: BTreeMap::new(),
            requests: 0,
            doom: None,
            rng,
        }
    }

    /// Starts the process on what its disk holds; `known` are those outside the ring of whom it
    /// need not be told.
    ///
    /// # Panics
    ///
    /// If the product refuses a directory that the simulator knows to be sound.
    pub fn start(&mut self, now: u64, ring: &Arc<Ring>, run: &Options, known: &[Member]) {
        assert!(self.machine.is_none(), "one process per directory");
        let opened = self.disk.reopen();
        self.clock.boot(now);
        self.life += 1;
        let stored = self.disk.synced(Table::Meta, META_IDENTITY_KEY);
        let uuid = u128::from(self.rng.word()) << 64 | u128::from(self.rng.word());
        let amnesia = opened.amnesia.is_some();
        let (identity, writes) = identity::start(
            stored.as_deref(),
            CLUSTER,
            self.id,
            amnesia,
            NodeUuid::new(uuid),
        )
        .expect("the identity on this disk is our own");
        let ticket = Ticket(0);
        self.disk.commit_now(Command::Write { ticket, writes });
        let read = |key| Ok::<_, BadRing>(self.disk.synced(Table::Meta, key));
        let stored_ring = StoredRing::read(read).expect("what this disk says of the ring is sound");
        let founding = || Some(layout::catalogue(ring, run.sloppy).to_bytes());
        let options = NodeOptions {
            me: self.id,
            ring: Arc::clone(ring),
            stored_ring,
            cluster: CLUSTER,
            cluster_name: "simulated".to_owned(),
            context_key: ContextKey::new(CONTEXT_SECRET),
            identity,
            catalogue: self
                .disk
                .synced(Table::Meta, META_CATALOGUE_KEY)
                .or_else(founding),
            durable_writes: true,
            limits: limits(run),
            gossip: GossipConfig::sim(),
            seed: self.rng.word(),
        };
        let mut node =
            Node::new(options, self.clock.moment(now)).expect("a node starts on a sound directory");
        for member in known {
            node.introduce(member.clone());
        }
        if let Some(members) = self.disk.synced(Table::Meta, META_MEMBERS_KEY) {
            node.remember(&members);
        }
        if let Some(register) = self.disk.synced(Table::Meta, META_REGISTER_KEY) {
            node.recall(&register);
        }
        let own = layout::Layout::member(&self.name);
        node.reside(Member {
            address: self.address.clone(),
            ..own
        });
        self.machine = Some(Box::new(node));
        self.links.clear();
        self.timer = None;
    }

    /// The process dies: what it knew is gone, what it had not synced perhaps. Requests that will
    /// never be answered are returned.
    pub fn crash(&mut self) -> Vec<Waiting> {
        self.machine = None;
        self.paused = false;
        self.doom = None;
        self.backlog.clear();
        self.disk.crash();
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    /// Whether it can take part now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.machine.is_some() && !self.paused
    }

    /// How full its tables are.
    #[must_use]
    pub fn levels(&self) -> Vec<Level> {
        let gauges = self
            .machine
            .as_ref()
            .map_or_else(Vec::new, |node| node.gauges());
        let level = |(name, value, max)| Level { name, value, max };
        gauges.into_iter().map(level).collect()
    }

    /// Whether it has said that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_up() && self.machine.as_ref().is_some_and(|node| node.is_ready())
    }
}

fn limits(run: &Options) -> Limits {
    let TreeOptions {
        interval,
        audit_pause,
    } = run.trees;
    Limits {
        anti_entropy_interval: interval,
        audit_pause,
        ..run.limits.clone()
    }
}
