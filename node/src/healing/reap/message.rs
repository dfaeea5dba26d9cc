//! What nodes say to each other about tombstones that may go.

use quorate_ring::RingEpoch;

use crate::healing::message::Place;

/// What is to become of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Goal {
    /// Nothing: it has nothing but tombstones.
    Reap = 1,
    /// Its clock loses the entries of closed epochs.
    Compact = 2,
}

/// A key, and the state that every owner has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which key.
    pub place: Place,
    /// Of its versions and clock.
    pub digest: u128,
    /// What for.
    pub goal: Goal,
}

/// Why a member stands in the way, or that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It does not.
    Good = 1,
    /// It knows another ring, or data is moving, or it holds what it does not own.
    Moving = 2,
    /// It lost data, and has not got all back; or nobody has taken note of it yet, and it may have
    /// to lose what it holds.
    Rebuilding = 3,
    /// It left the ring once, and may still hold what it held then.
    Away = 4,
    /// It holds a hint for the slot.
    Hints = 5,
    /// Its generation of the slot is that high already.
    Behind = 6,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Good,
        Self::Moving,
        Self::Rebuilding,
        Self::Away,
        Self::Hints,
        Self::Behind,
    ];

    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "is ready",
            Self::Moving => "is moving data",
            Self::Rebuilding => "is rebuilding, or has just been started",
            Self::Away => "was out of the ring and may hold old data",
            Self::Hints => "holds hints",
            Self::Behind => "was asked by another at the same time",
        }
    }
}

/// Questions and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReapMessage {
    /// Do you hold exactly this, durably?
    Vote {
        /// The asker's ring.
        epoch: RingEpoch,
        /// The slot of all of them.
        slot: u8,
        /// Those that the receiver owns.
        candidates: Vec<Candidate>,
    },
    /// What I hold.
    Voted {
        /// Whether I stand in the way.
        standing: Standing,
        /// My generation of the slot.
        generation: u64,
        /// For each candidate, in order, whether I hold it.
        agreed: Vec<bool>,
    },
    /// Take in nothing older from now on.
    Fence {
        /// The asker's ring.
        epoch: RingEpoch,
        /// The slot.
        slot: u8,
        /// Its new generation.
        generation: u64,
    },
    /// It is durable, or why it is not.
    Fenced {
        /// Whether I stand in the way.
        standing: Standing,
    },
    /// Delete or replace these, if you hold exactly this.
    Commit {
        /// The asker's ring.
        epoch: RingEpoch,
        /// The slot.
        slot: u8,
        /// That of the fence.
        generation: u64,
        /// Those that the receiver owns.
        candidates: Vec<Candidate>,
    },
    /// It is done.
    Committed {
        /// Of how many.
        done: u32,
    },
    /// What you sent is older than what I take in. Read it again, under this generation.
    Behind {
        /// The slot.
        slot: u8,
        /// My generation of it.
        generation: u64,
    },
}
