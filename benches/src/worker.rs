//! One client: which operation comes next, and doing it.
//!
//! The mixes are those of YCSB. A put goes to a record of the client's own, chosen by the same
//! distribution as gets are, so that values can be numbered and judged; when an operation begins is
//! the pace's to decide.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use quorate_client::wire::ErrorBody;
use rand::RngExt as _;
use rand_pcg::Pcg64Mcg;

use crate::{
    driver::Driver,
    keys::Keys,
    ledger::Ledger,
    options::{Run, Workload},
    pace::Pace,
    tally::{Kind, Tally},
    value::{self, Names},
};

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Shared<D> {
    pub(crate) run: Run,
    pub(crate) driver: D,
    pub(crate) names: Names,
    pub(crate) ledger: Ledger,
    pub(crate) inserts: Mutex<Inserts>,
    /// Of the current second.
    pub(crate) tally: Mutex<Tally>,
}

impl<D> Shared<D> {
    /// Does something with the current second's figures.
    pub(crate) fn tally<T>(&self, with: impl FnOnce(&mut Tally) -> T) -> T {
        with(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records that exist.
    pub(crate) fn count(&self) -> usize {
        self.run.records + self.inserts(|inserts| inserts.whole)
    }

    pub(crate) fn inserts<T>(&self, with: impl FnOnce(&mut Inserts) -> T) -> T {
        with(&mut self.inserts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Records that are added while load runs. Gets ask only for those below which none is missing.
#[derive(Debug)]
pub(crate) struct Inserts {
    max: usize,
    next: usize,
    ended: BTreeSet<usize>,
    whole: usize,
}

impl Inserts {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            next: 0,
            ended: BTreeSet::new(),
            whole: 0,
        }
    }

    fn begin(&mut self) -> Option<usize> {
        (self.next < self.max).then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn end(&mut self, number: usize) {
        self.ended.insert(number);
        while self.ended.remove(&self.whole) {
            self.whole += 1;
        }
    }
}

/// A record of one client.
#[derive(Clone, Debug)]
pub(crate) struct Owned<C> {
    pub(crate) record: usize,
    pub(crate) context: Option<C>,
    /// The last number that was tried.
    pub(crate) number: u64,
}

/// One client, with the records that are its own.
#[derive(Debug)]
pub(crate) struct Worker<D: Driver> {
    pub(crate) shared: Arc<Shared<D>>,
    pub(crate) owned: Vec<Owned<D::Context>>,
    pub(crate) all: Keys,
    pub(crate) own: Keys,
    pub(crate) rng: Pcg64Mcg,
}

impl<D: Driver> Worker<D> {
    /// Works until told to stop.
    pub(crate) async fn work(mut self, pace: Arc<Pace>) {
        while let Some(due) = pace.next().await {
            let dice = self.rng.random_range(0..100_u8);
            match self.shared.run.workload {
                Workload::Put => self.put(due).await,
                Workload::A if dice < 50 => self.put(due).await,
                Workload::B if dice < 5 => self.put(due).await,
                Workload::D if dice < 5 => self.insert(due).await,
                Workload::F if dice < 50 => self.change(due).await,
                Workload::A
                | Workload::B
                | Workload::C
                | Workload::D
                | Workload::F
                | Workload::Get => self.get(due).await,
            }
        }
    }

    async fn get(&mut self, due: Instant) {
        let record = self.all.next(&mut self.rng, self.shared.count());
        self.read(record, due).await;
    }

    /// The newest number that is there, and the context to replace all that is there.
    async fn read(&self, record: usize, due: Instant) -> Option<(u64, Option<D::Context>)> {
        let shared = &*self.shared;
        let known = shared.ledger.acknowledged(record);
        let started = Instant::now();
        match shared.driver.read(&shared.names.key(record)).await {
            Ok(seen) => {
                let ended = Instant::now();
                let verdict = shared.ledger.judge(record, &seen.values, known);
                shared.tally(|tally| {
                    tally.done(Kind::Get, ended - due, ended - started);
                    tally.judged(verdict);
                });
                Some((verdict.newest, seen.context))
            }
            Err(body) => {
                shared.tally(|tally| tally.failed(&body));
                None
            }
        }
    }

    async fn put(&mut self, due: Instant) {
        let own = self.own.next(&mut self.rng, self.owned.len());
        // What became of it is in the tally.
        drop(self.write(own, due).await);
    }

    /// Reads a record and writes it with what was read.
    async fn change(&mut self, due: Instant) {
        let own = self.own.next(&mut self.rng, self.owned.len());
        let record = self.owned[own].record;
        let Some((newest, context)) = self.read(record, due).await else {
            return;
        };
        // A stale read has not seen all that this client wrote; its own context has.
        if self.shared.ledger.acknowledged(record) <= newest && context.is_some() {
            self.owned[own].context = context;
        }
        let began = Instant::now();
        if self.write(own, began).await.is_ok() {
            let took = due.elapsed();
            self.shared
                .tally(|tally| tally.done(Kind::Change, took, took));
        }
    }

    /// Writes a new record; reads once there may be no more.
    async fn insert(&mut self, due: Instant) {
        let Some(number) = self.shared.inserts(Inserts::begin) else {
            return self.get(due).await;
        };
        let owned = Owned {
            record: self.shared.run.records + number,
            context: None,
            number: self.shared.names.first_number(),
        };
        self.owned.push(owned);
        drop(self.write(self.owned.len() - 1, due).await);
        // Workload d writes a record once; no need to remember it.
        self.owned.pop();
        self.shared.inserts(|inserts| inserts.end(number));
    }

    /// Writes the next value of an own record with the last context.
    pub(crate) async fn write(&mut self, own: usize, due: Instant) -> Result<(), ErrorBody> {
        let shared = self.shared.clone();
        let sizes = shared.run.value_bytes;
        let owned = &mut self.owned[own];
        owned.number += 1;
        let size = self.rng.random_range(sizes.min..=sizes.max);
        let bytes = value::make(owned.record, owned.number, size);
        let key = shared.names.key(owned.record);
        let started = Instant::now();
        match shared
            .driver
            .write(&key, bytes, owned.context.as_ref())
            .await
        {
            Ok(context) => {
                let ended = Instant::now();
                owned.context = context;
                shared.ledger.acknowledge(owned.record, owned.number);
                shared.tally(|tally| tally.done(Kind::Put, ended - due, ended - started));
                Ok(())
            }
            Err(body) => {
                shared.ledger.doubt(owned.record, owned.number);
                shared.tally(|tally| tally.failed(&body));
                Err(body)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_asked_for_once_all_before_them_are_there() {
        let mut inserts = Inserts::new(3);
        let begun: Vec<_> = std::iter::from_fn(|| inserts.begin()).collect();
        assert_eq!(begun, [0, 1, 2]);
        inserts.end(1);
        assert_eq!(inserts.whole, 0);
        inserts.end(0);
        assert_eq!(inserts.whole, 2);
    }
}
