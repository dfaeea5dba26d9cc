//! What a read does while replicas are silent.
//!
//! It asks as many replicas as have to answer, not all of them as Dynamo and Riak do: an answer for
//! which nobody waits costs a replica as much as one that counts. Measured, a read that asks three
//! takes 26 to 28 us of all processors where one that asks two takes 20. What asking all is good
//! for, that the slowest does not matter, is had for less: if one takes longer than it nearly
//! always does, another is asked as well, within a budget.
//!
//! One that is silent beyond all measure is another matter: its question or its answer may be
//! lost, or it may be dead. Then others are asked whatever it costs, also those who stand in.

use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Asked, Phase, ReadOp, StandIns};
use crate::{coordinator::Flow, core::Core};

impl ReadOp {
    pub(crate) fn wait(&self) -> Flow {
        match self.phase {
            Phase::Gathering => Flow::Until(self.wake.min(self.deadline)),
            Phase::Repairing { .. } => Flow::Until(self.deadline),
        }
    }

    /// When something is to be done about the silent.
    fn next_wake(&self) -> Instant {
        let hedges = self.asked.values().filter_map(|asked| match asked {
            Asked::Waiting { hedge, .. } => *hedge,
            Asked::Answered { .. } | Asked::Failed => None,
        });
        hedges.fold(self.late, Instant::min)
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        let now = core.now.mono;
        if self.deadline <= now {
            core.replica.withdraw(&self.address, self.key);
            return self.short(core);
        }
        if matches!(self.phase, Phase::Gathering) {
            self.hedge(core);
            if self.late <= now {
                self.is_late(core);
            }
            self.wake = self.next_wake();
        }
        self.wait()
    }

    /// Asks one more replica for each that takes longer than it nearly always does, if that may be.
    fn hedge(&mut self, core: &mut Core) {
        let now = core.now.mono;
        let mut slow = Vec::new();
        for (node, asked) in &mut self.asked {
            if let Asked::Waiting { hedge, .. } = asked
                && hedge.take_if(|at| *at <= now).is_some()
            {
                slow.push(*node);
            }
        }
        for node in slow {
            if node != core.me {
                core.peers.took_long(node, &core.limits);
            }
            if let Some(another) = self.next(core)
                && core.hedging.may()
            {
                self.ask(core, another, !self.has_whole());
            }
        }
    }

    fn is_late(&mut self, core: &mut Core) {
        let now = core.now.mono;
        for (node, asked) in &self.asked {
            if let Asked::Waiting { sent, .. } = asked {
                core.peers.silent(*node, now.since(*sent));
            }
        }
        if !self.ask_another(core) {
            self.ask_again(core);
        }
    }

    /// The next best replica that has not been asked yet.
    fn next(&self, core: &Core) -> Option<NodeId> {
        core.by_speed(&self.replicas)
            .into_iter()
            .find(|node| !self.asked.contains_key(node))
            .filter(|node| *node != core.me || !self.is_recovery())
    }

    /// Asks the next best replica that has not been asked yet, or one who stands in.
    pub(super) fn ask_another(&mut self, core: &mut Core) -> bool {
        let mut next = self.next(core);
        if next.is_none() {
            if self.stand_ins.is_empty() {
                self.stand_ins = self.may_stand_in(core, StandIns::ForTheSilent);
            }
            let mut others = self.stand_ins.iter().copied();
            next = others.find(|node| !self.asked.contains_key(node));
        }
        if let Some(node) = next {
            self.ask(core, node, !self.has_whole());
        }
        next.is_some()
    }

    /// Everyone has been asked: questions or answers may have been lost.
    fn ask_again(&mut self, core: &mut Core) {
        let waiting = |(node, asked): (&NodeId, &Asked)| match asked {
            Asked::Waiting { whole, .. } => Some((*node, *whole)),
            Asked::Answered { .. } | Asked::Failed => None,
        };
        let silent: Vec<_> = self.asked.iter().filter_map(waiting).collect();
        let patience = silent.iter().map(|(node, _)| core.patience(*node)).max();
        for (node, whole) in silent {
            if node != core.me {
                self.ask(core, node, whole);
            }
        }
        let pause = patience.unwrap_or(core.limits.replica_limit_max) * 2;
        self.late = core.now.mono + pause + core.jitter(pause);
    }

    /// When another may be asked in a node's stead that is asked now. We ourselves mostly answer
    /// from memory: that is not worth to be followed, and timers for it would go off in vain.
    pub(super) fn hedge_at(&self, core: &Core, node: NodeId) -> Option<Instant> {
        if self.is_recovery() || !self.replicas.contains(&node) {
            return None;
        }
        let usual = if node == core.me {
            core.limits.replica_limit_min.max(core.limits.hedge_min)
        } else {
            core.peers.usual(node, &core.limits)
        };
        Some(core.now.mono + usual)
    }

    /// A node has answered: in time, unless another was asked in its stead by then.
    pub(super) fn answered(&self, core: &mut Core, node: NodeId) {
        if let Some(Asked::Waiting { sent, hedge, .. }) = self.asked.get(&node) {
            let elapsed = core.now.mono.since(*sent);
            core.peers.answered(node, elapsed);
            if hedge.is_some() {
                core.peers.was_quick(node, elapsed, &core.limits);
            }
        }
    }
}
