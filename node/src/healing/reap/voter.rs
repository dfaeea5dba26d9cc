//! Who is asked: what a member answers, and what it does when a round is committed.
//!
//! Every answer is checked against the ring as it is at that moment. Questions that come twice are
//! answered twice.

use std::collections::{BTreeMap, BTreeSet};

use quorate_ring::{NodeId, NodeUuid, Phase, RingEpoch};

use super::{Candidate, Goal, ROUND_KEYS_MAX, ReapMessage, Standing, digest, holds_hint, queue};
use crate::{
    core::{Core, Voice},
    event::Event,
    message::{Class, Message, RpcId},
    replica::{Address, Caller, Done, Held, Job, Reaping},
};

/// Answers in the making.
const TASKS_MAX: usize = 64;

#[derive(Debug)]
enum Making {
    Vote {
        slot: u8,
        asked: Vec<Candidate>,
        agreed: BTreeSet<Address>,
    },
    Commit {
        generation: u64,
        done: u32,
    },
}

#[derive(Debug)]
struct Task {
    from: NodeId,
    rpc: RpcId,
    open: usize,
    making: Making,
}

/// A member's part in the rounds of others, and in its own.
#[derive(Debug, Default)]
pub(crate) struct Voter {
    tasks: BTreeMap<u64, Task>,
    next: u64,
    /// The last fence of each slot that this process has set: who asked, and for which generation.
    fenced: BTreeMap<u8, (NodeId, u64)>,
}

impl Voter {
    /// (answers in the making, their maximum).
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.tasks.len(), TASKS_MAX)
    }

    /// A vote or a commit. What finds no room is asked again.
    pub(crate) fn begin(
        &mut self,
        core: &mut Core,
        asker: (NodeId, RpcId),
        body: ReapMessage,
        standing: Standing,
    ) {
        if TASKS_MAX <= self.tasks.len() {
            let limit = "reap_tasks";
            return core.event(Event::Refused { limit });
        }
        let good = standing == Standing::Good;
        match body {
            ReapMessage::Vote {
                slot, candidates, ..
            } => {
                if !good {
                    let body = ReapMessage::Voted {
                        standing,
                        generation: core.generations.of(slot),
                        agreed: Vec::new(),
                    };
                    return send(core, asker.0, asker.1, body);
                }
                let making = Making::Vote {
                    slot,
                    asked: candidates.iter().take(ROUND_KEYS_MAX).cloned().collect(),
                    agreed: BTreeSet::new(),
                };
                self.start(core, asker, making, candidates);
            }
            ReapMessage::Commit {
                slot,
                generation,
                candidates,
                ..
            } => {
                // A fence that is not in force here was asked for by nobody who may commit.
                if !good || core.generations.of(slot) < generation {
                    let body = ReapMessage::Committed { done: 0 };
                    return send(core, asker.0, asker.1, body);
                }
                let done = 0;
                let making = Making::Commit { generation, done };
                self.start(core, asker, making, candidates);
            }
            ReapMessage::Voted { .. }
            | ReapMessage::Fence { .. }
            | ReapMessage::Fenced { .. }
            | ReapMessage::Committed { .. }
            | ReapMessage::Behind { .. } => {}
        }
    }

    fn start(
        &mut self,
        core: &mut Core,
        (from, rpc): (NodeId, RpcId),
        making: Making,
        mut candidates: Vec<Candidate>,
    ) {
        candidates.truncate(ROUND_KEYS_MAX);
        self.next += 1;
        let task = self.next;
        let commits = matches!(making, Making::Commit { .. });
        let open = Task {
            from,
            rpc,
            open: candidates.len(),
            making,
        };
        self.tasks.insert(task, open);
        for candidate in candidates {
            let address = Address::from(&candidate.place);
            let job = if commits {
                Job::Reap(Reaping {
                    digest: candidate.digest,
                    goal: candidate.goal,
                })
            } else {
                Job::Read
            };
            core.submit_for(Caller::Reap(task), &address, job);
        }
        self.finish(core, task);
    }

    /// The replica has done a job of a task.
    pub(crate) fn done(&mut self, core: &mut Core, task: u64, address: &Address, done: Done) {
        let Some(open) = self.tasks.get_mut(&task) else {
            return;
        };
        match (&mut open.making, done) {
            // The answer follows when it is on disk.
            (Making::Commit { generation, .. }, Done::Reaping(before)) => {
                let container = &before.record.container;
                return core.event(Event::Reaped {
                    bucket: address.bucket,
                    key: address.key.clone(),
                    generation: *generation,
                    gone: container.is_all_tombstones(),
                    state: Box::new(container.clone()),
                });
            }
            (Making::Commit { done, .. }, Done::Stored { .. }) => *done += 1,
            (Making::Vote { asked, agreed, .. }, Done::Read(held)) => {
                let mut asked = asked.iter();
                let candidate = asked.find(|asked| Address::from(&asked.place) == *address);
                if candidate.is_some_and(|candidate| agrees(core, &held, candidate)) {
                    agreed.insert(address.clone());
                }
            }
            _ => {}
        }
        open.open = open.open.saturating_sub(1);
        self.finish(core, task);
    }

    fn finish(&mut self, core: &mut Core, task: u64) {
        if self.tasks.get(&task).is_none_or(|task| 0 < task.open) {
            return;
        }
        let Some(task) = self.tasks.remove(&task) else {
            return;
        };
        let body = match task.making {
            Making::Vote {
                slot,
                asked,
                agreed,
            } => ReapMessage::Voted {
                standing: Standing::Good,
                generation: core.generations.of(slot),
                agreed: asked
                    .iter()
                    .map(|candidate| agreed.contains(&Address::from(&candidate.place)))
                    .collect(),
            },
            Making::Commit { done, .. } => ReapMessage::Committed { done },
        };
        send(core, task.from, task.rpc, body);
    }

    /// Whether a fence may be set; if it is in force already, it has been answered.
    pub(crate) fn may_fence(
        &self,
        core: &Core,
        from: NodeId,
        slot: u8,
        generation: u64,
        standing: Standing,
    ) -> Result<bool, Standing> {
        if standing != Standing::Good {
            return Err(standing);
        }
        if holds_hint(core, slot) {
            return Err(Standing::Hints);
        }
        if self.fenced.get(&slot) == Some(&(from, generation)) {
            return Ok(false);
        }
        if generation <= core.generations.of(slot) {
            return Err(Standing::Behind);
        }
        Ok(true)
    }

    /// A fence is durable.
    pub(crate) fn fenced(&mut self, from: NodeId, slot: u8, generation: u64) {
        self.fenced.insert(slot, (from, generation));
    }
}

/// Whether what is held is what was asked for.
fn agrees(core: &Core, held: &Held, candidate: &Candidate) -> bool {
    let Held::Present(stored) = held else {
        return false;
    };
    let container = &stored.record.container;
    let ripe = match candidate.goal {
        Goal::Reap => {
            container.is_all_tombstones() && queue::is_old(core, container.touched_at_ms())
        }
        Goal::Compact => true,
    };
    ripe && !stored.record.suspect && digest(container) == candidate.digest
}

/// How this node stands, if the asker's ring has this epoch.
pub(crate) fn standing(core: &Core, epoch: RingEpoch, clean: bool) -> Standing {
    let decree = &core.decree;
    let identity = core.replica.identity();
    let named = decree.voters.iter().find(|voter| voter.node == core.me);
    let named =
        named.is_none_or(|voter| voter.uuid == NodeUuid::new(0) || voter.uuid == identity.uuid);
    if core.ring.epoch() != epoch || decree.phase != Phase::Stable || !clean {
        Standing::Moving
    } else if core.voice != Voice::Full || !named {
        Standing::Rebuilding
    } else if core.generations.is_away() {
        Standing::Away
    } else {
        Standing::Good
    }
}

pub(crate) fn send(core: &mut Core, to: NodeId, id: RpcId, body: ReapMessage) {
    core.send(to, Class::Bulk, Message::Reap { id, body });
}
