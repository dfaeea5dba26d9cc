//! Asking how replicas stand with each other, and wishing for a comparison.

use serde::{Deserialize, Serialize};

/// How all replicas stand, asked of every member of the ring. The field `verb` is `compare`, which
/// also begins a comparison of all pairs now, `roots`, which only asks, or `hints`, which asks who
/// keeps what for whom instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealingRequest {
    /// `compare`, `roots` or `hints`.
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

/// What one node keeps for another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HintStatus {
    /// Name of the node that keeps it.
    pub holder: String,
    /// Name of the one it is meant for.
    pub owner: String,
    /// Hints.
    pub count: u64,
    /// Bytes that they count as.
    pub bytes: u64,
    /// Age of the oldest in milliseconds, as far as is known.
    pub oldest_ms: u64,
    /// How many are handed over in a minute at present.
    pub per_minute: u64,
    /// Why none are handed over; empty if nothing stands against it.
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
    /// With the verb `hints`: each pair of a holder and an owner.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<HintStatus>,
}
