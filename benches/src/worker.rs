//! One client of the closed loop: the next operation begins when the last has ended.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use quorate_client::{Client, Context, wire::ErrorBody};
use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use crate::{
    keys::Keys,
    ledger::{Ledger, newest},
    options::{Run, Workload},
    value,
};

/// Longest latency that is told from longer ones, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) run: Run,
    pub(crate) client: Client,
    pub(crate) ledger: Ledger,
    pub(crate) all: Keys,
    pub(crate) own: Keys,
    pub(crate) stop: AtomicBool,
    pub(crate) done: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// A record of one client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owned {
    pub(crate) context: Option<Context>,
    /// The last number that was tried.
    pub(crate) number: u64,
}

/// What came of a client's operations.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) get: Histogram<u64>,
    pub(crate) put: Histogram<u64>,
    /// By error code.
    pub(crate) errors: BTreeMap<&'static str, u64>,
    pub(crate) stale: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("three digits fit these bounds")
        };
        Self {
            get: histogram(),
            put: histogram(),
            errors: BTreeMap::new(),
            stale: 0,
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.get.add(&other.get).expect("the same bounds");
        self.put.add(&other.put).expect("the same bounds");
        for (code, count) in &other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.stale += other.stale;
    }
}

/// One client, with the records that are its own: number, number + clients, and so on.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: usize,
    pub(crate) owned: Vec<Owned>,
    pub(crate) rng: Pcg64Mcg,
    pub(crate) tally: Tally,
}

impl Worker {
    /// Works until told to stop.
    pub(crate) async fn work(mut self) -> Tally {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let dice = self.rng.random_range(0..100_u8);
            match self.shared.run.workload {
                Workload::Put => self.put().await,
                Workload::A if dice < 50 => self.put().await,
                Workload::B if dice < 5 => self.put().await,
                Workload::F if dice < 50 => self.change().await,
                Workload::A
                | Workload::B
                | Workload::C
                | Workload::D
                | Workload::F
                | Workload::Get => self.get().await,
            }
        }
        self.tally
    }

    async fn get(&mut self) {
        let record = self.shared.all.next(&mut self.rng);
        self.read(record).await;
    }

    async fn read(&mut self, record: usize) -> Option<Context> {
        let shared = self.shared.clone();
        let known = shared.ledger.acknowledged(record);
        let mut get = shared.client.get(&*shared.run.bucket, value::key(record));
        if let Some(r) = shared.run.r {
            get = get.r(r);
        }
        let started = Instant::now();
        match get.send().await {
            Ok(got) => {
                self.tally.get.saturating_record(micros(started.elapsed()));
                shared.done.fetch_add(1, Ordering::Relaxed);
                if newest(record, &got) < known {
                    self.tally.stale += 1;
                }
                got.context
            }
            Err(error) => {
                self.fail(error.body());
                None
            }
        }
    }

    /// A record of its own, by popularity.
    fn choose(&mut self) -> usize {
        // The last client may have one record less than the others.
        self.shared.own.next(&mut self.rng) % self.owned.len()
    }

    async fn put(&mut self) {
        let own = self.choose();
        self.write(own).await;
    }

    /// Reads a record and writes it with what was read.
    async fn change(&mut self) {
        let own = self.choose();
        if let Some(context) = self.read(self.record(own)).await {
            self.owned[own].context = Some(context);
            self.write(own).await;
        }
    }

    fn record(&self, own: usize) -> usize {
        self.number + own * self.shared.run.clients
    }

    /// Writes the next value of an own record with the last context. True if acknowledged.
    pub(crate) async fn write(&mut self, own: usize) -> bool {
        let shared = self.shared.clone();
        let (run, record) = (&shared.run, self.record(own));
        let owned = &mut self.owned[own];
        owned.number += 1;
        let number = owned.number;
        let bytes = value::make(record, number, run.value_bytes);
        let mut put = shared.client.put(&*run.bucket, value::key(record), bytes);
        if let Some(context) = &owned.context {
            put = put.context(context);
        }
        if let Some(w) = run.w {
            put = put.w(w);
        }
        let started = Instant::now();
        match put.send().await {
            Ok(written) => {
                self.tally.put.saturating_record(micros(started.elapsed()));
                owned.context = Some(written.context);
                shared.ledger.acknowledge(record, number);
                shared.done.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(error) => {
                self.fail(error.body());
                false
            }
        }
    }

    fn fail(&mut self, body: &ErrorBody) {
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
        *self.tally.errors.entry(body.code.as_str()).or_default() += 1;
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(LATENCY_US_MAX)
}
