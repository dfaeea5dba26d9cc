//! A change of the bucket catalogue on its way to every node.
//!
//! It counts once every live member and a majority of all members have it on disk, so that the
//! next command through any live node sees it. Members that are down learn of it when they return.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_client::wire::{BucketInfo, ErrorBody, ErrorCode, Response};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow};
use crate::{
    core::{Core, Origin},
    message::{Class, Message, RpcId},
    replica::OpKey,
};

#[derive(Debug)]
pub(crate) struct CatalogueOp {
    key: OpKey,
    origin: Origin,
    info: BucketInfo,
    bytes: Bytes,
    stored: BTreeSet<NodeId>,
    again: Instant,
    deadline: Instant,
}

impl CatalogueOp {
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        info: BucketInfo,
        deadline: Instant,
    ) -> Self {
        let bytes = core.catalogue.to_bytes();
        let again = core.now.mono;
        let stored = BTreeSet::new();
        let mut op = Self {
            key,
            origin,
            info,
            bytes,
            stored,
            again,
            deadline,
        };
        op.send(core);
        op
    }

    fn send(&mut self, core: &mut Core) {
        let members: Vec<NodeId> = core.ring.members().iter().map(|member| member.id).collect();
        for node in members {
            if node != core.me && !self.stored.contains(&node) {
                let catalogue = self.bytes.clone();
                let message = Message::Catalogue {
                    id: RpcId(self.key.0),
                    catalogue,
                };
                core.send(node, Class::Control, message);
            }
        }
        self.again = core.now.mono + core.limits.replica_limit_max / 2;
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.again.min(self.deadline))
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        if let Answer::Other(message) = answer
            && matches!(*message, Message::CatalogueStored { .. })
        {
            self.stored.insert(from);
        }
        self.check(core)
    }

    /// Our own store has it.
    pub(crate) fn stored_here(&mut self, core: &mut Core) -> Flow {
        self.stored.insert(core.me);
        self.check(core)
    }

    fn check(&self, core: &mut Core) -> Flow {
        let members = core.ring.members();
        let missing = |id: &NodeId| core.is_up(*id) && !self.stored.contains(id);
        let enough = members.len() < 2 * self.stored.len();
        if !enough
            || members
                .iter()
                .map(|member| member.id)
                .any(|id| missing(&id))
        {
            return self.wait();
        }
        core.reply(self.origin, Response::Buckets(vec![self.info.clone()]));
        Flow::Over
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        if self.deadline <= core.now.mono {
            let silent = core.ring.members().iter().map(|member| member.id);
            let silent = core.names(silent.filter(|id| !self.stored.contains(id)));
            let message = format!(
                "bucket {:?} is not confirmed by {}; it may spread later. Try the same command \
                 again",
                self.info.name,
                silent.join(", "),
            );
            let error = ErrorBody::new(ErrorCode::UnknownOutcome, message);
            core.reply(self.origin, Response::Error(error));
            return Flow::Over;
        }
        if self.again <= core.now.mono {
            self.send(core);
            // Somebody may have gone down meanwhile, which lowers what is needed.
            return self.check(core);
        }
        self.wait()
    }
}
