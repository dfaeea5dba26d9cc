//! The store's own thread, and the way to it.
//!
//! Commits block for milliseconds, so they have a thread; reads do not, and are executed where
//! the node runs. Commands go over a bounded channel; what does not fit waits here, and the node
//! itself bounds how much that can be.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::mpsc;

use crate::store::{
    self, Bounds, Command, CommitError, Completion, Durability, Engine, FjallEngine, FjallReader,
    Page, Persist, Table, Unreadable, Worker, Write,
};

/// Commands in the channel; a group is at most 256.
const COMMANDS_MAX: usize = 1_024;
/// Groups of completions on their way back.
const COMPLETIONS_MAX: usize = 64;
const DISK_BYTES_EVERY: Duration = Duration::from_secs(5);

/// The node's side of the store.
#[derive(Debug)]
pub(super) struct Store {
    commands: Option<SyncSender<Command>>,
    waiting: VecDeque<Command>,
    reader: FjallReader,
}

/// Waits for the thread's end; tells of a failed last flush.
pub(super) type StoreJoin = JoinHandle<Result<(), CommitError>>;

/// What the thread gives back.
#[derive(Debug)]
pub(super) struct StoreThread {
    pub(super) completions: mpsc::Receiver<Vec<Completion>>,
    pub(super) disk_bytes: Arc<AtomicU64>,
    pub(super) thread: StoreJoin,
}

/// Starts the thread.
pub(super) fn start(
    engine: FjallEngine,
    durability: Durability,
    syncs: Histogram,
) -> io::Result<(Store, StoreThread)> {
    let (commands, received) = sync_channel(COMMANDS_MAX);
    let (done, completions) = mpsc::channel(COMPLETIONS_MAX);
    let reader = engine.reader();
    let disk_bytes = Arc::new(AtomicU64::new(engine.disk_bytes()));
    let engine = Watched {
        engine,
        syncs,
        disk_bytes: disk_bytes.clone(),
        looked: Instant::now(),
    };
    let thread = thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            let mut worker = Worker::new(engine, durability);
            // If nobody listens any more the process is ending, and only the last flush matters.
            store::run(&mut worker, &received, |group| {
                let _ = done.blocking_send(group);
            })
        })?;
    let store = Store {
        commands: Some(commands),
        waiting: VecDeque::new(),
        reader,
    };
    let thread = StoreThread {
        completions,
        disk_bytes,
        thread,
    };
    Ok((store, thread))
}

impl Store {
    /// Executes a read or scan at once; a write waits until [`submit`](Self::submit) is called.
    pub(super) fn execute(&mut self, command: Command) -> Option<Completion> {
        match command {
            Command::Read { ticket, table, key } => Some(Completion::Read {
                ticket,
                value: self.reader.get(table, &key),
            }),
            Command::Scan {
                ticket,
                table,
                start,
                end,
                items_max,
                bytes_max,
            } => {
                let bounds = Bounds {
                    start,
                    end,
                    items_max,
                    bytes_max,
                };
                let page = self.reader.scan(table, &bounds);
                let more = page.as_ref().is_ok_and(|page| page.more);
                Some(Completion::Scanned {
                    ticket,
                    items: page.map(|page| page.items),
                    more,
                })
            }
            Command::Write { .. } => {
                self.waiting.push_back(command);
                None
            }
        }
    }

    /// Hands over what fits, to be called when no more is to come at once: the thread wakes at the
    /// first command and commits what it finds, and one that came alone would have its own sync.
    pub(super) fn submit(&mut self) {
        let Some(commands) = &self.commands else {
            return;
        };
        while let Some(command) = self.waiting.pop_front() {
            match commands.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command) | TrySendError::Disconnected(command)) => {
                    self.waiting.push_front(command);
                    return;
                }
            }
        }
    }

    /// Lets the thread finish: it flushes and ends.
    pub(super) fn close(&mut self) {
        self.submit();
        self.commands = None;
    }
}

/// The engine, with a look at how long its syncs take and how much it holds.
#[derive(Debug)]
struct Watched {
    engine: FjallEngine,
    syncs: Histogram,
    disk_bytes: Arc<AtomicU64>,
    looked: Instant,
}

impl Engine for Watched {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<bytes::Bytes>, Unreadable> {
        self.engine.get(table, key)
    }

    fn scan(&self, table: Table, bounds: &Bounds) -> Result<Page, Unreadable> {
        self.engine.scan(table, bounds)
    }

    fn commit(&mut self, writes: &[Write], persist: Persist) -> Result<(), CommitError> {
        let start = Instant::now();
        let outcome = self.engine.commit(writes, persist);
        if persist == Persist::Now {
            self.syncs.observe(start.elapsed().as_secs_f64());
        }
        if DISK_BYTES_EVERY <= start - self.looked {
            self.looked = start;
            let bytes = self.engine.disk_bytes();
            self.disk_bytes.store(bytes, Ordering::Relaxed);
        }
        outcome
    }

    fn flush(&mut self) -> Result<(), CommitError> {
        self.engine.flush()
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }
}
