//! What the replica does when all owners have agreed that a tombstone, or entries of a clock, may
//! go.

use std::sync::Arc;

use super::{Address, Caller, Done, Entry, Held, InFlight, Refusal, Replica, hold};
use crate::{
    healing::reap::{Goal, digest},
    store::{Table, Write},
};

/// What was agreed on: this very state, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reaping {
    pub(crate) digest: u128,
    pub(crate) goal: Goal,
}

impl Replica {
    /// Deletes or replaces a record that is durable here, undoubted, and in the agreed state.
    pub(super) fn reap(
        &mut self,
        tickets: &mut u64,
        entry: &mut Entry,
        address: &Address,
        caller: Caller,
        (idle, agreed): (bool, Reaping),
    ) {
        let stored = match &entry.durable {
            Held::Present(stored) if idle && !stored.record.suspect => Arc::clone(stored),
            Held::Present(_) | Held::Absent | Held::Unreadable => {
                return self.not_reaped(address, caller);
            }
        };
        let container = &stored.record.container;
        if digest(container) != agreed.digest {
            return self.not_reaped(address, caller);
        }
        let ticket = match agreed.goal {
            Goal::Reap if !container.is_all_tombstones() => {
                return self.not_reaped(address, caller);
            }
            Goal::Reap => {
                entry.latest = Held::Absent;
                let write = Write::Delete {
                    table: Table::Objects,
                    key: address.store_key(),
                };
                self.write(tickets, address, vec![write])
            }
            Goal::Compact => {
                entry.latest = hold(address, container.compacted(), false);
                let Held::Present(compacted) = &entry.latest else {
                    return self.not_reaped(address, caller);
                };
                self.put(tickets, address, &compacted.bytes.clone(), false)
            }
        };
        let done = Done::Reaping(stored);
        self.done.push_back((caller, address.clone(), done));
        entry.writes.push_back(InFlight {
            ticket,
            state: entry.latest.clone(),
            callers: vec![caller],
        });
    }

    fn not_reaped(&mut self, address: &Address, caller: Caller) {
        let done = Done::Refused(Refusal::PreconditionFailed);
        self.done.push_back((caller, address.clone(), done));
    }
}
