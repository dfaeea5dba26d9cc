//! Sloppy quorums: who keeps a write in place of a replica that is down or silent.
//!
//! A replica that gossip holds down is stood in for at once, one that is silent beyond its limit
//! when the quorum waits for it; one that answers is never stood in for, also if it answers that it
//! is overloaded. A node stands in for one replica of a write at most, and counts when it has the
//! hint on disk. Towards W each replica counts once, whether it has the write itself or somebody
//! keeps it for it; towards PW only replicas count.

use bytes::Bytes;
use quorate_client::wire::ErrorBody;
use quorate_ring::NodeId;

use super::{Phase, Plan, WriteOp};
use crate::{
    core::Core,
    event::Event,
    healing::{hints::message::HintMessage, message::Place},
    message::{Message, RpcId},
    replica::Address,
};

/// Why too few nodes are up for this write; none if there are enough.
pub(super) fn out_of_reach(core: &Core, plan: &Plan) -> Option<ErrorBody> {
    let sets = [&plan.replicas, &plan.others];
    for set in sets.into_iter().filter(|set| !set.is_empty()) {
        let up = set.iter().filter(|node| core.is_up(**node)).count();
        if up < usize::from(plan.pw) {
            return Some(core.unavailable("pw", plan.pw, set));
        }
        if usize::from(plan.w) <= up {
            continue;
        }
        let mut reached = up;
        if plan.sloppy {
            let stand_ins = core.fallbacks_up(&plan.address, plan.bucket.info.n);
            reached += stand_ins.len().min(set.len() - up);
        }
        if reached < usize::from(plan.w) {
            return Some(core.unavailable("w", plan.w, set));
        }
    }
    None
}

pub(super) fn keep(
    core: &Core,
    address: &Address,
    id: RpcId,
    owner: NodeId,
    (record, generation): (&Bytes, u64),
) -> Message {
    let body = HintMessage::Keep {
        epoch: core.ring.epoch(),
        place: Place::from(address),
        owner,
        record: record.clone(),
        generation,
    };
    Message::Hint { id, body }
}

impl WriteOp {
    /// A replica is down or silent: somebody is asked to stand in, unless somebody was.
    pub(super) fn is_away(&mut self, core: &mut Core, owner: NodeId) {
        if !self.stand_ins.values().any(|known| *known == owner) {
            self.have_stand_in(core, owner);
        }
    }

    /// Asks the next who may stand in for a replica.
    fn have_stand_in(&mut self, core: &mut Core, owner: NodeId) {
        let fallbacks = core.fallbacks_up(&self.plan.address, self.plan.bucket.info.n);
        let free = |node: &NodeId| !self.stand_ins.contains_key(node) && *node != core.me;
        if let Some(holder) = fallbacks.into_iter().find(free) {
            core.event(Event::StoodIn { owner, holder });
            self.stand_ins.insert(holder, owner);
            self.dispatch(core, holder);
        }
    }

    /// One that was asked to stand in will not: somebody else may.
    pub(super) fn refused_to_stand_in(&mut self, core: &mut Core, holder: NodeId) {
        self.waiting.remove(&holder);
        if let Some(owner) = self.stand_ins.get(&holder).copied()
            && !self.is_kept(owner)
        {
            self.have_stand_in(core, owner);
        }
    }

    /// Has others stand in for those that have been silent for too long.
    pub(super) fn give_up_the_silent(&mut self, core: &mut Core) {
        let now = core.now.mono;
        let mut silent = Vec::new();
        for (node, copy) in &mut self.waiting {
            if copy.given_up.take_if(|at| *at <= now).is_some() {
                silent.push(*node);
            }
        }
        let (held, _) = self.counted();
        if !matches!(self.phase, Phase::Replicating { .. }) || usize::from(self.plan.w) <= held {
            return;
        }
        for node in silent {
            match self.stand_ins.get(&node).copied() {
                None => self.is_away(core, node),
                Some(owner) if self.stored.contains(&owner) || self.is_kept(owner) => {}
                Some(owner) => self.have_stand_in(core, owner),
            }
        }
    }

    /// Forgets those whose owners need not have the write any more, or who are owners now, or who
    /// have lost what they kept.
    pub(super) fn forget_stand_ins(&mut self, core: &Core, holders: &[NodeId]) {
        let useful = |holder: &NodeId, owner: &mut NodeId| {
            let keeps = *holder == core.me || !core.decree.suspends(*holder);
            keeps && holders.contains(owner) && !holders.contains(holder)
        };
        self.stand_ins.retain(useful);
        let stand_ins = &self.stand_ins;
        self.hinted.retain(|node| stand_ins.contains_key(node));
        let (stored, hinted) = (&self.stored, &self.hinted);
        self.durable
            .retain(|node| stored.contains(node) || hinted.contains(node));
    }

    fn is_kept(&self, owner: NodeId) -> bool {
        let mut kept = self
            .hinted
            .iter()
            .filter_map(|node| self.stand_ins.get(node));
        kept.any(|kept| *kept == owner)
    }

    /// How many replicas have the write themselves or in keeping, and how many themselves. Each
    /// ring of a change needs its quorum; the two counts are never pooled, so the lesser counts.
    pub(super) fn counted(&self) -> (usize, usize) {
        let sets = [&self.plan.replicas, &self.plan.others];
        let (mut held, mut primaries) = (usize::MAX, usize::MAX);
        for set in sets.into_iter().filter(|set| !set.is_empty()) {
            let own = set.iter().filter(|node| self.stored.contains(node)).count();
            let kept = set
                .iter()
                .filter(|node| !self.stored.contains(node) && self.is_kept(**node));
            held = held.min(own + kept.count());
            primaries = primaries.min(own);
        }
        (held, primaries)
    }

    /// All who have the write.
    pub(super) fn everywhere(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.stored.union(&self.hinted).copied()
    }
}
