//! The loop of the store's thread: take what waits, commit it, hand over the completions.
//!
//! It blocks, so it needs a thread of its own, which the shell makes. It has no timer while
//! there is work; between groups it looks at the clock to keep promised intervals.
#![expect(clippy::disallowed_methods, reason = "promised intervals need a clock")]

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use crate::store::{
    command::{Command, Completion},
    engine::{CommitError, Engine},
    worker::{Durability, GROUP_BYTES_MAX, GROUP_COMMANDS_MAX, Worker},
};

/// How far the mark may lag behind what is synced.
const MARK_INTERVAL: Duration = Duration::from_millis(100);

/// Executes commands until every sender is gone, then makes everything durable.
///
/// `sink` gets the completions of each group at once. After a failure every command completes as
/// failed; the loop goes on until the senders are gone, and returns the failure.
pub fn run<E: Engine>(
    worker: &mut Worker<E>,
    commands: &Receiver<Command>,
    mut sink: impl FnMut(Vec<Completion>),
) -> Result<(), CommitError> {
    let every = match worker.durability() {
        Durability::Interval { ms } => Some(Duration::from_millis(ms)),
        Durability::Sync => Some(MARK_INTERVAL),
        Durability::Memory => None,
    };
    let mut flushed_at = Instant::now();
    let mut dirty = false;
    loop {
        // An idle store has nothing to flush and sleeps until there is a command.
        let received = match every {
            Some(every) if dirty => {
                commands.recv_timeout(every.saturating_sub(flushed_at.elapsed()))
            }
            Some(_) | None => commands.recv().map_err(RecvTimeoutError::from),
        };
        match received {
            Ok(first) => {
                let group = gather(first, commands);
                if !dirty {
                    flushed_at = Instant::now();
                    dirty = true;
                }
                sink(worker.execute(group));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return worker.flush(),
        }
        if every.is_some_and(|every| every <= flushed_at.elapsed()) {
            // A failure is kept by the worker, and told with the next completions.
            let _ = worker.flush();
            dirty = false;
        }
    }
}

fn gather(first: Command, commands: &Receiver<Command>) -> Vec<Command> {
    let mut bytes = first.bytes();
    let mut group = vec![first];
    while group.len() < GROUP_COMMANDS_MAX && bytes < GROUP_BYTES_MAX {
        let Ok(command) = commands.try_recv() else {
            break;
        };
        bytes += command.bytes();
        group.push(command);
    }
    group
}
