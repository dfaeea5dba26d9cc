//! Durable memory: an ordered map with atomic batches, behind commands and completions.
//!
//! What a value means is decided elsewhere: merging, and the checksum of every record, live above
//! this boundary. Here only these promises are kept: a batch is applied whole or not at all; a
//! completion that says `durable` follows a completed sync; damage is reported, never read as
//! absence; and after one failed sync nothing is acknowledged any more.
//!
//! [`worker`] turns commands into commits; [`memory`] is the engine of the simulator.

pub mod command;
pub mod engine;
pub mod format;
pub mod memory;
pub mod worker;

pub use command::{Command, Completion, Table, Ticket, Unreadable, Write};
pub use engine::{Amnesia, Bounds, CommitError, Engine, Opened, Page, Persist, Refused};
pub use memory::MemoryEngine;
pub use worker::{Durability, Worker};
