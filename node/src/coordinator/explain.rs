//! What each replica of a key holds, for people: nothing is merged, nothing repaired.

use std::collections::BTreeMap;

use quorate_client::wire::{ExplainReply, ReplicaReport, Response};
use quorate_gossip::Instant;
use quorate_ring::{NodeId, Partition};

use super::{Answer, Flow, write::version};
use crate::{
    causality::Container,
    core::{Core, Notice, Origin},
    message::{Class, Message, ReplicaState, RpcId},
    replica::{Address, Done, Held, Job, OpKey},
    store::format::{self, Record},
};

#[derive(Debug)]
pub(crate) struct ExplainOp {
    origin: Origin,
    address: Address,
    partition: Partition,
    replicas: Vec<NodeId>,
    reports: BTreeMap<NodeId, ReplicaReport>,
    deadline: Instant,
}

impl ExplainOp {
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        place: (Address, Vec<NodeId>),
        deadline: Instant,
    ) -> Self {
        let (address, replicas) = place;
        let token = quorate_ring::Token::new(address.token);
        let partition = core.ring.partitions().of(token);
        for node in replicas.clone() {
            if node == core.me {
                core.submit(key, &address, Job::Read);
                continue;
            }
            let message = Message::Fetch {
                id: RpcId(key.0),
                epoch: core.ring.epoch(),
                bucket: address.bucket,
                token: address.token,
                key: address.key.clone(),
            };
            core.send(node, Class::Data, message);
        }
        let deadline = deadline.min(core.now.mono + core.limits.status_wait);
        Self {
            origin,
            address,
            partition,
            replicas,
            reports: BTreeMap::new(),
            deadline,
        }
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.deadline)
    }

    pub(crate) fn notice(&mut self, core: &mut Core, notice: Notice) -> Flow {
        let me = core.me;
        let report = match notice {
            Notice::Local(Done::Read(Held::Absent)) => report(core, me, "absent", None),
            Notice::Local(Done::Read(Held::Unreadable)) => report(core, me, "unreadable", None),
            Notice::Local(Done::Read(Held::Present(stored))) => {
                report(core, me, "present", Some(&stored.record))
            }
            Notice::Local(_) | Notice::Read(_) | Notice::Repaired(_) => return self.wait(),
        };
        self.took(core, me, report)
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        let Answer::Fetched { state, .. } = answer else {
            return self.wait();
        };
        let report = match state {
            ReplicaState::Absent => report(core, from, "absent", None),
            ReplicaState::Unreadable => report(core, from, "unreadable", None),
            ReplicaState::Present(bytes) => {
                match format::decode(self.address.bucket.0, &self.address.key, &bytes) {
                    Ok(record) => report(core, from, "present", Some(&record)),
                    Err(_) => report(core, from, "unreadable", None),
                }
            }
        };
        self.took(core, from, report)
    }

    fn took(&mut self, core: &mut Core, node: NodeId, report: ReplicaReport) -> Flow {
        if self.replicas.contains(&node) {
            self.reports.insert(node, report);
        }
        if self.reports.len() < self.replicas.len() {
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
        let mut replicas = Vec::with_capacity(self.replicas.len());
        for node in &self.replicas {
            let found = self.reports.remove(node);
            replicas.push(found.unwrap_or_else(|| report(core, *node, "silent", None)));
        }
        let fallbacks = core.ring.fallbacks(self.partition, self.replicas.len());
        let reply = ExplainReply {
            token: self.address.token,
            partition: self.partition.0,
            replicas,
            fallbacks: fallbacks.map(|node| core.name(node)).collect(),
        };
        core.reply(self.origin, Response::Explained(reply));
        Flow::Over
    }
}

fn report(core: &Core, node: NodeId, state: &str, record: Option<&Record>) -> ReplicaReport {
    let suspect = record.is_some_and(|record| record.suspect);
    let container = record.map(|record| &record.container);
    let versions = container.into_iter().flat_map(Container::siblings);
    let clock = container.into_iter().flat_map(|c| c.clock().iter());
    ReplicaReport {
        node: core.name(node),
        role: "primary".to_owned(),
        state: if suspect { "suspect" } else { state }.to_owned(),
        versions: versions
            .map(|(dot, sibling)| version(dot, sibling, false))
            .collect(),
        clock: clock.map(|(actor, n)| (actor.to_string(), n)).collect(),
    }
}
