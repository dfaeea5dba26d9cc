//! The end of every run, for those who look after what is stored: records are damaged when
//! everybody has come to rest, every node is told to scrub, and has found its damage by the time it
//! says that it is through, although nobody has read it; the other replicas give back what is lost.
//! Then everything is verified, and nothing may be found.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_client::wire::{HealingRequest, Request, Verified};

use crate::{
    history::place,
    options::Extras,
    oracle::{Ruling, care},
    rng::Rng,
    world::World,
};

const SECOND: u64 = 1_000_000_000;
/// Records damaged.
const DAMAGED_MAX: usize = 6;

impl World {
    /// Damages some records, one copy of each, and looks on while they are found and mended.
    ///
    /// # Errors
    ///
    /// If they are not.
    pub(crate) fn scrub_everything(&mut self) -> Ruling {
        // A directory that is not what its node believes has been damaged enough.
        if self.broken.is_some() || self.options.extras != Extras::NONE {
            return Ok(());
        }
        let mut rng = Rng::new(self.options.seed, 0x5c0b);
        let mut damaged = BTreeSet::new();
        for _ in 0..DAMAGED_MAX {
            let key = rng.index(self.options.workload.keys);
            let node = *rng.pick(&self.layout.owners[key]);
            let key = u32::try_from(key).expect("a run has few keys");
            let struck = damaged.iter().any(|(_, other)| *other == key);
            if !struck && self.damage(node, key) {
                damaged.insert((node, key));
            }
        }
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
                if !self.reported.contains(&(node, name.clone())) {
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
        let (mut after, mut records) = (Bytes::new(), 0);
        while self.broken.is_none() {
            if limit < self.now {
                return care::false_alarm("no answer to verify", self.now);
            }
            let Some(page) = self.verify_page(after.clone()) else {
                continue;
            };
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
        let disks = self.processes.iter().map(|process| process.disk.objects());
        let stored: usize = disks
            .map(|objects| objects.map_or(0, |all| all.len()))
            .sum();
        if self.broken.is_none() && records != stored as u64 {
            let detail = format!("verify has looked at {records} records of {stored}");
            return care::false_alarm(&detail, self.now);
        }
        Ok(())
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
