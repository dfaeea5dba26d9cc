//! What nodes say to each other about the ring.
//!
//! As with all messages: each may be lost, doubled, late or overtaken. Decrees and staged changes
//! travel in their own formats, records in that of `store::format`.

use bytes::Bytes;
use quorate_ring::RingEpoch;

use crate::{
    agreement::{Ballot, Vote},
    message::BucketId,
};

/// How far a node is with the change under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The epoch it has adopted, durably.
    pub epoch: u64,
    /// Its data directory.
    pub uuid: u128,
    /// Hash of the staged changes it knows.
    pub staged: u64,
    /// Transfers it has completed.
    pub done: u32,
    /// Transfers it has to make.
    pub total: u32,
    /// Bytes it has received.
    pub bytes: u64,
    /// Bytes its store takes.
    pub disk_bytes: u64,
    /// Bytes that are free where its store lies; zero if it does not say.
    pub disk_free: u64,
    /// True if it has nothing that belongs to others.
    pub clean: bool,
    /// True while it wants no new requests.
    pub draining: bool,
}

/// One record on its way to a new owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Bucket of the key.
    pub bucket: BucketId,
    /// Token of the key.
    pub token: u64,
    /// The key.
    pub key: Bytes,
    /// In the format of `store::format`.
    pub record: Bytes,
    /// The sender's write generation when it began to read it.
    pub generation: u64,
}

/// A message about the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingMessage {
    /// Take part in no lower ballot for this epoch, and say what you have accepted.
    Prepare {
        /// The epoch to decide on.
        epoch: RingEpoch,
        /// The ballot.
        ballot: Ballot,
    },
    /// Accept this decree for this epoch.
    Propose {
        /// The epoch to decide on.
        epoch: RingEpoch,
        /// The ballot.
        ballot: Ballot,
        /// The decree.
        value: Bytes,
    },
    /// A voter's answer to either; sent once it is durable.
    Voted {
        /// The epoch.
        epoch: RingEpoch,
        /// The ballot it answers.
        ballot: Ballot,
        /// The answer.
        vote: Vote,
    },
    /// This decree was chosen.
    Decree(Bytes),
    /// What you were asked to do was planned under another ring than mine, which is this. It has
    /// not been done, or does not count.
    Stale(Bytes),
    /// Send your decree.
    Want,
    /// How far I am.
    Beat(Progress),
    /// Merge these staged changes and confirm.
    Staged(Bytes),
    /// They are merged and durable; hash of the result.
    StagedIs(u64),
    /// Send what you hold of these tokens.
    Pull {
        /// Under which epoch.
        epoch: RingEpoch,
        /// First token wanted.
        first: u64,
        /// Last token wanted.
        last: u64,
        /// Where the last page ended; empty at the start.
        after: Bytes,
    },
    /// One page of it.
    Page {
        /// From [`RingMessage::Pull`].
        after: Bytes,
        /// In order of the store.
        items: Vec<Item>,
        /// Where it ends; empty if it is the last.
        next: Bytes,
        /// Why there is none.
        error: Option<String>,
        /// The share of the time that whoever sends it has for this, in thousandths: what is
        /// received rests accordingly. Zero if it does not say.
        share: u32,
    },
}
