//! An operator who changes the ring while everything else goes on.
//!
//! Stages something that makes a ring, asks for the plan, commits what the plan says, now and then
//! aborts it; each time through some node or other, which may be down. Never gives a node up for
//! dead: that loses data rightly, and no oracle could tell.

use std::collections::BTreeSet;

use quorate_client::wire::{Request, Response, RingRequest};
use quorate_ring::{Decree, Phase};

use crate::{options::Options, rng::Rng};

/// Fewest members that are left in the ring: as many as there are replicas.
const MEMBERS_MIN: usize = 3;

/// Draws what is asked of the ring.
#[derive(Debug)]
pub struct Operator {
    interval: u64,
    names: Vec<String>,
    rng: Rng,
}

impl Operator {
    /// The operator of a run.
    #[must_use]
    pub fn new(options: &Options, names: Vec<String>) -> Self {
        Self {
            interval: options.ring_interval.unwrap_or(0),
            names,
            rng: Rng::new(options.seed, 0x3077),
        }
    }

    /// Time until the operator does something again.
    pub fn pause(&mut self) -> u64 {
        self.rng.exponential(self.interval)
    }

    /// Which node is asked.
    pub fn target(&mut self) -> usize {
        self.rng.index(self.names.len())
    }

    /// What to ask, now that this is the ring.
    pub fn ask(&mut self, decree: &Decree) -> Option<Request> {
        if decree.phase != Phase::Stable {
            let verb = "abort".to_owned();
            let abort = RingRequest { verb, ..request() };
            return (self.rng.chance(150_000)).then_some(Request::RingChange(abort));
        }
        let members: BTreeSet<&str> = decree
            .ring
            .members()
            .iter()
            .map(|member| member.name.as_str())
            .collect();
        let names = self.names.iter().cloned();
        let (inside, outside): (Vec<String>, Vec<String>) =
            names.partition(|name| members.contains(name.as_str()));
        let mut asked = request();
        match self.rng.below(8) {
            0..=2 if !outside.is_empty() => {
                "join".clone_into(&mut asked.verb);
                asked.node.clone_from(self.rng.pick(&outside));
            }
            3 | 4 if MEMBERS_MIN < inside.len() => {
                "leave".clone_into(&mut asked.verb);
                asked.node.clone_from(self.rng.pick(&inside));
            }
            5 if !outside.is_empty() => {
                "replace".clone_into(&mut asked.verb);
                asked.node.clone_from(self.rng.pick(&inside));
                asked.other.clone_from(self.rng.pick(&outside));
            }
            6 => {
                "weight".clone_into(&mut asked.verb);
                asked.node.clone_from(self.rng.pick(&inside));
                asked.weight = Some(u32::try_from(self.rng.between(1, 3)).expect("small"));
            }
            7 if self.rng.chance(500_000) => {
                "resize".clone_into(&mut asked.verb);
                let now = decree.ring.partitions().count();
                asked.partitions = if now < 64 { now * 2 } else { now / 2 };
            }
            _ => "plan".clone_into(&mut asked.verb),
        }
        Some(Request::RingChange(asked))
    }

    /// What to ask after that answer.
    pub fn heard(&mut self, response: &Response) -> Option<Request> {
        let Response::RingChange(answer) = response else {
            return None;
        };
        if let Some(plan) = &answer.plan {
            let commit = RingRequest {
                verb: "commit".to_owned(),
                digest: plan.digest.clone(),
                ..request()
            };
            return Some(Request::RingChange(commit));
        }
        let wants = answer.state == "stable" && !answer.staged.is_empty();
        // Several changes may come together in one plan.
        (wants && self.rng.chance(700_000)).then(|| {
            let verb = "plan".to_owned();
            Request::RingChange(RingRequest { verb, ..request() })
        })
    }
}

fn request() -> RingRequest {
    RingRequest {
        timeout_ms: 3_000,
        ..RingRequest::default()
    }
}
