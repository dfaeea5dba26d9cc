//! How a node's parts reach its background healing, and what of it can be seen from outside.

use std::time::Duration;

use bytes::Bytes;
use quorate_ring::NodeId;

use super::Node;
use crate::{
    coordinator::Answer,
    healing::message::{PairReport, TreeMessage},
    message::{Message, RpcId},
};

impl Node {
    pub(super) fn tree_message(&mut self, from: NodeId, id: RpcId, body: TreeMessage) {
        if matches!(body, TreeMessage::Roots { .. }) {
            let message = Message::Tree { id, body };
            self.answer(from, id, Answer::Other(Box::new(message)));
        } else {
            self.healing.message(&mut self.core, from, id, body);
        }
    }

    /// How this node stands with each of its peers.
    #[must_use]
    pub fn pairs(&self) -> Vec<PairReport> {
        self.healing.pairs(self.core.me, self.core.now.mono)
    }

    /// The share of the time that background work may take at present, in thousandths.
    #[must_use]
    pub fn background_share(&self) -> u32 {
        self.core.governor.share()
    }

    /// What the steps of each background job have taken since the start.
    #[must_use]
    pub fn background_spent(&self) -> Vec<(&'static str, Duration)> {
        self.core.governor.spent().to_vec()
    }

    /// (tombstones held at the last whole scan, keys that wait to be reaped).
    #[must_use]
    pub const fn tombstones(&self) -> (u64, usize) {
        (self.core.lapsed.tombstones(), self.core.lapsed.waiting())
    }

    /// True if this node's tree covers everything it stores.
    #[must_use]
    pub fn is_tree_ready(&self) -> bool {
        self.healing.is_ready()
    }

    /// What differs between this node's tree and these records, which must be all it stores; none
    /// while nothing can be said.
    #[must_use]
    pub fn audit_tree(&self, objects: &[(Bytes, Bytes)]) -> Option<String> {
        self.healing.audit(&self.core, objects)
    }
}
