//! A change of the buckets: wanted, agreed on, and known to every node.
//!
//! Which buckets there are the members agree on as they agree on the ring, by a decree of its own:
//! of two changes at one time one comes first, and the other is checked against what it made.
//! Whoever asked is answered when besides every live member and a majority of all have it on disk,
//! so that the next command through any live node sees it. Members that are down learn of it when
//! they return.
//!
//! Not decided here: what the change makes of the buckets, and when it is proposed
//! (`node::catalogue`).

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_client::wire::{BucketInfo, BucketRequest, ErrorBody, ErrorCode, Response};
use quorate_gossip::Instant;
use quorate_ring::{Decree, NodeId, Phase};

use super::{Answer, Flow};
use crate::{
    core::{Core, Origin},
    message::{Class, Message, RpcId},
    replica::OpKey,
};

#[derive(Debug)]
enum State {
    /// Not proposed, or something else was agreed on in its place.
    Waiting,
    /// A decree that may be agreed on.
    Proposed {
        decree: Box<Decree>,
        info: BucketInfo,
    },
    /// Agreed on, and on its way to every node.
    Spreading {
        info: BucketInfo,
        bytes: Bytes,
        stored: BTreeSet<NodeId>,
        again: Instant,
    },
}

#[derive(Debug)]
pub(crate) struct CatalogueOp {
    key: OpKey,
    origin: Origin,
    request: BucketRequest,
    deadline: Instant,
    state: State,
}

impl CatalogueOp {
    pub(crate) const fn new(
        key: OpKey,
        origin: Origin,
        request: BucketRequest,
        deadline: Instant,
    ) -> Self {
        let state = State::Waiting;
        Self {
            key,
            origin,
            request,
            deadline,
            state,
        }
    }

    /// What is wanted, if nothing has been proposed for it.
    pub(crate) const fn waits(&self) -> Option<(&BucketRequest, Instant)> {
        match self.state {
            State::Waiting => Some((&self.request, self.deadline)),
            State::Proposed { .. } | State::Spreading { .. } => None,
        }
    }

    /// This decree would do what is wanted.
    pub(crate) fn proposed(&mut self, decree: Decree, info: BucketInfo) {
        let decree = Box::new(decree);
        self.state = State::Proposed { decree, info };
    }

    /// It cannot be done.
    pub(crate) fn refuse(&self, core: &mut Core, error: ErrorBody) -> Flow {
        core.reply(self.origin, Response::Error(error));
        Flow::Over
    }

    /// A decree was adopted. True if it is ours, or includes what ours has changed.
    pub(crate) fn decided(&mut self, core: &mut Core, adopted: &Decree) -> bool {
        let State::Proposed { decree, info } = &self.state else {
            return false;
        };
        let ours = adopted.buckets == decree.buckets;
        if ours && decree.epoch <= adopted.epoch {
            self.state = State::Spreading {
                info: info.clone(),
                bytes: core.catalogue.to_bytes(),
                stored: BTreeSet::new(),
                again: core.now.mono,
            };
            self.send(core);
            return true;
        }
        // Of a later decree nobody can tell whether ours came before it.
        if adopted.epoch == decree.epoch {
            self.state = State::Waiting;
        }
        false
    }

    fn send(&mut self, core: &mut Core) {
        let State::Spreading {
            bytes,
            stored,
            again,
            ..
        } = &mut self.state
        else {
            return;
        };
        let members: Vec<NodeId> = core.ring.members().iter().map(|member| member.id).collect();
        for node in members {
            if node != core.me && !stored.contains(&node) {
                let catalogue = bytes.clone();
                let message = Message::Catalogue {
                    id: RpcId(self.key.0),
                    catalogue,
                };
                core.send(node, Class::Control, message);
            }
        }
        *again = core.now.mono + core.limits.replica_limit_max / 2;
    }

    pub(crate) fn wait(&self) -> Flow {
        match &self.state {
            State::Waiting | State::Proposed { .. } => Flow::Until(self.deadline),
            State::Spreading { again, .. } => Flow::Until(self.deadline.min(*again)),
        }
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        if let Answer::Other(message) = answer
            && matches!(*message, Message::CatalogueStored { .. })
        {
            self.stored(from);
        }
        self.check(core)
    }

    /// Our own store has what was agreed on.
    pub(crate) fn stored_here(&mut self, core: &mut Core) -> Flow {
        self.stored(core.me);
        self.check(core)
    }

    fn stored(&mut self, node: NodeId) {
        if let State::Spreading { stored, .. } = &mut self.state {
            stored.insert(node);
        }
    }

    fn check(&self, core: &mut Core) -> Flow {
        let State::Spreading { info, stored, .. } = &self.state else {
            return self.wait();
        };
        let members = core.ring.members();
        let missing = |id: &NodeId| core.is_up(*id) && !stored.contains(id);
        let enough = members.len() < 2 * stored.len();
        if !enough
            || members
                .iter()
                .map(|member| member.id)
                .any(|id| missing(&id))
        {
            return self.wait();
        }
        core.reply(self.origin, Response::Buckets(vec![info.clone()]));
        Flow::Over
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        if self.deadline <= core.now.mono {
            let error = self.too_late(core);
            return self.refuse(core, error);
        }
        if let State::Spreading { again, .. } = &self.state
            && *again <= core.now.mono
        {
            self.send(core);
            // Somebody may have gone down meanwhile, which lowers what is needed.
            return self.check(core);
        }
        self.wait()
    }

    fn too_late(&self, core: &Core) -> ErrorBody {
        let name = &self.request.name;
        match &self.state {
            State::Waiting if core.decree.phase != Phase::Stable => {
                let message = format!(
                    "the ring is changing ({}), and buckets are changed before or after that; \
                     bucket {name:?} was not changed. See quorate ring transfers",
                    core.decree.phase.as_str(),
                );
                ErrorBody::new(ErrorCode::Conflict, message)
            }
            State::Waiting => {
                let message = format!(
                    "other changes were agreed on all the time; bucket {name:?} was not changed. \
                     Try again"
                );
                ErrorBody::new(ErrorCode::Conflict, message)
            }
            State::Proposed { .. } => {
                let message = format!(
                    "no majority of the ring's members answered in time; the change of bucket \
                     {name:?} may still be agreed on. See quorate bucket show"
                );
                ErrorBody::new(ErrorCode::UnknownOutcome, message)
            }
            State::Spreading { stored, .. } => {
                let silent = core.ring.members().iter().map(|member| member.id);
                let silent = core.names(silent.filter(|id| !stored.contains(id)));
                let message = format!(
                    "the change of bucket {name:?} is agreed on and not confirmed by {}; they \
                     learn of it when they answer again",
                    silent.join(", "),
                );
                ErrorBody::new(ErrorCode::UnknownOutcome, message)
            }
        }
    }
}
