//! Nodes are killed and their files damaged: what was acknowledged is then read back as it was, or
//! is unreadable, or the engine says that it lost something. It is never silently absent or old,
//! and opening never panics.
//!
//! A kill is a copy of the directory of a running engine; a value carries its key, version and
//! checksum, as real records do.
#![expect(clippy::disallowed_types, reason = "tests that damage real files")]

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use tempfile::TempDir;

use super::*;
use crate::store::journal;

type Acknowledged = BTreeMap<u32, u32>;

fn options() -> FjallOptions {
    FjallOptions {
        disk_reserve_bytes: 0,
        ..FjallOptions::default()
    }
}

fn frame(key: u32, version: u32) -> Bytes {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&key.to_le_bytes());
    bytes.extend_from_slice(&version.to_le_bytes());
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.resize(100, 0x5a);
    Bytes::from(bytes)
}

/// One acknowledged group: four keys get a new version.
fn group(engine: &mut FjallEngine, acknowledged: &mut Acknowledged, version: u32) {
    let keys: Vec<u32> = (0..4).map(|nth| (version * 7 + nth * 13) % 50).collect();
    let writes: Vec<Write> = keys
        .iter()
        .map(|key| Write::Put {
            table: Table::Objects,
            key: Bytes::copy_from_slice(&key.to_be_bytes()),
            value: frame(*key, version),
        })
        .collect();
    engine.commit(&writes, Persist::Now).unwrap();
    acknowledged.extend(keys.into_iter().map(|key| (key, version)));
}

/// An engine in the middle of its life: some of it in tables, some in the journal.
fn populated(tables: bool) -> (TempDir, FjallEngine, Acknowledged) {
    let dir = tempfile::tempdir().unwrap();
    let (mut engine, opened) = FjallEngine::open(dir.path(), options()).unwrap();
    assert_eq!(opened, Opened::default());
    let mut acknowledged = Acknowledged::new();
    for version in 1..=60 {
        group(&mut engine, &mut acknowledged, version);
        if tables && version % 20 == 0 {
            engine.reader.keyspace.rotate_memtable_and_wait().unwrap();
        }
    }
    engine.flush().unwrap();
    (dir, engine, acknowledged)
}

/// The files as `kill -9` leaves them.
fn kill(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_files(dir, copy.path());
    copy
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_files(&path, &target);
        } else {
            let bytes = fs::read(&path).unwrap();
            let used = used(&bytes);
            let mut file = File::create(&target).unwrap();
            file.write_all(&bytes[..used]).unwrap();
            // Some of what the engine allocates ahead; all of it would only take time.
            file.set_len(bytes.len().min(used + 65536) as u64).unwrap();
        }
    }
}

/// Without the zeros that were allocated ahead.
fn used(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

fn files(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else if wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

fn below(rng: &mut Pcg64Mcg, bound: usize) -> usize {
    usize::try_from(rng.next_u64() % bound as u64).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip,
    ZeroPage,
    Truncate,
    Garbage,
}

fn inflict(rng: &mut Pcg64Mcg, path: &Path, damage: Damage) -> String {
    let bytes = fs::read(path).unwrap();
    let used = used(&bytes).max(1);
    let at = below(rng, used);
    let file = OpenOptions::new().write(true).open(path).unwrap();
    match damage {
        Damage::Flip => {
            file.write_all_at(&[bytes[at] ^ (1 << below(rng, 8))], at as u64)
                .unwrap();
        }
        Damage::ZeroPage => {
            let start = at / 512 * 512;
            let end = (start + 512).min(bytes.len());
            file.write_all_at(&vec![0; end - start], start as u64)
                .unwrap();
        }
        Damage::Truncate => file.set_len(at as u64).unwrap(),
        Damage::Garbage => {
            let garbage: Vec<u8> = (0..64).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
            file.write_all_at(&garbage, at as u64).unwrap();
        }
    }
    format!("{damage:?} at {at} of {used} in {}", path.display())
}

#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Verdict {
    amnesia: bool,
    refused: bool,
    trimmed: bool,
    unreadable: usize,
    rotten: usize,
    lost: usize,
}

/// Opens the damaged directory and reads everything back.
fn judge(dir: &Path, acknowledged: &Acknowledged, what: &str) -> Verdict {
    let (engine, opened) = FjallEngine::open(dir, options()).expect(what);
    let mut verdict = Verdict {
        amnesia: opened.amnesia.is_some(),
        refused: opened.refused.is_some(),
        trimmed: opened.trimmed.is_some(),
        ..Verdict::default()
    };
    for (key, version) in acknowledged {
        match engine.get(Table::Objects, &key.to_be_bytes()) {
            Ok(Some(value)) if value == frame(*key, *version) => {}
            Ok(Some(value)) if !is_intact(*key, &value) => verdict.rotten += 1,
            Ok(Some(_) | None) => verdict.lost += 1,
            Err(_) => verdict.unreadable += 1,
        }
    }
    assert!(verdict.lost == 0 || verdict.amnesia, "{what}: {verdict:?}");
    drop(engine);
    let (_, again) = FjallEngine::open(dir, options()).expect(what);
    assert_eq!(again.amnesia, opened.amnesia, "{what}: told at every start");
    verdict
}

/// What the checksum of a record would say.
fn is_intact(key: u32, value: &[u8]) -> bool {
    let version = value
        .get(4..8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_le_bytes);
    version.is_some_and(|version| value == frame(key, version))
}

#[test]
fn a_killed_engine_opens_with_everything() {
    for tables in [false, true] {
        let (dir, engine, acknowledged) = populated(tables);
        let copy = kill(dir.path());
        drop(engine);
        assert_eq!(
            judge(copy.path(), &acknowledged, "kill"),
            Verdict::default()
        );
    }
}

#[test]
fn no_damage_to_the_journal_loses_anything_silently() {
    let (dir, engine, acknowledged) = populated(false);
    let mut rng = Pcg64Mcg::new(7);
    for round in 0..48 {
        let copy = kill(dir.path());
        let damage = [
            Damage::Flip,
            Damage::ZeroPage,
            Damage::Truncate,
            Damage::Garbage,
        ][round % 4];
        let journals = files(copy.path(), &is_journal);
        let what = inflict(&mut rng, journals.last().unwrap(), damage);
        let verdict = judge(copy.path(), &acknowledged, &what);
        let everything = acknowledged.len();
        assert!(
            !verdict.refused || verdict.lost == everything,
            "{what}: needlessly refused"
        );
        assert!(
            verdict.amnesia,
            "{what}: every group in the journal was acknowledged"
        );
    }
    drop(engine);
}

#[test]
fn no_damage_to_tables_loses_anything_silently() {
    let (dir, engine, acknowledged) = populated(true);
    let mut rng = Pcg64Mcg::new(11);
    for round in 0..48 {
        let copy = kill(dir.path());
        let damage = [
            Damage::Flip,
            Damage::ZeroPage,
            Damage::Truncate,
            Damage::Garbage,
        ][round % 4];
        let engine = copy.path().join("engine");
        let candidates = files(&engine, &|path| {
            !is_journal(path) && !path.ends_with("lock")
        });
        let victim = &candidates[below(&mut rng, candidates.len())];
        let what = inflict(&mut rng, victim, damage);
        judge(copy.path(), &acknowledged, &what);
    }
    drop(engine);
}

#[test]
fn no_missing_file_loses_anything_silently() {
    let (dir, engine, acknowledged) = populated(true);
    let engine_dir = dir.path().join("engine");
    let all = files(&engine_dir, &|path| !path.ends_with("lock"));
    for victim in all {
        let name = victim.strip_prefix(dir.path()).unwrap();
        let copy = kill(dir.path());
        fs::remove_file(copy.path().join(name)).unwrap();
        judge(
            copy.path(),
            &acknowledged,
            &format!("without {}", name.display()),
        );
    }
    let copy = kill(dir.path());
    fs::remove_dir_all(copy.path().join("engine")).unwrap();
    assert!(judge(copy.path(), &acknowledged, "without engine").amnesia);
    let copy = kill(dir.path());
    fs::remove_file(copy.path().join("mark")).unwrap();
    assert!(judge(copy.path(), &acknowledged, "without mark").amnesia);
    drop(engine);
}

#[test]
fn a_torn_group_that_was_never_acknowledged_costs_nothing() {
    let (dir, mut engine, acknowledged) = populated(false);
    let before = kill(dir.path());
    let journal = files(dir.path(), &is_journal).pop().unwrap();
    let start = used(&fs::read(&journal).unwrap());
    // A mark that does not know of the group, as if the power went before it was durable.
    group(&mut engine, &mut Acknowledged::new(), 61);
    let bytes = fs::read(&journal).unwrap();
    let end = used(&bytes);
    drop(engine);
    let mut refused_by_the_engine = 0;
    for at in (start..end).step_by(23) {
        let copy = kill(before.path());
        let torn = files(copy.path(), &is_journal).pop().unwrap();
        let mut page = bytes[start..end].to_vec();
        // Pages reach the disk in any order: a hole in front of what follows.
        let hole = (at - start)..(at - start + 24).min(page.len());
        page[hole].fill(0);
        let file = OpenOptions::new().write(true).open(&torn).unwrap();
        file.write_all_at(&page, start as u64).unwrap();
        let verdict = judge(copy.path(), &acknowledged, &format!("hole at {at}"));
        assert_eq!(
            (verdict.amnesia, verdict.refused),
            (false, false),
            "hole at {at}"
        );
        refused_by_the_engine += usize::from(verdict.trimmed);
        // A torn end without a hole: only the beginning is there.
        let copy = kill(before.path());
        let torn = files(copy.path(), &is_journal).pop().unwrap();
        let file = OpenOptions::new().write(true).open(&torn).unwrap();
        file.write_all_at(&bytes[start..at], start as u64).unwrap();
        let verdict = judge(copy.path(), &acknowledged, &format!("torn at {at}"));
        assert_eq!(verdict, Verdict::default(), "torn at {at}");
    }
    assert_ne!(refused_by_the_engine, 0);
}

#[test]
fn the_audit_understands_what_the_engine_writes() {
    let (dir, engine, _) = populated(true);
    let skip = prefixed(Table::Meta as u8, AMNESIA_KEY);
    let keys = Keys {
        sequence: &SEQUENCE_KEY,
        skip: &skip,
    };
    let audit = journal::audit(&dir.path().join("engine"), keys).unwrap();
    assert!(audit.hole.is_none() && audit.tail.is_none(), "{audit:?}");
    drop(engine);
}

#[test]
fn amnesia_ends_when_the_node_has_dealt_with_it() {
    let (dir, engine, acknowledged) = populated(false);
    drop(engine);
    let journal = files(dir.path(), &is_journal).pop().unwrap();
    let bytes = fs::read(&journal).unwrap();
    File::create(&journal)
        .unwrap()
        .write_all(&bytes[..used(&bytes) / 2])
        .unwrap();
    assert!(judge(dir.path(), &acknowledged, "half a journal").amnesia);
    let (mut engine, opened) = FjallEngine::open(dir.path(), options()).unwrap();
    assert!(opened.amnesia.is_some());
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
    drop(engine);
    let (_, opened) = FjallEngine::open(dir.path(), options()).unwrap();
    assert_eq!(opened.amnesia, None);
}

#[test]
fn readers_see_commits_from_other_threads() {
    let (_dir, mut engine, mut acknowledged) = populated(false);
    let reader = engine.reader();
    let key = 7u32 * 61 % 50;
    std::thread::scope(|scope| {
        scope
            .spawn(|| group(&mut engine, &mut acknowledged, 61))
            .join()
            .unwrap();
        let value = reader.get(Table::Objects, &key.to_be_bytes()).unwrap();
        assert_eq!(value, Some(frame(key, 61)));
    });
}

#[test]
fn a_full_disk_refuses_objects_and_takes_facts_and_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let options = FjallOptions {
        disk_reserve_bytes: u64::MAX,
        ..FjallOptions::default()
    };
    let (mut engine, _) = FjallEngine::open(dir.path(), options).unwrap();
    let key = Bytes::from_static(b"key");
    let put = |table| Write::Put {
        table,
        key: key.clone(),
        value: Bytes::new(),
    };
    let delete = Write::Delete {
        table: Table::Objects,
        key: key.clone(),
    };
    assert_eq!(
        engine.commit(&[put(Table::Objects)], Persist::Now),
        Err(CommitError::Full)
    );
    engine
        .commit(&[put(Table::Meta), delete], Persist::Now)
        .unwrap();
    assert_eq!(engine.get(Table::Objects, &key), Ok(None));
}

#[test]
fn commits_missing_between_journals_are_a_hole() {
    let (dir, engine, _) = populated(false);
    let path = files(dir.path(), &is_journal).pop().unwrap();
    let bytes = fs::read(path).unwrap();
    drop(engine);
    let ends: Vec<usize> = (4..=bytes.len())
        .filter(|end| bytes[..*end].ends_with(b"FJL\x03"))
        .collect();
    let hole = |sealed: &[u8], newest: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("9.jnl"), sealed).unwrap();
        fs::write(dir.path().join("10.jnl"), newest).unwrap();
        let keys = Keys {
            sequence: &SEQUENCE_KEY,
            skip: b"",
        };
        journal::audit(dir.path(), keys).unwrap().hole.is_some()
    };
    let (before, at, after) = (ends[20], ends[21], ends[22]);
    assert!(!hole(&bytes[..at], &bytes[at..]));
    assert!(!hole(&bytes[..0], &bytes[at..]));
    assert!(
        hole(&bytes[..before], &bytes[at..]),
        "a sealed journal is short"
    );
    assert!(
        hole(&bytes[..at], &bytes[after..]),
        "the newest journal begins late"
    );
    assert!(
        hole(&bytes[..at - 1], &bytes[before..]),
        "a sealed journal is torn"
    );
}
