//! How faults are done to the world, and how they end.
//!
//! Whatever a fault takes away for good is told to the oracles here, so that they ask for no more
//! than what is left; which faults may meet is the nemesis's business.

use bytes::Bytes;
use quorate_node::{
    identity::META_IDENTITY_KEY,
    register::{DIRECTORIES_MAX, META_REGISTER_KEY, knows_better},
    store::{Table, memory::Image},
};
use quorate_ring::{NodeUuid, Phase, Voter};

use crate::{
    history::place,
    nemesis::{Fault, Harm},
    oracle::session::Session,
    process::Doom,
    world::{Event, Relief, World},
};

/// Time between the last requests before the power goes.
const BROWNOUT_PACE: u64 = 500_000;

impl World {
    pub(crate) fn strike(&mut self) {
        if !self.faulty {
            return;
        }
        if let Some(fault) = self.nemesis.strike() {
            self.trace.line(self.now, format_args!("fault: {fault:?}"));
            self.inflict(fault);
        }
        if let Some(pause) = self.nemesis.pause() {
            self.agenda.plan(self.now + pause, Event::Strike);
        }
    }

    /// Lets a fault happen.
    pub fn inflict(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(nodes) => {
                for (node, lasts) in nodes {
                    self.crash(node, Some(lasts));
                }
            }
            Fault::CrashInStep(node, lasts) => {
                self.processes[node].doom = Some(Doom::InStep(lasts));
            }
            Fault::CrashAfter(node, inputs, lasts) => {
                self.processes[node].doom = Some(Doom::AfterInputs(inputs, lasts));
            }
            Fault::Pause(node, lasts) => {
                if self.processes[node].is_up() {
                    self.pause(node);
                    let relief = Relief::Resume(node, self.processes[node].life);
                    self.agenda.plan(self.now + lasts, Event::Relief(relief));
                }
            }
            Fault::Cut(links, lasts) => {
                for &(from, to) in &links {
                    self.network.set_cut(from, to, true);
                }
                let relief = Relief::Mend(links);
                self.agenda.plan(self.now + lasts, Event::Relief(relief));
            }
            Fault::Clock(node, offset_ms) => {
                if self.options.may_be_wrong(node) {
                    self.processes[node].clock.set_offset(offset_ms);
                }
            }
            Fault::SlowDisk(node, lasts) => {
                self.processes[node].disk.set_slow(true);
                self.agenda
                    .plan(self.now + lasts, Event::Relief(Relief::Disk(node)));
            }
            Fault::FsyncError(node, lasts) => {
                if self.processes[node].machine.is_some() {
                    self.processes[node].disk.fail_next_sync();
                    self.processes[node].doom = Some(Doom::OnStoreFailure(lasts));
                }
            }
            Fault::DiskFull(node, lasts) => {
                self.processes[node].disk.set_full(true);
                self.agenda
                    .plan(self.now + lasts, Event::Relief(Relief::Space(node)));
            }
            Fault::Clog(links, lasts) => {
                for (from, to) in links {
                    self.network.clog(from, to, self.now + lasts);
                }
            }
            Fault::Swizzle(cuts) => self.swizzle(cuts),
            Fault::Overload(requests) => {
                for _ in 0..requests {
                    self.one_operation();
                }
            }
            Fault::Wanted(key) => {
                self.workload.aim(Some(key));
                self.one_operation();
                self.workload.aim(None);
            }
            Fault::Ambush(key, lasts) => self.ambush(key, lasts),
            Fault::Bereave(node) => self.bereave(node),
            Fault::Brownout(down, lasts, requests) => self.brownout(down, lasts, requests),
            Fault::Harm(harm) => self.harm(harm),
        }
    }

    fn swizzle(&mut self, cuts: Vec<(usize, u64, u64)>) {
        for (node, after, lasts) in cuts {
            self.cut_off(node, after, lasts);
        }
    }

    pub(crate) fn cut_off(&mut self, node: usize, after: u64, lasts: u64) {
        let others = (0..self.processes.len()).filter(|other| *other != node);
        let links = others.flat_map(|other| [(node, other), (other, node)]);
        let cut = Fault::Cut(links.collect(), lasts);
        self.agenda.plan(self.now + after, Event::Fault(cut));
    }

    /// Much is on its way to the disks when the power goes.
    fn brownout(&mut self, down: Vec<(usize, u64)>, lasts: u64, requests: u32) {
        let at = self.now + lasts;
        for &(node, _) in &down {
            self.processes[node].disk.set_slow(true);
            self.agenda.plan(at, Event::Relief(Relief::Disk(node)));
        }
        // Spread over the last commits, so that what one writes another may read: every other time
        // of a key of which no replica keeps its power.
        let goes = |node: &usize| down.iter().any(|(other, _)| other == node);
        let doomed = |owners: &Vec<usize>| owners.iter().all(goes);
        let key = self.layout.owners.iter().position(doomed);
        let key = key.filter(|_| requests.is_multiple_of(2));
        for number in 0..u64::from(requests) {
            let before = number * BROWNOUT_PACE;
            let burst = key.map_or(Fault::Overload(1), |key| {
                Fault::Wanted(u32::try_from(key).expect("a run has few keys"))
            });
            let when = at.saturating_sub(before).max(self.now);
            self.agenda.plan(when, Event::Fault(burst));
        }
        self.agenda.plan(at, Event::Fault(Fault::Crash(down)));
    }

    fn ambush(&mut self, key: usize, lasts: u64) {
        let owners = &self.layout.owners[key];
        let next = |by: usize| owners[(key + by) % owners.len()];
        let (first, second) = (next(1), next(2));
        self.cut_off(first, 0, lasts);
        self.cut_off(second, lasts, lasts);
        let rot = Fault::Harm(Harm::BitRot(key));
        self.agenda.plan(self.now + lasts, Event::Fault(rot));
    }

    fn harm(&mut self, harm: Harm) {
        match harm {
            Harm::BitRot(key) => {
                if let Some((node, key)) = self.atlas(key) {
                    self.damage(node, key);
                }
            }
            Harm::SilentLoss(key) => {
                if let Some((node, key)) = self.atlas(key) {
                    self.lose(node, key);
                }
            }
            Harm::Misdirected(key) => {
                if let Some((node, key)) = self.atlas(key) {
                    self.misdirect(node, key);
                }
            }
            Harm::Wipe(node, lasts) => {
                if self.directories_may_go() {
                    self.replace_directory(node, Some(lasts), Image::default());
                }
            }
            Harm::Restore(node, lasts) => self.restore(node, lasts),
            Harm::LyingDisk(node) => {
                self.distrust(node);
                self.weaken(node, Session::weakened);
                self.touched.insert(node);
                self.processes[node].disk.lie_about_next_put();
            }
            Harm::DamagedJournal(node, lasts) => {
                if self.directories_may_go() {
                    self.distrust(node);
                    self.displaced.insert(node);
                    self.touched.insert(node);
                    self.processes[node].disk.damage_journal();
                    self.crash(node, Some(lasts));
                }
            }
            Harm::Clone(node, other, lasts) => {
                if self.directories_may_go() {
                    let image = self.processes[other].disk.snapshot();
                    self.touched.insert(other);
                    self.replace_directory(node, Some(lasts), image);
                }
            }
        }
    }

    /// A directory is saved, or put back to what was saved: when so many others have taken note of
    /// what came after it that a process which has been heard by enough has been heard by one.
    fn restore(&mut self, node: usize, lasts: u64) {
        let Some(image) = self.backups.remove(&node) else {
            let image = self.processes[node].disk.snapshot();
            self.backups.insert(node, image);
            return;
        };
        let may = 1 < self.options.workload.w_min || self.holds_nothing_alone(node);
        if may && self.is_recognised(node, &image) && self.directories_may_go() {
            self.weaken(node, Session::put_back);
            self.replace_directory(node, Some(lasts), image);
            if self.options.classes.late_word {
                self.say_it_late(node, lasts);
            }
        } else {
            self.backups.insert(node, image);
        }
    }

    /// Whether the others will know that this is an old state of the node's directory.
    pub fn is_recognised(&self, node: usize, image: &Image) -> bool {
        let Some(old) = image.meta(META_IDENTITY_KEY) else {
            return false;
        };
        let members = self.rings.newest().concerned();
        let is_member = |node: usize| members.contains(&self.processes[node].id);
        let others = (0..self.processes.len()).filter(|other| *other != node && is_member(*other));
        let knows = |other: &usize| {
            let disk = &self.processes[*other].disk;
            let register = disk.synced(Table::Meta, META_REGISTER_KEY);
            register.is_some_and(|register| knows_better(&register, old))
        };
        // So many others a process has been heard by before it counts for anything.
        let heard_by = if is_member(node) {
            members.len() / 2
        } else {
            members.len() / 2 + 1
        };
        let count = others.clone().count();
        count - heard_by < others.filter(knows).count()
    }

    /// Whether all that a node's disk holds is on another's as well.
    fn holds_nothing_alone(&self, node: usize) -> bool {
        let others = |key| {
            let others = (0..self.processes.len()).filter(|other| *other != node);
            others.filter_map(move |other| self.record(other, key))
        };
        (0_u32..).zip(&self.layout.owners).all(|(key, _)| {
            self.hints_of(node, key).next().is_none()
                && self.record(node, key).is_none_or(|own| {
                    let clock = own.container.clock();
                    others(key).any(|other| other.container.clock().dominates(clock))
                })
        })
    }

    /// Whether a directory may go: it is agreed on which is whose, before that nobody can tell, and
    /// there are others that have what it has.
    fn directories_may_go(&self) -> bool {
        let newest = self.rings.newest();
        let named = |voter: &Voter| voter.uuid != NodeUuid::ANY;
        self.copies_are_spread() && newest.voters.iter().all(named)
    }

    /// Whether every key has more than one owner that holds it: a ring of one has all copies.
    fn copies_are_spread(&self) -> bool {
        let newest = self.rings.newest();
        let old = newest.old.as_ref();
        let old = old.filter(|_| newest.phase != Phase::Stable);
        let mut rings = old.into_iter().chain([&newest.ring]);
        rings.all(|ring| 1 < ring.members().len())
    }

    /// Tells the oracle of reads about all keys of a node.
    fn weaken(&mut self, node: usize, how: fn(&mut Session, u32, u64)) {
        let moves = self.options.ring_interval.is_some();
        for key in 0..self.layout.owners.len() {
            if moves || self.layout.owners[key].contains(&node) {
                let key = u32::try_from(key).expect("a run has few keys");
                how(&mut self.session, key, self.now);
            }
        }
    }

    /// The one replica of a key that the fault atlas allows to damage, if there are others.
    fn atlas(&self, key: usize) -> Option<(usize, u32)> {
        let owners = &self.layout.owners[key];
        let number = u32::try_from(key).expect("a run has few keys");
        let spread = self.copies_are_spread();
        spread.then_some((owners[key % owners.len()], number))
    }

    /// Kills a node and gives it another directory; it is started again after `lasts`, if that is
    /// given.
    pub fn replace_directory(&mut self, node: usize, lasts: Option<u64>, image: Image) {
        self.distrust(node);
        self.displaced.insert(node);
        self.processes[node].directories += 1;
        let is_forgotten = DIRECTORIES_MAX < self.processes[node].directories;
        if is_forgotten || image.meta(META_IDENTITY_KEY).is_some() {
            self.touched.insert(node);
        }
        self.crash(node, lasts);
        self.processes[node].disk.restore(image);
    }

    /// From now on what a node's disk holds counts for nothing.
    fn distrust(&mut self, node: usize) {
        self.words.lost(node, self.now);
        // Also of keys that it does not own any more, or not yet.
        for key in 0..self.layout.owners.len() {
            let key = u32::try_from(key).expect("a run has few keys");
            self.rotted.insert((node, key));
            self.causality.forget(node, key);
        }
    }

    /// Ends a fault.
    pub fn relieve(&mut self, relief: Relief) {
        match relief {
            Relief::Start(node) => {
                if self.processes[node].machine.is_none() {
                    self.start(node);
                }
            }
            Relief::Resume(node, life) => {
                if self.processes[node].life == life && self.processes[node].paused {
                    self.resume(node);
                }
            }
            Relief::Mend(links) => {
                for (from, to) in links {
                    self.network.set_cut(from, to, false);
                }
            }
            Relief::Disk(node) => self.processes[node].disk.set_slow(false),
            Relief::Space(node) => self.processes[node].disk.set_full(false),
        }
    }

    /// Damages a node's record of a key; false if there is none.
    pub fn damage(&mut self, node: usize, key: u32) -> bool {
        let stored = &self.layout.store_keys[place(key)];
        let damaged = self.processes[node].disk.rot(stored);
        if damaged {
            self.rotted.insert((node, key));
            self.causality.forget(node, key);
        }
        damaged
    }

    /// Puts another key's record where a node holds a key's; false if it holds none.
    pub fn misdirect(&mut self, node: usize, key: u32) -> bool {
        let stored = &self.layout.store_keys[place(key)];
        let damaged = self.processes[node].disk.misdirect(stored);
        if damaged {
            self.rotted.insert((node, key));
            self.causality.forget(node, key);
        }
        damaged
    }

    /// What a node's disk holds of a key.
    #[must_use]
    pub fn stored(&self, node: usize, key: u32) -> Option<Bytes> {
        self.bytes(node, key)
    }

    /// Puts an old record of a key back onto a node's disk, without a trace.
    pub fn go_back(&mut self, node: usize, key: u32, old: Bytes) {
        let stored = &self.layout.store_keys[place(key)];
        self.processes[node].disk.overwrite(stored, old);
        self.rotted.insert((node, key));
        self.causality.forget(node, key);
        self.session.weakened(key, self.now);
    }

    /// Lets a node's disk forget a key without a trace; false if there is nothing to forget.
    pub fn lose(&mut self, node: usize, key: u32) -> bool {
        let stored = &self.layout.store_keys[place(key)];
        let lost = self.processes[node].disk.lose(stored);
        if lost {
            self.rotted.insert((node, key));
            self.causality.forget(node, key);
            self.session.weakened(key, self.now);
        }
        lost
    }

    /// Cuts every link from and to a node.
    pub fn isolate(&mut self, node: usize) {
        for other in 0..self.processes.len() {
            self.network.set_cut(node, other, true);
            self.network.set_cut(other, node, true);
        }
    }
}
