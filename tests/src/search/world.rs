//! The small cluster: its states, its steps, and what must hold in every state.

use bytes::Bytes;
use quorate_node::causality::{
    Clock, Container, Context, Coordinated, Minter, OpId, Received, Rule, Write, coordinate,
    coordinate_under, receive, receive_under, rules,
};
use quorate_ring::NodeUuid;

use super::{
    pool::{Events, Id, Pool},
    setting::{Action, Faults, Setting},
};

/// Three primaries, then the fallback.
pub(super) const NODES: usize = 4;
const FALLBACK: usize = 3;
const CLIENTS: usize = 2;
/// Nodes that must have a write on disk before it is acknowledged.
const QUORUM: u32 = 2;
/// Most writes in one history.
const WRITES_MAX: usize = 6;

/// What broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// An acknowledged write is gone.
    Lost,
    /// Two writes bear one dot.
    DotReused,
    /// One request has two live versions, or came back after it was replaced.
    AppliedTwice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    durable: Id,
    latest: Id,
    boot: u8,
    next: u8,
}

/// One state of the cluster, its clients, and the model's memory of what happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    nodes: [Node; NODES],
    /// What each client read last.
    read: [Id; CLIENTS],
    /// Per write, what its author had read: the container, and all writes behind it.
    context: [Id; WRITES_MAX],
    past: [Events; WRITES_MAX],
    writes: u8,
    acked: Events,
    losses: u8,
    cuts: u8,
}

impl State {
    pub(super) const fn new() -> Self {
        let node = Node {
            durable: 0,
            latest: 0,
            boot: 1,
            next: 1,
        };
        Self {
            nodes: [node; NODES],
            read: [0; CLIENTS],
            context: [0; WRITES_MAX],
            past: [0; WRITES_MAX],
            writes: 0,
            acked: 0,
            losses: 0,
            cuts: 0,
        }
    }

    /// Equal for states that differ only in which client is which.
    pub(super) fn hash(&self) -> u64 {
        let mut bytes = [0; NODES * 10 + CLIENTS * 4 + WRITES_MAX * 5 + 4];
        let mut rest = &mut bytes[..];
        let mut put = |part: &[u8]| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(part.len());
            head.copy_from_slice(part);
            rest = tail;
        };
        for node in &self.nodes {
            put(&node.durable.to_le_bytes());
            put(&node.latest.to_le_bytes());
            put(&[node.boot, node.next]);
        }
        let mut read = self.read;
        read.sort_unstable();
        for id in read.iter().chain(&self.context) {
            put(&id.to_le_bytes());
        }
        put(&self.past);
        put(&[self.writes, self.acked, self.losses, self.cuts]);
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    /// Every step that can be taken from here.
    ///
    /// Primaries nobody has touched are alike, so only the first of them is used.
    pub(super) fn actions(&self, setting: &Setting<'_>, out: &mut Vec<Action>) {
        out.clear();
        let faults = setting.faults;
        let more = self.writes < faults.writes;
        for node in (0..4_u8).filter(|node| self.may_use(*node, faults)) {
            let held = self.nodes[usize::from(node)];
            if more {
                out.push(Action::Blind { node });
                let readers = (0..2_u8).filter(|client| self.read[usize::from(*client)] != 0);
                out.extend(readers.clone().map(|client| Action::Put { client, node }));
                if self.cuts < faults.cuts {
                    out.push(Action::BlindUnsynced { node });
                    out.extend(readers.map(|client| Action::PutUnsynced { client, node }));
                }
            }
            if faults.retries {
                out.extend((0..self.writes).map(|write| Action::Retry { write, node }));
            }
            if held.durable != 0 {
                out.extend((0..2).map(|client| Action::Get { client, node }));
            }
            if held.latest != 0 {
                let others = (0..4_u8).filter(|to| *to != node && self.may_use(*to, faults));
                out.extend(others.map(|to| Action::Replicate { from: node, to }));
            }
            let primary = usize::from(node) != FALLBACK;
            let unsynced = held.latest != held.durable;
            if unsynced {
                out.push(Action::Sync { node });
                out.extend((0..2).map(|client| Action::Hear { client, node }));
                if self.cuts < faults.cuts {
                    out.push(Action::PowerCut { node });
                }
            }
            if primary && held.durable != 0 && self.losses < faults.losses {
                out.push(Action::Lose { node });
            }
            if primary && self.nodes[FALLBACK].durable != 0 && !self.unsynced(FALLBACK) {
                out.push(Action::HandOff { to: node });
            }
        }
    }

    fn may_use(&self, node: u8, faults: Faults) -> bool {
        let index = usize::from(node);
        if index == FALLBACK {
            return faults.hand_off;
        }
        let fresh = |node: &Node| node.latest == 0 && node.next == 1;
        index == 0 || !fresh(&self.nodes[index]) || !fresh(&self.nodes[index - 1])
    }

    fn unsynced(&self, node: usize) -> bool {
        self.nodes[node].latest != self.nodes[node].durable
    }

    /// Takes a step. False if it changed no replica, so that nothing new can be broken.
    pub(super) fn apply(&mut self, setting: &Setting<'_>, pool: &mut Pool, action: Action) -> bool {
        match action {
            Action::Blind { node } => self.put(setting, pool, node.into(), 0),
            Action::BlindUnsynced { node } => {
                self.put_unsynced(setting, pool, node.into(), 0);
            }
            Action::Put { client, node } => {
                self.put(setting, pool, node.into(), self.read[usize::from(client)]);
            }
            Action::PutUnsynced { client, node } => {
                let read = self.read[usize::from(client)];
                self.put_unsynced(setting, pool, node.into(), read);
            }
            Action::Retry { write, node } => {
                self.coordinate(setting, pool, node.into(), write.into());
                self.sync(node.into());
            }
            Action::Get { client, node } => {
                self.read[usize::from(client)] = self.nodes[usize::from(node)].durable;
                return false;
            }
            Action::Hear { client, node } => {
                self.read[usize::from(client)] = self.nodes[usize::from(node)].latest;
                return false;
            }
            Action::Replicate { from, to } => {
                let incoming = self.nodes[usize::from(from)].latest;
                self.receive(setting, pool, to.into(), incoming);
            }
            Action::HandOff { to } => self.hand_off(setting, pool, to.into()),
            Action::Sync { node } => self.sync(node.into()),
            Action::PowerCut { node } => {
                let node = &mut self.nodes[usize::from(node)];
                node.latest = node.durable;
                node.boot = node.next;
                self.cuts += 1;
            }
            Action::Lose { node } => {
                let node = &mut self.nodes[usize::from(node)];
                (node.durable, node.latest) = (0, 0);
                self.losses += 1;
            }
        }
        self.acknowledge(pool);
        true
    }

    fn put(&mut self, setting: &Setting<'_>, pool: &mut Pool, node: usize, read: Id) {
        self.put_unsynced(setting, pool, node, read);
        self.sync(node);
    }

    fn put_unsynced(&mut self, setting: &Setting<'_>, pool: &mut Pool, node: usize, read: Id) {
        let write = usize::from(self.writes);
        self.writes += 1;
        self.past[write] = pool.events(read);
        self.context[write] = read;
        self.coordinate(setting, pool, node, write);
        if !setting.faults.retries {
            self.context[write] = 0;
        }
    }

    fn sync(&mut self, node: usize) {
        self.nodes[node].durable = self.nodes[node].latest;
    }

    fn coordinate(&mut self, setting: &Setting<'_>, pool: &mut Pool, at: usize, write: usize) {
        let node = self.nodes[at];
        let context = pool.container(self.context[write]);
        let request = request(write, context.map(Container::context).unwrap_or_default());
        let local = pool.container(node.latest);
        let outcome = if setting.rules_off.is_empty() {
            coordinate(local, &mut minter(at, node), request)
        } else {
            let clock = local.map(Container::clock);
            let rule = demanded(setting, at, node, clock, &request.context.clock);
            coordinate_under(rule, local, &mut minter(at, node), request)
        };
        let Coordinated::Minted {
            container, rule, ..
        } = outcome
        else {
            return;
        };
        let events = pool.events(node.latest) | self.past[write] | 1 << write;
        self.nodes[at].latest = pool.add(container, events);
        self.nodes[at].next += u8::from(rule.is_some());
    }

    /// False if the state was refused.
    fn receive(&mut self, setting: &Setting<'_>, pool: &mut Pool, at: usize, sent: Id) -> bool {
        let node = self.nodes[at];
        let local = pool.container(node.latest);
        let incoming = pool.container(sent).expect("only states are sent").clone();
        let outcome = if setting.rules_off.contains(&Rule::Received) {
            receive_under(None, local, incoming, &mut minter(at, node))
        } else {
            receive(local, incoming, &mut minter(at, node))
        };
        let Ok(Received {
            container, rule3, ..
        }) = outcome
        else {
            return false;
        };
        let events = pool.events(node.latest) | pool.events(sent);
        self.nodes[at].latest = pool.add(container, events);
        self.nodes[at].next += u8::from(rule3);
        self.sync(at);
        true
    }

    fn hand_off(&mut self, setting: &Setting<'_>, pool: &mut Pool, to: usize) {
        let hint = self.nodes[FALLBACK].durable;
        if !self.receive(setting, pool, to, hint) {
            return;
        }
        let clock = |id| pool.container(id).map(Container::clock);
        let covered = clock(self.nodes[to].durable)
            .zip(clock(hint))
            .is_some_and(|(owner, hint)| owner.dominates(hint));
        if covered {
            let fallback = &mut self.nodes[FALLBACK];
            (fallback.durable, fallback.latest) = (0, 0);
        }
    }

    fn acknowledge(&mut self, pool: &Pool) {
        for write in 0..self.writes {
            let has = |node: &Node| u32::from(pool.events(node.durable) >> write & 1);
            if QUORUM <= self.nodes.iter().map(has).sum() {
                self.acked |= 1 << write;
            }
        }
    }

    /// What is broken in this state.
    pub(super) fn broken(&self, setting: &Setting<'_>, pool: &Pool) -> Option<Broken> {
        let mut union = Container::new();
        let mut events = 0;
        // Twice for operation ids, so that what one node knows reaches what was merged before it.
        let rounds = if setting.faults.retries { 2 } else { 1 };
        for _ in 0..rounds {
            for node in &self.nodes {
                if let Some(known) = pool.get(node.latest) {
                    events |= known.events;
                    if union.sync(&known.container).is_err() {
                        return Some(Broken::DotReused);
                    }
                }
            }
        }
        let known = |write: &u8| events >> write & 1 == 1;
        let replaced = (0..self.writes)
            .filter(known)
            .fold(0, |seen, write| seen | self.past[usize::from(write)]);
        let mut live = 0;
        for (_, sibling) in union.siblings() {
            let write = 1 << sibling.op.id;
            if setting.faults.retries && (live | replaced) & write != 0 {
                return Some(Broken::AppliedTwice);
            }
            live |= write;
        }
        let must_live = self.acked & events & !replaced;
        (must_live & !live != 0).then_some(Broken::Lost)
    }
}

fn uuid(node: usize) -> NodeUuid {
    NodeUuid::new(node as u128 + 1)
}

/// The node's minter, with the epochs it has taken in this process.
fn minter(at: usize, node: Node) -> Minter {
    let mut minter = Minter::new(uuid(at), node.boot.into(), u64::MAX);
    for _ in node.boot..node.next {
        minter.take().expect("the lease has no end here");
    }
    minter
}

fn request(write: usize, context: Context) -> Write {
    Write {
        op: OpId {
            principal: 0,
            id: write as u128,
        },
        request_hash: 1 + write as u64,
        context,
        value: Some(Bytes::from_static(b"v")),
        written_at_ms: 0,
        expires_at_ms: None,
        stamp: None,
        now_ms: 0,
    }
}

/// The product's predicates, less those that are left out.
fn demanded(
    setting: &Setting<'_>,
    at: usize,
    node: Node,
    local: Option<&Clock>,
    context: &Clock,
) -> Option<Rule> {
    let on = |rule| !setting.rules_off.contains(&rule);
    let Some(clock) = local else {
        return (on(Rule::Absent) && rules::absent(local)).then_some(Rule::Absent);
    };
    let ours = clock.highest(uuid(at));
    if on(Rule::Restart) && rules::restart(ours, node.boot.into()) {
        Some(Rule::Restart)
    } else if on(Rule::Amnesia) && rules::amnesia(ours, context.highest(uuid(at))) {
        Some(Rule::Amnesia)
    } else {
        None
    }
}
