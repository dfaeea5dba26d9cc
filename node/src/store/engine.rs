//! What the store needs of an engine: an ordered map with atomic, optionally synced batches.
//!
//! An engine counts its commits, so that on opening it can tell whether it has lost some: the
//! number of the last durable commit is kept a second time, outside of the engine's own files (the
//! mark). An engine behind its mark has amnesia: it once acknowledged what it no longer has.

use bytes::Bytes;

use crate::store::command::{Table, Unreadable, Write};

/// Deleting this key of [`Table::Meta`] ends an amnesia. It exists from the moment at which loss
/// was noticed, so that a crash in between cannot hide it; delete it in the batch that stores the
/// node's new identity.
pub const AMNESIA_KEY: &[u8] = b"\0amnesia";

/// An ordered map of bytes per table.
pub trait Engine {
    /// Reads one key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, Unreadable>;

    /// Reads keys in ascending order. Items before the first damage are returned; damage at the
    /// very start is an error.
    fn scan(&self, table: Table, bounds: &Bounds) -> Result<Page, Unreadable>;

    /// Applies all writes or none, in order.
    fn commit(&mut self, writes: &[Write], persist: Persist) -> Result<(), CommitError>;

    /// Makes every earlier commit durable.
    fn flush(&mut self) -> Result<(), CommitError>;

    /// The disk space in use.
    fn disk_bytes(&self) -> u64;
}

/// When a commit has to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persist {
    /// Before `commit` returns.
    Now,
    /// At the next flush, or with the next commit that is persisted now.
    Later,
}

/// Which part of a table to scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first key, included.
    pub start: Bytes,
    /// The key to stop before; empty means the end of the table.
    pub end: Bytes,
    /// Stops after so many items.
    pub items_max: usize,
    /// Stops after the item that reaches so many bytes.
    pub bytes_max: usize,
}

impl Bounds {
    /// The whole table.
    pub fn everything() -> Self {
        Self {
            start: Bytes::new(),
            end: Bytes::new(),
            items_max: usize::MAX,
            bytes_max: usize::MAX,
        }
    }

    /// No key can lie within.
    pub(crate) fn is_empty(&self) -> bool {
        self.items_max == 0 || (!self.end.is_empty() && self.end <= self.start)
    }
}

/// A part of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys and values.
    pub items: Vec<(Bytes, Bytes)>,
    /// Whether there may be more, after the last item.
    pub more: bool,
}

/// Why a commit did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Refused before anything was touched; later commits may succeed.
    #[error("the disk is full")]
    Full,
    /// The batch may or may not survive, and nothing after it may be trusted.
    #[error("{0}")]
    Failed(String),
}

/// What was found on opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Commits so far.
    pub sequence: u64,
    /// Acknowledged writes are gone: the node needs a new identity and a refill from its peers.
    /// Repeated at every start until [`AMNESIA_KEY`] is deleted.
    pub amnesia: Option<Amnesia>,
    /// The engine would not open: its files were set aside, and this one started empty.
    pub refused: Option<Refused>,
    /// The engine opened only after the torn, never acknowledged end of its journal was cut off.
    pub trimmed: Option<Trimmed>,
}

/// Acknowledged writes are gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has lost acknowledged writes: {reason}")]
pub struct Amnesia {
    /// How that is known.
    pub reason: String,
}

/// An engine that would not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where its files are now.
    pub moved_to: String,
    /// What it said.
    pub reason: String,
}

/// A journal whose end was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// Where the whole journal is kept.
    pub saved_as: String,
    /// What the engine said.
    pub reason: String,
}
