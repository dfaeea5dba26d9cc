//! What a search may do: the steps of a history, and the fault families.

use std::fmt;

use quorate_node::causality::Rule;

/// Which faults a search tries, and how far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Name of the family.
    pub name: &'static str,
    /// The fallback takes writes, hands its copy to a primary, and drops it.
    pub hand_off: bool,
    /// Times a primary loses the key and keeps its identity.
    pub losses: u8,
    /// Power cuts; with any, a write may leave its coordinator before it is on disk there.
    pub cuts: u8,
    /// Requests may be repeated at any node.
    pub retries: bool,
    /// Most writes in one history.
    pub writes: u8,
    /// Steps by which its histories are shorter than asked for, so that no family takes most of
    /// the time.
    pub shorter: usize,
}

impl Faults {
    const NONE: Self = Self {
        name: "none",
        hand_off: false,
        losses: 0,
        cuts: 0,
        retries: false,
        writes: 4,
        shorter: 1,
    };
    /// The fallback hands off and drops.
    pub const HAND_OFF: Self = Self {
        name: "hand-off and drop",
        hand_off: true,
        shorter: 2,
        ..Self::NONE
    };
    /// One node loses the key.
    pub const LOSS: Self = Self {
        name: "key lost at a node",
        losses: 1,
        shorter: 0,
        ..Self::NONE
    };
    /// One power cut.
    pub const CUT: Self = Self {
        name: "power cut between send and fsync",
        cuts: 1,
        ..Self::NONE
    };
    /// Everything at once.
    pub const ALL: Self = Self {
        name: "all faults",
        hand_off: true,
        losses: 1,
        cuts: 1,
        shorter: 3,
        ..Self::NONE
    };
    /// Repeated requests. No replica forgets here: one that lost the key with the ids of what it
    /// had replaced, and was the only one to hold them, applies a late repetition again.
    pub const RETRIES: Self = Self {
        name: "requests repeated elsewhere",
        hand_off: true,
        retries: true,
        shorter: 2,
        writes: 3,
        ..Self::NONE
    };
    /// The families of the minting rules.
    pub const FAMILIES: [Self; 4] = [Self::HAND_OFF, Self::LOSS, Self::CUT, Self::ALL];

    /// The family that cannot do without the rule.
    #[must_use]
    pub const fn against(rule: Rule) -> Self {
        match rule {
            Rule::Restart => Self::CUT,
            Rule::Absent => Self::HAND_OFF,
            Rule::Amnesia | Rule::Received => Self::LOSS,
        }
    }
}

/// What a search varies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    pub(super) faults: Faults,
    pub(super) rules_off: &'a [Rule],
}

/// One step of a history. Nodes 0 to 2 are primaries, 3 is the fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are node, client and write numbers")]
pub enum Action {
    /// A client without a context writes; on disk at once.
    Blind { node: u8 },
    /// A client writes with what it last read; on disk at once.
    Put { client: u8, node: u8 },
    /// As [`Action::Blind`], but not yet on disk at the coordinator.
    BlindUnsynced { node: u8 },
    /// As [`Action::Put`], but not yet on disk at the coordinator.
    PutUnsynced { client: u8, node: u8 },
    /// A client repeats a write.
    Retry { write: u8, node: u8 },
    /// A client reads one node.
    Get { client: u8, node: u8 },
    /// A client learns from the answer to a write what its coordinator holds beside it, which
    /// need not be on disk there.
    Hear { client: u8, node: u8 },
    /// A node sends its state to another, which merges it and syncs.
    Replicate { from: u8, to: u8 },
    /// The fallback's state is merged by a primary, then dropped by the fallback.
    HandOff { to: u8 },
    /// What a node took in is on its disk.
    Sync { node: u8 },
    /// What is not on a node's disk is gone; the node restarts.
    PowerCut { node: u8 },
    /// A node's copy of the key is gone, its identity is not.
    Lose { node: u8 },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn name(node: u8) -> char {
            ['A', 'B', 'C', 'F'][usize::from(node)]
        }
        match *self {
            Self::Blind { node } => write!(f, "put at {}", name(node)),
            Self::Put { client, node } => {
                write!(f, "c{client} puts with context at {}", name(node))
            }
            Self::BlindUnsynced { node } => write!(f, "put at {}, unsynced", name(node)),
            Self::PutUnsynced { client, node } => {
                write!(f, "c{client} puts with context at {}, unsynced", name(node))
            }
            Self::Retry { write, node } => write!(f, "v{write} repeated at {}", name(node)),
            Self::Get { client, node } => write!(f, "c{client} gets at {}", name(node)),
            Self::Hear { client, node } => write!(f, "c{client} is answered by {}", name(node)),
            Self::Replicate { from, to } => write!(f, "{} -> {}", name(from), name(to)),
            Self::HandOff { to } => write!(f, "F hands off to {} and drops", name(to)),
            Self::Sync { node } => write!(f, "{} syncs", name(node)),
            Self::PowerCut { node } => write!(f, "power cut at {}", name(node)),
            Self::Lose { node } => write!(f, "{} loses the key", name(node)),
        }
    }
}
