//! One hint on its way to whom it belongs.
//!
//! Read it, send it, and delete it when everybody who is to have it has proven that: with a receipt
//! that says *synced* and whose clock covers the hint's. It is deleted only if it is still the one
//! that was sent and the ring is the same; otherwise it stays, and its turn comes again.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow};
use crate::{
    core::{Core, Notice},
    healing::{
        hints::{HintNews, Outcome, message::HintMessage, targets},
        message::Place,
        reap::slot_of,
    },
    message::{Class, Message, RpcId, Verdict},
    replica::{Address, Done, Held, Job, OpKey, Stored},
};

/// How long one that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug)]
enum Step {
    Reading,
    /// The hint, those that have not given a receipt, and the write generation it was read under.
    Sent(Arc<Stored>, BTreeSet<NodeId>, u64),
    Deleting(Outcome),
}

#[derive(Debug)]
pub(crate) struct HandOp {
    key: OpKey,
    owner: NodeId,
    /// Where the hint is.
    address: Address,
    step: Step,
    again: Instant,
    wait: Duration,
    deadline: Instant,
}

impl HandOp {
    pub(crate) fn start(core: &mut Core, key: OpKey, owner: NodeId, address: Address) -> Self {
        core.submit(key, &address, Job::Read);
        let now = core.now.mono;
        let wait = core.limits.replica_limit_max / 2;
        Self {
            key,
            owner,
            address,
            step: Step::Reading,
            again: now + PATIENCE,
            wait,
            deadline: now + PATIENCE,
        }
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.again.min(self.deadline))
    }

    pub(crate) fn notice(&mut self, core: &mut Core, notice: Notice) -> Flow {
        let Notice::Local(done) = notice else {
            return self.wait();
        };
        match (&self.step, done) {
            (Step::Reading, Done::Read(Held::Present(stored))) => {
                let to = targets(core, self.owner, &self.address).unwrap_or_default();
                if to.is_empty() && core.catalogue.is_dropped(self.address.bucket) {
                    self.step = Step::Deleting(Outcome::Changed);
                    core.submit(self.key, &self.address, Job::Drop(stored.bytes.clone()));
                    return self.wait();
                }
                if to.is_empty() {
                    return self.end(core, Outcome::Changed);
                }
                let generation = core.generation(self.address.token);
                self.step = Step::Sent(stored, to.into_iter().collect(), generation);
                self.send(core);
                self.wait()
            }
            (Step::Reading, Done::Read(Held::Absent | Held::Unreadable)) => {
                // Damaged, or deleted while the index was being filled.
                self.step = Step::Deleting(Outcome::Gone);
                core.submit(self.key, &self.address, Job::Drop(bytes::Bytes::new()));
                self.wait()
            }
            (Step::Deleting(outcome), Done::Stored { .. }) => {
                let outcome = outcome.clone();
                self.end(core, outcome)
            }
            (Step::Reading | Step::Deleting(_), Done::Refused(_)) => {
                self.end(core, Outcome::Changed)
            }
            (..) => self.wait(),
        }
    }

    fn send(&mut self, core: &mut Core) {
        let Step::Sent(stored, silent, generation) = &self.step else {
            return;
        };
        for node in silent {
            let body = HintMessage::Hand {
                epoch: core.ring.epoch(),
                place: Place::from(&self.address),
                record: stored.bytes.clone(),
                generation: *generation,
            };
            let id = RpcId(self.key.0);
            core.send(*node, Class::Bulk, Message::Hint { id, body });
        }
        self.again = core.now.mono + self.wait;
        self.wait *= 2;
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        let message = match answer {
            Answer::Other(message) => message,
            Answer::Stale => return self.end_unless_deleting(core, Outcome::Changed),
            Answer::Fetched { .. } | Answer::Replicated(_) | Answer::Forwarded(_) => {
                return self.wait();
            }
        };
        let Message::Hint {
            body: HintMessage::Handed { verdict, clock },
            ..
        } = *message
        else {
            return self.wait();
        };
        let Step::Sent(stored, silent, _) = &mut self.step else {
            return self.wait();
        };
        let refused = match verdict {
            Verdict::Durable if clock.dominates(stored.record.container.clock()) => {
                silent.remove(&from);
                if silent.is_empty() {
                    let record = stored.bytes.clone();
                    self.step = Step::Deleting(Outcome::Delivered);
                    core.submit(self.key, &self.address, Job::Drop(record));
                }
                return self.wait();
            }
            Verdict::Durable => "its record does not cover the hint".to_owned(),
            Verdict::Stored => "the hint is not synced".to_owned(),
            // Something was reaped since it was read: it is read again, unless that was while this
            // node was out of the ring, and nobody will ever take it in.
            Verdict::Overloaded(limit) if limit == "write_generation" => {
                if !core.generations.is_refused(slot_of(self.address.token)) {
                    return self.end(core, Outcome::Changed);
                }
                let job = core.set_aside(stored.bytes.clone());
                self.step = Step::Deleting(Outcome::Changed);
                core.submit(self.key, &self.address, job);
                return self.wait();
            }
            Verdict::Overloaded(limit) => format!("limit {limit} is reached"),
            Verdict::Failed(reason) => reason,
        };
        self.end(core, Outcome::Refused(from, refused))
    }

    /// The ring has changed: who is to have the hint is found out again.
    pub(crate) fn replan(&mut self, core: &mut Core) -> Flow {
        self.end_unless_deleting(core, Outcome::Changed)
    }

    fn end_unless_deleting(&mut self, core: &mut Core, outcome: Outcome) -> Flow {
        if matches!(self.step, Step::Deleting(_)) {
            // The job is with the replica already, and all owners of before have the hint.
            return self.wait();
        }
        self.end(core, outcome)
    }

    fn end(&self, core: &mut Core, outcome: Outcome) -> Flow {
        let op = self.key;
        core.hint_news.push_back(HintNews { op, outcome });
        Flow::Over
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        let now = core.now.mono;
        if let Step::Sent(_, silent, _) = &self.step {
            if self.deadline <= now {
                let node = silent.first().copied().unwrap_or(self.owner);
                return self.end(core, Outcome::Silent(node));
            }
            if self.again <= now {
                self.send(core);
            }
        } else if self.deadline <= now {
            // The store is slow; it answers in the end.
            self.deadline = now + PATIENCE;
            self.again = self.deadline;
        }
        self.wait()
    }
}
