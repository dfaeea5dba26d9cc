//! What the replica does when keys change hands.
//!
//! A record that belongs to others is deleted or set aside only if it is still the one that they
//! have; and when the ring changes, it is known whose writes were taken in before and not
//! acknowledged yet.

use bytes::Bytes;
use quorate_ring::NodeId;

use super::{Address, Caller, Done, Entry, Held, InFlight, Job, Refusal, Replica};
use crate::{
    message::RpcId,
    store::{
        Table, Write,
        aside::{self, Aside, Why},
    },
};

impl Replica {
    /// The keys of which something is in work: a scan may not see it yet.
    pub(crate) fn in_work(&self) -> impl Iterator<Item = &Address> {
        self.entries.keys()
    }

    /// The peers whose writes have been taken in and not been answered.
    pub(crate) fn peers_waiting(&self) -> Vec<(NodeId, RpcId)> {
        let peer = |caller: &Caller| match caller {
            Caller::Peer(node, id) | Caller::Holder(node, id) => Some((*node, *id)),
            Caller::Op(_)
            | Caller::Reader(..)
            | Caller::Tree(_)
            | Caller::Receipt(..)
            | Caller::Inquiry(_)
            | Caller::Reap(_)
            | Caller::Nobody => None,
        };
        let mut peers = Vec::new();
        for entry in self.entries.values() {
            let queued = entry
                .queue
                .iter()
                .filter(|(_, job)| matches!(job, Job::Apply(_) | Job::Settle(_)));
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
        let write = Write::Delete {
            table: address.table(),
            key: address.store_key(),
        };
        let what = (idle, record, vec![write]);
        self.take_out(tickets, entry, address, caller, what);
    }

    /// Moves a record that is durable here and the same as `record` out of the way.
    pub(super) fn set_aside(
        &mut self,
        tickets: &mut u64,
        entry: &mut Entry,
        address: &Address,
        caller: Caller,
        (idle, record, since_ms): (bool, &Bytes, u64),
    ) {
        let aside = Aside {
            token: address.token,
            bucket: address.bucket.0,
            key: address.key.clone(),
            hint_for: address.hint_for.map_or(0, NodeId::get),
            since_ms,
        };
        let writes = vec![
            Write::Put {
                table: Table::Meta,
                key: aside.store_key(),
                value: aside::wrap(Why::Away, record),
            },
            Write::Delete {
                table: address.table(),
                key: address.store_key(),
            },
        ];
        let what = (idle, record, writes);
        self.take_out(tickets, entry, address, caller, what);
    }

    /// Deletes a record, whatever it is.
    pub(super) fn remove(&mut self, tickets: &mut u64, entry: &mut Entry, address: &Address) {
        if matches!(entry.latest, Held::Absent) {
            return;
        }
        entry.latest = Held::Absent;
        let write = Write::Delete {
            table: Table::Objects,
            key: address.store_key(),
        };
        let ticket = self.write(tickets, address, vec![write]);
        entry.writes.push_back(InFlight {
            ticket,
            state: Held::Absent,
            callers: Vec::new(),
        });
    }

    fn take_out(
        &mut self,
        tickets: &mut u64,
        entry: &mut Entry,
        address: &Address,
        caller: Caller,
        (idle, record, writes): (bool, &Bytes, Vec<Write>),
    ) {
        let same = match &entry.durable {
            Held::Present(held) => held.bytes == *record,
            Held::Absent => record.is_empty(),
            Held::Unreadable => false,
        };
        if !idle || !same {
            let done = Done::Refused(Refusal::PreconditionFailed);
            self.done.push_back((caller, address.clone(), done));
            return;
        }
        entry.latest = Held::Absent;
        let ticket = self.write(tickets, address, writes);
        entry.writes.push_back(InFlight {
            ticket,
            state: Held::Absent,
            callers: vec![caller],
        });
    }
}
