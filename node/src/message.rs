//! What nodes say to each other.
//!
//! Any message may be lost, doubled, delayed or overtaken without harm: a reply names the
//! request it answers, and every change it asks for is a merge. Plain data, never serialised
//! here: `node::wire` gives each message its bytes.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::wire::{NodeStatus, Response, WriteRequest};
use quorate_ring::{NodeUuid, RingEpoch};

use crate::{
    healing::{
        care::CareMessage, hints::message::HintMessage, message::TreeMessage, reap::ReapMessage,
    },
    register::{Introduction, Opinion, Trace},
    ring_message::RingMessage,
};

/// Names one question of one node; the answer carries it back. Unique per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RpcId(pub u64);

/// Identifies a bucket for ever; a name may be dropped and created again, an id may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub u64);

/// Traffic classes, each with a lane of its own so that bulk cannot delay control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Probes. Unreliable; the oldest is dropped first.
    Gossip = 0,
    /// Small messages about the cluster.
    Control = 1,
    /// Requests of clients and what they cause.
    Data = 2,
    /// Background copies.
    Bulk = 3,
}

/// What a principal may do. Ordered: each role may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read keys.
    Read = 1,
    /// Read and write keys.
    Write = 2,
    /// Everything a person may do.
    Admin = 3,
}

/// Who asks, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Name in the certificate.
    pub name: String,
    /// Role in the certificate.
    pub role: Role,
}

/// What a replica has to say of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// It holds nothing.
    Absent,
    /// Its record, in the format of `store::format`.
    Present(Bytes),
    /// It holds a record that fails its checksum: neither present nor absent.
    Unreadable,
}

/// How a replica took a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Merged and fsynced.
    Durable,
    /// Merged, but not fsynced: the replica's durability is `interval` or `memory`.
    Stored,
    /// Refused before anything was done; names the limit.
    Overloaded(String),
    /// Not stored; says why.
    Failed(String),
}

/// One key in a replica's answer to a scan: its record, without values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedKey {
    /// The key's token.
    pub token: u64,
    /// The key.
    pub key: Bytes,
    /// Its record with values left out (each live value is present but empty).
    pub record: Bytes,
}

/// A message between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A put or delete for a node of the key's preference list to coordinate.
    Forward {
        /// Carried back in [`Message::Forwarded`].
        id: RpcId,
        /// Who asked the forwarding node.
        principal: Principal,
        /// Time left.
        budget: Duration,
        /// The write; a delete if it has no value.
        write: WriteRequest,
        /// True if the receiver is to coordinate in place of a replica that is down or silent.
        stand_in: bool,
    },
    /// The answer to a forwarded request.
    Forwarded {
        /// From [`Message::Forward`].
        id: RpcId,
        /// For the client.
        response: Response,
    },
    /// Merge this record and say when it is durable.
    Replicate {
        /// Carried back in [`Message::Replicated`].
        id: RpcId,
        /// The sender's ring.
        epoch: RingEpoch,
        /// Bucket of the key.
        bucket: BucketId,
        /// Token of the key.
        token: u64,
        /// The key.
        key: Bytes,
        /// In the format of `store::format`.
        record: Bytes,
        /// The sender's write generation when it read or minted the record.
        generation: u64,
    },
    /// How a replica took a record.
    Replicated {
        /// From [`Message::Replicate`].
        id: RpcId,
        /// What became of it.
        verdict: Verdict,
    },
    /// Send what you hold of a key.
    Fetch {
        /// Carried back in [`Message::Fetched`].
        id: RpcId,
        /// The sender's ring.
        epoch: RingEpoch,
        /// Bucket of the key.
        bucket: BucketId,
        /// Token of the key.
        token: u64,
        /// The key.
        key: Bytes,
        /// If its values have more bytes than this, they may be left out.
        whole_max: Option<u32>,
    },
    /// What a replica holds.
    Fetched {
        /// From [`Message::Fetch`].
        id: RpcId,
        /// The record or its absence.
        state: ReplicaState,
        /// True if this replica may have lost an earlier state of the key, so that its answer
        /// must not count towards a read quorum.
        suspect: bool,
        /// The values are left out of the record: each is present but empty. So only who said that
        /// they may be is answered.
        brief: bool,
        /// The replica's write generation when it read the record.
        generation: u64,
    },
    /// Send one page of a bucket's keys whose tokens lie in `first..=last`.
    Scan {
        /// Carried back in [`Message::Scanned`].
        id: RpcId,
        /// The sender's ring.
        epoch: RingEpoch,
        /// The bucket.
        bucket: BucketId,
        /// First token wanted.
        first: u64,
        /// Last token wanted.
        last: u64,
        /// Skip up to and including this (token, key); none at the start.
        after: Option<(u64, Bytes)>,
        /// Only keys that begin with these bytes.
        prefix: Bytes,
        /// Most keys wanted.
        limit: u32,
    },
    /// One page of keys.
    Scanned {
        /// From [`Message::Scan`].
        id: RpcId,
        /// In order of (token, key).
        items: Vec<ScannedKey>,
        /// True if there are more in the range.
        more: bool,
        /// Why there are none, if the scan failed.
        error: Option<String>,
    },
    /// Merge these bucket definitions and say when they are durable.
    Catalogue {
        /// Carried back in [`Message::CatalogueStored`].
        id: RpcId,
        /// In the format of `bucket::Catalogue`.
        catalogue: Bytes,
    },
    /// The catalogue is merged and durable.
    CatalogueStored {
        /// From [`Message::Catalogue`].
        id: RpcId,
        /// Hash of the receiver's catalogue after the merge.
        hash: u64,
    },
    /// Say how you are.
    Status {
        /// Carried back in [`Message::StatusReport`].
        id: RpcId,
        /// Hash of the asker's catalogue: one that differs is answered with the own catalogue.
        catalogue_hash: u64,
    },
    /// How a node is.
    StatusReport {
        /// From [`Message::Status`].
        id: RpcId,
        /// Its own row of `cluster status`.
        status: Box<NodeStatus>,
        /// Its catalogue if the hashes differed.
        catalogue: Option<Bytes>,
        /// What its wall clock shows, in unix milliseconds; zero if it does not say.
        wall_ms: u64,
    },
    /// About the trees that replicas compare.
    Tree {
        /// Carried back in the answer.
        id: RpcId,
        /// Question or answer.
        body: TreeMessage,
    },
    /// About states kept for replicas that are down.
    Hint {
        /// Carried back in the answer.
        id: RpcId,
        /// Question or answer.
        body: HintMessage,
    },
    /// About a node's care for what it stores.
    Care {
        /// Carried back in the answer.
        id: RpcId,
        /// Question or answer.
        body: CareMessage,
    },
    /// About tombstones that may go.
    Reap {
        /// Carried back in the answer; zero where there is none.
        id: RpcId,
        /// Question or answer.
        body: ReapMessage,
    },
    /// About the ring.
    Ring {
        /// Names a question; zero where there is none.
        id: RpcId,
        /// What is said.
        message: RingMessage,
    },
    /// Who has joined and is not in the ring, as far as the sender knows.
    Members {
        /// Always zero: nothing answers.
        id: RpcId,
        /// In the format of `joining::newcomers_to_bytes`.
        members: Bytes,
    },
    /// Who I am; first of all that a process says, and now and then again.
    Greet {
        /// Always zero: the answer says what it is to.
        id: RpcId,
        /// The process and its directory.
        who: Introduction,
        /// A directory that the process has left because it was there twice.
        left: Option<NodeUuid>,
        /// What it has heard of others.
        heard: Vec<Trace>,
    },
    /// What the receiver makes of that; durable.
    Greeted {
        /// Always zero.
        id: RpcId,
        /// The directory that it is about.
        uuid: NodeUuid,
        /// Number of the life that it is about.
        number: u64,
        /// Mark of that life.
        mark: u64,
        /// Whether it may go on.
        opinion: Opinion,
        /// The receiver's ring.
        epoch: RingEpoch,
        /// What the receiver holds counts for reads of a quorum.
        counts: bool,
    },
    /// Membership.
    Gossip(quorate_gossip::Message),
}
