//! What nodes say to each other about hints.
//!
//! A hint is kept on request and answered like any other write to a replica. It is handed over with
//! a receipt: the owner says what its record of the key has seen once that is on its disk, and the
//! holder compares that with the hint before it deletes it.

use bytes::Bytes;
use quorate_ring::{NodeId, RingEpoch};

use crate::{causality::Clock, healing::message::Place, message::Verdict};

/// What a node keeps for one other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
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

/// Questions and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HintMessage {
    /// Keep this record for its owner, who is down or silent; answered by
    /// [`Message::Replicated`](crate::message::Message::Replicated).
    Keep {
        /// The sender's ring.
        epoch: RingEpoch,
        /// The key.
        place: Place,
        /// Whom it is meant for.
        owner: NodeId,
        /// In the format of `store::format`.
        record: Bytes,
        /// The write generation of its reading or minting.
        generation: u64,
    },
    /// Merge this record, which was kept for you, and give a receipt.
    Hand {
        /// The sender's ring.
        epoch: RingEpoch,
        /// The key.
        place: Place,
        /// In the format of `store::format`.
        record: Bytes,
        /// The write generation of its reading.
        generation: u64,
    },
    /// The receipt.
    Handed {
        /// Whether it is merged and synced.
        verdict: Verdict,
        /// All that the owner's record on disk has seen.
        clock: Clock,
    },
    /// Send all hints that you have of this key.
    Ask {
        /// The key.
        place: Place,
    },
    /// They are these.
    Held {
        /// False if there may be others.
        complete: bool,
        /// Whom each is meant for, and its record.
        hints: Vec<(NodeId, Bytes)>,
        /// The write generation under which they were read.
        generation: u64,
    },
    /// Say how much you keep for whom.
    Count,
    /// It is this.
    Counted {
        /// False while the store is still being looked through.
        complete: bool,
        /// For each node.
        kept: Vec<(NodeId, Kept)>,
    },
}

impl HintMessage {
    /// About how many bytes it takes on the wire.
    #[must_use]
    pub fn weight(&self) -> usize {
        let at = |place: &Place| 40 + place.key.len();
        20 + match self {
            Self::Keep { place, record, .. } | Self::Hand { place, record, .. } => {
                at(place) + record.len()
            }
            Self::Handed { clock, .. } => 8 + 26 * clock.len(),
            Self::Ask { place } => at(place),
            Self::Held { hints, .. } => {
                let records = hints.iter().map(|(_, record)| 12 + record.len());
                records.sum()
            }
            Self::Count => 0,
            Self::Counted { kept, .. } => 60 * kept.len(),
        }
    }
}
