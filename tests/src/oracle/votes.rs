//! W8: a voter stands by what it has said. Once it has promised a ballot for an epoch, or accepted
//! something in one, it takes part in no lower one, and whoever begins a higher one hears of what
//! was accepted; also after a restart, and whatever became of its directory. Otherwise two rings
//! may be chosen for one epoch, and each of them takes writes that the other knows nothing of (P1).
//!
//! Judged by what leaves a node: what it forgets before it has said it does no harm.

use std::collections::BTreeMap;

use quorate_node::agreement::{Ballot, Vote};

use super::{Broken, Ruling};

const PROMISE: &str = "votes (P1, W8)";

/// What every voter has said about epochs that were not decided then.
#[derive(Debug, Default)]
pub struct Votes {
    said: BTreeMap<(u64, usize), Said>,
}

#[derive(Debug, Default)]
struct Said {
    promised: Ballot,
    accepted: Option<Ballot>,
}

impl Votes {
    /// A voter answers a ballot for an epoch.
    ///
    /// # Errors
    ///
    /// If it has promised not to.
    pub fn voted(
        &mut self,
        (voter, name): (usize, &str),
        (epoch, ballot): (u64, Ballot),
        vote: &Vote,
        at: u64,
    ) -> Ruling {
        let said = self.said.entry((epoch, voter)).or_default();
        let known = match vote {
            Vote::Refused(_) => return Ok(()),
            Vote::Promise(accepted) => accepted.as_ref().map(|(ballot, _)| *ballot),
            Vote::Accepted => Some(ballot),
        };
        let broken = |what: &str| {
            let detail = format!("{name} votes in {ballot:?} for epoch {epoch} {what}: {said:?}");
            Err(Broken::new(PROMISE, at, detail))
        };
        if ballot < said.promised {
            return broken("and has promised a higher one");
        }
        if known < said.accepted {
            return broken("and keeps what it has accepted to itself");
        }
        (said.promised, said.accepted) = (ballot, known);
        Ok(())
    }

    /// An epoch is decided: what was said about it before is of no use any more.
    pub fn decided(&mut self, epoch: u64) {
        // Who has not heard of it yet may still be asked to vote on it.
        self.said = self.said.split_off(&(epoch.saturating_sub(8), 0));
    }
}
