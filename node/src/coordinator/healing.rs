//! Asks every member of the ring how it stands with its peers, and compares what they say.
//!
//! Each node is asked itself; whoever is silent has not agreed. Roots that two nodes report are of
//! slightly different moments, so while writes go on they may differ although nothing is wrong.

use std::collections::BTreeMap;

use quorate_client::wire::{HealingReply, PairStatus, Response};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow};
use crate::{
    core::{Core, Origin},
    healing::message::{PairReport, TreeMessage},
    message::{Class, Message, RpcId},
    replica::OpKey,
};

/// Most reasons told.
const REASONS_MAX: usize = 20;

#[derive(Debug)]
struct Roots {
    ready: bool,
    hints: u64,
    generation: u64,
    pairs: Vec<PairReport>,
}

#[derive(Debug)]
pub(crate) struct HealingOp {
    origin: Origin,
    /// Only pairs of this n; all if none.
    n: Option<u8>,
    members: Vec<NodeId>,
    roots: BTreeMap<NodeId, Roots>,
    deadline: Instant,
}

impl HealingOp {
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        n: Option<u8>,
        compare: bool,
    ) -> Self {
        let members: Vec<NodeId> = core.ring.members().iter().map(|member| member.id).collect();
        for node in &members {
            let id = RpcId(key.0);
            let body = TreeMessage::AskRoots { compare };
            core.send(*node, Class::Control, Message::Tree { id, body });
        }
        Self {
            origin,
            n,
            members,
            roots: BTreeMap::new(),
            deadline: core.now.mono + core.limits.status_wait,
        }
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.deadline)
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        if let Answer::Other(message) = answer
            && let Message::Tree {
                body:
                    TreeMessage::Roots {
                        ready,
                        hints,
                        generation,
                        pairs,
                    },
                ..
            } = *message
            && self.members.contains(&from)
        {
            let roots = Roots {
                ready,
                hints,
                generation,
                pairs,
            };
            self.roots.insert(from, roots);
        }
        let silent = |node: &NodeId| core.is_up(*node) && !self.roots.contains_key(node);
        if self.members.iter().any(silent) {
            return self.wait();
        }
        self.end(core)
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        if core.now.mono < self.deadline {
            return self.wait();
        }
        self.end(core)
    }

    fn end(&self, core: &mut Core) -> Flow {
        let mut reply = HealingReply::default();
        for node in &self.members {
            let name = core.name(*node);
            let Some(roots) = self.roots.get(node) else {
                reply.reasons.push(format!("{name} does not answer"));
                continue;
            };
            reply.hints += roots.hints;
            if 0 < roots.hints {
                let hints = roots.hints;
                reply.reasons.push(format!("{name} holds {hints} hints"));
            }
            if !roots.ready {
                let reason = format!("{name} is still reading what it stores");
                reply.reasons.push(reason);
            }
            for pair in &roots.pairs {
                if self.n.is_none_or(|n| n == pair.n) {
                    self.compare(core, *node, pair, roots.generation, &mut reply);
                }
            }
        }
        reply.converged = reply.reasons.is_empty();
        reply.reasons.truncate(REASONS_MAX);
        core.reply(self.origin, Response::Healing(reply));
        Flow::Over
    }

    /// One pair, seen from one side; told once, from the side that leads.
    fn compare(
        &self,
        core: &Core,
        node: NodeId,
        pair: &PairReport,
        generation: u64,
        reply: &mut HealingReply,
    ) {
        let theirs = self.roots.get(&pair.peer);
        let mirror = theirs.and_then(|theirs| {
            let mut pairs = theirs.pairs.iter();
            pairs.find(|their| their.peer == node && their.n == pair.n)
        });
        let equal = mirror.is_some_and(|mirror| mirror.root == pair.root);
        // Without an answer of the leader, the other side tells of the pair.
        if !pair.leads && mirror.is_some() {
            return;
        }
        let (name, peer) = (core.name(node), core.name(pair.peer));
        if !equal && theirs.is_some() {
            let n = pair.n;
            let reason = format!("{name} and {peer} differ (n={n})");
            reply.reasons.push(reason);
        }
        reply.pairs.push(PairStatus {
            node: name,
            peer,
            n: pair.n,
            equal,
            done: pair.leads && generation <= pair.generation,
            agreed_ms_ago: pair.agreed_ms_ago,
            behind_keys: pair.behind_keys,
            moved_keys: pair.moved_keys,
            moved_bytes: pair.moved_bytes,
            trouble: pair.trouble.clone(),
        });
    }
}
