//! Asks every member how it is, for `cluster status`, and compares bucket catalogues on the way.
//!
//! Without a client it is the periodic exchange that brings a node which was away up to date.

use std::collections::BTreeMap;

use quorate_client::wire::{NodeStatus, Response, StatusReply};
use quorate_gossip::{Instant, State};
use quorate_ring::{Member, NodeId};

use super::{Answer, Flow};
use crate::{
    core::{Core, Origin, Voice},
    message::{Class, Message, RpcId},
    replica::OpKey,
};

#[derive(Debug)]
pub(crate) struct StatusOp {
    origin: Option<Origin>,
    asked: Vec<NodeId>,
    reports: BTreeMap<NodeId, NodeStatus>,
    deadline: Instant,
}

impl StatusOp {
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Option<Origin>,
        asked: Vec<NodeId>,
        wait: Instant,
    ) -> Self {
        let catalogue_hash = core.catalogue.hash();
        for node in &asked {
            let message = Message::Status {
                id: RpcId(key.0),
                catalogue_hash,
            };
            core.send(*node, Class::Control, message);
        }
        Self {
            origin,
            asked,
            reports: BTreeMap::new(),
            deadline: wait,
        }
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.deadline)
    }

    /// True once everybody who was asked has answered or time is up.
    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        let Answer::Other(message) = answer else {
            return self.wait();
        };
        if let Message::StatusReport { status, .. } = *message
            && self.asked.contains(&from)
        {
            self.reports.insert(from, *status);
        }
        if self
            .asked
            .iter()
            .any(|node| core.is_up(*node) && !self.reports.contains_key(node))
        {
            return self.wait();
        }
        self.end(core)
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        if core.now.mono < self.deadline {
            return self.wait();
        }
        self.end(core)
    }

    fn end(&mut self, core: &mut Core) -> Flow {
        let Some(origin) = self.origin else {
            core.peers_asked = true;
            return Flow::Over;
        };
        let mut nodes: Vec<NodeStatus> = Vec::new();
        for member in members(core) {
            let mut row = if member.id == core.me {
                own(core)
            } else {
                self.reports.remove(&member.id).unwrap_or_default()
            };
            row.draining = if member.id == core.me {
                core.upkeep.drains
            } else {
                core.upkeep.draining.contains(&member.id)
            };
            let state = core.gossip.state(member.id).unwrap_or(State::Up);
            row.rebuilding |= core.decree.suspends(member.id);
            row.name.clone_from(&member.name);
            row.address.clone_from(&member.address);
            row.zone.clone_from(&member.zone);
            row.weight = member.weight;
            row.owned_millionths = owned(core, member.id);
            row.state = String::from(match (state, place(core, member.id)) {
                (State::Suspect, _) => "suspect",
                (State::Down, _) => "down",
                (State::Up, (true, true)) => "up",
                (State::Up, (true, false)) => "leaving",
                (State::Up, (false, _)) => "joining",
            });
            if row.id.is_empty()
                && let Some((update, _)) = core.gossip.row(member.id)
                && update.uuid.get() != 0
            {
                row.id = update.uuid.to_string();
            }
            nodes.push(row);
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        let kept: Vec<_> = nodes
            .iter()
            .flat_map(|node| node.hints_for.clone())
            .collect();
        for node in &mut nodes {
            let for_it = kept.iter().filter(|(name, _)| *name == node.name);
            node.hints_owed = for_it.map(|(_, count)| count).sum();
        }
        let reply = StatusReply {
            cluster_name: core.cluster_name.clone(),
            cluster_id: format!("{:032x}", core.cluster),
            epoch: core.ring.epoch().get(),
            ring_state: core.decree.phase.as_str().to_owned(),
            nodes,
        };
        core.reply(origin, Response::Status(reply));
        Flow::Over
    }
}

/// Everybody: in the ring, on the way into or out of it, or waiting for a place.
pub(crate) fn members(core: &Core) -> Vec<Member> {
    let ring = core.ring.members().iter();
    let other = core.other.iter().flat_map(|ring| ring.members());
    let waiting = core.outsiders.values().map(|outsider| &outsider.member);
    let all = ring.chain(other).chain(waiting);
    let all: BTreeMap<NodeId, &Member> = all.map(|member| (member.id, member)).collect();
    all.into_values()
        .map(|member| core.located(member))
        .collect()
}

/// Whether a node is in the ring that is read, and in the one that will be.
fn place(core: &Core, node: NodeId) -> (bool, bool) {
    let now = core.ring.member(node).is_some();
    (now, core.decree.ring.member(node).is_some())
}

/// This node's own row, as far as it knows it.
pub(crate) fn own(core: &Core) -> NodeStatus {
    NodeStatus {
        name: core.name(core.me),
        id: core.replica.identity().uuid.to_string(),
        state: "up".to_owned(),
        epoch: core.ring.epoch().get(),
        hints_held: core.replica.hints().count() as u64,
        hints_for: hints_for(core),
        corrupt: core.upkeep.corrupt,
        mended: core.upkeep.mended,
        scrubbed_seconds_ago: core
            .upkeep
            .scrubbed
            .map(|at| core.now.mono.since(at).as_secs()),
        set_aside: core.upkeep.aside.0,
        disk_bytes: core.upkeep.disk_bytes,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: core.now.mono.since(core.started).as_secs(),
        rebuilding: core.voice == Voice::Rebuilding,
        behind_keys: core.behind.keys,
        oldest_pair: core.behind.oldest.map(|(peer, agreed)| {
            let ago = core.now.mono.since(agreed);
            (core.name(peer), ago.as_secs())
        }),
        ..NodeStatus::default()
    }
}

/// How many hints this node keeps for whom.
fn hints_for(core: &Core) -> Vec<(String, u64)> {
    let sums = core.replica.hints().sums();
    sums.map(|sum| (core.name(sum.owner), sum.count as u64))
        .collect()
}

/// Share of all preference-list places a node holds, in millionths.
fn owned(core: &Core, node: NodeId) -> u32 {
    let count = core.ring.partitions().count();
    let n = usize::from(core.ring.replicas_max()).min(3);
    let places = u64::from(count) * n as u64;
    let list = |p| core.ring.list(quorate_ring::Partition(p)).owners(n);
    let held = (0..count).filter(|p| list(*p).contains(&node)).count() as u64;
    u32::try_from(held * 1_000_000 / places).unwrap_or(1_000_000)
}
