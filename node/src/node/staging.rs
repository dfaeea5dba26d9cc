//! What operators ask of the ring: stage, plan, commit, abort, and how far a change is.
//!
//! Nothing here changes the ring: a commit proposes what the plan with that digest says, if the
//! plan is still the same.

use std::sync::Arc;

use bytes::Bytes;
use quorate_client::wire::{
    ErrorBody, ErrorCode, PlanMove, PlanNode, PlanReply, Response, RingAnswer, RingRequest,
    TransferRow,
};
use quorate_gossip::Instant;
use quorate_ring::{Change, Decree, Member, Move, NodeId, Phase, Plan, Staged};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Node, Running,
    foresight::{self, Foresight},
    ring::StagedWaiter,
};
use crate::{
    coordinator::{Operation, stage::StageOp},
    core::Origin,
    event::Event,
    message::{Principal, RpcId},
    ring_message::RingMessage,
};

fn invalid(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidArgument, message)
}

fn conflict(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::Conflict, message)
}

impl Node {
    pub(crate) fn begin_ring(
        &mut self,
        origin: Origin,
        principal: &Principal,
        request: &RingRequest,
    ) -> Result<(), ErrorBody> {
        let deadline = self.core.deadline(request.timeout_ms);
        match request.verb.as_str() {
            "remove"
                if self
                    .core
                    .outsiders
                    .contains_key(&NodeId::of_name(&request.node)) =>
            {
                self.forget_outsider(origin, &request.node)
            }
            "join" | "leave" | "remove" | "replace" | "weight" | "zone" | "resize" => {
                let change = self.change(request)?;
                self.stage(origin, change, deadline)
            }
            "unstage" => {
                self.desk.staged.clear(self.core.me);
                self.share_staged(origin, deadline);
                Ok(())
            }
            "plan" => {
                let plan = self.plan_ring()?;
                let answer = RingAnswer {
                    plan: Some(self.plan_reply(&plan)),
                    ..self.ring_answer()
                };
                self.core
                    .reply(origin, Response::RingChange(Box::new(answer)));
                Ok(())
            }
            "commit" => self.commit(origin, principal, request, deadline),
            "abort" => self.abort(origin, deadline),
            "transfers" => {
                let answer = self.ring_answer();
                self.core
                    .reply(origin, Response::RingChange(Box::new(answer)));
                Ok(())
            }
            "drain" | "undrain" => self.drain_node(origin, &request.node, request.verb == "drain"),
            other => Err(invalid(format!("the ring knows no verb {other:?}"))),
        }
    }

    fn change(&self, request: &RingRequest) -> Result<Change, ErrorBody> {
        let name = &request.node;
        let newcomer = |name: &str| {
            let id = NodeId::of_name(name);
            // Who has just left is known from the ring that was left.
            let left = self.core.decree.member(id);
            let known = self.core.outsiders.get(&id);
            let known = known
                .map(|outsider| &outsider.member)
                .or(left)
                .ok_or_else(|| {
                    invalid(format!(
                        "no node {name:?} has joined the cluster; start it with --join first"
                    ))
                })?;
            let known = self.core.located(known);
            let zone = request.zone.as_deref().unwrap_or(&known.zone);
            let weight = request.weight.unwrap_or(known.weight);
            Member::new(&known.name, &known.address, zone, weight)
                .map_err(|error| invalid(error.to_string()))
        };
        Ok(match request.verb.as_str() {
            "join" => Change::Join(newcomer(name)?),
            "replace" => Change::Replace(name.clone(), newcomer(&request.other)?),
            "leave" => Change::Leave(name.clone()),
            "remove" => Change::Remove(name.clone()),
            "weight" => Change::Weight(name.clone(), request.weight.unwrap_or(1)),
            "zone" => Change::Zone(name.clone(), request.zone.clone().unwrap_or_default()),
            _ => Change::Resize(request.partitions),
        })
    }

    fn stage(
        &mut self,
        origin: Origin,
        change: Change,
        deadline: Instant,
    ) -> Result<(), ErrorBody> {
        if self.core.decree.phase != Phase::Stable {
            let state = self.core.decree.phase.as_str();
            let message = format!("a change is under way ({state}); see quorate ring transfers");
            return Err(conflict(message));
        }
        let mut next = self.desk.staged.clone();
        if !next.stage(self.core.me, change) {
            return Err(invalid("too much is staged"));
        }
        // What makes no plan is refused now, not when it is committed.
        Plan::new(&self.core.decree, &next, self.replicas_in_use())
            .map_err(|error| invalid(error.to_string()))?;
        self.desk.staged = next;
        self.share_staged(origin, deadline);
        Ok(())
    }

    fn share_staged(&mut self, origin: Origin, deadline: Instant) {
        let key = self.core.op_key();
        let staged = self.desk.staged.to_bytes().into();
        let what = (staged, self.ring_answer());
        let op = StageOp::start(&mut self.core, key, origin, what, deadline);
        self.run(key, Operation::Stage(Box::new(op)));
        self.store_staged(StagedWaiter::Op(key));
    }

    pub(super) fn take_staged(&mut self, from: NodeId, id: RpcId, bytes: &Bytes) {
        let Ok(theirs) = Staged::from_bytes(bytes) else {
            return;
        };
        let changed = self.desk.staged.merge(&theirs);
        if id != RpcId(0) {
            self.store_staged(StagedWaiter::Peer(from, id));
        } else if changed {
            self.store_staged(StagedWaiter::Nobody);
        }
    }

    pub(super) fn staged_stored(&mut self, waiter: StagedWaiter) {
        match waiter {
            StagedWaiter::Nobody => {}
            StagedWaiter::Peer(node, id) => {
                let hash = xxh3_64(&self.desk.staged.to_bytes());
                self.send_ring(node, id, RingMessage::StagedIs(hash));
            }
            StagedWaiter::Op(key) => {
                if let Some(Running {
                    operation: Operation::Stage(op),
                    ..
                }) = self.running.get_mut(&key)
                {
                    let flow = op.stored_here(&mut self.core);
                    self.settle(key, flow, None);
                }
            }
        }
    }

    /// The most replicas that a bucket asks for.
    pub(super) fn replicas_in_use(&self) -> usize {
        let buckets = self.core.catalogue.list();
        let most = buckets.iter().map(|bucket| bucket.n).max();
        usize::from(most.unwrap_or(1))
    }

    fn plan_ring(&self) -> Result<Plan, ErrorBody> {
        if self.core.decree.phase != Phase::Stable {
            return Err(conflict(
                "a change is under way; see quorate ring transfers",
            ));
        }
        Plan::new(&self.core.decree, &self.desk.staged, self.replicas_in_use())
            .map_err(|error| conflict(error.to_string()))
    }

    fn commit(
        &mut self,
        origin: Origin,
        principal: &Principal,
        request: &RingRequest,
        deadline: Instant,
    ) -> Result<(), ErrorBody> {
        let plan = self.plan_ring()?;
        if plan.digest != request.digest {
            let message = format!(
                "plan {} is no longer the plan on ring {}, which is {}. Run ring plan again",
                request.digest, self.core.decree.epoch, plan.digest
            );
            return Err(conflict(message));
        }
        self.all_clean(&plan)?;
        let changes = self.desk.staged.changes().map(Change::describe);
        let mut note = changes.collect::<Vec<_>>().join(", ");
        if request.force {
            note = format!("FORCED by {}: {note}", principal.name);
        }
        let old = Arc::clone(&self.core.decree);
        let decree = old.moving(plan.ring, plan.dead, note, |node| self.uuid_of(node));
        if request.force {
            return self.force(origin, request, decree);
        }
        self.may_propose()?;
        self.propose(&decree, Some(origin), deadline);
        Ok(())
    }

    /// Nobody comes back into the ring who still holds what it held when it left: something may
    /// have been reaped since, and then nobody takes that in any more.
    fn all_clean(&self, plan: &Plan) -> Result<(), ErrorBody> {
        let old = &self.core.decree.ring;
        let joins = plan.ring.members().iter().map(|member| member.id);
        let reports = self.progresses();
        let busy = |node: &NodeId| {
            self.desk.full_outside.contains(node)
                || reports.get(node).is_some_and(|report| !report.clean)
        };
        let mut busy = joins.filter(|node| old.member(*node).is_none() && busy(node));
        match busy.next() {
            None => Ok(()),
            Some(node) => Err(conflict(format!(
                "{} still hands over what it held when it left the ring (quorate ring transfers); \
                 commit again when it is through",
                self.core.name(node)
            ))),
        }
    }

    fn may_propose(&self) -> Result<(), ErrorBody> {
        if self.desk.proposing.is_some() {
            return Err(conflict("another change is being agreed on; try again"));
        }
        let (up, all) = self.voters_up();
        if all < 2 * up {
            return Ok(());
        }
        let message = format!(
            "{up} of {all} members of the ring are up, a majority is needed to change it; nothing \
             was changed. If the others are gone for good: stage remove NODE --dead for each, then \
             quorate ring commit --force {} DIGEST",
            self.core.cluster_name
        );
        Err(ErrorBody::new(ErrorCode::Unavailable, message))
    }

    /// The way out when a majority is gone for good: nobody is asked.
    fn force(
        &mut self,
        origin: Origin,
        request: &RingRequest,
        decree: Decree,
    ) -> Result<(), ErrorBody> {
        if request.cluster != self.core.cluster_name {
            let message = "to force a change, type the name of the cluster";
            return Err(invalid(message));
        }
        let (up, all) = self.voters_up();
        if all < 2 * up {
            let message = format!(
                "{up} of {all} members are up, which is a majority: commit without --force"
            );
            return Err(conflict(message));
        }
        self.core.event(Event::RingForced {
            note: decree.note.clone(),
        });
        self.learn(Arc::new(decree));
        let answer = self.ring_answer();
        self.core
            .reply(origin, Response::RingChange(Box::new(answer)));
        Ok(())
    }

    fn abort(&mut self, origin: Origin, deadline: Instant) -> Result<(), ErrorBody> {
        let decree = Arc::clone(&self.core.decree);
        let Some(back) = decree.aborted(|node| self.uuid_of(node)) else {
            let message = match decree.phase {
                Phase::Switched => "reads ask the new ring already: the change cannot be aborted",
                Phase::Stable | Phase::Moving => "no change is under way",
            };
            return Err(conflict(message));
        };
        // Our own proposal of the next step, if there is one, competes with the abort by ballots.
        self.desk
            .proposing
            .take_if(|proposing| proposing.is_alone());
        self.may_propose()?;
        self.propose(&back, Some(origin), deadline);
        Ok(())
    }

    /// The ring's state, what is staged, and how far every member is.
    pub(super) fn ring_answer(&self) -> RingAnswer {
        let decree = &self.core.decree;
        let reports = self.progresses();
        let rows = decree.concerned().into_iter().map(|node| {
            let report = reports.get(&node).copied().unwrap_or_default();
            TransferRow {
                node: self.core.name(node),
                up: self.core.is_up(node),
                adopted: report.epoch == decree.epoch.get(),
                done: report.done,
                total: report.total,
                bytes: report.bytes,
                clean: report.clean,
            }
        });
        RingAnswer {
            epoch: self.ring_epoch().get(),
            state: self.ring_state().to_owned(),
            note: decree.note.clone(),
            staged: self.desk.staged.changes().map(Change::describe).collect(),
            plan: None,
            transfers: rows.collect(),
        }
    }

    /// What the plan itself says, and what follows from who is up and has how much space.
    fn plan_warnings(&self, plan: &Plan) -> Vec<String> {
        let reports = self.progresses();
        let members = plan.held.keys().copied();
        let down = members.filter(|node| !self.core.is_up(*node) && !plan.dead.contains(node));
        let foresight = Foresight {
            old: &self.core.decree.ring,
            plan,
            buckets: &self.core.catalogue.list(),
            down: down.collect(),
            reports: &reports,
            name: &|node| self.core.name(node),
        };
        let mut warnings = plan.warnings.clone();
        warnings.extend(foresight.warnings());
        warnings
    }

    fn plan_reply(&self, plan: &Plan) -> PlanReply {
        let reports = self.progresses();
        let decree = &self.core.decree;
        let name = |node: NodeId| {
            let member = plan.ring.member(node).or_else(|| decree.member(node));
            member.map_or_else(|| node.to_string(), |member| member.name.clone())
        };
        let bytes = |node: NodeId| foresight::replica_bytes(plan, &reports, node);
        let moves = plan.moves.iter().map(|step| PlanMove {
            partition: step.partition.0,
            from: name(step.from),
            to: name(step.to),
            bytes: bytes(step.from),
        });
        let count = |hit: &dyn Fn(&Move) -> bool| {
            let hits = plan.moves.iter().filter(|step| hit(step)).count();
            u32::try_from(hits).unwrap_or(u32::MAX)
        };
        let nodes = plan.held.iter().map(|(node, (before, after))| PlanNode {
            name: name(*node),
            zone: plan
                .ring
                .member(*node)
                .or_else(|| decree.member(*node))
                .map_or_else(String::new, |member| member.zone.clone()),
            before: *before,
            after: *after,
            moves_in: count(&|step| step.to == *node),
            moves_out: count(&|step| step.from == *node),
        });
        PlanReply {
            digest: plan.digest.clone(),
            partitions: plan.ring.partitions().count(),
            moves: moves.collect(),
            nodes: nodes.collect(),
            balance_before_ppm: ppm(plan.balance.0),
            balance_after_ppm: ppm(plan.balance.1),
            moved_share_ppm: ppm(plan.moved_share),
            minimum_share_ppm: ppm(plan.minimum_share),
            warnings: self.plan_warnings(plan),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares and balances are small and positive"
)]
fn ppm(fraction: f64) -> u64 {
    (fraction * 1e6).round() as u64
}
