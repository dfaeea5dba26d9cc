//! A write handed on to a replica of its key, because only a replica can mint its dot.
//!
//! A replica that is silent for long is given up for the next one, under the same operation id and
//! marked as a retry; from then on a refusal proves nothing, since the first may have executed.
//! When no replica is left and the quorum is sloppy, the next node along the ring coordinates as a
//! stand-in.

use std::time::Duration;

use quorate_client::wire::{ErrorBody, ErrorCode, Response, WriteRequest};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow, write::Plan};
use crate::{
    core::{Core, Origin},
    message::{Class, Message, Principal, RpcId},
    replica::{Address, OpKey},
};

/// How long to wait for the rings of two nodes to become one.
const AFTER_STALE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct ForwardOp {
    key: OpKey,
    origin: Origin,
    principal: Principal,
    write: WriteRequest,
    address: Address,
    n: u8,
    sloppy: bool,
    replicas: Vec<NodeId>,
    tried: Vec<NodeId>,
    again: Instant,
    deadline: Instant,
}

impl ForwardOp {
    /// Hands the write to the best replica, or, if none is up, to the first who may stand in for
    /// one. Answers at once, and is none, if all are down.
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        principal: Principal,
        (write, plan): (WriteRequest, Plan),
        deadline: Instant,
    ) -> Option<Self> {
        let mut op = Self {
            key,
            origin,
            principal,
            write,
            address: plan.address,
            n: plan.bucket.info.n,
            sloppy: plan.sloppy,
            replicas: plan.replicas,
            tried: Vec::new(),
            again: deadline,
            deadline,
        };
        if op.next(core) {
            return Some(op);
        }
        let error = core.unavailable("w", 1, &op.replicas);
        core.reply(origin, Response::Error(error));
        None
    }

    fn next(&mut self, core: &mut Core) -> bool {
        let mut order = core.by_speed(&self.replicas);
        if self.sloppy && order.iter().all(|node| self.tried.contains(node)) {
            order.extend(core.fallbacks_up(&self.address, self.n));
        }
        let fresh = order.iter().find(|node| !self.tried.contains(node));
        let Some(node) = fresh.or_else(|| order.first()).copied() else {
            return false;
        };
        self.write.retry |= !self.tried.is_empty();
        self.tried.push(node);
        let patience = core.patience(node) * 4 + Duration::from_millis(50);
        let turns = u32::try_from(self.tried.len()).unwrap_or(u32::MAX);
        self.again = core.now.mono + patience.saturating_mul(turns);
        let message = Message::Forward {
            id: RpcId(self.key.0),
            principal: self.principal.clone(),
            budget: self.deadline.since(core.now.mono),
            write: self.write.clone(),
            stand_in: !self.replicas.contains(&node),
        };
        core.send(node, Class::Data, message);
        true
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.again.min(self.deadline))
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        let response = match answer {
            Answer::Forwarded(response) => response,
            Answer::Stale => {
                // It has not done it, for certain: it is no replica in its ring.
                self.tried.retain(|node| *node != from);
                self.again = core.now.mono + AFTER_STALE;
                return self.wait();
            }
            Answer::Fetched { .. } | Answer::Replicated(_) | Answer::Other(_) => {
                return self.wait();
            }
        };
        if !self.tried.contains(&from) {
            return self.wait();
        }
        let mut response = *response;
        if let Response::Error(error) = response {
            let doubtful = 1 < self.tried.len();
            response = Response::Error(if doubtful { self.doubt(error) } else { error });
        }
        core.reply(self.origin, response);
        Flow::Over
    }

    /// The ring has changed: another node may have to coordinate.
    pub(crate) fn replan(&mut self, core: &mut Core) -> Flow {
        if let Ok(bucket) = core.catalogue.find(&self.write.bucket) {
            (_, self.replicas) = core.locate(&bucket, &self.write.key);
        }
        if self.tried.is_empty() {
            self.again = core.now.mono;
        }
        self.wait()
    }

    /// What one replica refused, another may have done.
    fn doubt(&self, error: ErrorBody) -> ErrorBody {
        let certain = matches!(
            error.code,
            ErrorCode::InvalidArgument | ErrorCode::BadContext | ErrorCode::Denied
        );
        if certain {
            return error;
        }
        let key = Core::show_key(&self.write.key);
        let message = format!(
            "{} coordinators were asked to write key {key}, and one said: {error}. Another may \
             have applied it. Retry with the same --op-id",
            self.tried.len(),
        );
        ErrorBody::new(ErrorCode::UnknownOutcome, message)
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        let now = core.now.mono;
        if self.deadline <= now {
            let names = core.names(self.tried.iter().copied()).join(", ");
            let key = Core::show_key(&self.write.key);
            let message = format!(
                "no answer in time from {names}, asked to coordinate the write of key {key}. It \
                 may have been applied. Retry with the same --op-id"
            );
            let error = ErrorBody::new(ErrorCode::UnknownOutcome, message);
            core.reply(self.origin, Response::Error(error));
            return Flow::Over;
        }
        if self.again <= now && !self.next(core) {
            self.again = self.deadline;
        }
        self.wait()
    }
}
