//! What detectors say to each other.
//!
//! Small: probes and answers fit into a datagram. A page of rows may not; it is bounded too, and
//! whoever carries messages finds another way for it. Every message may be lost, doubled, late or
//! overtaken.

use quorate_ring::NodeId;

use crate::member::Update;

/// Most news that a probe or its answer carries.
pub const UPDATES_MAX: usize = 16;
/// Most rows of a page.
pub const PAGE_MAX: usize = 64;

/// A message between detectors. `me` is the sender's own row, so every message is a sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it asks or answers.
    pub kind: Kind,
    /// The sender.
    pub me: Update,
    /// News, at most [`Kind::updates_max`].
    pub updates: Vec<Update>,
}

/// What a message asks or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answer with an ack of this number.
    Ping(u64),
    /// The answer to a ping.
    Ack(u64),
    /// Ping that member for me and pass on its answer.
    PingRequest {
        /// To be repeated in the ack.
        number: u64,
        /// Whom to ping.
        target: NodeId,
    },
    /// I have pinged it for you and hear nothing, but I hear you.
    Nack(u64),
    /// These are my rows of the members from `first` to `last`; tell me what you know better.
    Push {
        /// The first member of the page.
        first: NodeId,
        /// The last member of the page.
        last: NodeId,
    },
    /// What is known better, of what was pushed.
    Pull,
}

impl Kind {
    /// How many rows such a message may carry; more are ignored.
    #[must_use]
    pub const fn updates_max(&self) -> usize {
        match self {
            Self::Ping(_) | Self::Ack(_) | Self::PingRequest { .. } | Self::Nack(_) => UPDATES_MAX,
            Self::Push { .. } | Self::Pull => PAGE_MAX,
        }
    }
}
