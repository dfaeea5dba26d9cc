//! The end of a read whose answers differ: who is brought up to date, and whether it waits for it.
//!
//! If a majority was asked and a later read of a majority might miss what this one shows, the
//! answer waits until enough replicas hold it. What heals this node's own damaged record is only
//! what all others said since that damage was found. A repair is always a merge.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_ring::NodeId;

use super::{Asked, Phase, ReadOp, brief::Known};
use crate::{
    causality::Container,
    coordinator::Flow,
    core::Core,
    event::Event,
    replica::{Caller, Job, Merge},
    store::format::{self, Record},
};

impl ReadOp {
    /// Brings the replicas that answered up to date; waits for that if a later read of a majority
    /// might otherwise miss what this one shows.
    pub(super) fn mend(&mut self, core: &mut Core, merged: Container) -> Flow {
        let behind = |known: &Known| match known.outline() {
            Some(outline) => !same(outline, &merged),
            None => !merged.clock().is_empty(),
        };
        let mut holders = BTreeSet::new();
        let mut stale = Vec::new();
        for (node, asked) in &self.asked {
            if let Asked::Answered { known, .. } = asked
                && !self.stand_ins.contains(node)
            {
                if behind(known) {
                    stale.push(*node);
                } else {
                    holders.insert(*node);
                }
            }
        }
        let healing = self.own_suspect && self.damage.is_some() && self.others_answered(core.me);
        if healing && !stale.contains(&core.me) {
            holders.remove(&core.me);
            stale.push(core.me);
        }
        if stale.is_empty() {
            return self.end(core, Ok(&merged));
        }
        // An answer that needs stand-ins promises nothing of later ones. That they were asked, and
        // replicas came before them, is no reason.
        let replicas = self.counted() - self.stood_in();
        let quorum = usize::from(self.quorum);
        let majority = self.replicas.len() < 2 * quorum && quorum <= replicas;
        let blocking = majority && holders.len() < self.holders_needed();
        let record = Record {
            container: merged.clone(),
            suspect: false,
        };
        let bytes = format::encode(self.address.bucket.0, &self.address.key, &record);
        for node in stale {
            self.repair(core, node, &merged, &bytes, blocking, healing);
        }
        if blocking {
            self.phase = Phase::Repairing { merged, holders };
            return self.wait();
        }
        self.end(core, Ok(&merged))
    }

    pub(super) fn repair(
        &self,
        core: &mut Core,
        node: NodeId,
        merged: &Container,
        bytes: &Bytes,
        blocking: bool,
        healing: bool,
    ) {
        if node != core.me {
            core.repair(
                &self.address,
                node,
                (merged, bytes, self.generation),
                blocking.then_some(self.key),
            );
            return;
        }
        let job = Job::Apply(Merge {
            incoming: merged.clone(),
            bytes: Some(bytes.clone()),
            heals: self.damage.filter(|_| healing),
            generation: self.generation,
        });
        core.event(Event::ReadRepair {
            replica: node,
            blocking,
        });
        let caller = if blocking {
            Caller::Op(self.key)
        } else {
            Caller::Nobody
        };
        core.submit_for(caller, &self.address, job);
    }

    pub(super) fn others_answered(&self, me: NodeId) -> bool {
        let counts = |node: &NodeId| {
            matches!(
                self.asked.get(node),
                Some(Asked::Answered { counts: true, .. })
            )
        };
        self.replicas.iter().filter(|node| **node != me).all(counts)
    }

    /// So many that any later read of a majority meets one of them, also if this one asks more.
    pub(super) fn holders_needed(&self) -> usize {
        self.replicas.len() - self.replicas.len() / 2
    }

    pub(super) fn repaired(&mut self, core: &mut Core, node: NodeId) -> Flow {
        let needed = self.holders_needed();
        let Phase::Repairing { merged, holders } = &mut self.phase else {
            return self.wait();
        };
        holders.insert(node);
        if holders.len() < needed {
            return self.wait();
        }
        let merged = std::mem::take(merged);
        self.end(core, Ok(&merged))
    }
}

/// True if two states have the same versions and the same clock.
fn same(a: &Container, b: &Container) -> bool {
    let dots = |(dot, _)| dot;
    a.clock() == b.clock() && a.siblings().map(dots).eq(b.siblings().map(dots))
}
