//! Choosing the next decree: this node as a voter, and as a proposer.
//!
//! A vote leaves the node when the memory of it is on disk. A proposal is repeated to the silent
//! and begun anew when it is beaten, until its decree or another is adopted, or its client's time
//! is up. A voter that has accepted a decree and never hears that it was chosen proposes it itself.
//!
//! Not decided here: what is proposed, and when.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_client::wire::{ErrorBody, ErrorCode, Response};
use quorate_gossip::Instant;
use quorate_ring::{Decree, NodeId, NodeUuid, RingEpoch};

use super::{Node, ring::Stored};
use crate::{
    agreement::{Ballot, Proposer, Turn, Vote},
    core::Origin,
    message::RpcId,
    ring_message::RingMessage,
};

/// How long a proposer waits before it repeats itself, and a little of which apart rivals begin.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a decree may be accepted and not chosen before its voter takes it up.
const ORPHANED: Duration = Duration::from_secs(3);
/// How long a proposal that nobody waits for goes on.
const PATIENCE: Duration = Duration::from_secs(5);

/// A decision this node is bringing about.
#[derive(Debug)]
pub(super) struct Proposing {
    proposer: Proposer,
    origin: Option<Origin>,
    again: Instant,
    beaten: bool,
    deadline: Instant,
}

impl Proposing {
    /// True if no client waits for it.
    pub(super) const fn is_alone(&self) -> bool {
        self.origin.is_none()
    }
}

impl Node {
    /// Tries to get a decree chosen; whoever asked is answered when one is.
    pub(super) fn propose(&mut self, decree: &Decree, origin: Option<Origin>, until: Instant) {
        self.desk.round += 1;
        let identity = self.core.replica.identity();
        let own = Ballot {
            round: self.desk.round,
            uuid: identity.uuid.get(),
            // A directory that was put back is opened as often as it was before.
            boot: identity.lives.newest().1,
        };
        let voters = self.core.decree.voters.iter().map(|voter| voter.node);
        let wanted = decree.to_bytes().into();
        let voters: Vec<NodeId> = voters.collect();
        let quorum = self.quorum(voters.len());
        let proposer = Proposer::new(decree.epoch.get(), (voters, quorum), wanted, own);
        let deadline = until.max(self.core.now.mono + AGAIN);
        self.desk.proposing = Some(Proposing {
            proposer,
            origin,
            again: self.core.now.mono,
            beaten: true,
            deadline,
        });
        self.begin_ballot();
    }

    /// As [`propose`](Self::propose), for nobody in particular.
    pub(super) fn propose_alone(&mut self, decree: &Decree) {
        let until = self.core.now.mono + PATIENCE;
        self.propose(decree, None, until);
    }

    fn begin_ballot(&mut self) {
        let pause = AGAIN + self.core.jitter(AGAIN);
        let Some(proposing) = &mut self.desk.proposing else {
            return;
        };
        let ballot = proposing.proposer.begin();
        self.desk.round = self.desk.round.max(ballot.round);
        proposing.beaten = false;
        proposing.again = self.core.now.mono + pause;
        self.say_again();
    }

    /// Says to the silent what they have not answered.
    fn say_again(&mut self) {
        let Some(proposing) = &self.desk.proposing else {
            return;
        };
        let epoch = RingEpoch::new(proposing.proposer.epoch());
        let Some((ballot, value, silent)) = proposing.proposer.open() else {
            return;
        };
        for node in silent {
            let message = match &value {
                None => RingMessage::Prepare { epoch, ballot },
                Some(value) => RingMessage::Propose {
                    epoch,
                    ballot,
                    value: value.clone(),
                },
            };
            self.send_ring(node, RpcId(0), message);
        }
    }

    fn may_vote(&self, epoch: RingEpoch) -> bool {
        let identity = self.core.replica.identity();
        let decree = &self.core.decree;
        let alone = decree.voters.len() == 1;
        epoch.get() == decree.epoch.get() + 1
            && self.standing.is_accepted()
            && !self.is_to_rebuild()
            && (alone || decree.may_vote(self.core.me, identity.uuid))
    }

    /// How many of so many voters decide. A member that has lost its memory leaves the vote to the
    /// others, of whom so many as meet every majority are enough.
    fn quorum(&self, voters: usize) -> usize {
        let majority = voters / 2 + 1;
        let is_one = self.core.decree.directory(self.core.me).is_some();
        if is_one && voters != 1 && self.is_to_rebuild() {
            voters - majority + 1
        } else {
            majority
        }
    }

    pub(super) fn prepare(&mut self, from: NodeId, id: RpcId, epoch: RingEpoch, ballot: Ballot) {
        if self.is_decided(from, epoch) || !self.may_vote(epoch) {
            return;
        }
        if let Some(acceptor) = &mut self.desk.acceptor {
            let vote = acceptor.prepare(ballot);
            self.desk.round = self.desk.round.max(acceptor.promised().round);
            self.store_vote(Stored::Vote(from, id, epoch, ballot, vote));
        }
    }

    pub(super) fn accept(
        &mut self,
        from: NodeId,
        id: RpcId,
        epoch: RingEpoch,
        ballot: Ballot,
        value: Bytes,
    ) {
        if self.is_decided(from, epoch) || !self.may_vote(epoch) {
            return;
        }
        let decree = Decree::from_bytes(&value);
        let follows = decree.is_ok_and(|decree| {
            decree.epoch == epoch && decree.previous == self.core.decree.hash()
        });
        if !follows {
            return;
        }
        if let Some(acceptor) = &mut self.desk.acceptor {
            let vote = acceptor.accept(ballot, value);
            self.desk.accepted_since.get_or_insert(self.core.now.mono);
            self.store_vote(Stored::Vote(from, id, epoch, ballot, vote));
        }
    }

    /// Who wants to decide what is decided learns the decision.
    fn is_decided(&mut self, from: NodeId, epoch: RingEpoch) -> bool {
        let decided = epoch <= self.core.decree.epoch;
        if decided {
            self.send_decree(from);
        }
        decided
    }

    pub(super) fn voted(&mut self, from: NodeId, epoch: RingEpoch, ballot: Ballot, vote: Vote) {
        let Some(proposing) = &mut self.desk.proposing else {
            return;
        };
        if proposing.proposer.epoch() != epoch.get() {
            return;
        }
        match proposing.proposer.vote(from, ballot, vote) {
            Turn::Wait => {}
            Turn::Propose(..) => self.say_again(),
            Turn::Beaten => {
                proposing.beaten = true;
                let pause = self.core.jitter(AGAIN);
                proposing.again = self.core.now.mono + pause;
            }
            Turn::Chosen(value) => {
                if let Ok(decree) = Decree::from_bytes(&value) {
                    self.spread(&decree);
                    self.learn(Arc::new(decree));
                }
            }
        }
    }

    /// Tells every member what was chosen.
    fn spread(&mut self, decree: &Decree) {
        let bytes: Bytes = decree.to_bytes().into();
        for node in decree.concerned() {
            if node != self.core.me {
                let message = RingMessage::Decree(bytes.clone());
                self.send_ring(node, RpcId(0), message);
            }
        }
    }

    /// A decree was adopted: whoever wanted one for its epoch learns how that ended.
    pub(super) fn decided(&mut self, decree: &Decree) {
        let epoch = decree.epoch.get();
        let over = |proposing: &mut Proposing| proposing.proposer.epoch() <= epoch;
        let Some(proposing) = self.desk.proposing.take_if(over) else {
            return;
        };
        let Some(origin) = proposing.origin else {
            return;
        };
        let won = decree.to_bytes()[..] == proposing.proposer.wanted()[..];
        let response = if won {
            Response::RingChange(Box::new(self.ring_answer()))
        } else {
            let message = format!(
                "another change was agreed on first: ring {epoch} is {} ({}). Run ring plan again",
                decree.phase.as_str(),
                decree.note,
            );
            Response::Error(ErrorBody::new(ErrorCode::Conflict, message))
        };
        self.core.reply(origin, response);
    }

    /// Votes that wait for time to pass; says when to look again.
    pub(super) fn voting_timeout(&mut self) {
        let now = self.core.now.mono;
        if let Some(proposing) = &mut self.desk.proposing {
            if proposing.deadline <= now {
                let origin = proposing.origin.take();
                self.desk.proposing = None;
                if let Some(origin) = origin {
                    let message = "no majority of the ring's members answered in time; the \
                                   change may still be agreed on. See quorate ring show";
                    let error = ErrorBody::new(ErrorCode::UnknownOutcome, message);
                    self.core.reply(origin, Response::Error(error));
                }
                self.define_buckets();
            } else if proposing.again <= now {
                if proposing.beaten {
                    self.begin_ballot();
                } else {
                    let pause = AGAIN + self.core.jitter(AGAIN);
                    if let Some(proposing) = &mut self.desk.proposing {
                        proposing.again = now + pause;
                    }
                    self.say_again();
                }
            }
            return;
        }
        let Some(acceptor) = &self.desk.acceptor else {
            return;
        };
        let Some((_, value)) = acceptor.accepted() else {
            return;
        };
        let since = self.desk.accepted_since.unwrap_or(now);
        if since + ORPHANED <= now
            && let Ok(decree) = Decree::from_bytes(value)
            && decree.epoch.get() == self.core.decree.epoch.get() + 1
        {
            self.desk.accepted_since = Some(now + self.core.jitter(ORPHANED));
            self.propose_alone(&decree);
        }
    }

    pub(super) fn voting_wakes(&self) -> Option<Instant> {
        let proposing = self.desk.proposing.as_ref();
        proposing.map(|proposing| proposing.again.min(proposing.deadline))
    }

    /// The directory under which a member has said how far it is, or was last heard of; zero if it
    /// was not.
    pub(super) fn uuid_of(&self, node: NodeId) -> NodeUuid {
        if node == self.core.me {
            return self.core.replica.identity().uuid;
        }
        let reported = self.desk.reports.get(&node);
        let reported = reported.map(|report| NodeUuid::new(report.uuid));
        let known = reported.or_else(|| self.standing.register.last(node));
        known.unwrap_or(NodeUuid::ANY)
    }

    /// Voters that are up and may vote, and how many there are.
    pub(super) fn voters_up(&self) -> (usize, usize) {
        let decree = &self.core.decree;
        let up = decree.voters.iter().filter(|voter| {
            let uuid = match self.uuid_of(voter.node) {
                NodeUuid::ANY => voter.uuid,
                known => known,
            };
            let votes = voter.uuid != NodeUuid::NONE && decree.may_vote(voter.node, uuid);
            self.core.is_up(voter.node) && votes
        });
        (up.count(), decree.voters.len())
    }
}
