//! What a node answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{error::ErrorBody, healing::HealingReply, ring::RingAnswer};

/// One answer; the variant is the frame's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To a get, also when nothing was found.
    Got(GetReply),
    /// To a put or delete that reached its quorum.
    Written(WriteReply),
    /// To a page of keys.
    Keys(KeysReply),
    /// To an explain.
    Explained(ExplainReply),
    /// To every bucket request: the buckets concerned, as they are now.
    Buckets(Vec<BucketInfo>),
    /// The ring.
    Ring(RingReply),
    /// The cluster as this node sees it.
    Status(StatusReply),
    /// How replicas stand with each other.
    Healing(HealingReply),
    /// The ring's state, to every request about it.
    RingChange(Box<RingAnswer>),
    /// It did not work.
    Error(ErrorBody),
}

/// One live version of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Unique name of the write: `<actor>:<n>`.
    pub dot: String,
    /// The value; absent for a tombstone, and in a write's answer for the value just written.
    #[serde(default)]
    pub value: Option<Bytes>,
    /// True for a tombstone.
    #[serde(default)]
    pub tombstone: bool,
    /// Unix milliseconds by the coordinator's clock; for people, never for ordering.
    pub written_at_ms: u64,
    /// The 128-bit operation id: 16 bytes, big-endian.
    pub op_id: Bytes,
}

/// What a get found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetReply {
    /// Live values; empty when the key is absent or deleted.
    pub siblings: Vec<Version>,
    /// Opaque; absent only when nothing at all is known of the key.
    #[serde(default)]
    pub context: Option<Bytes>,
    /// Replicas asked.
    pub asked: u8,
    /// Those that answered in time.
    pub answered: u8,
    /// Of them, nodes that are no replicas and told what they keep for some that are down.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stand_ins: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(value: &u8) -> bool {
    *value == 0
}

/// A write that reached its quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteReply {
    /// Covers exactly the versions in `siblings`.
    pub context: Bytes,
    /// All versions live at the coordinator after the write.
    pub siblings: Vec<Version>,
    /// Names of the distinct nodes that had fsynced the write before this answer.
    pub durable_on: Vec<String>,
    /// Names of the distinct nodes that held it, also in memory only.
    pub stored_on: Vec<String>,
    /// How many of `stored_on` are primaries.
    pub primaries: u8,
    /// How many fallbacks hold it as a hint.
    pub hinted: u8,
    /// The operation id: 16 bytes, big-endian.
    pub op_id: Bytes,
}

/// A key in a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyItem {
    /// The key.
    pub key: Bytes,
}

/// One page of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysReply {
    /// In token order.
    pub items: Vec<KeyItem>,
    /// Where to go on; absent at the end.
    #[serde(default)]
    pub cursor: Option<Bytes>,
}

/// What one replica holds of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Name of the node.
    pub node: String,
    /// `primary` or `fallback`.
    pub role: String,
    /// `present`, `absent`, `unreadable`, `suspect` or `silent`.
    pub state: String,
    /// Versions, without values.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// The version vector: (actor, counter).
    #[serde(default)]
    pub clock: Vec<(String, u64)>,
}

/// Where a key lives and what each replica holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainReply {
    /// The key's token.
    pub token: u64,
    /// The key's partition.
    pub partition: u32,
    /// In preference order.
    pub replicas: Vec<ReplicaReport>,
    /// Names of the fallbacks, in order.
    pub fallbacks: Vec<String>,
    /// What others keep of the key for some of its replicas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<HintReport>,
}

/// A hint of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintReport {
    /// Name of the node that keeps it.
    pub holder: String,
    /// Name of the one it is meant for.
    pub owner: String,
    /// Versions, without values.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// The version vector: (actor, counter).
    #[serde(default)]
    pub clock: Vec<(String, u64)>,
}

/// A bucket as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketInfo {
    /// Name.
    pub name: String,
    /// Replicas of each key.
    pub n: u8,
    /// Replicas a read waits for.
    pub r: u8,
    /// Durable replicas a write waits for.
    pub w: u8,
    /// Primaries among the answers of a read.
    pub pr: u8,
    /// Primaries among the acks of a write.
    pub pw: u8,
    /// Whether fallbacks may stand in.
    pub sloppy: bool,
    /// `siblings` or `lww`.
    pub mode: String,
    /// Default time to live in milliseconds; zero means for ever.
    pub ttl_ms: u64,
    /// Largest value in bytes.
    pub value_bytes_max: u32,
    /// Siblings from which a warning event is raised.
    pub siblings_warn: u32,
    /// Siblings from which blind writes are refused.
    pub siblings_max: u32,
}

/// The ring, for routing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingReply {
    /// The ring's own canonical bytes (`quorate_ring::Ring::from_bytes`).
    pub ring: Bytes,
    /// `stable`, or the step of a change that is under way.
    pub state: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_no_count(value: &u64) -> bool {
    *value == 0
}

/// One node as the answering node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Name.
    pub name: String,
    /// Uuid of its data directory in hex; empty if not known.
    pub id: String,
    /// QUIC address.
    pub address: String,
    /// `up`, `suspect` or `down`.
    pub state: String,
    /// Zone.
    pub zone: String,
    /// Weight.
    pub weight: u32,
    /// Share of all primary replicas it owns, in millionths.
    pub owned_millionths: u32,
    /// Ring epoch it has adopted.
    pub epoch: u64,
    /// Hints it holds for others.
    pub hints_held: u64,
    /// Hints others hold for it.
    pub hints_owed: u64,
    /// For whom it holds hints, and how many; in no row if it holds none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints_for: Vec<(String, u64)>,
    /// Corrupt records found since it started.
    pub corrupt: u64,
    /// Of these and others, those that have been written anew.
    #[serde(skip_serializing_if = "is_no_count")]
    pub mended: u64,
    /// Seconds since the last pass of its scrub ended; none if none has since it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrubbed_seconds_ago: Option<u64>,
    /// True while it wants no requests of clients.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// Keys known to be behind.
    pub behind_keys: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Release.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Of the replicas it compares itself with, the one with which it was last known to agree the
    /// longest ago, and the seconds since then, or since its start if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_pair: Option<(String, u64)>,
    /// Records that it has set aside, see `salvage`.
    #[serde(skip_serializing_if = "is_no_count")]
    pub set_aside: u64,
    /// True while its copies do not count for reads because its store lost data.
    pub rebuilding: bool,
}

/// The cluster as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// Name of the cluster.
    pub cluster_name: String,
    /// Id of the cluster in hex.
    pub cluster_id: String,
    /// Ring epoch.
    pub epoch: u64,
    /// `stable`, or the step of a change that is under way.
    pub ring_state: String,
    /// In order of name.
    pub nodes: Vec<NodeStatus>,
}
