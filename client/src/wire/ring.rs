//! Questions about the ring, and changes of it.

use serde::{Deserialize, Serialize};

/// What to do with the ring. The field `verb` is one of `join`, `leave`, `remove`, `replace`,
/// `weight`, `zone`, `resize`, `unstage`, `plan`, `commit`, `abort`, `transfers`, `drain`,
/// `undrain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RingRequest {
    /// What to do.
    pub verb: String,
    /// The node concerned; the one that is replaced in `replace`.
    pub node: String,
    /// The node that takes its places in `replace`.
    pub other: String,
    /// Another zone than the node says itself; the new one in `zone`.
    pub zone: Option<String>,
    /// A weight.
    pub weight: Option<u32>,
    /// The number of partitions in `resize`.
    pub partitions: u32,
    /// The plan to commit.
    pub digest: String,
    /// Commit without a majority.
    pub force: bool,
    /// The cluster's name, typed by whoever forces.
    pub cluster: String,
    /// Milliseconds the client is still willing to wait.
    pub timeout_ms: u32,
}

/// One replica that a plan moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanMove {
    /// The partition.
    pub partition: u32,
    /// Who gives it up, or holds a copy.
    pub from: String,
    /// Who gets it.
    pub to: String,
    /// About so many bytes.
    pub bytes: u64,
}

/// What a plan means for one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanNode {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Replicas it holds now.
    pub before: u64,
    /// Replicas it will hold.
    pub after: u64,
    /// Replicas it gets.
    pub moves_in: u32,
    /// Replicas it gives up.
    pub moves_out: u32,
}

/// What staged changes lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReply {
    /// Names the plan.
    pub digest: String,
    /// Partitions of the ring to come.
    pub partitions: u32,
    /// What moves.
    pub moves: Vec<PlanMove>,
    /// What it means for each node.
    pub nodes: Vec<PlanNode>,
    /// Fullest node over the mean, per weight, in millionths.
    pub balance_before_ppm: u64,
    /// The same afterwards.
    pub balance_after_ppm: u64,
    /// Replicas that move, in millionths of all.
    pub moved_share_ppm: u64,
    /// The least that would have to.
    pub minimum_share_ppm: u64,
    /// What to know first.
    pub warnings: Vec<String>,
}

/// How far one member is with a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRow {
    /// Its name.
    pub node: String,
    /// Whether it is thought to be up.
    pub up: bool,
    /// Whether it has adopted the present step.
    pub adopted: bool,
    /// Transfers it has completed.
    pub done: u32,
    /// Transfers it has to make.
    pub total: u32,
    /// Bytes it has received.
    pub bytes: u64,
    /// Whether it holds nothing that belongs to others.
    pub clean: bool,
}

/// The answer to every request about the ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RingAnswer {
    /// Number of the ring.
    pub epoch: u64,
    /// `stable`, `moving` or `switched`.
    pub state: String,
    /// What the last change was.
    pub note: String,
    /// What is staged.
    pub staged: Vec<String>,
    /// The plan, if one was asked for.
    pub plan: Option<PlanReply>,
    /// How far each member is.
    pub transfers: Vec<TransferRow>,
}
