//! When a node that has started says that it is ready.
//!
//! It knows then which buckets there are and what it is itself, and reads of a quorum are answered:
//! its own copies count, and so many others' that they are a majority of the ring. It never waits
//! for members that are down: if no majority is there after a while, it serves what it can.
//!
//! Not decided here: whether a process counts (`standing`).

use quorate_ring::{NodeId, NodeUuid};

use super::Node;

/// A majority that is there and does not count is waited for so many times as long as others are.
/// Members that are being rebuilt may take much longer.
const PATIENCE: u32 = 5;

impl Node {
    /// Whether there is nothing left that is worth waiting for.
    pub(super) fn has_waited_enough(&self) -> bool {
        let wait = self.core.limits.ready_wait;
        let waited = |wait| self.standing.began + wait <= self.core.now.mono;
        let founding = self.core.decree.directory(self.core.me) == Some(NodeUuid::ANY);
        let known = self.standing.is_accepted() && (!founding || self.is_to_rebuild());
        let standing = &self.standing;
        known && self.is_majority(|node| standing.counting.contains(node), self.counts())
            || waited(wait) && !self.is_majority(|node| standing.heard.contains(node), true)
            || waited(wait * PATIENCE)
    }

    /// Whether these others, and this node if it is `one` of them, are most of the ring.
    fn is_majority(&self, is_one: impl Fn(&NodeId) -> bool, one: bool) -> bool {
        let members = self.core.decree.ring.members();
        let counted = members.iter().filter(|member| match member.id {
            id if id == self.core.me => one,
            id => is_one(&id),
        });
        members.len() < 2 * counted.count()
    }

    /// Whether what this node holds counts for reads of a quorum.
    pub(super) fn counts(&self) -> bool {
        self.core.replica.counts()
    }

    /// Whether this node is not ready yet, and that one did not count when it last said.
    pub(super) fn is_asked_whether_it_counts(&self, node: NodeId) -> bool {
        !self.ready && !self.standing.counting.contains(&node)
    }
}
