//! Asking how replicas stand with each other, and wishing for a comparison, a scrub, or a look at
//! everything that is stored.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::response::Version;

/// How all replicas stand, asked of every member of the ring. The field `verb` is `compare`, which
/// also begins a comparison of all pairs now, or `roots`, which only asks; `scrub`, which begins a
/// scrub everywhere, or `scrubs`, which asks how far they are; `verify`, which looks at one page of
/// all records; `hints`, which asks who keeps what for whom; `salvage`, which shows a page of what
/// one node has set aside; or `salvage-discard`, which has it drop some of that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealingRequest {
    /// `compare`, `roots`, `scrub`, `scrubs`, `verify`, `hints`, `salvage` or `salvage-discard`.
    pub verb: String,
    /// Only replicas that hold this bucket's keys; all if empty.
    #[serde(default)]
    pub bucket: String,
    /// Where `verify` or `salvage` goes on; empty to begin.
    #[serde(default, skip_serializing_if = "Bytes::is_empty")]
    pub after: Bytes,
    /// Whose what was set aside is wanted, by `salvage` and `salvage-discard`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// What `salvage-discard` drops, as `salvage` named it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<Bytes>,
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
    /// The members' scrubs, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrubs: Vec<ScrubStatus>,
    /// A page of what `verify` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Box<Verified>>,
    /// A page of what a node has set aside, or how much of it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<Box<AsidePage>>,
}

/// A record that a node has set aside: it is too old to be taken in by anybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AsideRow {
    /// Names it.
    pub id: Bytes,
    /// Its bucket; empty if that is no more.
    pub bucket: String,
    /// Its key.
    pub key: Bytes,
    /// When it was set aside, in unix milliseconds of that node.
    pub since_ms: u64,
    /// Why.
    pub why: String,
    /// The node that it was kept for; empty if it was that node's own.
    pub hint_for: String,
    /// Its bytes.
    pub bytes: u64,
    /// True if it cannot be read.
    pub damaged: bool,
    /// Its versions, with values.
    pub versions: Vec<Version>,
    /// For how many milliseconds the value of each of them still counts; none for ever.
    pub ttls_ms: Vec<Option<u64>>,
}

/// Some of what a node has set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AsidePage {
    /// In order of the keys' tokens.
    pub rows: Vec<AsideRow>,
    /// Where to go on; absent at the end.
    pub next: Option<Bytes>,
    /// So many were dropped.
    pub discarded: u64,
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
