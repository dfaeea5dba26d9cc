//! Asks every node what it keeps for others, for people.

use std::collections::BTreeMap;

use quorate_client::wire::{HealingReply, HintStatus, Response};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow, status};
use crate::{
    core::{Core, Origin},
    healing::hints::message::{HintMessage, Kept},
    message::{Class, Message, RpcId},
    replica::OpKey,
};

#[derive(Debug)]
pub(crate) struct HintsOp {
    origin: Origin,
    /// Who left the ring may still keep some.
    nodes: Vec<NodeId>,
    answers: BTreeMap<NodeId, (bool, Vec<(NodeId, Kept)>)>,
    deadline: Instant,
}

impl HintsOp {
    pub(crate) fn start(core: &mut Core, key: OpKey, origin: Origin) -> Self {
        let members = status::members(core);
        let nodes: Vec<NodeId> = members.iter().map(|member| member.id).collect();
        for node in &nodes {
            let (id, body) = (RpcId(key.0), HintMessage::Count);
            core.send(*node, Class::Control, Message::Hint { id, body });
        }
        Self {
            origin,
            nodes,
            answers: BTreeMap::new(),
            deadline: core.now.mono + core.limits.status_wait,
        }
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.deadline)
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        if let Answer::Other(message) = answer
            && let Message::Hint {
                body: HintMessage::Counted { complete, kept },
                ..
            } = *message
            && self.nodes.contains(&from)
        {
            self.answers.insert(from, (complete, kept));
        }
        let silent = |node: &NodeId| core.is_up(*node) && !self.answers.contains_key(node);
        if self.nodes.iter().any(silent) {
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

    fn end(&self, core: &mut Core) -> Flow {
        let mut reply = HealingReply::default();
        for node in &self.nodes {
            let holder = core.name(*node);
            let Some((complete, kept)) = self.answers.get(node) else {
                reply.reasons.push(format!("{holder} does not answer"));
                continue;
            };
            if !complete {
                let reason = format!("{holder} is still reading what it keeps");
                reply.reasons.push(reason);
            }
            for (owner, kept) in kept {
                reply.hints += kept.count;
                reply.kept.push(HintStatus {
                    holder: holder.clone(),
                    owner: core.name(*owner),
                    count: kept.count,
                    bytes: kept.bytes,
                    oldest_ms: kept.oldest_ms,
                    per_minute: kept.per_minute,
                    trouble: kept.trouble.clone(),
                });
            }
        }
        reply
            .kept
            .sort_by(|a, b| (&a.holder, &a.owner).cmp(&(&b.holder, &b.owner)));
        core.reply(self.origin, Response::Healing(reply));
        Flow::Over
    }
}
