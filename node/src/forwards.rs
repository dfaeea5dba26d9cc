//! Writes that peers handed on lately, so that a message that arrives twice is handled once.
//!
//! The second copy could be refused where the first was carried out (a limit may be reached in
//! between), and whoever handed it on would call the write not applied. What is handed on again on
//! purpose is another message: less of its budget is left. Only the latest are remembered; a copy
//! that comes after so many others counts as a new one.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use quorate_ring::NodeId;

use crate::message::RpcId;

/// So many are remembered; a copy arrives soon or not at all.
const FORWARDS_MAX: usize = 4_096;

type Forward = (NodeId, RpcId, Duration);

/// The latest writes handed on to this node.
#[derive(Debug, Default)]
pub(crate) struct Forwards {
    known: BTreeSet<Forward>,
    order: VecDeque<Forward>,
}

impl Forwards {
    /// True if this very message has not arrived before.
    pub(crate) fn is_new(&mut self, from: NodeId, id: RpcId, budget: Duration) -> bool {
        let forward = (from, id, budget);
        if !self.known.insert(forward) {
            return false;
        }
        self.order.push_back(forward);
        if FORWARDS_MAX < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_recognised_and_a_second_sending_is_not_one() {
        let mut forwards = Forwards::default();
        let (node, budget) = (NodeId::of_name("n1"), Duration::from_millis(20));
        assert!(forwards.is_new(node, RpcId(1), budget));
        assert!(!forwards.is_new(node, RpcId(1), budget));
        assert!(forwards.is_new(node, RpcId(1), budget / 2));
        assert!(forwards.is_new(NodeId::of_name("n2"), RpcId(1), budget));
    }

    #[test]
    fn memory_is_bounded() {
        let mut forwards = Forwards::default();
        let node = NodeId::of_name("n1");
        for id in 0..10_000 {
            assert!(forwards.is_new(node, RpcId(id), Duration::ZERO));
        }
        assert_eq!(forwards.known.len(), FORWARDS_MAX);
        assert_eq!(forwards.order.len(), FORWARDS_MAX);
    }
}
