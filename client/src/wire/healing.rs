//! Asking how replicas stand with each other, and wishing for a comparison, a scrub, or a look at
//! everything that is stored.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How all replicas stand, asked of every member of the ring. The field `verb` is `compare`, which
/// also begins a comparison of all pairs now, or `roots`, which only asks; `scrub`, which begins a
/// scrub everywhere, or `scrubs`, which asks how far they are; or `verify`, which looks at one page
/// of all records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealingRequest {
    /// `compare`, `roots`, `scrub`, `scrubs` or `verify`.
    pub verb: String,
    /// Only replicas that hold this bucket's keys; all if empty.
    #[serde(default)]
    pub bucket: String,
    /// Where `verify` goes on; empty to begin.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub after: Bytes,
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
    /// The members' scrubs, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrubs: Vec<ScrubStatus>,
    /// A page of what `verify` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Box<Verified>>,
}

/// How far one node's scrub is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubStatus {
    /// Its name.
    pub node: String,
    /// True if it did not answer; then nothing else is known.
    pub silent: bool,
    /// Wishes for a pass since it started.
    pub wished: u64,
    /// The last of them that a whole pass has fulfilled.
    pub fulfilled: u64,
    /// Passes that have ended since it started.
    pub passes: u64,
    /// True if a pass is under way.
    pub running: bool,
    /// How much of the token space it has been through, in millionths.
    pub reached_millionths: u32,
    /// Records read by this pass, or by the last one.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that it found damaged.
    pub damaged: u64,
    /// How long ago the last pass ended, in milliseconds.
    pub ended_ms_ago: Option<u64>,
}

/// What is wrong with one node's copy of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The node.
    pub node: String,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: Bytes,
    /// `damaged`, `suspect`, `misplaced`, `missing` or `differs`.
    pub what: String,
}

/// One page of all records of all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verified {
    /// Where to go on; absent at the end.
    pub next: Option<Bytes>,
    /// Records looked at.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Keys that changed at each look, so that nothing can be said of them.
    pub changing: u64,
    /// Nodes that are down or did not answer.
    pub silent: Vec<String>,
    /// Nodes with damage through which not even keys can be listed.
    pub unlisted: Vec<String>,
    /// What is wrong, in order of the keys' tokens.
    pub differences: Vec<Difference>,
}
