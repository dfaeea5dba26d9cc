//! A node's disk: the product's store worker over its in-memory engine, with time added.
//!
//! Whatever waits when a commit begins shares it, as in the product's store thread; the group is
//! executed when its time is over. A crash before that moment finds the group lost, or written
//! and not synced, as the seed says: the engine then keeps it or takes it back.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
};

use bytes::Bytes;
use quorate_node::store::{
    Bounds, Command, Completion, Durability, Engine, MemoryEngine, Opened, Persist, Table, Ticket,
    Worker, Write,
    aside::ASIDE_PREFIX,
    memory::{Image, Rot},
};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::{options::DiskOptions, rng::Rng};

/// How much longer everything takes on a slow disk.
const SLOWDOWN: u64 = 40;

/// One disk.
#[derive(Debug)]
pub struct Disk {
    worker: Worker<MemoryEngine>,
    options: DiskOptions,
    waiting: VecDeque<Command>,
    group: Vec<Command>,
    slow: bool,
    full: bool,
    slow_commits: u64,
    /// When the node hears of the last commit that is over.
    told: u64,
    deleted: BTreeSet<Bytes>,
    /// Hints that were deleted since this was asked last, with what they held.
    hints_gone: Vec<(Bytes, Bytes)>,
    /// The same of records, but for those of which a crash left it open.
    objects_gone: Vec<(Bytes, Bytes)>,
    rng: Rng,
    chance: Pcg64Mcg,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(options: DiskOptions, mut rng: Rng) -> Self {
        let chance = Pcg64Mcg::seed_from_u64(rng.word());
        Self {
            worker: Worker::new(MemoryEngine::new(), Durability::Sync),
            options,
            waiting: VecDeque::new(),
            group: Vec::new(),
            slow: false,
            full: false,
            slow_commits: 0,
            told: 0,
            deleted: BTreeSet::new(),
            hints_gone: Vec::new(),
            objects_gone: Vec::new(),
            rng,
            chance,
        }
    }

    /// Executes a read at once, as the shell does.
    pub fn read(&self, ticket: Ticket, table: Table, key: &Bytes) -> Completion {
        self.worker.read(ticket, table, key)
    }

    /// Executes a scan at once, as the shell does: of what has been asked for and is not committed
    /// it sees nothing.
    pub fn scan(&mut self, command: Command) -> Vec<Completion> {
        self.worker.execute(vec![command])
    }

    /// How long a page is under way that is not answered at once.
    pub fn time_of_page(&mut self) -> u64 {
        let time = self.options.sync_min + self.rng.exponential(self.options.sync_mean);
        if self.slow { time * SLOWDOWN } else { time }
    }

    /// When a node hears of a commit that is over now: never before it hears of an earlier one.
    pub fn told_at(&mut self, now: u64) -> u64 {
        if self.options.told_mean != 0 {
            let after = self.rng.exponential(self.options.told_mean);
            self.told = self.told.max(now + after);
        }
        self.told.max(now)
    }

    /// When the node hears of all that is done, if it has not heard of some.
    #[must_use]
    pub fn is_ahead(&self, now: u64) -> Option<u64> {
        (now < self.told).then_some(self.told)
    }

    /// Queues a command; says when the commit that this begins is over, if it begins one.
    pub fn submit(&mut self, now: u64, command: Command) -> Option<u64> {
        self.waiting.push_back(command);
        self.begin(now)
    }

    fn begin(&mut self, now: u64) -> Option<u64> {
        if !self.group.is_empty() || self.waiting.is_empty() {
            return None;
        }
        let count = self.waiting.len().min(self.options.group_max);
        self.group.extend(self.waiting.drain(..count));
        let mut time = self.options.sync_min + self.rng.exponential(self.options.sync_mean);
        if self.rng.chance(self.options.tail) {
            time += self.rng.below(self.options.tail_max);
            self.slow_commits += 1;
        }
        if self.slow {
            time *= SLOWDOWN;
            self.slow_commits += 1;
        }
        Some(now + time)
    }

    /// The commit is over: what came of it, and when the next one is.
    pub fn finish(&mut self, now: u64) -> (Vec<Completion>, Option<u64>) {
        let group = mem::take(&mut self.group);
        self.deleted.extend(group.iter().flat_map(deleted).cloned());
        self.note_hints(&group);
        let gone = self.gone(&group, Table::Objects);
        self.objects_gone.extend(gone);
        let completions = self.worker.execute(group);
        (completions, self.begin(now))
    }

    /// The machine loses power: synced commits stay, of the others what the seed says.
    pub fn crash(&mut self) {
        let group = mem::take(&mut self.group);
        self.waiting.clear();
        let reached = self.worker.poisoned().is_none() && self.rng.chance(500_000);
        if reached {
            self.deleted.extend(group.iter().flat_map(deleted).cloned());
            self.note_hints(&group);
            let writes: Vec<Write> = group.into_iter().flat_map(writes).collect();
            // Refused or failed: then it did not reach the disk, which is as good.
            let _ = self.worker.engine_mut().commit(&writes, Persist::Later);
        }
        self.worker.engine_mut().crash(&mut self.chance);
    }

    /// The objects that were deleted since this was asked last.
    pub fn take_deleted(&mut self) -> BTreeSet<Bytes> {
        mem::take(&mut self.deleted)
    }

    /// Remembers what the hints hold that a group is about to delete.
    fn note_hints(&mut self, group: &[Command]) {
        let gone = self.gone(group, Table::Hints);
        self.hints_gone.extend(gone);
    }

    /// What a group is about to delete from a table, and does not set aside.
    fn gone(&self, group: &[Command], table: Table) -> Vec<(Bytes, Bytes)> {
        let kept = group.iter().filter(|command| !sets_aside(command));
        let keys = kept.flat_map(|command| deleted_in(command, table));
        let held = keys.filter_map(|key| Some((key.clone(), self.synced(table, key)?)));
        held.collect()
    }

    /// The records that were deleted since this was asked last, with what they held.
    pub fn take_objects_gone(&mut self) -> Vec<(Bytes, Bytes)> {
        mem::take(&mut self.objects_gone)
    }

    /// The hints that were deleted since this was asked last, with what they held.
    pub fn take_hints_gone(&mut self) -> Vec<(Bytes, Bytes)> {
        mem::take(&mut self.hints_gone)
    }

    /// The keys of all hints.
    #[must_use]
    pub fn hints(&self) -> Vec<Bytes> {
        let engine = self.worker.engine();
        let page = engine.scan(Table::Hints, &Bounds::everything());
        let items = page.map(|page| page.items).unwrap_or_default();
        items.into_iter().map(|(key, _)| key).collect()
    }

    /// Opens the store anew, as a starting process does.
    pub fn reopen(&mut self) -> Opened {
        let old = mem::replace(
            &mut self.worker,
            Worker::new(MemoryEngine::new(), Durability::Sync),
        );
        let mut engine = old.into_engine();
        let opened = engine.reopen();
        self.worker = Worker::new(engine, Durability::Sync);
        opened
    }

    /// Commits at once: for what a starting process writes before it serves.
    pub fn commit_now(&mut self, command: Command) -> Vec<Completion> {
        self.worker.execute([command])
    }

    /// What lies synced under a key.
    #[must_use]
    pub fn synced(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        // With `durability = sync` every commit is synced before it is visible.
        self.worker.engine().get(table, key).ok().flatten()
    }

    /// All objects that lie synced, if they can all be read.
    #[must_use]
    pub fn objects(&self) -> Option<Vec<(Bytes, Bytes)>> {
        let page = self
            .worker
            .engine()
            .scan(Table::Objects, &Bounds::everything());
        page.ok().filter(|page| !page.more).map(|page| page.items)
    }

    /// Whether a sync has failed, after which nothing may be acknowledged.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.worker.poisoned().is_some()
    }

    /// The disk becomes slow, or well again.
    pub fn set_slow(&mut self, slow: bool) {
        self.slow = slow;
    }

    /// The next sync fails.
    pub fn fail_next_sync(&mut self) {
        self.worker.engine_mut().fail_next_sync();
    }

    /// Space runs out, or there is some again.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
        self.worker.engine_mut().set_full(full);
    }

    /// Commits that took longer than usual.
    #[must_use]
    pub const fn slow_commits(&self) -> u64 {
        self.slow_commits
    }

    /// Whether there is no space left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The next put of an object is acknowledged and does not happen, or happens elsewhere.
    pub fn lie_about_next_put(&mut self) {
        let lost = self.rng.chance(500_000);
        let engine = self.worker.engine_mut();
        if lost {
            engine.lose_next_put();
        } else {
            engine.misdirect_next_put();
        }
    }

    /// What a backup of the directory would hold now.
    #[must_use]
    pub fn snapshot(&self) -> Image {
        self.worker.engine().snapshot()
    }

    /// The directory becomes what a backup holds; to be reopened.
    pub fn restore(&mut self, image: Image) {
        self.worker.engine_mut().restore(image);
    }

    /// A power cut after which even synced commits at the end of the journal are gone.
    pub fn damage_journal(&mut self) {
        self.group.clear();
        self.waiting.clear();
        let engine = self.worker.engine_mut();
        engine.crash_with_damage(&mut self.chance);
    }

    /// Damages one stored object; false if it is not there.
    pub fn rot(&mut self, key: &Bytes) -> bool {
        let rot = *self.rng.pick(&[Rot::Flip, Rot::Truncate, Rot::Unreadable]);
        let engine = self.worker.engine_mut();
        engine.rot_key(&mut self.chance, Table::Objects, key, rot)
    }

    /// Puts the value of another object where this one was; false if it is not there.
    pub fn misdirect(&mut self, key: &Bytes) -> bool {
        let engine = self.worker.engine_mut();
        engine.rot_key(&mut self.chance, Table::Objects, key, Rot::Misdirect)
    }

    /// Replaces one stored object, and nobody is told.
    pub fn overwrite(&mut self, key: &Bytes, value: Bytes) {
        let write = Write::Put {
            table: Table::Objects,
            key: key.clone(),
            value,
        };
        // A disk that is full or has failed keeps what it has.
        let _ = self.worker.engine_mut().commit(&[write], Persist::Now);
    }

    /// Forgets one stored object; false if it is not there.
    pub fn lose(&mut self, key: &Bytes) -> bool {
        let engine = self.worker.engine_mut();
        engine.rot_key(&mut self.chance, Table::Objects, key, Rot::Remove)
    }
}

fn deleted(command: &Command) -> impl Iterator<Item = &Bytes> {
    deleted_in(command, Table::Objects)
}

fn deleted_in(command: &Command, wanted: Table) -> impl Iterator<Item = &Bytes> {
    let writes = match command {
        Command::Write { writes, .. } => &writes[..],
        Command::Read { .. } | Command::Scan { .. } => &[],
    };
    writes.iter().filter_map(move |write| match write {
        Write::Delete { table, key } if *table == wanted => Some(key),
        Write::Delete { .. } | Write::Put { .. } => None,
    })
}

/// What it deletes lies elsewhere then.
fn sets_aside(command: &Command) -> bool {
    let Command::Write { writes, .. } = command else {
        return false;
    };
    let aside = |write: &Write| {
        matches!(write, Write::Put { .. })
            && write.table() == Table::Meta
            && write.key().starts_with(ASIDE_PREFIX)
    };
    writes.iter().any(aside)
}

fn writes(command: Command) -> Vec<Write> {
    match command {
        Command::Write { writes, .. } => writes,
        Command::Read { .. } | Command::Scan { .. } => Vec::new(),
    }
}
