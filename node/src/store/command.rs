//! What a node asks of its store, and what comes back: exactly one completion per command.
//!
//! Keys are at least one and at most [`KEY_BYTES_MAX`] bytes long and ordered as bytes. Values are
//! opaque here.

use bytes::Bytes;

/// The longest key that a table takes. The engines' own limits are higher.
pub const KEY_BYTES_MAX: usize = 32 * 1024;

/// Names a command; its completion carries it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A table: an ordered map of its own. All tables share one transaction domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Replicated objects.
    Objects = 1,
    /// The node's own facts: identity, lease, boots, buckets. Writes here are always synced.
    Meta = 2,
    /// States kept for replicas that were down. Writes here are always synced.
    Hints = 3,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 3] = [Self::Objects, Self::Meta, Self::Hints];
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// Where.
        table: Table,
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key; removing an absent one is fine.
    Delete {
        /// Where.
        table: Table,
        /// The key.
        key: Bytes,
    },
}

impl Write {
    /// The table that it changes.
    pub fn table(&self) -> Table {
        match self {
            Self::Put { table, .. } | Self::Delete { table, .. } => *table,
        }
    }

    /// The key that it changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The bytes that it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
        }
    }
}

/// Work for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Reads one key.
    Read {
        /// Names the command.
        ticket: Ticket,
        /// Where.
        table: Table,
        /// The key.
        key: Bytes,
    },
    /// Applies all writes or none.
    Write {
        /// Names the command.
        ticket: Ticket,
        /// In order; a later write of the same key wins.
        writes: Vec<Write>,
    },
    /// Reads keys in ascending order.
    Scan {
        /// Names the command.
        ticket: Ticket,
        /// Where.
        table: Table,
        /// The first key, included.
        start: Bytes,
        /// The key to stop before; empty means the end of the table.
        end: Bytes,
        /// Stops after so many items.
        items_max: usize,
        /// Stops after the item that reaches so many bytes; one item always fits.
        bytes_max: usize,
    },
}

impl Command {
    /// The name of the command.
    pub fn ticket(&self) -> Ticket {
        match self {
            Self::Read { ticket, .. } | Self::Write { ticket, .. } | Self::Scan { ticket, .. } => {
                *ticket
            }
        }
    }

    /// The bytes that it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Read { key, .. } => key.len(),
            Self::Write { writes, .. } => writes.iter().map(Write::bytes).sum(),
            Self::Scan { start, end, .. } => start.len() + end.len(),
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The answer to a read.
    Read {
        /// The command.
        ticket: Ticket,
        /// The value, or `None` when the key is absent.
        value: Result<Option<Bytes>, Unreadable>,
    },
    /// A batch has been applied.
    Written {
        /// The command.
        ticket: Ticket,
        /// Whether it survives a power cut. Only false when the configured durability allows it.
        durable: bool,
    },
    /// The answer to a scan.
    Scanned {
        /// The command.
        ticket: Ticket,
        /// In ascending order. Damage behind the first item ends the scan early; a scan from there
        /// then says so.
        items: Result<Vec<(Bytes, Bytes)>, Unreadable>,
        /// Whether there may be more within the bounds, after the last item.
        more: bool,
    },
    /// A batch was refused for want of disk space: certainly not applied. The store is well.
    Full {
        /// The command.
        ticket: Ticket,
    },
    /// The store is poisoned: nothing more will be acknowledged. A write may or may not survive.
    Failed {
        /// The command.
        ticket: Ticket,
        /// What happened first.
        reason: String,
    },
}

impl Completion {
    /// The name of the command.
    pub fn ticket(&self) -> Ticket {
        match self {
            Self::Read { ticket, .. }
            | Self::Written { ticket, .. }
            | Self::Scanned { ticket, .. }
            | Self::Full { ticket }
            | Self::Failed { ticket, .. } => *ticket,
        }
    }
}

/// The engine itself found damage, or could not read. Never the same as absence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable: {reason}")]
pub struct Unreadable {
    /// What the engine said.
    pub reason: String,
}
