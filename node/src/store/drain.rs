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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use bytes::Bytes;

    use super::*;
    use crate::store::{MemoryEngine, Table, Ticket, Write};

    fn put(ticket: u64) -> Command {
        let key = Bytes::copy_from_slice(&ticket.to_be_bytes());
        let write = Write::Put {
            table: Table::Objects,
            key,
            value: Bytes::new(),
        };
        Command::Write {
            ticket: Ticket(ticket),
            writes: vec![write],
        }
    }

    #[test]
    fn what_waits_is_cut_into_groups_and_made_durable_at_the_end() {
        let durability = Durability::Interval { ms: 3_600_000 };
        let mut worker = Worker::new(MemoryEngine::new(), durability);
        let (sender, receiver) = sync_channel(600);
        for ticket in 0..600 {
            sender.send(put(ticket)).unwrap();
        }
        drop(sender);
        let mut groups = Vec::new();
        run(&mut worker, &receiver, |group| groups.push(group)).unwrap();
        assert_eq!(
            groups.iter().map(Vec::len).collect::<Vec<_>>(),
            [256, 256, 88]
        );
        let tickets = groups.iter().flatten().map(|done| done.ticket().0);
        assert!(tickets.eq(0..600));
        assert_eq!(worker.engine().unsynced(), 0);
    }

    #[test]
    fn after_a_failure_every_command_still_gets_its_completion() {
        let mut worker = Worker::new(MemoryEngine::new(), Durability::Sync);
        worker.engine_mut().fail_next_sync();
        let (sender, receiver) = sync_channel(600);
        for ticket in 0..600 {
            sender.send(put(ticket)).unwrap();
        }
        drop(sender);
        let mut failed = 0;
        let outcome = run(&mut worker, &receiver, |group| {
            failed += group
                .iter()
                .filter(|done| matches!(done, Completion::Failed { .. }))
                .count();
        });
        assert!(outcome.is_err());
        assert_eq!(failed, 600);
    }
}
