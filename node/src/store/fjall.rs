//! The engine of real nodes: fjall, an LSM tree with a journal, in one directory per node.
//!
//! How it is used follows from what was seen of it:
//! - one keyspace; a table is a one-byte prefix of the key. An idle keyspace would keep every
//!   journal alive, and each has its own memory. Leveled compaction, no separation of values;
//! - one writer; a commit is one batch with one `fdatasync`; readers are [`FjallReader`]s;
//! - every batch carries the number of its commit, for the mark and the
//!   audit of the journals: damage in a journal otherwise drops acknowledged
//!   batches silently, or keeps the engine from opening after a mere power cut;
//! - what will not open is set aside, never deleted, and the node starts empty.
//!
//! A panic inside of the engine, on whatever thread, leaves locks poisoned: the process must not
//! outlive it, and its panic hook should abort. Install that hook after [`FjallEngine::open`],
//! which turns a panic during opening into a refused engine.
//!
//! Damage in a table is found when the block is read, by its checksum, and reported as
//! unreadable. When a compaction runs into it, the engine refuses further writes: the worker is
//! poisoned and the node stops.

#[cfg(test)]
mod damage;

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Slice};

use crate::store::{
    command::{Table, Unreadable, Write},
    directory::{Directory, OpenError},
    engine::{
        AMNESIA_KEY, Amnesia, Bounds, CommitError, Engine, Opened, Page, Persist, Refused, Trimmed,
    },
    journal::{self, Audit, Keys},
    mark::{Found, Mark},
};

/// The key of the number of the last commit; no table has this prefix.
const SEQUENCE_KEY: [u8; 1] = [0];

const MIB: u64 = 1024 * 1024;

/// What may be chosen about the engine.
#[derive(Clone, Copy, Debug)]
pub struct FjallOptions {
    /// Cache of blocks. 64 MiB.
    pub cache_bytes: u64,
    /// One memtable; larger ones are written out. 32 MiB: half of it halves the throughput, and
    /// twice as much gains a third and costs 100 MiB.
    pub memtable_bytes_max: u64,
    /// All journals together; bounds the time to reopen as well. 256 MiB.
    pub journal_bytes_max: u64,
    /// Puts of objects and hints are refused when the disk has less left than this, so that
    /// compaction, deletes and the node's own facts still find room. 512 MiB.
    pub disk_reserve_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * MIB,
            memtable_bytes_max: 32 * MIB,
            journal_bytes_max: 256 * MIB,
            disk_reserve_bytes: 512 * MIB,
        }
    }
}

/// The only writer of an open engine.
pub struct FjallEngine {
    reader: FjallReader,
    db: Database,
    mark: Mark,
    sequence: u64,
    unsynced: bool,
    dead: Option<String>,
    disk_reserve_bytes: u64,
    // Last, so that the lock is released after the engine is closed.
    directory: Directory,
}

/// Reads while the writer commits; clones share everything.
#[derive(Clone)]
pub struct FjallReader {
    keyspace: Keyspace,
}

impl fmt::Debug for FjallEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallEngine")
            .field("directory", &self.directory.path())
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FjallReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallReader").finish_non_exhaustive()
    }
}

/// An engine that opened, with what was found on the way.
struct Start {
    db: Database,
    reader: FjallReader,
    sequence: u64,
    refused: Option<Refused>,
}

impl FjallEngine {
    /// Opens, or creates, the data directory `dir`.
    ///
    /// Whatever was lost is told in [`Opened`]; the node decides what follows. An error means that
    /// the directory cannot be used now, and that nothing in it was given up.
    pub fn open(dir: &Path, options: FjallOptions) -> Result<(Self, Opened), OpenError> {
        let directory = Directory::open(dir)?;
        let existed = directory.engine().exists();
        let mark_path = directory.mark();
        let mark_io = |error: io::Error| OpenError::io(&mark_path, &error);
        let (mut mark, found) = if mark_path.exists() {
            Mark::open(&mark_path).map_err(mark_io)?
        } else {
            let mark = Mark::create(&mark_path).map_err(mark_io)?;
            directory.sync().map_err(mark_io)?;
            (
                mark,
                if existed {
                    Found::Damaged
                } else {
                    Found::Sequence(0)
                },
            )
        };

        let (audit, trimmed) = if existed {
            audit(&directory)?
        } else {
            Default::default()
        };
        let any = existed && found != Found::Sequence(0);
        let expected = Expected {
            in_journals: audit.last,
            any,
        };
        let Start {
            db,
            reader,
            sequence,
            refused,
        } = start(&directory, options, expected)?;
        let (reason, last) = match found {
            Found::Damaged => (Some("its mark is unreadable".to_owned()), sequence),
            Found::Sequence(mark) if sequence < mark => (
                Some(format!(
                    "the engine is at commit {sequence}, its mark at {mark}"
                )),
                mark,
            ),
            Found::Sequence(_) => (None, sequence),
        };
        if reason.is_none() {
            mark.write(sequence).map_err(mark_io)?;
        }
        let mut engine = Self {
            reader,
            db,
            mark,
            sequence: last,
            unsynced: false,
            dead: None,
            disk_reserve_bytes: options.disk_reserve_bytes,
            directory,
        };
        if let Some(reason) = reason.or(audit.hole) {
            engine.remember_amnesia(reason)?;
        }
        let opened = Opened {
            sequence: engine.sequence,
            amnesia: engine.amnesia()?,
            refused,
            trimmed,
        };
        Ok((engine, opened))
    }

    /// A handle that only reads, for other threads.
    pub fn reader(&self) -> FjallReader {
        self.reader.clone()
    }

    /// In the engine and synced, so that it is told at every start until the node has dealt with
    /// it.
    fn remember_amnesia(&mut self, reason: String) -> Result<(), OpenError> {
        let write = Write::Put {
            table: Table::Meta,
            key: Bytes::from_static(AMNESIA_KEY),
            value: Bytes::from(reason),
        };
        self.commit(&[write], Persist::Now)
            .and_then(|()| self.flush())
            .map_err(|error| OpenError::io(&self.directory.engine(), &error))
    }

    fn amnesia(&self) -> Result<Option<Amnesia>, OpenError> {
        let reason = self
            .get(Table::Meta, AMNESIA_KEY)
            .map_err(|error| OpenError::io(&self.directory.engine(), &error))?;
        Ok(reason.map(|reason| Amnesia {
            reason: String::from_utf8_lossy(&reason).into_owned(),
        }))
    }

    fn check_space(&self, writes: &[Write]) -> Result<(), CommitError> {
        let spends = |write: &Write| match write {
            Write::Put { table, .. } => *table != Table::Meta,
            Write::Delete { .. } => false,
        };
        if self.disk_reserve_bytes == 0 || !writes.iter().any(spends) {
            return Ok(());
        }
        let left = fs4::available_space(self.directory.path())
            .map_err(|error| CommitError::Failed(format!("cannot ask for disk space: {error}")))?;
        if left < self.disk_reserve_bytes {
            Err(CommitError::Full)
        } else {
            Ok(())
        }
    }

    fn apply(&mut self, writes: &[Write], mode: PersistMode) -> Result<(), String> {
        let keyspace = &self.reader.keyspace;
        let sequence = self.sequence + 1;
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.db.clone(), writes.len() + 1)
            .durability(Some(mode));
        // In order, the engine finds their places faster; and of a key that many write, only what
        // is written last has to be in the journal.
        let mut sorted: Vec<_> = writes.iter().map(|w| ((w.table(), w.key()), w)).collect();
        sorted.sort_by_key(|(place, _)| *place);
        let mut full_key = Vec::new();
        for of_key in sorted.chunk_by(|(a, _), (b, _)| a == b) {
            let (_, write) = of_key[of_key.len() - 1];
            full_key.clear();
            full_key.push(write.table() as u8);
            full_key.extend_from_slice(write.key());
            let key = Slice::from(&full_key[..]);
            match write {
                // A copy: the value may be a slice of a large frame.
                Write::Put { value, .. } => batch.insert(keyspace, key, Slice::from(&value[..])),
                Write::Delete { .. } => batch.remove(keyspace, key),
            }
        }
        batch.insert(keyspace, SEQUENCE_KEY, sequence.to_le_bytes());
        batch.commit().map_err(|error| error.to_string())?;
        self.sequence = sequence;
        Ok(())
    }

    fn check(&self) -> Result<(), CommitError> {
        self.dead
            .clone()
            .map_or(Ok(()), |reason| Err(CommitError::Failed(reason)))
    }

    fn die(&mut self, what: &str, error: &impl fmt::Display) -> CommitError {
        let reason = format!("{what} failed: {error}");
        self.dead = Some(reason.clone());
        CommitError::Failed(reason)
    }
}

impl Engine for FjallEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Unreadable> {
        self.reader.get(table, key)
    }

    fn scan(&self, table: Table, bounds: &Bounds) -> Result<Page, Unreadable> {
        self.reader.scan(table, bounds)
    }

    fn commit(&mut self, writes: &[Write], persist: Persist) -> Result<(), CommitError> {
        self.check()?;
        self.check_space(writes)?;
        let mode = match persist {
            Persist::Now => PersistMode::SyncData,
            // As far as the operating system, so that `kill -9` loses nothing.
            Persist::Later => PersistMode::Buffer,
        };
        self.apply(writes, mode)
            .map_err(|error| self.die("commit", &error))?;
        match persist {
            Persist::Now => {
                self.unsynced = false;
                self.mark
                    .write(self.sequence)
                    .map_err(|error| self.die("mark", &error))
            }
            Persist::Later => {
                self.unsynced = true;
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<(), CommitError> {
        self.check()?;
        if self.unsynced {
            self.db
                .persist(PersistMode::SyncData)
                .map_err(|error| self.die("sync", &error))?;
            self.unsynced = false;
            self.mark
                .write(self.sequence)
                .map_err(|error| self.die("mark", &error))?;
        }
        self.mark
            .sync()
            .map_err(|error| self.die("sync of the mark", &error))
    }

    fn disk_bytes(&self) -> u64 {
        self.db.disk_space().unwrap_or(0)
    }
}

impl FjallReader {
    /// As [`Engine::get`].
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Unreadable> {
        let value = self
            .keyspace
            .get(prefixed(table as u8, key))
            .map_err(unreadable)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// As [`Engine::scan`].
    pub fn scan(&self, table: Table, bounds: &Bounds) -> Result<Page, Unreadable> {
        let mut page = Page::default();
        if bounds.is_empty() {
            return Ok(page);
        }
        let start = prefixed(table as u8, &bounds.start);
        let end = if bounds.end.is_empty() {
            prefixed(table as u8 + 1, &[])
        } else {
            prefixed(table as u8, &bounds.end)
        };
        let mut bytes = 0;
        for item in self.keyspace.range(start..end) {
            if bounds.items_max <= page.items.len() || bounds.bytes_max <= bytes {
                page.more = true;
                break;
            }
            match item.into_inner() {
                Ok((key, value)) => {
                    bytes += key.len() - 1 + value.len();
                    let key = Bytes::copy_from_slice(&key[1..]);
                    page.items.push((key, Bytes::copy_from_slice(&value)));
                }
                Err(error) if page.items.is_empty() => return Err(unreadable(error)),
                Err(_) => {
                    page.more = true;
                    break;
                }
            }
        }
        Ok(page)
    }

    fn sequence(&self) -> Result<u64, Unreadable> {
        let Some(value) = self.keyspace.get(SEQUENCE_KEY).map_err(unreadable)? else {
            return Ok(0);
        };
        let bytes = value[..].try_into().map_err(|_| Unreadable {
            reason: "the number of the last commit has a wrong length".into(),
        })?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Looks for holes, and cuts the newest journal where it is broken.
fn audit(directory: &Directory) -> Result<(Audit, Option<Trimmed>), OpenError> {
    let skip = prefixed(Table::Meta as u8, AMNESIA_KEY);
    let keys = Keys {
        sequence: &SEQUENCE_KEY,
        skip: &skip,
    };
    let engine = directory.engine();
    let io = |error: io::Error| OpenError::io(&engine, &error);
    let audit = journal::audit(&engine, keys).map_err(io)?;
    let Some(tail) = &audit.tail else {
        return Ok((audit, None));
    };
    let mut trimmed = None;
    if tail.worth_saving {
        let copy = directory.unused("engine.tail-");
        tail.save(&copy)
            .and_then(|()| directory.sync())
            .map_err(io)?;
        let saved_as = copy.display().to_string();
        trimmed = Some(Trimmed {
            saved_as,
            reason: tail.reason.to_owned(),
        });
    }
    tail.cut().map_err(io)?;
    Ok((audit, trimmed))
}

/// Opens the engine, or sets it aside and starts an empty one.
fn start(
    directory: &Directory,
    options: FjallOptions,
    expected: Expected,
) -> Result<Start, OpenError> {
    let engine = directory.engine();
    let reason = match try_start(&engine, options, expected) {
        Ok(start) => return Ok(start),
        Err(reason) => reason?,
    };
    let io = |error: io::Error| OpenError::io(&engine, &error);
    let aside = directory.set_engine_aside().map_err(io)?;
    let again = try_start(&engine, options, Expected::default());
    let mut start = again.map_err(|again| match again {
        Ok(reason) => OpenError::Io {
            path: engine.clone(),
            reason,
        },
        Err(error) => error,
    })?;
    directory.sync().map_err(io)?;
    start.refused = Some(Refused {
        moved_to: aside.display().to_string(),
        reason,
    });
    Ok(start)
}

/// The inner error: `Ok` with a reason if the files are to blame, `Err` if the machine is.
type NotStarted = Result<String, OpenError>;

fn try_start(
    engine: &Path,
    options: FjallOptions,
    expected: Expected,
) -> Result<Start, NotStarted> {
    // Without its version file the engine would create itself anew amid the old files.
    if engine.exists() && !engine.join("version").exists() {
        return Err(Ok("its version file is missing".into()));
    }
    let open = || {
        let db = Database::builder(engine)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes_max)
            .open()?;
        let keyspace = db.keyspace("quorate", || {
            KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes_max)
        })?;
        Ok((db, keyspace))
    };
    let (db, keyspace) = match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) if is_damage(&error) => return Err(Ok(error.to_string())),
        Ok(Err(error)) => return Err(Err(OpenError::io(engine, &error))),
        Err(_) => return Err(Ok("it panicked while opening".into())),
    };
    let reader = FjallReader { keyspace };
    let sequence = reader.sequence().map_err(|damage| Ok(damage.to_string()))?;
    // With some of its files missing the engine opens as if new, numbers its entries from the
    // beginning, and after the next start prefers the old ones to what was written since.
    match expected.in_journals {
        Some(last) if last != sequence => Err(Ok(format!(
            "it opened at commit {sequence}, its journals end at {last}"
        ))),
        None if expected.any && sequence == 0 => Err(Ok("it opened empty".into())),
        Some(_) | None => Ok(Start {
            db,
            reader,
            sequence,
            refused: None,
        }),
    }
}

/// What an engine has to know if it is whole.
#[derive(Clone, Copy, Debug, Default)]
struct Expected {
    /// The last commit in its journals, after they were cut.
    in_journals: Option<u64>,
    /// There was a commit.
    any: bool,
}

/// Whether the files are to blame. Too few descriptors, rights or bytes are no reason to give up
/// a data directory.
fn is_damage(error: &fjall::Error) -> bool {
    if let fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) = error {
        return matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::NotFound
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::Other
        );
    }
    !matches!(error, fjall::Error::Locked)
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn unreadable(error: fjall::Error) -> Unreadable {
    Unreadable {
        reason: error.to_string(),
    }
}

fn prefixed(prefix: u8, key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(1 + key.len());
    prefixed.push(prefix);
    prefixed.extend_from_slice(key);
    prefixed
}
