//! Asking how replicas stand with each other, and wishing for a comparison.

use serde::{Deserialize, Serialize};

/// How all replicas stand, asked of every member of the ring. The field `verb` is `compare`, which
/// also begins a comparison of all pairs now, or `roots`, which only asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealingRequest {
    /// `compare` or `roots`.
    pub verb: String,
    /// Only replicas that hold this bucket's keys; all if empty.
    #[serde(default)]
    pub bucket: String,
    /// Milliseconds the client is still willing to wait.
    pub timeout_ms: u32,
}

/// Two replicas, as the first of them sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairStatus {
    /// Name of the node that leads the comparisons.
    pub node: String,
    /// Name of the other.
    pub peer: String,
    /// Replicas of the keys compared.
    pub n: u8,
    /// True if their trees are equal now.
    pub equal: bool,
    /// True if the latest wish for a comparison has been fulfilled.
    pub done: bool,
    /// How long ago they were last known to agree, in milliseconds.
    pub agreed_ms_ago: Option<u64>,
    /// Keys found to differ and not brought together yet.
    pub behind_keys: u64,
    /// Records moved between them.
    pub moved_keys: u64,
    /// Bytes that their comparisons have cost.
    pub moved_bytes: u64,
    /// Why the last comparison failed; empty if it did not.
    pub trouble: String,
}

/// How all replicas stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealingReply {
    /// True if every member answered, no hints are left and all trees are equal.
    pub converged: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// Hints held by all nodes together.
    pub hints: u64,
    /// Each pair of replicas once.
    pub pairs: Vec<PairStatus>,
}
