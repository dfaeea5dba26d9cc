//! What every engine has to do, run against each of them, and against both at once.

use bytes::Bytes;
use proptest::prelude::*;

use crate::store::{
    command::{Command, Completion, Table, Ticket, Unreadable, Write},
    engine::{Bounds, CommitError, Engine, Page, Persist},
    memory::MemoryEngine,
    worker::{Durability, Worker},
};

/// An engine and the way to stop and start it.
trait Subject {
    fn engine(&mut self) -> &mut dyn Engine;
    /// Stops without any farewell, as `kill -9`, and starts again.
    fn reopen(&mut self);
}

#[derive(Default)]
struct Memory(MemoryEngine);

impl Subject for Memory {
    fn engine(&mut self) -> &mut dyn Engine {
        &mut self.0
    }

    fn reopen(&mut self) {
        self.0.kill();
        let opened = self.0.reopen();
        assert_eq!(opened.amnesia, None);
    }
}

#[cfg(feature = "shell")]
struct Fjall {
    dir: tempfile::TempDir,
    engine: Option<crate::store::FjallEngine>,
}

#[cfg(feature = "shell")]
impl Default for Fjall {
    fn default() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut subject = Self { dir, engine: None };
        subject.reopen();
        subject
    }
}

#[cfg(feature = "shell")]
impl Subject for Fjall {
    fn engine(&mut self) -> &mut dyn Engine {
        self.engine.as_mut().unwrap()
    }

    fn reopen(&mut self) {
        self.engine = None;
        let options = crate::store::FjallOptions {
            disk_reserve_bytes: 0,
            ..Default::default()
        };
        let (engine, opened) = crate::store::FjallEngine::open(self.dir.path(), options).unwrap();
        assert_eq!((opened.amnesia, opened.refused), (None, None));
        self.engine = Some(engine);
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(table: Table, key: &str, value: &str) -> Write {
    Write::Put {
        table,
        key: bytes(key),
        value: bytes(value),
    }
}

fn delete(table: Table, key: &str) -> Write {
    Write::Delete {
        table,
        key: bytes(key),
    }
}

fn bounds(start: &str, end: &str, items_max: usize, bytes_max: usize) -> Bounds {
    Bounds {
        start: bytes(start),
        end: bytes(end),
        items_max,
        bytes_max,
    }
}

fn keys(page: &Page) -> Vec<&str> {
    page.items
        .iter()
        .map(|(key, _)| std::str::from_utf8(key).unwrap())
        .collect()
}

fn what_was_written_is_read_also_after_a_kill(subject: &mut dyn Subject) {
    for (round, persist) in [Persist::Now, Persist::Later].into_iter().enumerate() {
        let key = format!("key{round}");
        let writes = [put(Table::Objects, &key, "a"), put(Table::Meta, &key, "b")];
        subject.engine().commit(&writes, persist).unwrap();
        for _ in 0..2 {
            let engine = subject.engine();
            assert_eq!(
                engine.get(Table::Objects, key.as_bytes()),
                Ok(Some(bytes("a")))
            );
            assert_eq!(
                engine.get(Table::Meta, key.as_bytes()),
                Ok(Some(bytes("b")))
            );
            subject.reopen();
        }
    }
}

fn tables_do_not_see_each_other(subject: &mut dyn Subject) {
    let engine = subject.engine();
    engine
        .commit(&[put(Table::Objects, "key", "a")], Persist::Now)
        .unwrap();
    assert_eq!(engine.get(Table::Meta, b"key"), Ok(None));
    assert_eq!(
        engine.scan(Table::Meta, &Bounds::everything()),
        Ok(Page::default())
    );
    engine
        .commit(&[delete(Table::Meta, "key")], Persist::Now)
        .unwrap();
    assert_eq!(engine.get(Table::Objects, b"key"), Ok(Some(bytes("a"))));
}

fn within_a_batch_the_last_write_of_a_key_wins(subject: &mut dyn Subject) {
    let writes = [
        put(Table::Objects, "a", "1"),
        delete(Table::Objects, "a"),
        put(Table::Objects, "b", "1"),
        put(Table::Objects, "b", "2"),
        put(Table::Objects, "c", "1"),
        delete(Table::Objects, "c"),
        put(Table::Objects, "c", ""),
    ];
    subject.engine().commit(&writes, Persist::Now).unwrap();
    for _ in 0..2 {
        let engine = subject.engine();
        assert_eq!(engine.get(Table::Objects, b"a"), Ok(None));
        assert_eq!(engine.get(Table::Objects, b"b"), Ok(Some(bytes("2"))));
        assert_eq!(engine.get(Table::Objects, b"c"), Ok(Some(Bytes::new())));
        subject.reopen();
    }
}

fn scans_are_ordered_and_keep_their_bounds(subject: &mut dyn Subject) {
    let engine = subject.engine();
    let writes = ["b", "a", "ab", "c", "\u{7f}", "aa"].map(|key| put(Table::Objects, key, "12"));
    engine.commit(&writes, Persist::Now).unwrap();
    let scan = |bounds| engine.scan(Table::Objects, &bounds).unwrap();
    let all = scan(Bounds::everything());
    assert_eq!(
        (keys(&all), all.more),
        (vec!["a", "aa", "ab", "b", "c", "\u{7f}"], false)
    );
    let part = scan(bounds("aa", "c", usize::MAX, usize::MAX));
    assert_eq!((keys(&part), part.more), (vec!["aa", "ab", "b"], false));
    let two = scan(bounds("aa", "", 2, usize::MAX));
    assert_eq!((keys(&two), two.more), (vec!["aa", "ab"], true));
    let exact = scan(bounds("aa", "c", 3, usize::MAX));
    assert_eq!((keys(&exact), exact.more), (vec!["aa", "ab", "b"], false));
    let small = scan(bounds("", "", usize::MAX, 4));
    assert_eq!((keys(&small), small.more), (vec!["a", "aa"], true));
    let one = scan(bounds("", "", usize::MAX, 1));
    assert_eq!(keys(&one), ["a"], "one item always fits");
    for empty in [
        bounds("c", "a", 9, 9),
        bounds("a", "a", 9, 9),
        bounds("", "", 0, 9),
    ] {
        assert_eq!(scan(empty), Page::default());
    }
}

fn a_deleted_key_is_absent_also_after_a_kill(subject: &mut dyn Subject) {
    subject
        .engine()
        .commit(&[put(Table::Objects, "key", "a")], Persist::Now)
        .unwrap();
    let gone = [
        delete(Table::Objects, "key"),
        delete(Table::Objects, "never was"),
    ];
    subject.engine().commit(&gone, Persist::Now).unwrap();
    for _ in 0..2 {
        assert_eq!(subject.engine().get(Table::Objects, b"key"), Ok(None));
        let page = subject.engine().scan(Table::Objects, &Bounds::everything());
        assert_eq!(page, Ok(Page::default()));
        subject.reopen();
    }
}

fn large_values_and_keys_come_back_whole(subject: &mut dyn Subject) {
    let key = Bytes::from(vec![b'k'; 5000]);
    let value: Bytes = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(n) / 7).to_le_bytes()[1])
        .collect();
    let write = Write::Put {
        table: Table::Objects,
        key: key.clone(),
        value: value.clone(),
    };
    subject.engine().commit(&[write], Persist::Now).unwrap();
    for _ in 0..2 {
        assert_eq!(
            subject.engine().get(Table::Objects, &key),
            Ok(Some(value.clone()))
        );
        subject.reopen();
    }
}

fn a_worker_serves_a_group_of_commands(subject: &mut dyn Subject) {
    let mut worker = Worker::new(
        Failing {
            engine: subject,
            commits: 1,
        },
        Durability::Sync,
    );
    let read = |ticket| Command::Read {
        ticket: Ticket(ticket),
        table: Table::Objects,
        key: bytes("key"),
    };
    let write = |ticket, value| Command::Write {
        ticket: Ticket(ticket),
        writes: vec![put(Table::Objects, "key", value)],
    };
    let done = worker.execute([write(1, "a"), read(2), write(3, "b")]);
    let expected = [
        Completion::Written {
            ticket: Ticket(1),
            durable: true,
        },
        Completion::Read {
            ticket: Ticket(2),
            value: Ok(Some(bytes("b"))),
        },
        Completion::Written {
            ticket: Ticket(3),
            durable: true,
        },
    ];
    assert_eq!(done, expected);
    for _ in 0..2 {
        let done = worker.execute([write(4, "c"), read(5)]);
        assert!(
            done.iter()
                .all(|done| matches!(done, Completion::Failed { .. })),
            "{done:?}"
        );
    }
}

/// Fails for ever after some commits.
struct Failing<'a> {
    engine: &'a mut dyn Subject,
    commits: usize,
}

impl Engine for Failing<'_> {
    fn get(&self, _: Table, _: &[u8]) -> Result<Option<Bytes>, Unreadable> {
        Ok(Some(bytes("b")))
    }

    fn scan(&self, _: Table, _: &Bounds) -> Result<Page, Unreadable> {
        Ok(Page::default())
    }

    fn commit(&mut self, writes: &[Write], persist: Persist) -> Result<(), CommitError> {
        let Some(left) = self.commits.checked_sub(1) else {
            return Err(CommitError::Failed("no more".into()));
        };
        self.commits = left;
        self.engine.engine().commit(writes, persist)
    }

    fn flush(&mut self) -> Result<(), CommitError> {
        self.engine.engine().flush()
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}

macro_rules! conformance {
    ($($name:ident)*) => {
        mod memory {
            $(#[test] fn $name() { super::$name(&mut super::Memory::default()); })*
        }
        #[cfg(feature = "shell")]
        mod fjall {
            $(#[test] fn $name() { super::$name(&mut super::Fjall::default()); })*
        }
    };
}

conformance! {
    what_was_written_is_read_also_after_a_kill
    tables_do_not_see_each_other
    within_a_batch_the_last_write_of_a_key_wins
    scans_are_ordered_and_keep_their_bounds
    a_deleted_key_is_absent_also_after_a_kill
    large_values_and_keys_come_back_whole
    a_worker_serves_a_group_of_commands
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Write>, Persist),
    Flush,
    Read(Table, Bytes),
    Scan(Table, Bounds),
    Reopen,
}

fn any_table() -> impl Strategy<Value = Table> {
    prop_oneof![8 => Just(Table::Objects), 1 => Just(Table::Meta), 1 => Just(Table::Hints)]
}

fn any_key() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(
        prop_oneof![Just(0u8), Just(1), Just(0xfe), Just(0xff)],
        1..3,
    )
    .prop_map(Bytes::from)
}

fn any_write() -> impl Strategy<Value = Write> {
    let value = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    prop_oneof![
        3 => (any_table(), any_key(), value)
            .prop_map(|(table, key, value)| Write::Put { table, key, value }),
        1 => (any_table(), any_key()).prop_map(|(table, key)| Write::Delete { table, key }),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![Just(Bytes::new()), any_key()];
    let bounds =
        (any_key(), end, 0..9usize, 0..60usize).prop_map(|(start, end, items_max, bytes_max)| {
            Bounds {
                start,
                end,
                items_max,
                bytes_max,
            }
        });
    let persist = prop_oneof![Just(Persist::Now), Just(Persist::Later)];
    prop_oneof![
        10 => (proptest::collection::vec(any_write(), 1..6), persist)
            .prop_map(|(writes, persist)| Step::Commit(writes, persist)),
        1 => Just(Step::Flush),
        5 => (any_table(), any_key()).prop_map(|(table, key)| Step::Read(table, key)),
        5 => (any_table(), bounds).prop_map(|(table, bounds)| Step::Scan(table, bounds)),
        1 => Just(Step::Reopen),
    ]
}

/// Everything that a step lets see.
fn perform(subject: &mut dyn Subject, step: &Step) -> String {
    let engine = subject.engine();
    match step {
        Step::Commit(writes, persist) => format!("{:?}", engine.commit(writes, *persist)),
        Step::Flush => format!("{:?}", engine.flush()),
        Step::Read(table, key) => format!("{:?}", engine.get(*table, key)),
        Step::Scan(table, bounds) => format!("{:?}", engine.scan(*table, bounds)),
        Step::Reopen => {
            subject.reopen();
            let engine = subject.engine();
            let pages = Table::ALL.map(|table| engine.scan(table, &Bounds::everything()));
            format!("{pages:?}")
        }
    }
}

#[cfg(feature = "shell")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn both_engines_answer_alike(steps in proptest::collection::vec(any_step(), 1..60)) {
        let (mut memory, mut fjall) = (Memory::default(), Fjall::default());
        for step in steps.iter().chain([&Step::Reopen]) {
            prop_assert_eq!(perform(&mut memory, step), perform(&mut fjall, step), "{:?}", step);
        }
    }
}

proptest! {
    /// A power cut: the memory engine ends in the state after some prefix of the commits, and
    /// never before the last one that was synced.
    #[test]
    fn a_crash_keeps_a_prefix_of_whole_commits(
        steps in proptest::collection::vec(any_step(), 1..40),
        seed: u64,
    ) {
        let mut engine = MemoryEngine::new();
        let page = |engine: &MemoryEngine| {
            format!("{:?}", Table::ALL.map(|table| engine.scan(table, &Bounds::everything())))
        };
        let mut allowed = vec![page(&engine)];
        for step in &steps {
            perform(&mut Borrowed(&mut engine), step);
            match step {
                Step::Commit(_, Persist::Later) => {}
                Step::Commit(_, Persist::Now) | Step::Flush => allowed.clear(),
                Step::Read(..) | Step::Scan(..) | Step::Reopen => continue,
            }
            allowed.push(page(&engine));
        }
        let mut rng = rand_pcg::Pcg64Mcg::new(u128::from(seed));
        engine.crash(&mut rng);
        prop_assert_eq!(engine.reopen().amnesia, None);
        prop_assert!(allowed.contains(&page(&engine)));
    }
}

struct Borrowed<'a>(&'a mut MemoryEngine);

impl Subject for Borrowed<'_> {
    fn engine(&mut self) -> &mut dyn Engine {
        self.0
    }

    fn reopen(&mut self) {}
}
