//! One node's attempts to get a value chosen for one epoch.
//!
//! Each attempt is a ballot: first a majority of voters promises to take part in no lower one, then
//! the value of the highest ballot among what they had accepted, or else our own, is put to them.
//! A refusal names the ballot to beat.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_ring::NodeId;

use super::{Ballot, Vote};

/// What a proposer does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Wait for more answers.
    Wait,
    /// Put the value to all voters.
    Propose(Ballot, Bytes),
    /// The value is chosen.
    Chosen(Bytes),
    /// This ballot is lost: begin another after a pause.
    Beaten,
}

#[derive(Debug)]
enum Step {
    Preparing(BTreeMap<NodeId, Option<(Ballot, Bytes)>>),
    Proposing(Bytes, BTreeSet<NodeId>),
    Over,
}

/// One node's part in one decision.
#[derive(Debug)]
pub(crate) struct Proposer {
    epoch: u64,
    voters: Vec<NodeId>,
    quorum: usize,
    wanted: Bytes,
    ballot: Ballot,
    beat: u64,
    step: Step,
}

impl Proposer {
    /// Wants `wanted` for `epoch`, which so many of these voters decide; [`begin`](Self::begin)
    /// starts the first ballot.
    pub(crate) fn new(
        epoch: u64,
        (voters, quorum): (Vec<NodeId>, usize),
        wanted: Bytes,
        own: Ballot,
    ) -> Self {
        Self {
            epoch,
            voters,
            quorum,
            wanted,
            beat: own.round,
            ballot: own,
            step: Step::Over,
        }
    }

    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What this proposer wants, chosen or not.
    pub(crate) const fn wanted(&self) -> &Bytes {
        &self.wanted
    }

    /// Starts the next ballot, above every one heard of.
    pub(crate) fn begin(&mut self) -> Ballot {
        self.ballot.round = self.ballot.round.max(self.beat) + 1;
        self.step = Step::Preparing(BTreeMap::new());
        self.ballot
    }

    /// What to say again to the voters that have not answered.
    pub(crate) fn open(&self) -> Option<(Ballot, Option<Bytes>, Vec<NodeId>)> {
        let silent = |known: &dyn Fn(&NodeId) -> bool| {
            let voters = self.voters.iter().copied();
            voters.filter(|node| !known(node)).collect()
        };
        match &self.step {
            Step::Preparing(promises) => {
                let silent = silent(&|node| promises.contains_key(node));
                Some((self.ballot, None, silent))
            }
            Step::Proposing(value, accepted) => {
                let silent = silent(&|node| accepted.contains(node));
                Some((self.ballot, Some(value.clone()), silent))
            }
            Step::Over => None,
        }
    }

    /// A voter has answered in a ballot.
    pub(crate) fn vote(&mut self, from: NodeId, ballot: Ballot, vote: Vote) -> Turn {
        if ballot != self.ballot || !self.voters.contains(&from) {
            return Turn::Wait;
        }
        let quorum = self.quorum;
        match (vote, &mut self.step) {
            (Vote::Refused(other), Step::Preparing(_) | Step::Proposing(..)) => {
                self.beat = self.beat.max(other.round);
                self.step = Step::Over;
                Turn::Beaten
            }
            (Vote::Promise(accepted), Step::Preparing(promises)) => {
                promises.insert(from, accepted);
                if promises.len() < quorum {
                    return Turn::Wait;
                }
                let earlier = promises.values().flatten();
                let earlier = earlier.max_by_key(|(ballot, _)| *ballot);
                let value = earlier.map_or_else(|| self.wanted.clone(), |(_, v)| v.clone());
                self.step = Step::Proposing(value.clone(), BTreeSet::new());
                Turn::Propose(self.ballot, value)
            }
            (Vote::Accepted, Step::Proposing(value, accepted)) => {
                accepted.insert(from);
                if accepted.len() < quorum {
                    return Turn::Wait;
                }
                let value = value.clone();
                self.step = Step::Over;
                Turn::Chosen(value)
            }
            (Vote::Promise(_) | Vote::Accepted | Vote::Refused(_), _) => Turn::Wait,
        }
    }
}
