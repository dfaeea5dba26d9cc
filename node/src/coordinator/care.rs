//! Asks nodes about their scrubs, or one of them to drain, and tells what they said.
//!
//! Whoever is silent is named as silent; a question that is lost is not repeated, because the
//! operator's command asks again.

use std::collections::BTreeMap;

use quorate_client::wire::{ErrorBody, ErrorCode, HealingReply, Response, ScrubStatus};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow};
use crate::{
    core::{Core, Origin},
    healing::care::{CareMessage, ScrubProgress},
    message::{Class, Message, RpcId},
    replica::OpKey,
};

#[derive(Debug)]
pub(crate) struct CareOp {
    origin: Origin,
    asked: Vec<NodeId>,
    /// One node is asked to drain, or to take requests again.
    drains: Option<bool>,
    scrubs: BTreeMap<NodeId, ScrubProgress>,
    deadline: Instant,
}

impl CareOp {
    /// Asks all of these nodes how far their scrubs are; a pass begins now if that is wanted.
    pub(crate) fn scrub(core: &mut Core, key: OpKey, origin: Origin, begin: bool) -> Self {
        let members = core.ring.members().iter().map(|member| member.id);
        let asked: Vec<NodeId> = members.collect();
        for node in &asked {
            send(core, *node, key, CareMessage::Scrub { begin });
        }
        Self {
            origin,
            asked,
            drains: None,
            scrubs: BTreeMap::new(),
            deadline: core.now.mono + core.limits.status_wait,
        }
    }

    /// Asks one node to drain, or to take requests again.
    pub(crate) fn drain(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        node: NodeId,
        on: bool,
    ) -> Self {
        send(core, node, key, CareMessage::Drain { on });
        Self {
            origin,
            asked: vec![node],
            drains: Some(on),
            scrubs: BTreeMap::new(),
            deadline: core.now.mono + core.limits.status_wait,
        }
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.deadline)
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        if let Answer::Other(message) = answer
            && let Message::Care { body, .. } = *message
            && self.asked.contains(&from)
        {
            if let CareMessage::Scrubbing(progress) = body {
                self.scrubs.insert(from, progress);
            } else if matches!(body, CareMessage::Drained { on } if self.drains == Some(on)) {
                core.reply(self.origin, Response::Healing(HealingReply::default()));
                return Flow::Over;
            }
        }
        let silent = |node: &NodeId| core.is_up(*node) && !self.scrubs.contains_key(node);
        if self.asked.iter().any(silent) {
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
        if self.drains.is_some() {
            let names = core.names(self.asked.iter().copied()).join(", ");
            let message = format!("{names} does not answer; ask again");
            let error = ErrorBody::new(ErrorCode::Unavailable, message);
            core.reply(self.origin, Response::Error(error));
            return Flow::Over;
        }
        let rows = self.asked.iter().map(|node| {
            let name = core.name(*node);
            self.scrubs.get(node).map_or_else(
                || ScrubStatus {
                    node: name.clone(),
                    silent: true,
                    ..ScrubStatus::default()
                },
                |progress| row(name.clone(), progress),
            )
        });
        let mut scrubs: Vec<ScrubStatus> = rows.collect();
        scrubs.sort_by(|a, b| a.node.cmp(&b.node));
        let reply = HealingReply {
            scrubs,
            ..HealingReply::default()
        };
        core.reply(self.origin, Response::Healing(reply));
        Flow::Over
    }
}

fn send(core: &mut Core, to: NodeId, key: OpKey, body: CareMessage) {
    let id = RpcId(key.0);
    core.send(to, Class::Control, Message::Care { id, body });
}

fn row(node: String, progress: &ScrubProgress) -> ScrubStatus {
    ScrubStatus {
        node,
        silent: false,
        wished: progress.wished,
        fulfilled: progress.fulfilled,
        passes: progress.passes,
        running: progress.running,
        reached_millionths: progress.reached_millionths,
        records: progress.records,
        bytes: progress.bytes,
        damaged: progress.damaged,
        ended_ms_ago: progress.ended_ms_ago,
    }
}
