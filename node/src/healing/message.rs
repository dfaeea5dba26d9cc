//! What nodes say to each other about their trees.
//!
//! Questions are answered from what is there at that moment and leave nothing behind at the node
//! that answers; the node that asks keeps all state, and asks again when an answer is lost.

use bytes::Bytes;
use quorate_ring::{NodeId, RingEpoch};

use crate::{
    causality::Clock,
    healing::merkle::trie::Prefix,
    message::{BucketId, ReplicaState},
};

/// Most prefixes in one question.
pub const ASK_MAX: usize = 64;
/// Most leaves in one question.
pub const ASK_LEAVES_MAX: usize = 32;
/// Most keys in one question or parcel.
pub const PARCEL_KEYS_MAX: usize = 64;
/// A parcel of records is closed at about this size.
pub const PARCEL_BYTES_MAX: usize = 512 << 10;

/// A part of the token space and its sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Which part.
    pub prefix: Prefix,
    /// The asker's sum of it.
    pub sum: u64,
}

/// A part whose sum differs, with the sums of its parts at the node that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// Which part.
    pub prefix: Prefix,
    /// In the order of [`Prefix::children`].
    pub sums: Vec<u64>,
}

/// Why sums cannot be compared now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They can.
    Ready = 1,
    /// The tree is still being built.
    Building = 2,
    /// The rings differ.
    OtherRing = 3,
}

/// Where a key lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its token.
    pub token: u64,
    /// Its bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: Bytes,
}

/// What a node holds of a key, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A record with this clock, and the hash of its versions and clock.
    Record {
        /// Everything it has seen.
        clock: Clock,
        /// Equal for equal states.
        hash: u64,
    },
    /// A record that cannot be read.
    Unreadable,
}

/// One key of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which key.
    pub place: Place,
    /// What is held of it.
    pub holds: Holds,
}

/// How a node stands with a peer, for one value of n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairReport {
    /// The peer.
    pub peer: NodeId,
    /// Replicas of the keys compared.
    pub n: u8,
    /// This node's sum over all that both hold.
    pub root: u64,
    /// True if this node begins the comparisons of the pair.
    pub leads: bool,
    /// The last wish for a comparison that was fulfilled; meaningful where it leads.
    pub generation: u64,
    /// How long ago both were known to agree, in milliseconds.
    pub agreed_ms_ago: Option<u64>,
    /// Keys found to differ and not brought together yet.
    pub behind_keys: u64,
    /// Records moved since the start.
    pub moved_keys: u64,
    /// Bytes sent and received for it since the start.
    pub moved_bytes: u64,
    /// Why the last comparison failed; empty if it did not.
    pub trouble: String,
}

/// Questions and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeMessage {
    /// Compare these sums.
    Ask {
        /// The asker's ring.
        epoch: RingEpoch,
        /// Replicas of the keys compared.
        n: u8,
        /// What to compare.
        branches: Vec<Branch>,
        /// Leaves whose sums differed although their keys agreed: look at the store again.
        doubtful: Vec<u32>,
    },
    /// Those that differ.
    Sums {
        /// Why there may be none.
        standing: Standing,
        /// In the order in which they were asked for.
        differing: Vec<Differing>,
    },
    /// List the keys of these leaves.
    AskLeaves {
        /// The asker's ring.
        epoch: RingEpoch,
        /// Replicas of the keys wanted.
        n: u8,
        /// Ascending.
        leaves: Vec<u32>,
        /// Skip up to and including this key.
        after: Option<Place>,
    },
    /// Keys, in order.
    Leaves {
        /// What is there.
        entries: Vec<Entry>,
        /// True if there are more after the last.
        more: bool,
    },
    /// Send these records.
    Pull {
        /// Which.
        places: Vec<Place>,
    },
    /// Records, perhaps fewer than were asked for.
    Pulled {
        /// What is there, and the sender's write generation when it read it.
        records: Vec<(Place, ReplicaState, u64)>,
    },
    /// Merge these records and say when they are stored.
    Push {
        /// Which, and the sender's write generation when it read them.
        records: Vec<(Place, Bytes, u64)>,
    },
    /// They have been merged and stored.
    Pushed {
        /// How many were not.
        failed: u32,
    },
    /// Say how you stand with your peers.
    AskRoots {
        /// Compare with all of them now.
        compare: bool,
    },
    /// How a node stands.
    Roots {
        /// False while the tree is being built or looked at again.
        ready: bool,
        /// Hints held for others.
        hints: u64,
        /// The latest wish for a comparison.
        generation: u64,
        /// One for each peer and value of n.
        pairs: Vec<PairReport>,
    },
}

impl TreeMessage {
    /// About how many bytes it takes on the wire.
    #[must_use]
    pub fn weight(&self) -> usize {
        let place = |place: &Place| 28 + place.key.len();
        20 + match self {
            Self::Ask {
                branches, doubtful, ..
            } => 20 + branches.len() * 17 + doubtful.len() * 5,
            Self::Sums { differing, .. } => {
                let sums = differing.iter().map(|part| 12 + part.sums.len() * 9);
                8 + sums.sum::<usize>()
            }
            Self::AskLeaves { leaves, .. } => 40 + leaves.len() * 5,
            Self::Leaves { entries, .. } => {
                let entries = entries.iter().map(|entry| match &entry.holds {
                    Holds::Record { clock, .. } => place(&entry.place) + 16 + 26 * clock.len(),
                    Holds::Unreadable => place(&entry.place) + 4,
                });
                8 + entries.sum::<usize>()
            }
            Self::Pull { places } => places.iter().map(place).sum(),
            Self::Pulled { records } => {
                let records = records.iter().map(|(at, state, _)| match state {
                    ReplicaState::Present(bytes) => place(at) + 8 + bytes.len(),
                    ReplicaState::Absent | ReplicaState::Unreadable => place(at) + 4,
                });
                records.sum()
            }
            Self::Push { records } => {
                let records = records
                    .iter()
                    .map(|(at, bytes, _)| place(at) + 5 + bytes.len());
                records.sum()
            }
            Self::Pushed { .. } | Self::AskRoots { .. } => 8,
            Self::Roots { pairs, .. } => 20 + pairs.len() * 80,
        }
    }
}
