//! Operations in progress: one state machine each.
//!
//! An operation is told what replicas answer, what the local replica has done, and the time; it
//! says when it wants to be woken and when it is over. Its key names it, and is the id under which
//! it asks its peers, so an answer finds the question it belongs to; answers that come late or
//! twice find nothing, or change nothing.

pub(crate) mod care;
pub(crate) mod catalogue;
pub(crate) mod explain;
pub(crate) mod forward;
pub(crate) mod hand;
pub(crate) mod healing;
pub(crate) mod hints;
pub(crate) mod local_scan;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod read;
pub(crate) mod salvage;
pub(crate) mod scan;
pub(crate) mod stage;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod write;

use quorate_client::wire::Response;
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use crate::{
    core::{Core, Notice, Origin},
    message::{Message, ReplicaState, Verdict},
    replica::OpKey,
};

/// Whether an operation goes on, and until when it may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Until(Instant),
    Over,
}

/// An answer of a peer to one of our questions.
#[derive(Debug)]
pub(crate) enum Answer {
    Fetched {
        state: ReplicaState,
        suspect: bool,
        /// Without values.
        brief: bool,
        generation: u64,
    },
    Replicated(Verdict),
    Forwarded(Box<Response>),
    /// It was refused: what was asked was planned under another ring.
    Stale,
    /// Anything that only one kind of operation understands.
    Other(Box<Message>),
}

/// One operation.
#[derive(Debug)]
pub(crate) enum Operation {
    Write(Box<write::WriteOp>),
    Read(Box<read::ReadOp>),
    Forward(Box<forward::ForwardOp>),
    Scan(Box<scan::ScanOp>),
    Explain(Box<explain::ExplainOp>),
    Status(Box<status::StatusOp>),
    Healing(Box<healing::HealingOp>),
    Hints(Box<hints::HintsOp>),
    Catalogue(Box<catalogue::CatalogueOp>),
    Stage(Box<stage::StageOp>),
    Pull(Box<pull::PullOp>),
    Push(Box<push::PushOp>),
    Hand(Box<hand::HandOp>),
    Care(Box<care::CareOp>),
    Salvage(Box<salvage::SalvageOp>),
    Verify(Box<verify::VerifyOp>),
}

impl Operation {
    /// Something this operation waited for has happened here. Operations it needs are left in
    /// `spawn`.
    pub(crate) fn notice(
        &mut self,
        core: &mut Core,
        notice: Notice,
        spawn: &mut Vec<(OpKey, Self)>,
    ) -> Flow {
        match self {
            Self::Write(op) => op.notice(core, notice, spawn),
            Self::Read(op) => op.notice(core, notice),
            Self::Explain(op) => op.notice(core, notice),
            Self::Forward(op) => op.wait(),
            Self::Scan(op) => op.wait(),
            Self::Status(op) => op.wait(),
            Self::Healing(op) => op.wait(),
            Self::Hints(op) => op.wait(),
            Self::Catalogue(op) => op.wait(),
            Self::Stage(op) => op.wait(),
            Self::Pull(op) => op.notice(core, &notice),
            Self::Push(op) => op.notice(core, &notice),
            Self::Hand(op) => op.notice(core, notice),
            Self::Care(op) => op.wait(),
            Self::Verify(op) => op.wait(),
            Self::Salvage(op) => op.wait(),
        }
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        match self {
            Self::Write(op) => op.answer(core, from, answer),
            Self::Read(op) => op.answer(core, from, answer),
            Self::Forward(op) => op.answer(core, from, answer),
            Self::Scan(op) => op.answer(core, from, answer),
            Self::Explain(op) => op.answer(core, from, answer),
            Self::Status(op) => op.answer(core, from, answer),
            Self::Healing(op) => op.answer(core, from, answer),
            Self::Hints(op) => op.answer(core, from, answer),
            Self::Catalogue(op) => op.answer(core, from, answer),
            Self::Stage(op) => op.answer(core, from, answer),
            Self::Pull(op) => op.answer(core, from, answer),
            Self::Push(op) => op.answer(core, from, answer),
            Self::Hand(op) => op.answer(core, from, answer),
            Self::Care(op) => op.answer(core, from, answer),
            Self::Verify(op) => op.answer(core, from, answer),
            Self::Salvage(op) => op.answer(core, from, answer),
        }
    }

    /// Until when it may sleep, if nothing happens.
    pub(crate) fn wait(&self) -> Flow {
        match self {
            Self::Write(op) => op.wait(),
            Self::Read(op) => op.wait(),
            Self::Forward(op) => op.wait(),
            Self::Scan(op) => op.wait(),
            Self::Explain(op) => op.wait(),
            Self::Status(op) => op.wait(),
            Self::Healing(op) => op.wait(),
            Self::Hints(op) => op.wait(),
            Self::Catalogue(op) => op.wait(),
            Self::Stage(op) => op.wait(),
            Self::Pull(op) => op.wait(),
            Self::Push(op) => op.wait(),
            Self::Hand(op) => op.wait(),
            Self::Care(op) => op.wait(),
            Self::Verify(op) => op.wait(),
            Self::Salvage(op) => op.wait(),
        }
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        match self {
            Self::Write(op) => op.timeout(core),
            Self::Read(op) => op.timeout(core),
            Self::Forward(op) => op.timeout(core),
            Self::Scan(op) => op.timeout(core),
            Self::Explain(op) => op.timeout(core),
            Self::Status(op) => op.timeout(core),
            Self::Healing(op) => op.timeout(core),
            Self::Hints(op) => op.timeout(core),
            Self::Catalogue(op) => op.timeout(core),
            Self::Stage(op) => op.timeout(core),
            Self::Pull(op) => op.timeout(core),
            Self::Push(op) => op.timeout(core),
            Self::Hand(op) => op.timeout(core),
            Self::Care(op) => op.timeout(core),
            Self::Verify(op) => op.timeout(core),
            Self::Salvage(op) => op.timeout(core),
        }
    }

    /// Who waits for its answer, if that may be given up.
    pub(crate) const fn origin(&self) -> Option<Origin> {
        match self {
            Self::Write(op) => Some(op.origin()),
            Self::Read(op) => op.origin(),
            Self::Forward(_)
            | Self::Scan(_)
            | Self::Explain(_)
            | Self::Status(_)
            | Self::Healing(_)
            | Self::Hints(_)
            | Self::Catalogue(_)
            | Self::Stage(_)
            | Self::Pull(_)
            | Self::Push(_)
            | Self::Hand(_)
            | Self::Care(_)
            | Self::Salvage(_)
            | Self::Verify(_) => None,
        }
    }

    /// Nobody waits for its answer any more.
    pub(crate) fn give_up(&mut self, core: &mut Core) -> Flow {
        match self {
            Self::Write(op) => op.give_up(core),
            Self::Read(op) => op.give_up(core),
            Self::Forward(_)
            | Self::Scan(_)
            | Self::Explain(_)
            | Self::Status(_)
            | Self::Healing(_)
            | Self::Hints(_)
            | Self::Catalogue(_)
            | Self::Stage(_)
            | Self::Pull(_)
            | Self::Push(_)
            | Self::Hand(_)
            | Self::Care(_)
            | Self::Salvage(_)
            | Self::Verify(_) => self.wait(),
        }
    }

    /// The ring has changed: what was planned under the old one is planned anew.
    pub(crate) fn replan(&mut self, core: &mut Core) -> Flow {
        match self {
            Self::Write(op) => op.replan(core),
            Self::Read(op) => op.replan(core),
            Self::Forward(op) => op.replan(core),
            Self::Scan(op) => op.replan(core),
            Self::Push(op) => op.replan(core),
            Self::Hand(op) => op.replan(core),
            // A transfer belongs to one epoch; whether there is another, the node finds out.
            Self::Pull(_) => Flow::Over,
            Self::Explain(_)
            | Self::Status(_)
            | Self::Catalogue(_)
            | Self::Healing(_)
            | Self::Hints(_)
            | Self::Care(_)
            | Self::Salvage(_)
            | Self::Verify(_)
            | Self::Stage(_) => self.wait(),
        }
    }

    /// True if another node waits for it, for a client of its own.
    pub(crate) fn is_forwarded(&self) -> bool {
        matches!(self, Self::Write(op) if op.is_forwarded())
    }

    /// Of which of its questions answers still count.
    pub(crate) const fn round(&self) -> u8 {
        match self {
            Self::Write(op) => op.round(),
            Self::Read(_)
            | Self::Forward(_)
            | Self::Scan(_)
            | Self::Explain(_)
            | Self::Status(_)
            | Self::Healing(_)
            | Self::Catalogue(_)
            | Self::Stage(_)
            | Self::Pull(_)
            | Self::Push(_)
            | Self::Hints(_)
            | Self::Hand(_)
            | Self::Care(_)
            | Self::Salvage(_)
            | Self::Verify(_) => 0,
        }
    }

    /// The write generation of a slot has risen: what was read before is read again.
    pub(crate) fn refresh(&mut self, core: &mut Core, slot: u8) -> Flow {
        match self {
            Self::Write(op) => op.refresh(core, slot),
            Self::Read(op) => op.refresh(core, slot),
            // Each record bears its own, and is read anew when it is refused; the others carry
            // none.
            Self::Pull(_)
            | Self::Push(_)
            | Self::Hand(_)
            | Self::Hints(_)
            | Self::Care(_)
            | Self::Salvage(_)
            | Self::Verify(_)
            | Self::Forward(_)
            | Self::Scan(_)
            | Self::Explain(_)
            | Self::Status(_)
            | Self::Healing(_)
            | Self::Catalogue(_)
            | Self::Stage(_) => self.wait(),
        }
    }

    /// True if it answers when enough replicas hold something.
    pub(crate) const fn counts_copies(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Read(_))
    }

    /// What `me` has stored for it does not stay there.
    pub(crate) fn forget_copy(&mut self, me: NodeId) {
        if let Self::Write(op) = self {
            op.forget_copy(me);
        }
    }

    /// True if it may still leave a record here that `me` does not own.
    pub(crate) fn strays(&self, me: NodeId) -> bool {
        matches!(self, Self::Write(op) if !op.is_owned_by(me))
    }
}
