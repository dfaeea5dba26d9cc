//! What can be seen of a node from outside without asking it through a message.
//!
//! For the shell, which must know when it may serve and stop, and for the simulator's oracles.
//! Decides nothing.

use quorate_gossip::State;
use quorate_ring::{Member, NodeId, Phase};

use super::Node;
use crate::{
    coordinator::status, core::Voice, healing::inspect::INSPECTIONS_MAX, hedging::Hedging,
    message::BucketId, ring_message::Progress,
};

/// Sizes of everything that is bounded: (name, now, most).
pub type Gauges = Vec<(&'static str, usize, usize)>;

impl Node {
    /// True once the peers that answer have told what buckets there are, and reads of a quorum are
    /// answered, or none can be for want of members that are up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready && !self.draining && !self.core.upkeep.drains && !self.failed
    }

    /// True while what this node holds may lack what it has acknowledged.
    #[must_use]
    pub fn is_rebuilding(&self) -> bool {
        self.core.voice == Voice::Rebuilding
    }

    /// Transfers that are left until this node is rebuilt.
    #[must_use]
    pub fn rebuild_left(&self) -> usize {
        let (done, all) = self.rebuild.progress();
        all - done
    }

    /// True if this process may speak for its node, and the ring names its directory.
    #[must_use]
    pub fn speaks_for_itself(&self) -> bool {
        let named = self.core.decree.directory(self.core.me);
        let uuid = self.core.replica.identity().uuid;
        self.standing.is_accepted() && named.is_none_or(|named| named == uuid)
    }

    /// Client requests without an answer, also those that other nodes have handed on.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let running = self.running.values();
        let forwarded = running.filter(|running| running.operation.is_forwarded());
        self.core.requests + forwarded.count()
    }

    /// From now on every client request is refused, naming the limit `draining`.
    pub fn drain(&mut self) {
        self.draining = true;
        self.tell_all();
    }

    /// True if no change of the ring is under way here, and nothing is left to hand over.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let moving = self.core.decree.phase != Phase::Stable || !self.desk.moves.is_clean();
        !moving && !self.core.sets_aside
    }

    /// What gossip thinks of a member.
    #[must_use]
    pub fn member_state(&self, node: NodeId) -> Option<State> {
        self.core.gossip.state(node)
    }

    /// Everybody: in the ring, on the way into or out of it, or waiting for a place.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        status::members(&self.core)
    }

    /// How far this node is with a change of the ring.
    #[must_use]
    pub fn progress_of_moves(&self) -> Progress {
        let all = self.progresses();
        all.get(&self.core.me).copied().unwrap_or_default()
    }

    /// The largest number of replicas of a bucket.
    #[must_use]
    pub fn replicas_most(&self) -> usize {
        self.replicas_in_use()
    }

    /// A node's name, or its id in hex if nobody of that id is known.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        self.core.name(node)
    }

    /// The id of a bucket, for tests that look into the store.
    #[must_use]
    pub fn bucket_id(&self, name: &str) -> Option<BucketId> {
        self.core.catalogue.find(name).ok().map(|bucket| bucket.id)
    }

    /// How many reads were hedged.
    #[must_use]
    pub const fn hedging(&self) -> Hedging {
        self.core.hedging
    }

    /// Sizes of everything that is bounded.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let core = &self.core;
        let (keys, store_bytes) = core.replica.load();
        let stash = self.desk.stashed();
        let (hints, inquiries) = (core.replica.hints().load(), self.inquiries.load());
        let mut gauges = vec![
            (
                "requests_in_flight",
                core.requests,
                core.limits.requests_max,
            ),
            (
                "request_bytes_in_flight",
                core.request_bytes,
                core.limits.request_bytes_max,
            ),
            ("replica_keys", keys, core.limits.replica_keys_max),
            // One key's write may begin just below the limit.
            (
                "store_queue_bytes",
                store_bytes,
                core.limits.store_bytes_max + (8 << 20),
            ),
            ("repairs", core.repairs.len(), core.limits.repairs_max),
            ("scans", self.scans.len(), core.limits.scans_max),
            ("inspections", self.inspections.len(), INSPECTIONS_MAX),
            ("ring_stash", stash.0, stash.1),
            // One write may begin just below the limit.
            ("hint_bytes", hints.0, hints.1 + (8 << 20)),
            ("hint_inquiries", inquiries.0, inquiries.1),
            (
                "recoveries",
                self.recoveries.len(),
                core.limits.recoveries_max,
            ),
            ("damages", core.replica.damages(), core.limits.damages_max),
        ];
        let (tasks, tasks_max) = self.reaper.voter.load();
        gauges.push(("reap_tasks", tasks, tasks_max));
        let waiting = core.lapsed.waiting();
        gauges.push(("reap_waiting", waiting, crate::healing::reap::WAITING_MAX));
        gauges.extend(self.healing.load());
        gauges
    }
}
