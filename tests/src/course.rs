//! The course of a run: a safety phase with faults, then healing.
//!
//! In the first phase clients work and the nemesis strikes. Then everything is mended and started,
//! clients come to rest, and all replicas of every key have to become equal within a bounded time
//! without anybody reading them. Then every key is read once from all of its replicas, the trees
//! have to agree, and at last the oracles that need the end of the story speak.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    history::{OpIndex, place},
    options::Options,
    oracle::{
        Broken, Ruling, bounds, convergence, durability, expiry, idempotence, latest, merkle, ring,
    },
    process::{Doom, Process},
    world::{Event, World},
};

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Fingerprint of its options.
    pub options_hash: u64,
    /// Fingerprint of all that happened.
    pub hash: u64,
    /// Fingerprint of what clients got to know and which dots were minted.
    pub outcome: u64,
    /// Simulated nanoseconds, both phases.
    pub simulated: u64,
    /// Events of the world.
    pub events: u64,
    /// Operations that clients began.
    pub operations: u64,
    /// Attempts that were answered as asked.
    pub acknowledged: u64,
    /// Further attempts.
    pub retries: u64,
    /// Faults by class.
    pub faults: BTreeMap<&'static str, u64>,
    /// Seconds until all replicas agreed.
    pub healing_rounds: u64,
    /// The promise that was broken, if one was.
    pub broken: Option<Broken>,
}

const SECOND: u64 = 1_000_000_000;
const READ_INTERVAL: u64 = 1_000_000;
/// Values that have expired are gone from the disks after so much simulated time.
const EXPIRY_MAX: u64 = 40 * SECOND;

/// Runs a whole run.
#[must_use]
pub fn run(options: Options, print: bool) -> Report {
    let mut world = World::new(options, print);
    world.agenda.plan(SECOND / 10, Event::Operation);
    if world.options.ring_interval.is_some() {
        let pause = SECOND / 2 + world.operator.pause();
        world.agenda.plan(pause, Event::Operator);
    }
    world.plan_drain();
    world.plan_define();
    if let Some(pause) = world.nemesis.pause() {
        world.agenda.plan(pause, Event::Strike);
    }
    world.run_until(world.options.duration);
    let rounds = match world.heal() {
        Ok(rounds) => rounds,
        Err(broken) => {
            world.rule(Err(broken));
            0
        }
    };
    world.report(rounds)
}

impl World {
    /// Ends all faults, waits for agreement, and hears the last oracles. Says how many seconds
    /// agreement took.
    ///
    /// # Errors
    ///
    /// If a promise turns out to be broken.
    pub fn heal(&mut self) -> Result<u64, Broken> {
        self.mend();
        let limit = self.now + convergence::HEALING_MAX;
        while self.broken.is_none() && !self.is_at_rest() {
            self.let_back();
            if limit < self.now {
                convergence::silent(
                    "not every node is ready and every client answered",
                    self.now,
                )?;
            }
            self.run_until(self.now + SECOND / 4);
        }
        let mut rounds = 0;
        loop {
            if self.broken.is_some() {
                return Ok(rounds);
            }
            rounds += 1;
            self.run_until(self.now + SECOND);
            match self.first_difference() {
                None => match self.keeps_hints() {
                    None => break,
                    Some(broken) if limit < self.now => return Err(broken),
                    Some(_) => {}
                },
                Some((key, detail)) if limit < self.now => {
                    convergence::differs(key, &detail, self.now)?;
                }
                Some(_) => {}
            }
        }
        // A record that can neither be read nor listed is found by who asks for its key.
        self.read_everything();
        self.agree()?;
        // Repairs that nobody answers are forgotten after ten seconds.
        self.run_until(self.now + 12 * SECOND);
        self.finish_comparing()?;
        self.expire()?;
        self.scrub_everything()?;
        self.verify_everything()?;
        // Recoveries end after ten seconds, whoever answers.
        self.run_until(self.now + 12 * SECOND);
        self.last_words()?;
        Ok(rounds)
    }

    /// Waits until all trees agree with each other, and looks whether they say what is stored.
    fn agree(&mut self) -> Ruling {
        let limit = self.now + convergence::HEALING_MAX;
        while let Some(detail) = merkle::disagreement(&self.processes) {
            if limit < self.now {
                return merkle::differ(&detail, self.now);
            }
            self.run_until(self.now + SECOND / 4);
            if self.broken.is_some() {
                return Ok(());
            }
        }
        for node in 0..self.processes.len() {
            // What it has not been told of cannot be in its tree.
            while let Some(told) = self.processes[node].disk.is_ahead(self.now)
                && self.broken.is_none()
            {
                self.run_until(told);
            }
            merkle::truth(&self.processes[node], self.now)?;
        }
        Ok(())
    }

    /// Gives the nodes time to remove what has expired, and looks whether they have.
    fn expire(&mut self) -> Ruling {
        if self.options.workload.mortal == 0 {
            return Ok(());
        }
        let over_ms = self.processes[1].clock.moment(self.now).wall_ms;
        let limit = self.now + 3 * EXPIRY_MAX;
        self.run_until(self.now + EXPIRY_MAX);
        // Where little may be in work at once, what has expired goes record by record.
        while self.expired(over_ms).is_err() && self.now < limit && self.broken.is_none() {
            self.run_until(self.now + 5 * SECOND);
        }
        self.expired(over_ms)
    }

    fn expired(&self, over_ms: u64) -> Ruling {
        for (key, owners) in (0_u32..).zip(&self.layout.owners) {
            for &node in owners {
                if let Some(record) = self.record(node, key) {
                    let (name, container) = (&self.processes[node].name, &record.container);
                    expiry::record(&self.history, name, key, container, over_ms, self.now)?;
                }
            }
        }
        Ok(())
    }

    /// Comparisons go on for ever, but none for long: every node is without one now and then.
    fn finish_comparing(&mut self) -> Ruling {
        let mut busy: Vec<usize> = (0..self.processes.len()).collect();
        for _ in 0..200 {
            busy.retain(|&node| merkle::is_comparing(&self.processes[node]));
            if busy.is_empty() || self.broken.is_some() {
                return Ok(());
            }
            self.run_until(self.now + SECOND / 10);
        }
        merkle::endless(&self.processes[busy[0]].name, self.now)
    }

    /// Ends all faults.
    fn mend(&mut self) {
        self.faulty = false;
        self.network.heal();
        self.workload.calm_down();
        for node in 0..self.processes.len() {
            let process = &mut self.processes[node];
            process.disk.set_slow(false);
            process.disk.set_full(false);
            if process.paused {
                self.resume(node);
            }
            // A sync that is bound to fail is a fault that has begun: it ends with the process.
            if matches!(self.processes[node].doom, Some(Doom::OnStoreFailure(_))) {
                self.crash(node, None);
            }
            self.processes[node].doom = None;
            if self.processes[node].machine.is_none() {
                self.start(node);
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        let newest = self.rings.newest().epoch;
        let settled = |process: &Process| {
            let machine = process.machine.as_ref();
            process.is_ready()
                && machine.is_some_and(|node| {
                    node.is_settled() && node.decree().epoch == newest && node.speaks_for_itself()
                })
        };
        self.workload.waiting() == 0 && self.processes.iter().all(settled)
    }

    /// Reads every key from all its replicas, then gives repairs time to end.
    fn read_everything(&mut self) {
        let auditor = self.options.workload.clients;
        let all = self.options.replicas;
        for key in 0..self.options.workload.keys {
            let key = u32::try_from(key).expect("a run has few keys");
            let read = self.session.read(key, all, self.now);
            let attempt = self.workload.get(auditor, read, Some(all));
            self.send_request(attempt);
            self.run_until(self.now + READ_INTERVAL);
        }
        self.run_until(self.now + 2 * SECOND);
    }

    /// The first key whose replicas differ, and how.
    pub(crate) fn first_difference(&self) -> Option<(u32, String)> {
        (0_u32..)
            .zip(&self.layout.owners)
            .find_map(|(key, owners)| {
                let mut bytes = owners.iter().map(|&node| self.bytes(node, key));
                let first = bytes.next();
                if bytes.all(|bytes| Some(bytes) == first) {
                    return None;
                }
                let states: Vec<String> =
                    owners.iter().map(|&node| self.state(node, key)).collect();
                let same = states.windows(2).all(|pair| pair[0] == pair[1]);
                (!same).then(|| (key, states.join(" | ")))
            })
    }

    fn state(&self, node: usize, key: u32) -> String {
        // A damaged record that the others know nothing of is replaced by one that holds nothing.
        let record = self.record(node, key);
        let record = record.filter(|record| !record.container.clock().is_empty());
        record.map_or_else(String::new, |record| {
            let versions: Vec<_> = record
                .container
                .siblings()
                .map(|(dot, version)| {
                    // A value that expires is removed by every replica at its own time.
                    let value = version.value.as_ref();
                    let value = value.filter(|_| version.expires_at_ms.is_none());
                    (dot, version.op, value.map(Bytes::len))
                })
                .collect();
            format!("{:?} {versions:?}", record.container.clock())
        })
    }

    /// What nodes forget together they write once more, each key once, and nobody asks for it:
    /// every node has nothing left to do now and then.
    fn come_to_rest(&mut self) -> Ruling {
        let mut busy: Vec<usize> = (0..self.processes.len()).collect();
        let idle = |process: &Process, now| {
            bounds::baseline(&process.name, &merkle::without(process), now)
        };
        for _ in 0..1_000 {
            busy.retain(|&node| idle(&self.processes[node], self.now).is_err());
            if busy.is_empty() || self.broken.is_some() {
                return Ok(());
            }
            self.run_until(self.now + SECOND / 100);
        }
        idle(&self.processes[busy[0]], self.now)
    }

    /// The oracles that need the end of the story.
    fn last_words(&mut self) -> Ruling {
        self.come_to_rest()?;
        for (key, owners) in (0_u32..).zip(&self.layout.owners) {
            let stray = (0..self.processes.len())
                .find(|node| !owners.contains(node) && self.bytes(*node, key).is_some());
            if let Some(node) = stray {
                return Err(ring::stray(&self.processes[node].name, key, self.now));
            }
        }
        self.compare_buckets()?;
        self.judge_the_dead()?;
        let mut live: BTreeMap<u32, Vec<OpIndex>> = BTreeMap::new();
        for (key, owners) in (0_u32..).zip(&self.layout.owners) {
            let Some(record) = self.record(owners[0], key) else {
                continue;
            };
            let found = record
                .container
                .siblings()
                .filter_map(|(_, version)| self.history.find_number(version.op.id));
            live.insert(key, found.collect());
        }
        let live_ops = live.values().flatten();
        let all: Vec<OpIndex> = live_ops.chain(&self.reaped_ops).copied().collect();
        if self.options.lww {
            let held = |key| {
                let owner = self.layout.owners[place(key)][0];
                let latest = self.session.latest.as_ref();
                self.record(owner, key)
                    .and_then(|record| record.container.stamp())
                    .max(latest.and_then(|latest| latest.forgotten(key)))
            };
            latest::at_the_end(&self.history, held, self.now)?;
        } else {
            durability::at_the_end(&mut self.history, &all, self.now)?;
        }
        idempotence::at_the_end(&mut self.history, &live, self.now)
    }

    fn report(&self, healing_rounds: u64) -> Report {
        let mut faults = self.nemesis.counts.clone();
        let net = &self.network.counts;
        for (name, count) in [
            ("deaths", self.deaths),
            ("definitions", self.definers.history.changes()),
            ("lost", net.lost),
            ("cut", net.cut),
            ("doubled", net.doubled),
            ("late", net.late),
            ("overtaking", net.overtaking),
            ("held_back", net.clogged),
            ("queued", net.queued),
            ("crowded_out", net.crowded),
            ("client_lost", net.client_lost),
            ("limits_met", self.refusals),
            ("answered_whole", self.answers.whole),
            ("answered_brief", self.answers.brief),
            (
                "slow_commits",
                self.processes.iter().map(|p| p.disk.slow_commits()).sum(),
            ),
            ("ring_changes", self.rings.changes()),
            ("reaped", self.reaped.get(&true).copied().unwrap_or(0)),
            ("compacted", self.reaped.get(&false).copied().unwrap_or(0)),
        ] {
            faults.insert(name, count);
        }
        faults.extend(self.workload.counts.faults());
        faults.extend(self.kept.named());
        Report {
            seed: self.options.seed,
            options_hash: self.options.hash(),
            hash: self.trace.hash(),
            outcome: self.history.fingerprint(),
            simulated: self.now,
            events: self.trace.events(),
            operations: self.workload.counts.operations,
            acknowledged: self.workload.counts.acknowledged,
            retries: self.workload.counts.retries,
            faults,
            healing_rounds,
            broken: self.broken.clone(),
        }
    }
}
