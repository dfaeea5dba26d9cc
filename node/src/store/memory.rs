//! The engine of the simulator: a map that crashes like a disk.
//!
//! Besides the present state it keeps how to undo the commits that were not synced, so that a
//! crash can keep a random prefix of them; a batch is atomic, so one that was being written is
//! there or not. Faults are armed by the simulated world and happen where a real disk would
//! show them. All chance comes from the caller's generator.
//!
//! The mark that real nodes keep outside of their engine is kept here too: a crash that also takes
//! synced commits (a damaged journal) is noticed on reopening, as it would be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use rand::Rng;

use crate::store::{
    command::{Table, Unreadable, Write},
    engine::{AMNESIA_KEY, Amnesia, Bounds, CommitError, Engine, Opened, Page, Persist, Refused},
};

/// Synced commits that a damaged journal may take back.
const HISTORY_MAX: usize = 64;

type Map = BTreeMap<Bytes, Bytes>;

/// An engine without files.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    image: Image,
    /// What undoes the latest commits, oldest first; the first `synced` of them are durable.
    undo: Vec<Vec<Undo>>,
    synced: usize,
    /// A commit whose sync failed: not visible, but perhaps on disk.
    limbo: Option<Vec<Write>>,
    dead: Option<String>,
    armed: Armed,
}

/// What a data directory holds; a copy of it is a copy of the directory.
#[derive(Clone, Debug, Default)]
pub struct Image {
    objects: Map,
    meta: Map,
    hints: Map,
    unreadable: BTreeSet<(Table, Bytes)>,
    sequence: u64,
    mark: u64,
    bytes: u64,
}

impl Image {
    /// What a saved directory says of itself.
    pub fn meta(&self, key: &[u8]) -> Option<&Bytes> {
        self.meta.get(key)
    }
}

#[derive(Clone, Debug)]
struct Undo {
    table: Table,
    key: Bytes,
    before: Option<Bytes>,
}

/// Faults that wait for their moment.
#[derive(Clone, Debug, Default)]
struct Armed {
    sync_fails: bool,
    full: bool,
    refuse_open: bool,
    put: Option<Astray>,
}

/// What a faulty disk does with a put that it acknowledges.
#[derive(Clone, Copy, Debug)]
enum Astray {
    Lost,
    Misdirected,
}

/// Damage to a stored value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rot {
    /// Bits of the value flip; the engine does not notice.
    Flip,
    /// The value ends early; the engine does not notice.
    Truncate,
    /// The key is gone; the engine does not notice.
    Remove,
    /// The value of another key is found instead; the engine does not notice.
    Misdirect,
    /// The engine notices: the key is unreadable until it is written again.
    Unreadable,
}

impl MemoryEngine {
    /// An empty engine.
    pub fn new() -> Self {
        Self::default()
    }

    /// A power cut: keeps all that was synced and a random prefix of the rest.
    ///
    /// The engine must be [reopened](Self::reopen) before it is used again.
    pub fn crash(&mut self, rng: &mut impl Rng) {
        let unsynced = self.undo.len() - self.synced;
        let kept = below(rng, unsynced + 1);
        self.undo_after(self.synced + kept);
        if let Some(writes) = self.limbo.take()
            && self.synced + unsynced == self.undo.len()
            && below(rng, 2) == 0
        {
            self.apply(&writes);
        }
        self.forget();
    }

    /// `kill -9`: the process is gone, the operating system is not, and nothing is lost.
    pub fn kill(&mut self) {
        if let Some(writes) = self.limbo.take() {
            self.apply(&writes);
        }
        self.forget();
    }

    /// A power cut after which the journal is damaged before its end: at least one and at most 64
    /// of the last synced commits are gone as well. Says whether there were any to lose.
    pub fn crash_with_damage(&mut self, rng: &mut impl Rng) -> bool {
        let any = self.synced != 0;
        let kept = below(rng, self.synced.max(1));
        self.limbo = None;
        self.undo_after(kept);
        self.forget();
        any
    }

    /// Opens the engine again after a crash.
    pub fn reopen(&mut self) -> Opened {
        let mut opened = Opened::default();
        if std::mem::take(&mut self.armed.refuse_open) {
            let mark = self.image.mark;
            self.image = Image {
                mark,
                ..Image::default()
            };
            opened.refused = Some(Refused {
                moved_to: "engine.refused-1".into(),
                reason: "simulated damage".into(),
            });
        }
        if self.image.sequence < self.image.mark {
            let (sequence, mark) = (self.image.sequence, self.image.mark);
            let reason = format!("the engine is at commit {sequence}, its mark at {mark}");
            self.image.put(
                Table::Meta,
                Bytes::from_static(AMNESIA_KEY),
                Bytes::from(reason),
            );
            self.image.sequence = mark;
        }
        self.image.mark = self.image.sequence;
        self.forget();
        opened.sequence = self.image.sequence;
        opened.amnesia = self.image.meta.get(AMNESIA_KEY).map(|reason| Amnesia {
            reason: String::from_utf8_lossy(reason).into_owned(),
        });
        opened
    }

    /// The directory as it is now: what a backup or the clone of a machine would hold.
    pub fn snapshot(&self) -> Image {
        self.image.clone()
    }

    /// Copies an old directory back, mark and all. The engine must be reopened.
    pub fn restore(&mut self, image: Image) {
        *self = Self {
            image,
            ..Self::default()
        };
    }

    /// The next sync fails. What it should have synced may or may not survive the crash that has
    /// to follow.
    pub fn fail_next_sync(&mut self) {
        self.armed.sync_fails = true;
    }

    /// From now on every commit is refused for want of space, or no longer.
    pub fn set_full(&mut self, full: bool) {
        self.armed.full = full;
    }

    /// The disk acknowledges the next put of an object and keeps the old version.
    pub fn lose_next_put(&mut self) {
        self.armed.put = Some(Astray::Lost);
    }

    /// The disk writes the next value of an object over that of a neighbouring key.
    pub fn misdirect_next_put(&mut self) {
        self.armed.put = Some(Astray::Misdirected);
    }

    /// The next [`reopen`](Self::reopen) is refused: the node starts empty.
    pub fn refuse_next_open(&mut self) {
        self.armed.refuse_open = true;
    }

    /// Damages the stored value of a random object and says which, if there is any.
    pub fn rot(&mut self, rng: &mut impl Rng, rot: Rot) -> Option<Bytes> {
        let count = self.image.objects.len();
        let nth = below(rng, count.max(1));
        let key = self.image.objects.keys().nth(nth)?.clone();
        self.rot_key(rng, Table::Objects, &key, rot).then_some(key)
    }

    /// Damages the stored value of one key; false if there was nothing to damage.
    pub fn rot_key(&mut self, rng: &mut impl Rng, table: Table, key: &Bytes, rot: Rot) -> bool {
        let Some(value) = self.image.table(table).get(key).cloned() else {
            return false;
        };
        match rot {
            Rot::Flip | Rot::Truncate if value.is_empty() => return false,
            Rot::Flip => {
                let mut bytes = value.to_vec();
                let at = below(rng, value.len());
                bytes[at] ^= 1 << below(rng, 8);
                self.image.put(table, key.clone(), Bytes::from(bytes));
            }
            Rot::Truncate => {
                let len = below(rng, value.len());
                self.image
                    .put(table, key.clone(), Bytes::copy_from_slice(&value[..len]));
            }
            Rot::Remove => {
                self.image.delete(table, key);
            }
            Rot::Misdirect => {
                let Some(other) = self.image.neighbour(table, key) else {
                    return false;
                };
                let value = self.image.table(table)[&other].clone();
                self.image.put(table, key.clone(), value);
            }
            Rot::Unreadable => {
                self.image.unreadable.insert((table, key.clone()));
            }
        }
        true
    }

    /// Number of commits that a power cut could take now.
    pub fn unsynced(&self) -> usize {
        self.undo.len() - self.synced
    }

    fn undo_after(&mut self, kept: usize) {
        while kept < self.undo.len() {
            let commit = self.undo.pop().expect("longer than kept");
            for undo in commit.into_iter().rev() {
                match undo.before {
                    Some(value) => self.image.put(undo.table, undo.key, value),
                    None => self.image.delete(undo.table, &undo.key),
                };
            }
            self.image.sequence -= 1;
        }
    }

    /// Forgets all that only a running process knows.
    fn forget(&mut self) {
        self.undo.clear();
        self.synced = 0;
        self.limbo = None;
        self.dead = None;
        let refuse_open = self.armed.refuse_open;
        self.armed = Armed {
            refuse_open,
            full: self.armed.full,
            ..Armed::default()
        };
    }

    fn apply(&mut self, writes: &[Write]) {
        let mut commit = Vec::with_capacity(writes.len());
        for write in writes {
            let Some((table, key, value)) = self.aim(write) else {
                continue;
            };
            let before = match value {
                Some(value) => self.image.put(table, key.clone(), value),
                None => self.image.delete(table, &key),
            };
            commit.push(Undo { table, key, before });
        }
        self.undo.push(commit);
        self.image.sequence += 1;
    }

    /// Where a write really goes: a faulty disk may lose or misdirect it.
    fn aim(&mut self, write: &Write) -> Option<(Table, Bytes, Option<Bytes>)> {
        match write {
            Write::Put { table, key, value } => {
                let fault = match table {
                    Table::Objects => self.armed.put.take(),
                    Table::Meta | Table::Hints => None,
                };
                let other = match fault {
                    Some(Astray::Lost) => return None,
                    Some(Astray::Misdirected) => self.image.neighbour(*table, key),
                    None => None,
                };
                let key = other.unwrap_or_else(|| copy(key));
                Some((*table, key, Some(copy(value))))
            }
            Write::Delete { table, key } => Some((*table, key.clone(), None)),
        }
    }

    fn sync(&mut self) {
        let excess = self.undo.len().saturating_sub(HISTORY_MAX);
        if HISTORY_MAX <= excess {
            self.undo.drain(..excess);
        }
        self.synced = self.undo.len();
        self.image.mark = self.image.sequence;
    }

    fn check(&self) -> Result<(), CommitError> {
        self.dead
            .clone()
            .map_or(Ok(()), |reason| Err(CommitError::Failed(reason)))
    }

    fn die(&mut self) -> CommitError {
        let reason = String::from("sync failed: simulated I/O error");
        self.dead = Some(reason.clone());
        CommitError::Failed(reason)
    }
}

impl Engine for MemoryEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Unreadable> {
        let value = self.image.table(table).get(key);
        if let Some(value) = value
            && self.image.is_unreadable(table, key)
        {
            return Err(Unreadable {
                reason: format!("simulated damage of {} B", value.len()),
            });
        }
        Ok(value.cloned())
    }

    fn scan(&self, table: Table, bounds: &Bounds) -> Result<Page, Unreadable> {
        let mut page = Page::default();
        if bounds.is_empty() {
            return Ok(page);
        }
        let end = if bounds.end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(bounds.end.clone())
        };
        let mut bytes = 0;
        for (key, value) in self
            .image
            .table(table)
            .range((Bound::Included(bounds.start.clone()), end))
        {
            if bounds.items_max <= page.items.len() || bounds.bytes_max <= bytes {
                page.more = true;
                break;
            }
            if self.image.is_unreadable(table, key) {
                if page.items.is_empty() {
                    return Err(Unreadable {
                        reason: "simulated damage".into(),
                    });
                }
                page.more = true;
                break;
            }
            bytes += key.len() + value.len();
            page.items.push((key.clone(), value.clone()));
        }
        Ok(page)
    }

    fn commit(&mut self, writes: &[Write], persist: Persist) -> Result<(), CommitError> {
        self.check()?;
        if self.armed.full {
            return Err(CommitError::Full);
        }
        if persist == Persist::Now && std::mem::take(&mut self.armed.sync_fails) {
            self.limbo = Some(writes.to_vec());
            return Err(self.die());
        }
        self.apply(writes);
        if persist == Persist::Now {
            self.sync();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CommitError> {
        self.check()?;
        if self.synced < self.undo.len() && std::mem::take(&mut self.armed.sync_fails) {
            return Err(self.die());
        }
        self.sync();
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        self.image.bytes
    }
}

impl Image {
    fn table(&self, table: Table) -> &Map {
        match table {
            Table::Objects => &self.objects,
            Table::Meta => &self.meta,
            Table::Hints => &self.hints,
        }
    }

    fn table_mut(&mut self, table: Table) -> &mut Map {
        match table {
            Table::Objects => &mut self.objects,
            Table::Meta => &mut self.meta,
            Table::Hints => &mut self.hints,
        }
    }

    fn put(&mut self, table: Table, key: Bytes, value: Bytes) -> Option<Bytes> {
        if !self.unreadable.is_empty() {
            self.unreadable.remove(&(table, key.clone()));
        }
        self.bytes += (key.len() + value.len()) as u64;
        let len = key.len();
        let before = self.table_mut(table).insert(key, value);
        self.bytes -= before
            .as_ref()
            .map_or(0, |before| (len + before.len()) as u64);
        before
    }

    fn delete(&mut self, table: Table, key: &Bytes) -> Option<Bytes> {
        if !self.unreadable.is_empty() {
            self.unreadable.remove(&(table, key.clone()));
        }
        let before = self.table_mut(table).remove(key);
        self.bytes -= before
            .as_ref()
            .map_or(0, |before| (key.len() + before.len()) as u64);
        before
    }

    fn is_unreadable(&self, table: Table, key: &[u8]) -> bool {
        !self.unreadable.is_empty()
            && self
                .unreadable
                .contains(&(table, Bytes::copy_from_slice(key)))
    }

    /// The next key after `key`, or else the first one; never `key` itself.
    fn neighbour(&self, table: Table, key: &Bytes) -> Option<Bytes> {
        let map = self.table(table);
        let after = map
            .range((Bound::Excluded(key.clone()), Bound::Unbounded))
            .next();
        let (other, _) = after.or_else(|| map.first_key_value())?;
        (other != key).then(|| other.clone())
    }
}

/// What is kept for long must not keep the frame alive in which it came.
fn copy(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Uniform below `bound`, which must not be zero, in a way that never changes.
fn below(rng: &mut impl Rng, bound: usize) -> usize {
    let wide = u128::from(rng.next_u64()) * bound as u128;
    usize::try_from(wide >> 64).expect("the product is below bound << 64")
}

#[cfg(test)]
mod tests {
    use rand_pcg::Pcg64Mcg;

    use super::*;

    fn put(key: &'static str, value: &'static str) -> Write {
        Write::Put {
            table: Table::Objects,
            key: key.into(),
            value: value.into(),
        }
    }

    fn get(engine: &MemoryEngine, key: &str) -> Option<Bytes> {
        engine.get(Table::Objects, key.as_bytes()).unwrap()
    }

    fn synced(writes: &[Write]) -> MemoryEngine {
        let mut engine = MemoryEngine::new();
        for write in writes {
            engine
                .commit(std::slice::from_ref(write), Persist::Now)
                .unwrap();
        }
        engine
    }

    #[test]
    fn a_damaged_journal_is_noticed_until_the_node_has_dealt_with_it() {
        let mut engine = synced(&[put("a", "1"), put("a", "2"), put("b", "1")]);
        assert!(engine.crash_with_damage(&mut Pcg64Mcg::new(1)));
        assert!(engine.reopen().amnesia.is_some());
        assert_eq!(get(&engine, "b"), None);
        engine.kill();
        assert!(engine.reopen().amnesia.is_some());
        let key = Bytes::from_static(AMNESIA_KEY);
        engine
            .commit(
                &[Write::Delete {
                    table: Table::Meta,
                    key,
                }],
                Persist::Now,
            )
            .unwrap();
        engine.crash(&mut Pcg64Mcg::new(1));
        assert_eq!(engine.reopen().amnesia, None);
    }

    #[test]
    fn a_refused_engine_starts_empty_and_says_so() {
        let mut engine = synced(&[put("a", "1")]);
        engine.refuse_next_open();
        engine.kill();
        let opened = engine.reopen();
        assert!(opened.refused.is_some() && opened.amnesia.is_some());
        assert_eq!(get(&engine, "a"), None);
    }

    #[test]
    fn what_a_failed_sync_leaves_is_up_to_chance() {
        let mut found = BTreeSet::new();
        for seed in 0..32 {
            let mut engine = synced(&[put("a", "1")]);
            engine.fail_next_sync();
            assert!(engine.commit(&[put("a", "2")], Persist::Now).is_err());
            assert!(engine.commit(&[put("a", "3")], Persist::Now).is_err());
            assert_eq!(get(&engine, "a"), Some("1".into()));
            engine.crash(&mut Pcg64Mcg::new(seed));
            assert_eq!(engine.reopen().amnesia, None);
            found.extend(get(&engine, "a"));
        }
        assert_eq!(found, BTreeSet::from(["1".into(), "2".into()]));
    }

    #[test]
    fn an_old_copy_of_the_directory_does_not_know_that_it_is_old() {
        let mut engine = synced(&[put("a", "1")]);
        let backup = engine.snapshot();
        engine.commit(&[put("a", "2")], Persist::Now).unwrap();
        engine.restore(backup);
        assert_eq!(engine.reopen().amnesia, None);
        assert_eq!(get(&engine, "a"), Some("1".into()));
    }

    #[test]
    fn a_faulty_disk_loses_and_misdirects_puts() {
        let mut engine = synced(&[put("a", "1"), put("b", "1")]);
        engine.lose_next_put();
        engine.commit(&[put("a", "2")], Persist::Now).unwrap();
        assert_eq!(get(&engine, "a"), Some("1".into()));
        engine.misdirect_next_put();
        engine.commit(&[put("a", "3")], Persist::Now).unwrap();
        assert_eq!(get(&engine, "a"), Some("1".into()));
        assert_eq!(get(&engine, "b"), Some("3".into()));
    }

    #[test]
    fn rot_changes_what_is_read() {
        let kinds = [
            Rot::Flip,
            Rot::Truncate,
            Rot::Remove,
            Rot::Misdirect,
            Rot::Unreadable,
        ];
        for rot in kinds {
            let mut engine = synced(&[put("a", "1"), put("b", "2")]);
            let mut rng = Pcg64Mcg::new(3);
            let key = engine.rot(&mut rng, rot).unwrap();
            let before: Bytes = if key == "a" { "1".into() } else { "2".into() };
            let after = engine.get(Table::Objects, &key);
            assert_ne!(after, Ok(Some(before)), "{rot:?}");
            engine
                .commit(&[put("a", "5"), put("b", "5")], Persist::Now)
                .unwrap();
            assert_eq!(
                get(&engine, std::str::from_utf8(&key).unwrap()),
                Some("5".into())
            );
        }
        assert_eq!(
            MemoryEngine::new().rot(&mut Pcg64Mcg::new(3), Rot::Flip),
            None
        );
    }
}
