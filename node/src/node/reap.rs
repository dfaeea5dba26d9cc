//! A node's part in reaping: who asks and who answers, and the write generations in between.
//!
//! A generation is raised by a fence, or because another node takes in nothing as old as what this
//! one sends. It counts once it is durable, and then every operation that holds something older
//! reads it again.

use quorate_ring::{Decree, NodeId, Phase, RingEpoch};

use super::{
    Node,
    ring::{Stored, meta},
};
use crate::{
    healing::reap::{Generations, META_GENERATIONS_KEY, ReapMessage, Standing, send, standing},
    message::RpcId,
    replica::OpKey,
    store::{Write, aside::Why},
};

/// Who waits for a generation to be durable here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raise {
    slot: u8,
    generation: u64,
    /// Who asked for a fence under which ring; none if it was our own doing.
    fence: Option<(NodeId, RpcId, RingEpoch)>,
}

impl Node {
    pub(super) fn reap_message(&mut self, from: NodeId, id: RpcId, body: ReapMessage) {
        match body {
            ReapMessage::Vote { epoch, .. } | ReapMessage::Commit { epoch, .. } => {
                let standing = standing(&self.core, epoch, self.desk.moves.is_clean());
                self.reaper
                    .voter
                    .begin(&mut self.core, (from, id), body, standing);
            }
            ReapMessage::Fence {
                epoch,
                slot,
                generation,
            } => self.fence(Raise {
                slot,
                generation,
                fence: Some((from, id, epoch)),
            }),
            ReapMessage::Behind { slot, generation } => self.catch_up(slot, generation),
            ReapMessage::Voted { .. }
            | ReapMessage::Fenced { .. }
            | ReapMessage::Committed { .. } => self.reaper.answer(&mut self.core, from, id, body),
        }
    }

    fn fence(&mut self, raise: Raise) {
        let Some((from, id, epoch)) = raise.fence else {
            return;
        };
        let Raise {
            slot, generation, ..
        } = raise;
        let standing = standing(&self.core, epoch, self.desk.moves.is_clean());
        let may = self
            .reaper
            .voter
            .may_fence(&self.core, from, slot, generation, standing);
        match may {
            Ok(true) => self.raise(raise),
            Ok(false) => self.answer_fence(from, id, Standing::Good),
            Err(standing) => self.answer_fence(from, id, standing),
        }
    }

    fn answer_fence(&mut self, to: NodeId, id: RpcId, standing: Standing) {
        send(&mut self.core, to, id, ReapMessage::Fenced { standing });
    }

    /// Another node takes in nothing as old as what we send. While this node knows the ring under
    /// which that was agreed on, and has not been out of it, it may go on under that generation:
    /// nothing is reaped without it. So may one that has lost its directory, or had to set aside
    /// what was in it: it said yes to that in its earlier life, nothing is reaped until it has been
    /// rebuilt, and what it holds was sent to it since.
    fn catch_up(&mut self, slot: u8, generation: u64) {
        let core = &mut self.core;
        let known = generation >> 32 <= core.decree.epoch.get();
        // Nor may a directory that could still turn out to be an old one.
        if !self.standing.is_accepted() || core.sets_aside {
            return;
        }
        let concerned = core.generations.concerns(generation);
        if known && !concerned {
            core.generations.refuse(slot);
        }
        if !concerned || !known || generation <= core.generations.of(slot) {
            return;
        }
        self.raise(Raise {
            slot,
            generation,
            fence: None,
        });
    }

    fn raise(&mut self, raise: Raise) {
        let record = self.core.generations.plan(raise.slot, raise.generation);
        let write = meta(META_GENERATIONS_KEY, record);
        self.store_ring(vec![write], Stored::Raised(raise));
    }

    /// A generation is durable: from now on nothing older is taken in, and nothing older sent.
    pub(super) fn raised(&mut self, raise: Raise) {
        let Raise {
            slot, generation, ..
        } = raise;
        let first = self.core.generations.raise(slot, generation);
        if let Some((from, id, epoch)) = raise.fence {
            let clean = self.desk.moves.is_clean();
            let standing = standing(&self.core, epoch, clean);
            // Two fences may have been on their way to the disk together.
            let current = first || self.core.generations.of(slot) == generation;
            let hints = crate::healing::reap::holds_hint(&self.core, slot);
            let standing = if standing != Standing::Good {
                standing
            } else if !current {
                Standing::Behind
            } else if hints {
                Standing::Hints
            } else {
                Standing::Good
            };
            if standing == Standing::Good {
                self.reaper.voter.fenced(from, slot, generation);
            }
            self.answer_fence(from, id, standing);
        }
        if first {
            self.core.forget_repairs(slot);
            self.refresh(slot);
        }
    }

    /// Tells every operation that what it read of a slot is read again.
    pub(super) fn refresh(&mut self, slot: u8) {
        let keys: Vec<OpKey> = self.running.keys().copied().collect();
        for key in keys {
            if let Some(running) = self.running.get_mut(&key) {
                let flow = running.operation.refresh(&mut self.core, slot);
                self.settle(key, flow, None);
            }
        }
    }

    /// The write that goes with the decree if this node is out of the ring with it: from then on it
    /// takes no part in what the members agree on.
    pub(super) fn leaving(&mut self, after: &Decree) -> Option<Write> {
        let me = self.core.me;
        let before = &self.core.decree;
        // Who has not heard of the rings in between was out of the first of them, for all it knows.
        let missed = after.phase == Phase::Moving
            && before.epoch.get() + 1 < after.epoch.get()
            && after
                .old
                .as_ref()
                .is_some_and(|old| old.member(me).is_none());
        let leaves = takes_part(before, me) && (missed || !takes_part(after, me));
        let since = RingEpoch::new(before.epoch.get() + 1);
        leaves.then(|| {
            self.core.generations.leave(since);
            meta(META_GENERATIONS_KEY, self.core.generations.to_bytes())
        })
    }

    /// The writes that go with a decree after which what some member held counts for nothing. It
    /// does not know any more what it has agreed to take in no longer: so everybody takes in
    /// nothing that was read under an earlier ring, but for those of whom it is not sure that they
    /// hold nothing that was reaped. What the member itself has taken in since is set aside.
    pub(super) fn given_up(&mut self, after: &Decree) -> Vec<Write> {
        let mut writes = Vec::new();
        let own = gives_up(&self.core.decree, after, Some(self.core.me));
        let sure = self.standing.is_accepted() && !self.core.generations.is_away();
        if own || (sure && gives_up(&self.core.decree, after, None)) {
            let first = Generations::first_of(after.epoch);
            let record = self.core.generations.plan_all(first);
            writes.push(meta(META_GENERATIONS_KEY, record));
            self.desk.raising = Some(first);
        }
        if own {
            writes.extend(self.begin_setting_aside(Why::Early));
        }
        writes
    }

    /// Those writes are on disk.
    pub(super) fn gave_up(&mut self, before: &Decree, after: &Decree) {
        if gives_up(before, after, None)
            && let Some(first) = self.desk.raising.take()
        {
            for slot in 0..=u8::MAX {
                if self.core.generations.raise(slot, first) {
                    self.core.forget_repairs(slot);
                    self.refresh(slot);
                }
            }
        }
        if gives_up(before, after, Some(self.core.me)) {
            self.asides.is_written();
        }
    }

    /// A node outside of the ring that has handed over everything, its hints too, holds nothing any
    /// more, and takes nothing in: it need not be told apart from a new one.
    pub(super) fn come_back(&mut self) {
        let outside = !takes_part(&self.core.decree, self.core.me);
        let holds = !self.desk.moves.is_clean() || self.keeps_hints_outside();
        if outside && self.core.generations.is_away() && !holds {
            self.core.generations.come_back();
            let write = meta(META_GENERATIONS_KEY, self.core.generations.to_bytes());
            self.store_ring(vec![write], Stored::CameBack);
        }
    }

    /// A node that has no place in the ring, and may hold something that it has to hand over.
    pub(super) fn unclean_outsider(&self) -> Option<NodeId> {
        let decree = &self.core.decree;
        let outside = self.core.outsiders.keys().copied();
        let mut outside = outside.chain(decree.concerned());
        let unclean =
            |node: &NodeId| !takes_part(decree, *node) && !self.desk.empty_outside.contains(node);
        outside.find(unclean)
    }

    /// Somebody outside of the ring says whether it holds anything. What it says stays true: it
    /// takes nothing in before it has a place again.
    pub(super) fn note_outsider(&mut self, node: NodeId, clean: bool) {
        if takes_part(&self.core.decree, node) {
            return;
        }
        if clean {
            let core = &self.core;
            let empty = &mut self.desk.empty_outside;
            empty.retain(|node| core.knows(*node));
            empty.insert(node);
            self.desk.full_outside.remove(&node);
        } else {
            self.desk.empty_outside.remove(&node);
        }
    }
}

/// Whether a node takes part in what the members agree on.
pub(super) fn takes_part(decree: &Decree, node: NodeId) -> bool {
    match decree.phase {
        Phase::Stable => decree.ring.member(node).is_some(),
        Phase::Moving | Phase::Switched => decree.member(node).is_some(),
    }
}

/// Whether what `node`, or any if none is given, held counts for nothing from a decree on.
fn gives_up(before: &Decree, after: &Decree, node: Option<NodeId>) -> bool {
    let mut voters = after.voters.iter().map(|voter| voter.node);
    voters.any(|voter| {
        let meant = node.is_none_or(|node| node == voter);
        meant && after.suspends(voter) && !before.suspends(voter)
    })
}
