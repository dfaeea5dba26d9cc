//! The node's copy of the bucket catalogue: compared with peers, merged, made durable.
//!
//! Decides when peers are compared with, and that nobody hears of a catalogue before it is durable.
//! Changes that a client asks for are an operation of their own.

use bytes::Bytes;
use quorate_ring::NodeId;
use rand::RngExt as _;

use super::{Node, Running};
use crate::{
    api::Output,
    bucket::{BadCatalogue, Catalogue},
    coordinator::{Operation, catalogue::CatalogueOp, status::StatusOp},
    identity::META_CATALOGUE_KEY,
    message::{Class, Message, RpcId},
    replica::OpKey,
    store::{Command, Table, Ticket, Write},
};

#[derive(Debug, Clone, Copy)]
pub(super) enum CatalogueWaiter {
    Op(OpKey),
    Peer(NodeId, RpcId),
    Nobody,
}

/// The buckets that a node knows when it starts. The first one is by the ring that the cluster
/// began with: what a bucket is must not depend on how many members there are at a start.
pub(super) fn at_start(options: &super::Options) -> Result<Catalogue, BadCatalogue> {
    let mut catalogue = Catalogue::founding(options.ring.replicas_limit());
    if let Some(stored) = &options.catalogue {
        catalogue.merge(&Catalogue::from_bytes(stored)?);
    }
    Ok(catalogue)
}

impl Node {
    pub(super) fn compare_catalogues(&mut self, first: bool) {
        let core = &mut self.core;
        self.next_compare = core.now.mono + core.limits.catalogue_interval;
        let peers = core.ring.members().iter().map(|member| member.id);
        let mut peers: Vec<NodeId> = peers.filter(|id| *id != core.me).collect();
        if peers.is_empty() {
            core.peers_asked = true;
            return;
        }
        if !first && core.peers_asked {
            let one = core.rng.random_range(0..peers.len());
            peers = vec![peers.swap_remove(one)];
        }
        let key = core.op_key();
        let wait = core.now.mono + core.limits.ready_wait;
        let op = StatusOp::start(core, key, None, peers, wait);
        self.run(key, Operation::Status(Box::new(op)));
    }

    /// Makes our catalogue durable; the waiter is told afterwards.
    pub(crate) fn store_catalogue(&mut self, op: Option<OpKey>) {
        let waiter = op.map_or(CatalogueWaiter::Nobody, CatalogueWaiter::Op);
        self.write_catalogue(waiter);
    }

    fn write_catalogue(&mut self, waiter: CatalogueWaiter) {
        self.core.tickets += 1;
        let ticket = Ticket(self.core.tickets);
        let write = Write::Put {
            table: Table::Meta,
            key: Bytes::from_static(META_CATALOGUE_KEY),
            value: self.core.catalogue.to_bytes(),
        };
        let command = Command::Write {
            ticket,
            writes: vec![write],
        };
        self.core.outputs.push_back(Output::Store(command));
        self.catalogue_writes.insert(ticket, waiter);
    }

    pub(super) fn take_catalogue(&mut self, bytes: &Bytes, waiter: CatalogueWaiter) {
        let Ok(theirs) = Catalogue::from_bytes(bytes) else {
            return;
        };
        let changed = self.core.catalogue.merge(&theirs);
        if changed || !matches!(waiter, CatalogueWaiter::Nobody) {
            self.write_catalogue(waiter);
        }
    }

    pub(super) fn catalogue_stored(&mut self, waiter: CatalogueWaiter) {
        self.lease_stamps();
        match waiter {
            CatalogueWaiter::Nobody => {}
            CatalogueWaiter::Peer(node, id) => {
                let hash = self.core.catalogue.hash();
                let message = Message::CatalogueStored { id, hash };
                self.core.send(node, Class::Control, message);
            }
            CatalogueWaiter::Op(key) => {
                if let Some(Running {
                    operation: Operation::Catalogue(op),
                    ..
                }) = self.running.get_mut(&key)
                {
                    let flow = CatalogueOp::stored_here(op, &mut self.core);
                    self.settle(key, flow, None);
                }
            }
        }
    }
}
