//! The end of every run, for those who look after what is stored: records are damaged when
//! everybody has come to rest, every node is told to scrub, and has found its damage by the time it
//! says that it is through, although nobody has read it; the other replicas give back what is lost.
//! Then everything is verified, and nothing may be found.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_client::wire::{HealingRequest, Request, RingRequest, Verified};

use crate::{
    history::place,
    options::{Extras, Options},
    oracle::{Ruling, care},
    rng::Rng,
    world::{Event, World},
};

const SECOND: u64 = 1_000_000_000;
/// Records damaged.
const DAMAGED_MAX: usize = 6;

/// An operator who drains nodes, and lets them take requests again.
#[derive(Debug)]
pub(crate) struct Drains {
    rng: Rng,
    /// Mean time between two requests; none if there are none.
    interval: Option<u64>,
    nodes: usize,
}

impl Drains {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            rng: Rng::new(options.seed, 0xd4a1),
            interval: options.drain_interval,
            nodes: options.nodes,
        }
    }

    fn pause(&mut self) -> Option<u64> {
        let interval = self.interval?;
        Some(self.rng.exponential(interval))
    }

    fn request(&mut self) -> RingRequest {
        let verb = *self.rng.pick(&["drain", "undrain", "undrain"]);
        RingRequest {
            verb: verb.to_owned(),
            node: format!("n{}", 1 + self.rng.index(self.nodes)),
            timeout_ms: 3_000,
            ..RingRequest::default()
        }
    }
}

impl World {
    pub(crate) fn plan_drain(&mut self) {
        if let Some(pause) = self.drains.pause() {
            self.agenda.plan(self.now + pause, Event::Drain);
        }
    }

    pub(crate) fn drain_some(&mut self) {
        if self.faulty {
            let request = self.drains.request();
            self.ask_ring(Request::RingChange(request));
            self.plan_drain();
        }
    }

    /// No node stays drained.
    pub(crate) fn let_back(&mut self) {
        for node in 0..self.processes.len() {
            let machine = self.processes[node].machine.as_mut();
            if machine.is_some_and(|machine| machine.undrain()) {
                self.drain(node);
            }
        }
    }

    /// Damages some records, one copy of each or two of three, and looks on while they are found
    /// and mended.
    ///
    /// # Errors
    ///
    /// If they are not.
    pub(crate) fn scrub_everything(&mut self) -> Ruling {
        // A directory that is not what its node believes has been damaged enough.
        if self.broken.is_some() || self.options.extras != Extras::NONE {
            return Ok(());
        }
        let damaged = self.damage_some();
        self.reported.clear();
        let limit = self.now + care::PASS_MAX;
        for node in 0..self.processes.len() {
            let wish = self.wish(node);
            while self.fulfilled(node) < wish {
                if limit < self.now {
                    return care::endless(&self.processes[node].name, self.now);
                }
                self.run_until(self.now + SECOND / 20);
                if self.broken.is_some() {
                    return Ok(());
                }
            }
            for &(_, key) in damaged.iter().filter(|(struck, _)| *struck == node) {
                let name = &self.workload.keys()[place(key)];
                // Damage may be gone with the record it was in, if that was reaped or compacted.
                let there = self.bytes(node, key).is_some() && self.record(node, key).is_none();
                if there && !self.reported.contains(&(node, name.clone())) {
                    return care::overlooked(&self.processes[node].name, key, self.now);
                }
            }
        }
        while let Some((key, detail)) = self.first_difference() {
            if limit < self.now {
                return care::unmended(key, &detail, self.now);
            }
            self.run_until(self.now + SECOND / 4);
            if self.broken.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What was damaged and can be found by reading; the rest is found by comparing.
    fn damage_some(&mut self) -> BTreeSet<(usize, u32)> {
        let mut rng = Rng::new(self.options.seed, 0x5c0b);
        // A stream of its own: what older seeds drew stays as it was.
        let mut second = Rng::new(self.options.seed, 0x5c0c);
        let (mut damaged, mut struck) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..DAMAGED_MAX {
            let key = rng.index(self.options.workload.keys);
            let owners = self.layout.owners[key].clone();
            let mut nodes = vec![*rng.pick(&owners)];
            // In a ring of one nobody has another copy.
            let mendable = 1 < owners.len();
            let key = u32::try_from(key).expect("a run has few keys");
            let twice = 2 < owners.len() && second.chance(500_000);
            if twice && owners.iter().all(|&owner| self.keeps_a_value(owner, key)) {
                nodes.extend(owners.iter().find(|owner| **owner != nodes[0]));
            }
            if !mendable || !struck.insert(key) {
                continue;
            }
            for node in nodes {
                if self.damage(node, key) && self.bytes(node, key).is_some() {
                    damaged.insert((node, key));
                }
            }
        }
        damaged
    }

    /// True if the copy cannot be reaped: were the third gone when two are damaged, nobody could
    /// say what they held, and they are left as they are.
    fn keeps_a_value(&self, node: usize, key: u32) -> bool {
        self.record(node, key).is_some_and(|record| {
            let mut siblings = record.container.siblings();
            siblings.any(|(_, sibling)| sibling.value.is_some() && sibling.expires_at_ms.is_none())
        })
    }

    fn wish(&mut self, node: usize) -> u64 {
        let machine = self.processes[node].machine.as_mut();
        let wish = machine.map_or(0, |machine| machine.scrub());
        self.drain(node);
        wish
    }

    fn fulfilled(&mut self, node: usize) -> u64 {
        let machine = self.processes[node].machine.as_mut();
        machine.map_or(0, |machine| machine.scrub_progress().fulfilled)
    }

    /// Looks at everything that all nodes hold; nothing may be wrong with it.
    ///
    /// # Errors
    ///
    /// If something is, or not everything has been looked at.
    pub(crate) fn verify_everything(&mut self) -> Ruling {
        let limit = self.now + care::PASS_MAX;
        let before = self.records_stored();
        let (mut after, mut records) = (Bytes::new(), 0);
        while self.broken.is_none() {
            if limit < self.now {
                return care::false_alarm("no answer to verify", self.now);
            }
            let Some(page) = self.verify_page(after.clone()) else {
                continue;
            };
            // Whether a mended record speaks for its key is known when all replicas have answered.
            let waits = page.differences.iter().any(|found| found.what == "suspect");
            if waits && self.now < limit {
                continue;
            }
            // A tombstone may come back for a while from whose disk it is being reaped.
            if !page.differences.is_empty() && self.first_difference().is_some() {
                continue;
            }
            if let Some(difference) = page.differences.first() {
                let detail = format!("verify finds {difference:?}, and all agree");
                return care::false_alarm(&detail, self.now);
            }
            if !page.silent.is_empty() {
                continue;
            }
            records += page.records;
            let Some(next) = page.next else { break };
            after = next;
        }
        // Some may have been reaped on the way, or have come back.
        let now = self.records_stored();
        let stored = now.min(before)..=now.max(before);
        if self.broken.is_none() && !stored.contains(&records) {
            let detail = format!("verify has looked at {records} records of {stored:?}");
            return care::false_alarm(&detail, self.now);
        }
        Ok(())
    }

    fn records_stored(&self) -> u64 {
        let disks = self.processes.iter().map(|process| process.disk.objects());
        let counts = disks.map(|objects| objects.map_or(0, |all| all.len() as u64));
        counts.sum()
    }

    /// One page, if an answer comes.
    pub fn verify_page(&mut self, after: Bytes) -> Option<Verified> {
        self.verified = None;
        self.ask_ring(Request::Healing(HealingRequest {
            verb: "verify".to_owned(),
            after,
            timeout_ms: 8_000,
            ..HealingRequest::default()
        }));
        for _ in 0..100 {
            self.run_until(self.now + SECOND / 10);
            if self.verified.is_some() || self.broken.is_some() {
                break;
            }
        }
        self.verified.take()
    }
}
