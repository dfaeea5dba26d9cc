//! Group commit: many commands, one batch, one sync.
//!
//! Whatever waits is taken as one group, without a timer: the sync of one group is the time in
//! which the next one gathers. All writes of a group are committed before any of its reads is
//! executed; as none of the group's commands has completed before, no client can tell.
//!
//! One failure of the engine poisons the worker for ever: what reached the disk is then unknown,
//! and a retried sync may succeed without having written anything. Nothing is retried, nothing
//! more is acknowledged, not even a read; the process is expected to stop.

use bytes::Bytes;

use crate::store::{
    command::{Command, Completion, Table, Ticket, Write},
    engine::{Bounds, CommitError, Engine, Persist},
};

/// The most commands in a group.
pub const GROUP_COMMANDS_MAX: usize = 256;

/// A group takes no further command once it carries so many bytes. More would only lengthen the
/// wait of those in front.
pub const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After it is synced. The default.
    #[default]
    Sync,
    /// At once; synced at least so often. A power cut may take what was acknowledged since.
    Interval {
        /// Milliseconds between syncs.
        ms: u64,
    },
    /// At once; never synced while running, only at a clean stop.
    Memory,
}

/// Executes commands on an engine.
#[derive(Debug)]
pub struct Worker<E> {
    engine: E,
    durability: Durability,
    poisoned: Option<String>,
    batch: Vec<Write>,
}

/// A command of which only the completion is left to make.
enum Pending {
    Written(Ticket),
    Read(Ticket, Table, Bytes),
    Scan(Ticket, Table, Bounds),
}

impl<E: Engine> Worker<E> {
    /// A worker for an open engine.
    pub fn new(engine: E, durability: Durability) -> Self {
        Self {
            engine,
            durability,
            poisoned: None,
            batch: Vec::new(),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The engine, for those who break it.
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// Gives the engine back, for example after a crash in the simulator.
    pub fn into_engine(self) -> E {
        self.engine
    }

    /// When writes are acknowledged.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The first failure, if there was one.
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Executes a group: one commit, one completion per command, in their order.
    ///
    /// # Panics
    ///
    /// If the group has more than [`GROUP_COMMANDS_MAX`] commands: groups are cut by the caller.
    pub fn execute(&mut self, group: impl IntoIterator<Item = Command>) -> Vec<Completion> {
        let group = group.into_iter();
        let mut pending = Vec::with_capacity(group.size_hint().0);
        for command in group {
            pending.push(match command {
                Command::Write { ticket, writes } => {
                    self.batch.extend(writes);
                    Pending::Written(ticket)
                }
                Command::Read { ticket, table, key } => Pending::Read(ticket, table, key),
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
                    Pending::Scan(ticket, table, bounds)
                }
            });
        }
        assert!(pending.len() <= GROUP_COMMANDS_MAX);
        let persist = self.persist();
        let outcome = self.commit(persist);
        self.batch.clear();
        pending
            .into_iter()
            .map(|pending| self.complete(pending, &outcome, persist))
            .collect()
    }

    /// Executes a command that writes nothing, without a group around it.
    pub fn read(&self, ticket: Ticket, table: Table, key: &Bytes) -> Completion {
        match &self.poisoned {
            Some(reason) => Completion::Failed {
                ticket,
                reason: reason.clone(),
            },
            None => Completion::Read {
                ticket,
                value: self.engine.get(table, key),
            },
        }
    }

    /// Makes every earlier commit durable. To be called between groups as often as
    /// [`Durability::Interval`] says, and otherwise now and then, which keeps the mark fresh.
    pub fn flush(&mut self) -> Result<(), CommitError> {
        if let Some(reason) = &self.poisoned {
            return Err(CommitError::Failed(reason.clone()));
        }
        let outcome = self.engine.flush();
        self.note(&outcome);
        outcome
    }

    /// The node's own facts (leases above all) are synced whatever the durability of objects is: a
    /// lease that a power cut takes back would let two lives of the node mint the same dot. So are
    /// hints: who stands in for a replica that is down is all there is of it.
    fn persist(&self) -> Persist {
        let own = || {
            self.batch
                .iter()
                .any(|write| write.table() != Table::Objects)
        };
        match self.durability {
            Durability::Sync => Persist::Now,
            Durability::Interval { .. } | Durability::Memory if own() => Persist::Now,
            Durability::Interval { .. } | Durability::Memory => Persist::Later,
        }
    }

    fn commit(&mut self, persist: Persist) -> Result<(), CommitError> {
        if let Some(reason) = &self.poisoned {
            return Err(CommitError::Failed(reason.clone()));
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let outcome = self.engine.commit(&self.batch, persist);
        self.note(&outcome);
        outcome
    }

    fn note(&mut self, outcome: &Result<(), CommitError>) {
        match outcome {
            Ok(()) | Err(CommitError::Full) => {}
            Err(CommitError::Failed(reason)) => self.poisoned = Some(reason.clone()),
        }
    }

    fn complete(
        &self,
        pending: Pending,
        outcome: &Result<(), CommitError>,
        persist: Persist,
    ) -> Completion {
        if let Err(CommitError::Failed(reason)) = outcome {
            let (Pending::Written(ticket) | Pending::Read(ticket, ..) | Pending::Scan(ticket, ..)) =
                pending;
            return Completion::Failed {
                ticket,
                reason: reason.clone(),
            };
        }
        match pending {
            Pending::Written(ticket) if outcome.is_err() => Completion::Full { ticket },
            Pending::Written(ticket) => Completion::Written {
                ticket,
                durable: persist == Persist::Now,
            },
            Pending::Read(ticket, table, key) => Completion::Read {
                ticket,
                value: self.engine.get(table, &key),
            },
            Pending::Scan(ticket, table, bounds) => match self.engine.scan(table, &bounds) {
                Ok(page) => Completion::Scanned {
                    ticket,
                    items: Ok(page.items),
                    more: page.more,
                },
                Err(damage) => Completion::Scanned {
                    ticket,
                    items: Err(damage),
                    more: false,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryEngine;

    const KEY: Bytes = Bytes::from_static(b"key");

    fn put(ticket: u64, table: Table, value: &'static [u8]) -> Command {
        let value = Bytes::from_static(value);
        Command::Write {
            ticket: Ticket(ticket),
            writes: vec![Write::Put {
                table,
                key: KEY,
                value,
            }],
        }
    }

    fn read(ticket: u64) -> Command {
        Command::Read {
            ticket: Ticket(ticket),
            table: Table::Objects,
            key: KEY,
        }
    }

    #[test]
    fn completions_come_in_the_order_of_the_commands() {
        let mut worker = Worker::new(MemoryEngine::new(), Durability::Sync);
        let completions = worker.execute([
            read(1),
            put(2, Table::Objects, b"a"),
            read(3),
            put(4, Table::Meta, b""),
        ]);
        let tickets: Vec<u64> = completions.iter().map(|done| done.ticket().0).collect();
        assert_eq!(tickets, [1, 2, 3, 4]);
        assert_eq!(worker.engine().unsynced(), 0);
    }

    #[test]
    fn without_sync_only_the_nodes_own_facts_are_durable() {
        let durability = Durability::Interval { ms: 100 };
        let mut worker = Worker::new(MemoryEngine::new(), durability);
        let object = worker.execute([put(1, Table::Objects, b"a")]);
        assert_eq!(
            object,
            [Completion::Written {
                ticket: Ticket(1),
                durable: false
            }]
        );
        assert_eq!(worker.engine().unsynced(), 1);
        let fact = worker.execute([put(2, Table::Meta, b"a")]);
        assert_eq!(
            fact,
            [Completion::Written {
                ticket: Ticket(2),
                durable: true
            }]
        );
        assert_eq!(worker.engine().unsynced(), 0);
    }

    #[test]
    fn after_a_failed_sync_nothing_is_acknowledged() {
        let mut worker = Worker::new(MemoryEngine::new(), Durability::Sync);
        worker.engine_mut().fail_next_sync();
        let first = worker.execute([put(1, Table::Objects, b"a"), read(2)]);
        assert!(
            first
                .iter()
                .all(|done| matches!(done, Completion::Failed { .. }))
        );
        let later = worker.execute([put(3, Table::Objects, b"b"), read(4)]);
        assert!(
            later
                .iter()
                .all(|done| matches!(done, Completion::Failed { .. }))
        );
        assert!(worker.flush().is_err());
        assert!(worker.poisoned().is_some());
    }

    #[test]
    fn a_full_disk_refuses_writes_and_serves_reads() {
        let mut worker = Worker::new(MemoryEngine::new(), Durability::Sync);
        worker.execute([put(1, Table::Objects, b"a")]);
        worker.engine_mut().set_full(true);
        let done = worker.execute([put(2, Table::Objects, b"b"), read(3)]);
        let value = Ok(Some(Bytes::from_static(b"a")));
        assert_eq!(
            done,
            [
                Completion::Full { ticket: Ticket(2) },
                Completion::Read {
                    ticket: Ticket(3),
                    value
                }
            ]
        );
        worker.engine_mut().set_full(false);
        let done = worker.execute([put(4, Table::Objects, b"b")]);
        assert_eq!(
            done,
            [Completion::Written {
                ticket: Ticket(4),
                durable: true
            }]
        );
    }
}
