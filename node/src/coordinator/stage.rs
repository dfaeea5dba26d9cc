//! Staged changes on their way to every node.
//!
//! They count once every live member and a majority of all members have them on disk, so that the
//! next command through any live node sees them.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_client::wire::{ErrorBody, ErrorCode, Response, RingAnswer};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow};
use crate::{
    core::{Core, Origin},
    message::{Class, Message, RpcId},
    replica::OpKey,
    ring_message::RingMessage,
};

#[derive(Debug)]
pub(crate) struct StageOp {
    key: OpKey,
    origin: Origin,
    answer: RingAnswer,
    staged: Bytes,
    members: Vec<NodeId>,
    stored: BTreeSet<NodeId>,
    again: Instant,
    deadline: Instant,
}

impl StageOp {
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        (staged, answer): (Bytes, RingAnswer),
        deadline: Instant,
    ) -> Self {
        let mut op = Self {
            key,
            origin,
            answer,
            staged,
            members: core.ring.members().iter().map(|m| m.id).collect(),
            stored: BTreeSet::new(),
            again: core.now.mono,
            deadline,
        };
        op.send(core);
        op
    }

    fn send(&mut self, core: &mut Core) {
        for node in &self.members {
            if *node != core.me && !self.stored.contains(node) {
                let message = RingMessage::Staged(self.staged.clone());
                let id = RpcId(self.key.0);
                core.send(*node, Class::Control, Message::Ring { id, message });
            }
        }
        self.again = core.now.mono + core.limits.replica_limit_max / 2;
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.again.min(self.deadline))
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        if let Answer::Other(message) = answer
            && let Message::Ring {
                message: RingMessage::StagedIs(_),
                ..
            } = *message
        {
            self.stored.insert(from);
        }
        self.check(core)
    }

    /// Our own store has them.
    pub(crate) fn stored_here(&mut self, core: &mut Core) -> Flow {
        self.stored.insert(core.me);
        self.check(core)
    }

    fn check(&self, core: &mut Core) -> Flow {
        let held = self.members.iter().filter(|id| self.stored.contains(id));
        let enough = self.members.len() < 2 * held.count();
        let missing = |id: &&NodeId| core.is_up(**id) && !self.stored.contains(id);
        if !enough || self.members.iter().find(missing).is_some() {
            return self.wait();
        }
        let answer = Response::RingChange(Box::new(self.answer.clone()));
        core.reply(self.origin, answer);
        Flow::Over
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        if self.deadline <= core.now.mono {
            let silent = self.members.iter().filter(|id| !self.stored.contains(id));
            let message = format!(
                "what is staged is not confirmed by {}; it may spread later. Try the same command \
                 again",
                core.names(silent.copied()).join(", "),
            );
            let error = ErrorBody::new(ErrorCode::UnknownOutcome, message);
            core.reply(self.origin, Response::Error(error));
            return Flow::Over;
        }
        if self.again <= core.now.mono {
            self.send(core);
            return self.check(core);
        }
        self.wait()
    }
}
