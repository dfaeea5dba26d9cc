//! Who asks: one round at a time, vote, fence, commit.
//!
//! The asker keeps all state of a round; whatever is lost is asked again a few times, and a round
//! that does not come through is given up, which harms nothing: what was fenced stays fenced, what
//! was not deleted stays. Its keys wait for another round, or are found again by the scan.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_gossip::{Instant, State};
use quorate_ring::{NodeId, Phase, RingEpoch};

use super::{Candidate, Generations, ReapMessage, Standing, Voter};
use crate::{
    core::Core,
    event::Event,
    message::{Class, Message, RpcId},
    replica::Address,
};

/// Between two looks at whether there is something to do.
const IDLE: Duration = Duration::from_secs(1);
/// After a round that was blocked.
const BLOCKED: Duration = Duration::from_secs(5);
const UNCLEAN: &str = "has left the ring, and not said that it has handed over everything";
/// A question is asked so many times.
const TRIES_MAX: u32 = 4;

#[derive(Debug)]
enum Step {
    Vote,
    Fence,
    Commit,
}

#[derive(Debug)]
struct Key {
    candidate: Candidate,
    owners: Vec<NodeId>,
}

#[derive(Debug)]
struct Round {
    epoch: RingEpoch,
    slot: u8,
    keys: Vec<Key>,
    /// The greatest there is so far; then that of the fence.
    generation: u64,
    step: Step,
    rpc: RpcId,
    /// Who has not answered, and for which of the keys.
    waiting: BTreeMap<NodeId, Vec<usize>>,
    refused: BTreeSet<usize>,
    begun: Instant,
    again: Instant,
    tries: u32,
}

/// The asker.
#[derive(Debug)]
pub(crate) struct Reaper {
    /// What it answers itself and others.
    pub(crate) voter: Voter,
    round: Option<Round>,
    last: u8,
    next: Instant,
    /// What stood in the way of the last round.
    blocked: Option<(NodeId, &'static str)>,
}

impl Reaper {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            voter: Voter::default(),
            round: None,
            last: u8::MAX,
            next: now + IDLE,
            blocked: None,
        }
    }

    pub(crate) fn wakes(&self) -> Instant {
        self.round.as_ref().map_or(self.next, |round| round.again)
    }

    /// Time has passed; early calls change nothing.
    /// `unclean` has no place in the ring, and may hold what it has to hand over.
    pub(crate) fn timeout(&mut self, core: &mut Core, unclean: Option<NodeId>) {
        let now = core.now.mono;
        if now < self.wakes() {
            return;
        }
        let Some(round) = &mut self.round else {
            return self.begin(core, unclean);
        };
        round.tries += 1;
        if TRIES_MAX <= round.tries {
            let silent = round.waiting.keys().next().copied();
            let node = silent.unwrap_or(core.me);
            return self.give_up(core, node, "does not answer");
        }
        round.ask(core);
    }

    /// The ring has changed: what was asked under the old one is void.
    pub(crate) fn replan(&mut self, core: &mut Core) {
        if self.round.is_some() {
            self.give_up(core, core.me, Standing::Moving.as_str());
        }
    }

    fn begin(&mut self, core: &mut Core, unclean: Option<NodeId>) {
        self.next = core.now.mono + IDLE;
        let members: Vec<NodeId> = core.ring.members().iter().map(|member| member.id).collect();
        if core.lapsed.waiting() == 0 || core.decree.phase != Phase::Stable {
            return;
        }
        let up = |node: &&NodeId| **node == core.me || core.gossip.state(**node) == Some(State::Up);
        if let Some(down) = members.iter().find(|node| !up(node)) {
            self.next = core.now.mono + BLOCKED;
            return self.is_blocked(core, *down, "is not up");
        }
        // What it holds would be refused where something was reaped, though it may have counted.
        if let Some(node) = unclean {
            self.next = core.now.mono + BLOCKED;
            return self.is_blocked(core, node, UNCLEAN);
        }
        let Some((slot, candidates)) = core.lapsed.take(self.last) else {
            return;
        };
        self.last = slot;
        let mut waiting: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
        waiting.extend(members.into_iter().map(|node| (node, Vec::new())));
        let mut keys = Vec::new();
        for candidate in candidates {
            let owners = core.owners(&Address::from(&candidate.place));
            if owners.first() != Some(&core.me) {
                continue;
            }
            for owner in &owners {
                if let Some(wanted) = waiting.get_mut(owner) {
                    wanted.push(keys.len());
                }
            }
            keys.push(Key { candidate, owners });
        }
        let mut round = Round {
            epoch: core.ring.epoch(),
            slot,
            keys,
            generation: 0,
            step: Step::Vote,
            rpc: RpcId(core.op_key().0),
            waiting,
            refused: BTreeSet::new(),
            begun: core.now.mono,
            again: core.now.mono,
            tries: 0,
        };
        round.ask(core);
        self.round = Some(round);
    }

    /// A member has answered.
    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, id: RpcId, answer: ReapMessage) {
        let Some(round) = self.round.as_mut().filter(|round| round.rpc == id) else {
            return;
        };
        let standing = match (&round.step, answer) {
            (
                Step::Vote,
                ReapMessage::Voted {
                    standing,
                    generation,
                    agreed,
                },
            ) => {
                let Some(asked) = round.waiting.remove(&from) else {
                    return;
                };
                round.generation = round.generation.max(generation);
                let agreed = agreed.into_iter().chain(std::iter::repeat(false));
                let asked = asked.into_iter().zip(agreed);
                let refused = asked.filter_map(|(key, agreed)| (!agreed).then_some(key));
                round.refused.extend(refused);
                standing
            }
            (Step::Fence, ReapMessage::Fenced { standing }) => {
                round.waiting.remove(&from);
                standing
            }
            (Step::Commit, ReapMessage::Committed { .. }) => {
                round.waiting.remove(&from);
                Standing::Good
            }
            _ => return,
        };
        if standing != Standing::Good {
            return self.give_up(core, from, standing.as_str());
        }
        if round.waiting.is_empty() {
            self.proceed(core);
        }
    }

    /// Everybody has answered.
    fn proceed(&mut self, core: &mut Core) {
        let Some(round) = &mut self.round else {
            return;
        };
        match round.step {
            Step::Vote => {
                let refused = std::mem::take(&mut round.refused);
                let mut at = 0..;
                round
                    .keys
                    .retain(|_| at.next().is_some_and(|at| !refused.contains(&at)));
                if round.keys.is_empty() {
                    return self.end(core);
                }
                round.generation = Generations::next(round.generation, round.epoch);
                round.step = Step::Fence;
                let members = core.ring.members().iter();
                round.waiting = members.map(|member| (member.id, Vec::new())).collect();
            }
            Step::Fence => {
                round.step = Step::Commit;
                for (at, key) in round.keys.iter().enumerate() {
                    for owner in &key.owners {
                        round.waiting.entry(*owner).or_default().push(at);
                    }
                }
            }
            Step::Commit => return self.end(core),
        }
        round.tries = 0;
        round.rpc = RpcId(core.op_key().0);
        round.ask(core);
    }

    fn end(&mut self, core: &mut Core) {
        self.blocked = None;
        let now = core.now.mono;
        if let Some(round) = self.round.take() {
            let took = now.since(round.begun);
            self.next = now + core.governor.rest(took).max(took);
        }
    }

    fn is_blocked(&mut self, core: &mut Core, node: NodeId, why: &'static str) {
        if self.blocked.replace((node, why)) != Some((node, why)) {
            core.event(Event::ReapBlocked { node, why });
        }
    }

    fn give_up(&mut self, core: &mut Core, node: NodeId, why: &'static str) {
        self.is_blocked(core, node, why);
        let pause = core.jitter(BLOCKED);
        self.next = core.now.mono + BLOCKED / 2 + pause;
        if let Some(round) = self.round.take()
            && !matches!(round.step, Step::Commit)
        {
            let candidates = round.keys.into_iter().map(|key| key.candidate);
            core.lapsed.give_back(round.slot, candidates.collect());
        }
    }
}

impl Round {
    /// Asks those who have not answered.
    fn ask(&mut self, core: &mut Core) {
        let patience = self.waiting.keys().map(|node| core.patience(*node)).max();
        let patience = patience.unwrap_or(IDLE) * 4 * (self.tries + 1);
        self.again = core.now.mono + patience.max(Duration::from_millis(250));
        for (node, keys) in &self.waiting {
            let id = self.rpc;
            let body = self.question(keys);
            core.send(*node, Class::Bulk, Message::Reap { id, body });
        }
    }

    fn question(&self, keys: &[usize]) -> ReapMessage {
        let (epoch, slot, generation) = (self.epoch, self.slot, self.generation);
        let candidates = keys.iter().map(|at| self.keys[*at].candidate.clone());
        match self.step {
            Step::Vote => ReapMessage::Vote {
                epoch,
                slot,
                candidates: candidates.collect(),
            },
            Step::Fence => ReapMessage::Fence {
                epoch,
                slot,
                generation,
            },
            Step::Commit => ReapMessage::Commit {
                epoch,
                slot,
                generation,
                candidates: candidates.collect(),
            },
        }
    }
}
