//! What a client may ask of a node.
//!
//! Every request carries its remaining time budget; work whose budget is spent is dropped, never
//! done late. Quorums that are absent are taken from the bucket.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{healing::HealingRequest, ring::RingRequest};

/// One request; the variant is the frame's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read a key.
    Get(GetRequest),
    /// Write a value.
    Put(WriteRequest),
    /// Write a tombstone.
    Delete(WriteRequest),
    /// List one page of a bucket's keys.
    Keys(KeysRequest),
    /// Show what each replica holds for a key.
    Explain(ExplainRequest),
    /// Create, change, show, list or drop buckets.
    Bucket(BucketRequest),
    /// The current ring.
    Ring,
    /// What this node knows of the cluster.
    Status,
    /// How replicas stand with each other.
    Healing(HealingRequest),
    /// Ask about the ring, or change it.
    RingChange(RingRequest),
}

/// Read a key from `r` replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRequest {
    /// Name of the bucket.
    pub bucket: String,
    /// 1 to 4,096 bytes.
    pub key: Bytes,
    /// Replicas that must answer; the bucket's `r` if absent.
    #[serde(default)]
    pub r: Option<u8>,
    /// How many of those must be primaries; the bucket's `pr` if absent.
    #[serde(default)]
    pub pr: Option<u8>,
    /// Contexts of this key that the reader has: the answer shows nothing older than any of them,
    /// or is an error of code `stale`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<Bytes>,
    /// Milliseconds the client is still willing to wait.
    pub timeout_ms: u32,
}

/// Contexts that a get may bring.
pub const SEEN_MAX: usize = 16;

/// A precondition, checked before the write; advisory (two racing writers may both pass and then
/// become siblings), but a refusal is certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Write whatever is there.
    #[default]
    #[serde(rename = "none")]
    None,
    /// Refuse unless the live versions are exactly covered by the context.
    #[serde(rename = "match")]
    IfMatch,
    /// Refuse if a live value exists.
    #[serde(rename = "absent")]
    IfAbsent,
}

/// Write a value, or a tombstone when `value` is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteRequest {
    /// Name of the bucket.
    pub bucket: String,
    /// 1 to 4,096 bytes.
    pub key: Bytes,
    /// The value; absent in a delete, and only there.
    #[serde(default)]
    pub value: Option<Bytes>,
    /// The opaque context of an earlier answer; absent in a blind write.
    #[serde(default)]
    pub context: Option<Bytes>,
    /// Distinct nodes that must have the write durable; the bucket's `w` if absent.
    #[serde(default)]
    pub w: Option<u8>,
    /// How many of those must be primaries; the bucket's `pw` if absent.
    #[serde(default)]
    pub pw: Option<u8>,
    /// Whether fallbacks may stand in; the bucket's setting if absent.
    #[serde(default)]
    pub sloppy: Option<bool>,
    /// The client's 128-bit id of this operation: 16 bytes, big-endian. The same in every retry.
    pub op_id: Bytes,
    /// True if this operation may have been sent before: the coordinator then asks a quorum
    /// whether it has been applied.
    #[serde(default)]
    pub retry: bool,
    /// Time to live in milliseconds; the bucket's if absent, for ever if zero.
    #[serde(default)]
    pub ttl_ms: Option<u64>,
    /// Precondition.
    #[serde(default)]
    pub condition: Condition,
    /// Milliseconds the client is still willing to wait.
    pub timeout_ms: u32,
}

/// One page of a bucket's keys, in token order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysRequest {
    /// Name of the bucket.
    pub bucket: String,
    /// Only keys that begin with these bytes.
    #[serde(default)]
    pub prefix: Bytes,
    /// Where the last page ended; empty to begin.
    #[serde(default)]
    pub cursor: Bytes,
    /// Most keys wanted, 1 to 1,000.
    pub limit: u32,
    /// Milliseconds the client is still willing to wait.
    pub timeout_ms: u32,
}

/// Ask every replica of a key what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// Name of the bucket.
    pub bucket: String,
    /// 1 to 4,096 bytes.
    pub key: Bytes,
    /// Milliseconds the client is still willing to wait.
    pub timeout_ms: u32,
}

/// What to do with buckets. The field `verb` is one of `create`, `set`, `show`, `list`, `drop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketRequest {
    /// `create`, `set`, `show`, `list` or `drop`.
    pub verb: String,
    /// The bucket; empty for `list`.
    #[serde(default)]
    pub name: String,
    /// Settings for `create` and `set`; absent fields keep their default or present value.
    #[serde(default)]
    pub options: BucketOptions,
    /// Milliseconds the client is still willing to wait.
    pub timeout_ms: u32,
}

/// Settings of a bucket, each optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BucketOptions {
    /// Replicas of each key; fixed at creation.
    pub n: Option<u8>,
    /// Replicas a read waits for.
    pub r: Option<u8>,
    /// Durable replicas a write waits for.
    pub w: Option<u8>,
    /// Primaries among the answers of a read.
    pub pr: Option<u8>,
    /// Primaries among the acks of a write.
    pub pw: Option<u8>,
    /// Whether fallbacks may stand in for primaries.
    pub sloppy: Option<bool>,
    /// `siblings` or `lww`; fixed at creation.
    pub mode: Option<String>,
    /// Default time to live in milliseconds; zero means for ever.
    pub ttl_ms: Option<u64>,
    /// Largest value in bytes.
    pub value_bytes_max: Option<u32>,
    /// Siblings from which a warning event is raised.
    pub siblings_warn: Option<u32>,
    /// Siblings from which blind writes are refused.
    pub siblings_max: Option<u32>,
}
