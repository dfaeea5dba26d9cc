//! The agreement under every order of events: no epoch ever gets two values.
//!
//! A world of three voters and two proposers. Messages stay in the world for ever and may be
//! delivered again at any time, which is loss, delay, doubling and reordering at once. A voter's
//! answer leaves it only when its memory is durable; a crash takes back what is not. A proposer
//! that crashes begins anew, in another boot.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_ring::NodeId;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::{Acceptor, Ballot, Proposer, Turn, Vote};

#[derive(Clone, Debug)]
enum Said {
    Prepare(usize, Ballot),
    Propose(usize, Ballot, Bytes),
    Answer(usize, NodeId, Ballot, Vote),
}

/// What the voters' memory does at a crash; the second is the planted bug.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Durable,
    Forgetful,
}

struct Voter {
    id: NodeId,
    now: Acceptor,
    durable: Acceptor,
    unsent: Vec<Said>,
}

struct World {
    voters: Vec<Voter>,
    proposers: Vec<Option<Proposer>>,
    boots: Vec<u64>,
    said: Vec<(usize, Said)>,
    accepts: BTreeMap<Ballot, (Bytes, BTreeSet<NodeId>)>,
    chosen: BTreeSet<Bytes>,
    rng: Pcg64Mcg,
    memory: Memory,
}

impl World {
    fn new(seed: u64, memory: Memory) -> Self {
        let voter = |id| Voter {
            id: NodeId::new(id),
            now: Acceptor::new(2),
            durable: Acceptor::new(2),
            unsent: Vec::new(),
        };
        Self {
            voters: (0..3).map(voter).collect(),
            proposers: vec![None, None],
            boots: vec![0, 0],
            said: Vec::new(),
            accepts: BTreeMap::new(),
            chosen: BTreeSet::new(),
            rng: Pcg64Mcg::seed_from_u64(seed),
            memory,
        }
    }

    fn begin(&mut self, at: usize) {
        let proposer = self.proposers[at].get_or_insert_with(|| {
            self.boots[at] += 1;
            let own = Ballot {
                round: 0,
                uuid: at as u128 + 1,
                boot: self.boots[at],
            };
            let wanted = format!("value {at}.{}", self.boots[at]);
            let voters = (0..3).map(NodeId::new).collect();
            Proposer::new(2, (voters, 2), wanted.into(), own)
        });
        let ballot = proposer.begin();
        for voter in 0..3 {
            self.said.push((voter, Said::Prepare(at, ballot)));
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..20) {
            0 | 1 => {
                let at = self.rng.random_range(0..2);
                self.begin(at);
            }
            2 => {
                let at = self.rng.random_range(0..2);
                self.proposers[at] = None;
            }
            3 => {
                let at = self.rng.random_range(0..3);
                let voter = &mut self.voters[at];
                voter.unsent.clear();
                voter.now = match self.memory {
                    Memory::Durable => {
                        let bytes = voter.durable.to_bytes();
                        Acceptor::from_bytes(&bytes).expect("its own bytes")
                    }
                    Memory::Forgetful => Acceptor::new(2),
                };
            }
            4..=8 => {
                let at = self.rng.random_range(0..3);
                self.sync(at);
            }
            _ if self.said.is_empty() => {}
            _ => {
                let at = self.rng.random_range(0..self.said.len());
                let (to, said) = self.said[at].clone();
                self.deliver(to, said);
            }
        }
    }

    /// A voter's memory is durable: its answers go out, and count.
    fn sync(&mut self, at: usize) {
        let voter = &mut self.voters[at];
        voter.durable = voter.now.clone();
        let id = voter.id;
        for said in std::mem::take(&mut voter.unsent) {
            if let Said::Answer(to, _, ballot, vote) = &said {
                if *vote == Vote::Accepted {
                    let (value, accepted) = self.accepts.get_mut(ballot).expect("was proposed");
                    accepted.insert(id);
                    if 2 <= accepted.len() {
                        self.chosen.insert(value.clone());
                    }
                }
                self.said.push((*to, said));
            }
        }
    }

    fn deliver(&mut self, to: usize, said: Said) {
        match said {
            Said::Prepare(from, ballot) => {
                let voter = &mut self.voters[to];
                let vote = voter.now.prepare(ballot);
                voter
                    .unsent
                    .push(Said::Answer(from, voter.id, ballot, vote));
            }
            Said::Propose(from, ballot, value) => {
                let voter = &mut self.voters[to];
                let vote = voter.now.accept(ballot, value);
                voter
                    .unsent
                    .push(Said::Answer(from, voter.id, ballot, vote));
            }
            Said::Answer(_, from, ballot, vote) => {
                let Some(proposer) = &mut self.proposers[to] else {
                    return;
                };
                match proposer.vote(from, ballot, vote) {
                    Turn::Propose(ballot, value) => {
                        let entry = (value.clone(), BTreeSet::new());
                        self.accepts.insert(ballot, entry);
                        for voter in 0..3 {
                            let said = Said::Propose(to, ballot, value.clone());
                            self.said.push((voter, said));
                        }
                    }
                    Turn::Chosen(value) => {
                        assert!(self.chosen.contains(&value), "learned what was not chosen");
                    }
                    Turn::Wait | Turn::Beaten => {}
                }
            }
        }
    }
}

fn histories(count: u64, memory: Memory) -> (u64, u64) {
    let (mut decided, mut forked) = (0, 0);
    for seed in 0..count {
        let mut world = World::new(seed, memory);
        for _ in 0..240 {
            world.step();
        }
        decided += u64::from(!world.chosen.is_empty());
        forked += u64::from(1 < world.chosen.len());
    }
    (decided, forked)
}

#[test]
fn no_epoch_gets_two_values_in_any_of_many_histories() {
    let (decided, forked) = histories(20_000, Memory::Durable);
    assert_eq!(forked, 0);
    assert!(
        1_000 < decided,
        "only {decided} histories came to a decision"
    );
}

#[test]
fn voters_that_forget_their_promises_are_caught() {
    let (_, forked) = histories(20_000, Memory::Forgetful);
    assert!(0 < forked, "the model cannot see a fork");
}

#[test]
fn any_damage_to_a_memory_is_noticed() {
    let mut acceptor = Acceptor::new(7);
    let ballot = Ballot {
        round: 3,
        uuid: 4,
        boot: 5,
    };
    acceptor.accept(ballot, Bytes::from_static(b"value"));
    let good = acceptor.to_bytes();
    assert_eq!(Acceptor::from_bytes(&good), Ok(acceptor));
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        assert!(Acceptor::from_bytes(&bad.into()).is_err());
        assert!(Acceptor::from_bytes(&good.slice(..at)).is_err());
    }
}
