//! What the replica does when keys change hands.
//!
//! A record that belongs to others is deleted only if it is still the one that they have; and when
//! the ring changes, it is known whose writes were taken in before and not acknowledged yet.

use bytes::Bytes;
use quorate_ring::NodeId;

use super::{Address, Caller, Done, Entry, Held, InFlight, Job, Refusal, Replica};
use crate::{
    message::RpcId,
    store::{Table, Write},
};

impl Replica {
    /// The peers whose writes have been taken in and not been answered.
    pub(crate) fn peers_waiting(&self) -> Vec<(NodeId, RpcId)> {
        let peer = |caller: &Caller| match caller {
            Caller::Peer(node, id) => Some((*node, *id)),
            Caller::Op(_) | Caller::Tree(_) | Caller::Reap(_) | Caller::Nobody => None,
        };
        let mut peers = Vec::new();
        for entry in self.entries.values() {
            let queued = entry
                .queue
                .iter()
                .filter(|(_, job)| matches!(job, Job::Apply(_)));
            peers.extend(queued.filter_map(|(caller, _)| peer(caller)));
            for write in &entry.writes {
                peers.extend(write.callers.iter().filter_map(peer));
            }
        }
        peers
    }

    /// Deletes a record that is durable here and the same as `record`.
    pub(super) fn drop_record(
        &mut self,
        tickets: &mut u64,
        entry: &mut Entry,
        address: &Address,
        caller: Caller,
        (idle, record): (bool, &Bytes),
    ) {
        let same = matches!(&entry.durable, Held::Present(held) if held.bytes == *record);
        if !idle || !same {
            let done = Done::Refused(Refusal::PreconditionFailed);
            self.done.push_back((caller, address.clone(), done));
            return;
        }
        entry.latest = Held::Absent;
        let write = Write::Delete {
            table: Table::Objects,
            key: address.store_key(),
        };
        let ticket = self.write(tickets, address, write);
        entry.writes.push_back(InFlight {
            ticket,
            state: Held::Absent,
            callers: vec![caller],
        });
    }
}
