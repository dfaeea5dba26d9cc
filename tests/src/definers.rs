//! People who make, change and drop buckets while everything else goes on, now and then two of
//! them at once and through different nodes.

use quorate_client::wire::{BucketOptions, BucketRequest, Request, Response};

use crate::{
    options::Options,
    oracle::{
        Ruling,
        buckets::{Buckets, Wish},
    },
    rng::Rng,
    workload::Call,
    world::{Event, World},
};

/// How long a node may take.
const BUDGET: u64 = 4_000_000_000;
/// The marks of changes begin above what nobody would ask for.
const FIRST_MARK: u32 = 70_000;

/// Draws what is asked for, and knows what became of it.
#[derive(Debug)]
pub(crate) struct Definers {
    rng: Rng,
    interval: Option<u64>,
    nodes: usize,
    mark: u32,
    pub(crate) history: Buckets,
}

impl Definers {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            rng: Rng::new(options.seed, 0xb0c4),
            interval: options.bucket_interval,
            nodes: options.nodes + options.spare,
            mark: FIRST_MARK,
            history: Buckets::default(),
        }
    }

    fn pause(&mut self) -> Option<u64> {
        let interval = self.interval?;
        Some(self.rng.exponential(interval))
    }

    fn wish(&mut self) -> BucketRequest {
        self.mark += 1;
        let verb = *self
            .rng
            .pick(&["create", "create", "create", "set", "set", "drop"]);
        let wish = Wish {
            mark: self.mark,
            verb,
            name: format!("b{}", self.rng.below(2)),
            after: self.history.confirmed(),
        };
        let mut options = BucketOptions {
            value_bytes_max: Some(self.mark),
            ..BucketOptions::default()
        };
        if verb == "create" {
            options.n = Some(*self.rng.pick(&[1, 2, 3]));
            options.mode = self.rng.chance(300_000).then(|| "lww".to_owned());
        }
        let request = BucketRequest {
            verb: verb.to_owned(),
            name: wish.name.clone(),
            options,
            timeout_ms: 3_000,
        };
        self.history.asked(wish);
        request
    }
}

impl World {
    pub(crate) fn plan_define(&mut self) {
        if let Some(pause) = self.definers.pause() {
            self.agenda.plan(self.now + pause, Event::Define);
        }
    }

    pub(crate) fn define_some(&mut self) {
        if !self.faulty {
            return;
        }
        let twice = self.definers.rng.chance(400_000);
        for _ in 0..=usize::from(twice) {
            let target = self.definers.rng.index(self.definers.nodes);
            self.define(target);
        }
        self.plan_define();
    }

    /// Somebody asks a node for some change of buckets.
    fn define(&mut self, target: usize) {
        let request = Request::Bucket(self.definers.wish());
        let call = Call::Define(self.definers.mark);
        let client = self.options.workload.clients;
        let attempt = self.workload.attempt(client, target, BUDGET, call, request);
        self.send_request(attempt);
    }

    pub(crate) fn judge_definition(&mut self, mark: u32, response: &Response) -> Ruling {
        let history = &mut self.definers.history;
        if let Response::Error(error) = response {
            return history.not_made(mark, error.code, self.now);
        }
        history.made(mark, self.now)
    }

    /// All nodes know the buckets that were agreed on last.
    pub(crate) fn compare_buckets(&self) -> Ruling {
        for process in &self.processes {
            if let Some(node) = &process.machine {
                let (name, listed) = (&process.name, node.buckets());
                let history = &self.definers.history;
                history.at_the_end(name, &listed, self.now)?;
            }
        }
        Ok(())
    }
}
