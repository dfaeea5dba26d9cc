//! Durable memory: an ordered map with atomic batches, behind commands and completions.
//!
//! What a value means is decided elsewhere: merging, and the checksum of every record, live above
//! this boundary. Here only these promises are kept: a batch is applied whole or not at all; a
//! completion that says `durable` follows a completed sync; damage is reported, never read as
//! absence; and after one failed sync nothing is acknowledged any more.
//!
//! [`worker`] turns commands into commits. [`memory`] is the engine of the simulator; real nodes
//! have `fjall`, with the feature `shell`. One set of tests, `conformance`, holds for both.

pub mod aside;
pub mod command;
#[cfg(test)]
mod conformance;
#[cfg(feature = "shell")]
mod directory;
#[cfg(feature = "shell")]
mod drain;
pub mod engine;
#[cfg(feature = "shell")]
pub mod fjall;
pub mod format;
#[cfg(feature = "shell")]
mod journal;
#[cfg(feature = "shell")]
mod mark;
pub mod memory;
#[cfg(feature = "shell")]
mod probe;
pub mod worker;

#[cfg(feature = "shell")]
pub use self::{
    directory::{FORMAT, OpenError},
    drain::run,
    fjall::{FjallEngine, FjallOptions, FjallReader},
    probe::fdatasync_probe,
};
pub use command::{Command, Completion, Table, Ticket, Unreadable, Write};
pub use engine::{Amnesia, Bounds, CommitError, Engine, Opened, Page, Persist, Refused, Trimmed};
pub use memory::MemoryEngine;
pub use worker::{Durability, Worker};
