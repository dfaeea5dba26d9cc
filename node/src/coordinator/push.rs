//! One record that its holder does not own: given to every owner, then deleted here.
//!
//! It is deleted only after every owner has said that it has merged and synced it, and only if
//! neither the record nor the ring has changed meanwhile; otherwise it stays for the next sweep.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow};
use crate::{
    core::{Core, Notice},
    message::{Class, RpcId, Verdict},
    node::RingNews,
    replica::{Address, Job, OpKey},
};

/// How long a record is tried to be handed over in one sweep.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct PushOp {
    key: OpKey,
    address: Address,
    record: Bytes,
    /// The write generation under which it was read.
    generation: u64,
    silent: BTreeSet<NodeId>,
    dropping: bool,
    again: Instant,
    wait: Duration,
    deadline: Instant,
}

impl PushOp {
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        address: Address,
        owners: Vec<NodeId>,
        (record, generation): (Bytes, u64),
    ) -> Self {
        let mut op = Self {
            key,
            address,
            record,
            generation,
            silent: owners.into_iter().collect(),
            dropping: false,
            again: core.now.mono,
            wait: core.limits.replica_limit_max / 4,
            deadline: core.now.mono + PATIENCE,
        };
        op.send(core);
        op
    }

    fn send(&mut self, core: &mut Core) {
        for node in &self.silent {
            let id = RpcId(self.key.0);
            let message = core.replicate(&self.address, id, &self.record, self.generation);
            core.send(*node, Class::Bulk, message);
        }
        self.again = core.now.mono + self.wait;
        self.wait *= 2;
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.again.min(self.deadline))
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        match answer {
            // Without durable writes nobody has durable receipts, and nobody asked for any.
            Answer::Replicated(Verdict::Durable) => {
                self.silent.remove(&from);
            }
            Answer::Replicated(Verdict::Stored) if !core.replica.writes_are_durable() => {
                self.silent.remove(&from);
            }
            Answer::Replicated(Verdict::Failed(_)) => return self.end(core),
            Answer::Replicated(_)
            | Answer::Fetched { .. }
            | Answer::Forwarded(_)
            | Answer::Stale
            | Answer::Other(_) => return self.wait(),
        }
        if self.silent.is_empty() && !self.dropping {
            self.dropping = true;
            let job = Job::Drop(self.record.clone());
            core.submit(self.key, &self.address, job);
        }
        self.wait()
    }

    pub(crate) fn notice(&mut self, core: &mut Core, notice: &Notice) -> Flow {
        match notice {
            Notice::Local(_) => self.end(core),
            Notice::Read(_) | Notice::Repaired(_) => self.wait(),
        }
    }

    fn end(&self, core: &mut Core) -> Flow {
        core.ring_news.push_back(RingNews::Pushed(self.key));
        Flow::Over
    }

    /// The ring has changed: who owns the record is to be found out again.
    pub(crate) fn replan(&mut self, core: &mut Core) -> Flow {
        if self.dropping {
            // The job is with the replica already, and every owner of the old ring has the record.
            return self.wait();
        }
        self.end(core)
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        if self.deadline <= core.now.mono {
            return self.end(core);
        }
        if self.again <= core.now.mono && !self.dropping {
            self.send(core);
        }
        self.wait()
    }
}
