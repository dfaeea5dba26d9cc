//! What happened: for logs, metrics and the simulator's oracles, never for logic.

use bytes::Bytes;
use quorate_gossip::Event as MembershipEvent;
use quorate_ring::{NodeId, Phase, RingEpoch};

use crate::{
    causality::{Dot, OpId, Rule, Stamp},
    message::BucketId,
};

/// One thing that happened in a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A dot was minted here.
    Minted {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Bytes,
        /// Its new version.
        dot: Dot,
        /// The operation that asked for it.
        op: OpId,
        /// Where the last write wins: its stamp.
        stamp: Option<Stamp>,
        /// The rule that demanded a new epoch, if one did.
        rule: Option<Rule>,
    },
    /// A stored record failed its checksum, or the engine could not read it.
    CorruptRecord {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Bytes,
    },
    /// Two replicas hold different values under one dot; the merge was refused.
    EqualDotsDiffer {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Bytes,
        /// The node whose record was refused.
        from: NodeId,
    },
    /// A record that a peer sent failed its checksum and was dropped.
    DamagedMessage {
        /// The sender.
        from: NodeId,
    },
    /// A replica was brought up to date because a read had shown it to be behind.
    ReadRepair {
        /// The replica.
        replica: NodeId,
        /// True if the read waited for it.
        blocking: bool,
    },
    /// A key's siblings reached the bucket's warning level.
    ManySiblings {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Bytes,
        /// How many.
        count: usize,
    },
    /// A request was refused because a limit was met.
    Refused {
        /// Name of the limit.
        limit: &'static str,
    },
    /// What gossip thinks of the members changed.
    Membership(MembershipEvent),
    /// A comparison with a peer has ended.
    Compared {
        /// The peer.
        peer: NodeId,
        /// True if nothing differs any more.
        agreed: bool,
        /// Records moved.
        moved_keys: u64,
        /// Bytes sent and received for it.
        moved_bytes: u64,
    },
    /// The tree was not what the stored records say; it is now.
    TreeCorrected {
        /// In so many leaves.
        leaves: u64,
    },
    /// A member is at another address from now on.
    MemberMoved {
        /// Its name.
        name: String,
        /// Where it is.
        address: String,
    },
    /// A node that had no place in the ring is no longer known.
    MemberForgotten {
        /// Its name.
        name: String,
    },
    /// A decree about the ring was adopted.
    RingChanged {
        /// Its number.
        epoch: RingEpoch,
        /// The step of the change.
        phase: Phase,
        /// Identifies it and all before it.
        hash: u128,
    },
    /// Two decrees claim one epoch: some change was forced that was not lost. A person must look.
    RingFork {
        /// The epoch.
        epoch: RingEpoch,
    },
    /// An operator changed the ring without a majority.
    RingForced {
        /// What, and who.
        note: String,
    },
    /// The store failed; the node must stop and exit non-zero.
    StoreFailed {
        /// What the store said.
        reason: String,
    },
    /// The node can serve: its lease is durable.
    Ready,
}
