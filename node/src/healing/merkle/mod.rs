//! Merkle trees of what this node stores: one hash trie for each value of n in use.
//!
//! Nodes that hold the same partitions for n = 3 hold different ones for n = 2, so records of
//! buckets with different n are never summed together.

pub(crate) mod forest;
pub(crate) mod hash;
pub(crate) mod leaves;
pub mod trie;
