//! What nodes say to each other about the care for what they store: scrubbing, and looking at all
//! records once more for an operator.
//!
//! Questions may be repeated at will. A wish for a scrub that arrives twice is two wishes, which
//! one pass fulfils if it has not begun; everything else changes nothing.

use bytes::Bytes;

use super::message::Place;

/// Most records in one page of an inspection.
pub const INSPECT_ITEMS_MAX: usize = 128;
/// A page of an inspection reads about so many bytes.
pub const INSPECT_BYTES_MAX: usize = 512 << 10;

/// Most records in one page of what is set aside, and most that are dropped at one time.
pub const ASIDE_ITEMS_MAX: usize = 128;
/// Such a page reads about so many bytes.
pub const ASIDE_BYTES_MAX: usize = 512 << 10;

/// How far a node's scrub is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubProgress {
    /// Wishes for a pass since the node started.
    pub wished: u64,
    /// The last of them that a whole pass has fulfilled.
    pub fulfilled: u64,
    /// Passes that have ended since the node started.
    pub passes: u64,
    /// True if a pass is under way.
    pub running: bool,
    /// How much of the token space this pass has been through, in millionths.
    pub reached_millionths: u32,
    /// Records read by this pass, or by the last one if none is under way.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that it found damaged.
    pub damaged: u64,
    /// How long ago the last pass ended, in milliseconds.
    pub ended_ms_ago: Option<u64>,
}

/// One record as its node's disk has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which key.
    pub place: Place,
    /// Hash of versions and clock, equal for equal states; zero if there are none. None if the
    /// record cannot be read.
    pub hash: Option<u64>,
    /// True if the record does not count for reads until the other replicas have been asked.
    pub suspect: bool,
}

/// Questions and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CareMessage {
    /// Say how far your scrub is.
    Scrub {
        /// And begin a pass now.
        begin: bool,
    },
    /// How far it is.
    Scrubbing(ScrubProgress),
    /// Read your records from this store key on, and list them.
    Inspect {
        /// The first key wanted.
        first: Bytes,
        /// The key to stop before; empty for the end.
        end: Bytes,
        /// Which look it is; carried back.
        look: u32,
    },
    /// Some of them.
    Inspected {
        /// From [`CareMessage::Inspect`].
        look: u32,
        /// In the order of the store.
        records: Vec<Seen>,
        /// Bytes read.
        bytes: u64,
        /// Where to go on; empty if there is nothing more.
        next: Bytes,
        /// What lies before this key could not be listed, not even by key; empty if all could.
        blind_until: Bytes,
    },
    /// Take no more requests of clients, or take them again.
    Drain {
        /// True for no more.
        on: bool,
    },
    /// It does.
    Drained {
        /// As it was asked for.
        on: bool,
    },
    /// Show what you have set aside, from this store key on.
    Aside {
        /// The first key wanted; empty for the first there is.
        first: Bytes,
    },
    /// Some of it.
    AsideIs {
        /// Keys and values of the store, in its order.
        records: Vec<(Bytes, Bytes)>,
        /// Where to go on; empty if there is nothing more.
        next: Bytes,
    },
    /// Drop these, which you have set aside.
    Discard {
        /// Their store keys.
        keys: Vec<Bytes>,
    },
    /// They are dropped, durably.
    Discarded {
        /// So many.
        count: u64,
    },
}

impl CareMessage {
    /// About how many bytes it takes on the wire.
    #[must_use]
    pub fn weight(&self) -> usize {
        20 + match self {
            Self::Inspect { first, end, .. } => first.len() + end.len(),
            Self::Inspected { records, .. } => {
                let records = records.iter().map(|seen| 36 + seen.place.key.len());
                records.sum()
            }
            Self::Scrubbing(_) => 60,
            Self::Aside { first } => first.len(),
            Self::AsideIs { records, .. } => {
                let records = records.iter();
                records
                    .map(|(key, value)| 8 + key.len() + value.len())
                    .sum()
            }
            Self::Discard { keys } => keys.iter().map(|key| 4 + key.len()).sum(),
            Self::Scrub { .. }
            | Self::Drain { .. }
            | Self::Drained { .. }
            | Self::Discarded { .. } => 2,
        }
    }
}
