//! What a story's operator does about the ring and the buckets, through which node it says.
//!
//! Requests may be sent without waiting, so that the node that was asked can die meanwhile.

use std::sync::Arc;

use quorate_client::wire::{
    BucketInfo, BucketOptions, BucketRequest, ErrorBody, ErrorCode, Request, Response, RingAnswer,
    RingRequest,
};
use quorate_ring::{Decree, Phase};

use crate::{
    story::Story,
    workload::{Call, Heard},
};

const MS: u64 = 1_000_000;

/// What the operator hears: an answer, a refusal, or nothing.
pub type Told = Result<RingAnswer, Option<ErrorBody>>;

impl Story {
    /// Sends the operator's request to a node and does not wait; the number is for
    /// [`hear_ring`](Self::hear_ring).
    pub fn start_ring(&mut self, node: usize, request: RingRequest) -> u64 {
        let timeout_ms = request.timeout_ms;
        self.send_operator(node, Request::RingChange(request), timeout_ms)
    }

    /// Asks a node to make or change a bucket and does not wait; the number is for
    /// [`hear_bucket`](Self::hear_bucket).
    pub fn start_bucket(&mut self, node: usize, verb: &str, name: &str, n: Option<u8>) -> u64 {
        let timeout_ms = 5_000;
        let request = BucketRequest {
            verb: verb.to_owned(),
            name: name.to_owned(),
            options: BucketOptions {
                n,
                ..BucketOptions::default()
            },
            timeout_ms,
        };
        self.send_operator(node, Request::Bucket(request), timeout_ms)
    }

    /// Waits for what came of it.
    ///
    /// # Errors
    ///
    /// What the node says, if it says anything.
    pub fn hear_bucket(&mut self, serial: u64) -> Result<Vec<BucketInfo>, Option<ErrorBody>> {
        match self.hear_operator(serial) {
            Some(Response::Buckets(list)) => Ok(list),
            Some(Response::Error(error)) => Err(Some(error)),
            _ => Err(None),
        }
    }

    fn send_operator(&mut self, node: usize, request: Request, timeout_ms: u32) -> u64 {
        let world = &mut self.world;
        let client = world.options.workload.clients;
        // What a node says when its time is over is heard as well.
        let budget = u64::from(timeout_ms + 1_000) * MS;
        let workload = &mut world.workload;
        let attempt = workload.attempt(client, node, budget, Call::Operate, request);
        let serial = attempt.serial;
        world.send_request(attempt);
        serial
    }

    /// Waits for what the operator hears.
    pub fn hear_ring(&mut self, serial: u64) -> Told {
        match self.hear_operator(serial) {
            Some(Response::RingChange(answer)) => Ok(*answer),
            Some(Response::Error(error)) => Err(Some(error)),
            _ => Err(None),
        }
    }

    fn hear_operator(&mut self, serial: u64) -> Option<Response> {
        self.hear(serial);
        let heard = self.world.heard.as_ref().and_then(|all| all.get(&serial));
        let Some(Heard::Answer(response, _)) = heard else {
            return None;
        };
        Some(Response::clone(response))
    }

    /// Sends the operator's request to a node, and waits for the answer.
    pub fn ring(&mut self, node: usize, request: RingRequest) -> Told {
        let serial = self.start_ring(node, request);
        self.hear_ring(serial)
    }

    /// Stages through a node: pairs of what to do and with which node. The digest of the plan.
    ///
    /// # Panics
    ///
    /// If any of it is refused.
    pub fn stage(&mut self, by: usize, changes: &[(&str, usize)]) -> String {
        for (verb, node) in changes {
            let asked = RingRequest {
                node: format!("n{}", node + 1),
                weight: (*verb == "weight").then_some(2),
                ..say(verb)
            };
            let mut told = self.ring(by, asked.clone());
            // Where messages are lost, not all may have confirmed it in time.
            let unknown =
                |told: &Told| matches!(told, Err(Some(e)) if e.code == ErrorCode::UnknownOutcome);
            while unknown(&told) {
                told = self.ring(by, asked.clone());
            }
            assert!(told.is_ok(), "{verb} n{}: {told:?}", node + 1);
        }
        let plan = self.ring(by, say("plan")).expect("a plan");
        plan.plan.expect("a plan is in it").digest
    }

    /// The newest ring that any node has.
    #[must_use]
    pub fn decree(&self) -> Arc<Decree> {
        Arc::clone(self.world.rings.newest())
    }

    /// True if all nodes that are up have the newest ring, it is stable, and nobody holds what is
    /// not its own.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let newest = self.decree();
        let machines = self.world.processes.iter();
        newest.phase == Phase::Stable
            && machines
                .filter_map(|process| process.machine.as_ref())
                .all(|node| node.is_settled() && node.decree().hash() == newest.hash())
    }

    /// True if a node says that the change is over and everything is handed over, on all nodes.
    pub fn is_told_done(&mut self, by: usize) -> bool {
        let told = self.ring(by, say("transfers"));
        let done = |answer: RingAnswer| {
            let mut rows = answer.transfers.iter();
            answer.state == "stable" && rows.all(|row| row.adopted && row.clean)
        };
        told.is_ok_and(done)
    }

    /// Lets time pass until the ring is settled; how much, in milliseconds.
    ///
    /// # Panics
    ///
    /// If it takes a quarter of an hour.
    pub fn wait_until_settled(&mut self) -> u64 {
        let began = self.world.now;
        while !self.is_settled() {
            self.wait(10);
            let waited = self.world.now - began;
            assert!(waited < 900_000 * MS, "{:?}", self.decree().note);
        }
        (self.world.now - began) / MS
    }
}

/// A request of the operator.
#[must_use]
pub fn say(verb: &str) -> RingRequest {
    RingRequest {
        verb: verb.to_owned(),
        timeout_ms: 1_000,
        ..RingRequest::default()
    }
}

/// The request that makes a plan happen.
#[must_use]
pub fn commit(digest: &str) -> RingRequest {
    RingRequest {
        digest: digest.to_owned(),
        ..say("commit")
    }
}
