//! What each replica of a key holds, and what others keep of it, for people: nothing is merged,
//! nothing repaired.

use std::collections::BTreeMap;

use quorate_client::wire::{ExplainReply, HintReport, ReplicaReport, Response, Version};
use quorate_gossip::Instant;
use quorate_ring::{NodeId, Partition};

use super::{Answer, Flow, write::version};
use crate::{
    causality::Container,
    core::{Core, Notice, Origin},
    healing::{hints::message::HintMessage, message::Place},
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
    /// Everybody, and what they keep of the key for others.
    others: Vec<NodeId>,
    hints: BTreeMap<NodeId, Vec<HintReport>>,
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
                // What versions there are is all that is shown.
                whole_max: Some(0),
            };
            core.send(node, Class::Data, message);
        }
        let members = core.ring.members().iter();
        let others: Vec<NodeId> = members.map(|member| member.id).collect();
        for node in &others {
            let body = HintMessage::Ask {
                place: Place::from(&address),
            };
            let id = RpcId(key.0);
            core.send(*node, Class::Data, Message::Hint { id, body });
        }
        let deadline = deadline.min(core.now.mono + core.limits.status_wait);
        Self {
            origin,
            address,
            partition,
            replicas,
            reports: BTreeMap::new(),
            others,
            hints: BTreeMap::new(),
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
        let state = match answer {
            Answer::Fetched { state, .. } => state,
            Answer::Other(message) => return self.took_hints(core, from, *message),
            Answer::Replicated(_) | Answer::Forwarded(_) | Answer::Stale => return self.wait(),
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
        self.check(core)
    }

    fn took_hints(&mut self, core: &mut Core, from: NodeId, message: Message) -> Flow {
        if let Message::Hint {
            body: HintMessage::Held { hints, .. },
            ..
        } = message
            && self.others.contains(&from)
        {
            let kept = hints.iter().filter_map(|(owner, bytes)| {
                let record = format::decode(self.address.bucket.0, &self.address.key, bytes);
                record.ok().map(|record| HintReport {
                    holder: core.name(from),
                    owner: core.name(*owner),
                    versions: shown(Some(&record.container)),
                    clock: clock(Some(&record.container)),
                })
            });
            let kept = kept.collect();
            self.hints.insert(from, kept);
        }
        self.check(core)
    }

    fn check(&mut self, core: &mut Core) -> Flow {
        let silent = |node: &NodeId| core.is_up(*node) && !self.hints.contains_key(node);
        if self.reports.len() < self.replicas.len() || self.others.iter().any(silent) {
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
            hints: std::mem::take(&mut self.hints)
                .into_values()
                .flatten()
                .collect(),
        };
        core.reply(self.origin, Response::Explained(reply));
        Flow::Over
    }
}

fn report(core: &Core, node: NodeId, state: &str, record: Option<&Record>) -> ReplicaReport {
    let suspect = record.is_some_and(|record| record.suspect);
    let container = record.map(|record| &record.container);
    ReplicaReport {
        node: core.name(node),
        role: "primary".to_owned(),
        state: if suspect { "suspect" } else { state }.to_owned(),
        versions: shown(container),
        clock: clock(container),
    }
}

fn shown(container: Option<&Container>) -> Vec<Version> {
    let versions = container.into_iter().flat_map(Container::siblings);
    versions
        .map(|(dot, sibling)| version(dot, sibling, false))
        .collect()
}

fn clock(container: Option<&Container>) -> Vec<(String, u64)> {
    let clock = container.into_iter().flat_map(|c| c.clock().iter());
    clock.map(|(actor, n)| (actor.to_string(), n)).collect()
}
