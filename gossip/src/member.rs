//! What is known of one member, and which of two opinions wins.
//!
//! SWIM (Das, Gupta, Motivala 2002, section 4.2): a higher incarnation beats a lower one; at equal
//! incarnations the worse news wins. Only a member raises its own incarnation, so news it has
//! refuted cannot come back.

use quorate_ring::{NodeId, NodeUuid};

/// An opinion about a member's life. Ordered: at equal incarnations the later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It answers, or has not been missed yet.
    Up = 1,
    /// It did not answer; it may still refute.
    Suspect = 2,
    /// It did not refute in time. An opinion: it changes routing, never ownership.
    Down = 3,
}

/// News about a member, as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// About whom.
    pub node: NodeId,
    /// Its data directory; zero while nobody has heard from it.
    pub uuid: NodeUuid,
    /// Tells two processes on one directory apart.
    pub boot: u64,
    /// Raised by the member itself to refute.
    pub incarnation: u64,
    /// The opinion.
    pub state: State,
}

impl Update {
    /// True if this news replaces `other`.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        (other.incarnation, other.state) < (self.incarnation, self.state)
    }
}
