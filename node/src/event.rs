//! What happened: for logs, metrics and the simulator's oracles, never for logic.

use bytes::Bytes;
use quorate_gossip::Event as MembershipEvent;
use quorate_ring::{NodeId, NodeUuid, Phase, RingEpoch};

use crate::{
    causality::{Container, Dot, OpId, Rule, Stamp},
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
    /// A hint has been handed over and is deleted.
    HintHanded {
        /// The replica it was meant for.
        owner: NodeId,
    },
    /// A hint could not be read any more: what it held, its owner has to learn from others.
    HintLost {
        /// The replica it was meant for.
        owner: NodeId,
    },
    /// A write was kept by another node in place of a replica that is down or silent.
    StoodIn {
        /// The replica.
        owner: NodeId,
        /// Who stands in.
        holder: NodeId,
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
    /// What a delete left is being deleted here, or closed epochs of a clock dropped: all owners
    /// have agreed.
    Reaped {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Bytes,
        /// The write generation below which nothing of its slot is taken in any more.
        generation: u64,
        /// True if the record goes, false if its clock is compacted.
        gone: bool,
        /// What was held until then.
        state: Box<Container>,
    },
    /// A round of the scan has removed what it came upon of buckets that were dropped.
    DroppedRemoved {
        /// So many records.
        records: u64,
    },
    /// Nothing can be reaped: a member stands in the way. Told when the reason changes.
    ReapBlocked {
        /// The member.
        node: NodeId,
        /// Why.
        why: &'static str,
    },
    /// The tree was not what the stored records say; it is now.
    TreeCorrected {
        /// In so many leaves.
        leaves: u64,
    },
    /// A pass of the scrub over all that is stored has ended.
    Scrubbed {
        /// Records read.
        records: u64,
        /// Their bytes.
        bytes: u64,
        /// Those that were damaged.
        damaged: u64,
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
    /// This data directory must not go on under its name: it was restored, rolled back or copied.
    Fenced {
        /// The name.
        uuid: NodeUuid,
        /// How that is known.
        reason: &'static str,
    },
    /// All that this data directory held is out of the way now, for a person to look at.
    SetAside {
        /// So many records.
        records: u64,
        /// Why.
        why: &'static str,
    },
    /// It is agreed that what this node held counts for nothing; it takes in what the others hold.
    Rebuilding {
        /// In so many transfers.
        transfers: usize,
    },
    /// This data directory speaks for its node again.
    Rebuilt,
    /// The store failed; the node must stop and exit non-zero.
    StoreFailed {
        /// What the store said.
        reason: String,
    },
    /// The node can serve: its lease is durable.
    Ready,
}
