//! A member whose data directory is not the one that the ring names, and how it becomes one again.
//!
//! First the members agree that what it held counts for nothing. What was planned before that is
//! planned anew, so that no write counts an acknowledgement of what is lost. Then it takes in,
//! range by range, what every other owner holds of its partitions; when that is complete it
//! proposes the ring that names its directory. Where no directory was ever named, the first member
//! that is up proposes those it has heard of.
//!
//! Not decided here: when a directory is refused (`standing`), how decrees are agreed on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_gossip::Instant;
use quorate_ring::{Decree, NodeId, NodeUuid, Partition, Phase, Token, Voter};

use super::Node;
use crate::{
    coordinator::{
        Operation,
        pull::{PullOp, Range},
    },
    event::Event,
    replica::OpKey,
};

/// Transfers that run at the same time.
const PULLS_MAX: usize = 4;
/// A transfer takes at most so great a part of all tokens.
const PARTS_MIN: u32 = 16;
/// How long founders are waited for before those that are there are named without them.
const FOUNDERS_WAIT: Duration = Duration::from_secs(3);

/// What is to be taken in, of one ring.
#[derive(Debug, Default)]
pub(super) struct Rebuild {
    /// The ring that the ranges are of, and for how many replicas; none while nothing is to be
    /// rebuilt.
    of: Option<(u128, usize)>,
    tasks: Vec<Range>,
    done: BTreeSet<usize>,
    running: BTreeMap<OpKey, usize>,
    /// Since when it could be proposed who the founders are.
    founders_since: Option<Instant>,
}

impl Rebuild {
    /// A transfer is complete. False if it is none of these.
    pub(super) fn pulled(&mut self, key: OpKey) -> bool {
        let found = self.running.remove(&key);
        self.done.extend(found);
        found.is_some()
    }

    /// (transfers completed, transfers to make).
    pub(super) fn progress(&self) -> (usize, usize) {
        (self.done.len(), self.tasks.len())
    }
}

impl Node {
    /// Does what is next, if anything is.
    pub(super) fn tend(&mut self) {
        let decree = std::sync::Arc::clone(&self.core.decree);
        if decree.phase != Phase::Stable || !self.standing.is_accepted() || self.core.sets_aside {
            return;
        }
        let me = self.core.me;
        let Some(named) = decree.directory(me) else {
            return;
        };
        let identity = *self.core.replica.identity();
        if named == identity.uuid {
            if identity.rebuilding {
                self.core.event(Event::Rebuilt);
                self.set_rebuilding(false);
            }
            self.rebuild = Rebuild::default();
        } else if named == NodeUuid::NONE {
            self.take_in(&decree);
        } else if decree.voters.len() == 1 {
            self.speak_for_itself(&decree);
        } else if self.is_to_rebuild() {
            if self.desk.proposing.is_none() {
                let note = format!("{} is being rebuilt", self.core.name(me));
                self.propose_alone(&decree.suspending(&[me], note));
            }
        } else {
            self.name_founders(&decree);
        }
    }

    /// Nobody else has anything: what is here is all there is.
    fn speak_for_itself(&mut self, decree: &Decree) {
        let (node, uuid) = (self.core.me, self.core.replica.identity().uuid);
        if self.desk.proposing.is_none() {
            let words = "the only member is named".to_owned();
            self.propose_alone(&decree.naming(&[Voter { node, uuid }], words));
        }
    }

    fn name_founders(&mut self, decree: &Decree) {
        let unnamed = |voter: &&Voter| voter.uuid == NodeUuid::ANY;
        let nameless: Vec<NodeId> = decree
            .voters
            .iter()
            .filter(unnamed)
            .map(|v| v.node)
            .collect();
        let me = self.core.me;
        let directory = |node: NodeId| {
            if node == me {
                return Some(self.core.replica.identity().uuid);
            }
            self.standing.register.only(node)
        };
        let known = nameless.iter().filter_map(|node| {
            let (node, uuid) = (*node, directory(*node)?);
            Some(Voter { node, uuid })
        });
        let known: Vec<Voter> = known.collect();
        let now = self.core.now.mono;
        let since = *self.rebuild.founders_since.get_or_insert(now);
        let mut up = decree.voters.iter().filter(|v| self.core.is_up(v.node));
        let rank = up.position(|voter| voter.node == me).unwrap_or(0);
        let rank = u32::try_from(rank).unwrap_or(u32::MAX);
        let mut wait = Duration::from_secs(1).saturating_mul(rank);
        if known.len() < nameless.len() {
            wait += FOUNDERS_WAIT;
        }
        if since + wait <= now && !known.is_empty() && self.desk.proposing.is_none() {
            let note = format!("{}; their directories are named", decree.note);
            self.propose_alone(&decree.naming(&known, note));
        }
    }

    /// Takes in what the other owners hold; names itself when that is complete.
    fn take_in(&mut self, decree: &Decree) {
        if !self.core.peers_asked {
            return;
        }
        let n = self.replicas_in_use();
        let of = Some((decree.ring.hash(), n));
        if self.rebuild.of != of {
            let tasks = tasks(decree, self.core.me, n);
            self.core.event(Event::Rebuilding {
                transfers: tasks.len(),
            });
            self.rebuild = Rebuild {
                of,
                tasks,
                ..Rebuild::default()
            };
        }
        let rebuild = &self.rebuild;
        if rebuild.done.len() == rebuild.tasks.len() {
            if self.desk.proposing.is_none() && self.desk.moves.is_clean() {
                let (node, uuid) = (self.core.me, self.core.replica.identity().uuid);
                let words = format!("{} has been rebuilt", self.core.name(node));
                self.propose_alone(&decree.naming(&[Voter { node, uuid }], words));
            }
            return;
        }
        while self.rebuild.running.len() < PULLS_MAX {
            let rebuild = &self.rebuild;
            let busy: BTreeSet<usize> = rebuild.running.values().copied().collect();
            let open = |at: &usize| !rebuild.done.contains(at) && !busy.contains(at);
            let up = |at: &usize| self.core.is_up(rebuild.tasks[*at].source);
            let Some(at) = (0..rebuild.tasks.len()).find(|at| open(at) && up(at)) else {
                return;
            };
            let range = rebuild.tasks[at];
            let key = self.core.op_key();
            let op = PullOp::start(&mut self.core, key, range);
            self.rebuild.running.insert(key, at);
            self.run(key, Operation::Pull(Box::new(op)));
        }
    }

    /// A decree was adopted: transfers under the one before are over, what they brought stays.
    pub(super) fn rebuild_anew(&mut self, before: &Decree) {
        self.rebuild.running.clear();
        self.rebuild.founders_since = None;
        if !before.suspends(self.core.me) {
            // What was taken in before it was agreed on does not count.
            self.rebuild = Rebuild::default();
        }
        self.weigh();
        self.standing_soon();
    }
}

/// Ranges of all partitions of which `me` is among the first `n` owners, from each other of them.
fn tasks(decree: &Decree, me: NodeId, n: usize) -> Vec<Range> {
    let ring = &decree.ring;
    let count = ring.partitions().count();
    let most = count.div_ceil(PARTS_MIN);
    let mut tasks: Vec<Range> = Vec::new();
    let sources = ring.members().iter().map(|member| member.id);
    for source in sources.filter(|source| *source != me) {
        let mut joined = 0;
        for partition in (0..count).map(Partition) {
            let tokens = ring.partitions().tokens(partition);
            let owners = ring.preference(Token::new(*tokens.start())).owners(n);
            if !owners.contains(&me) || !owners.contains(&source) {
                continue;
            }
            let last = tasks.last_mut().filter(|task| {
                task.source == source && task.last.checked_add(1) == Some(*tokens.start())
            });
            match last {
                Some(task) if joined < most => {
                    task.last = *tokens.end();
                    joined += 1;
                }
                Some(_) | None => {
                    joined = 1;
                    tasks.push(Range {
                        first: *tokens.start(),
                        last: *tokens.end(),
                        source,
                        again: true,
                    });
                }
            }
        }
    }
    tasks
}
