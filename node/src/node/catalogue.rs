//! The node's copy of the bucket catalogue: changed by decree, compared with peers, made durable.
//!
//! Decides when a change that a client asks for is proposed: one at a time, in a stable ring, on
//! top of all that has been agreed on before, and anew when something else was agreed on in its
//! place. Decides too when peers are compared with, and that nobody hears of a catalogue before it
//! is durable.

use bytes::Bytes;
use quorate_client::wire::{BucketInfo, BucketRequest, ErrorBody, ErrorCode};
use quorate_ring::{Decree, NodeId, Phase};
use rand::RngExt as _;

use super::{Node, Running};
use crate::{
    api::Output,
    bucket::{BadCatalogue, Catalogue},
    coordinator::{Operation, status::StatusOp},
    identity::META_CATALOGUE_KEY,
    message::{Class, Message, RpcId},
    replica::OpKey,
    store::{Command, Table, Ticket, Write},
};

#[derive(Debug, Clone, Copy)]
pub(super) enum CatalogueWaiter {
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
    let decree = options
        .stored_ring
        .decree()
        .filter(|decree| !decree.buckets.is_empty());
    if let Some(decree) = decree {
        catalogue.merge(&Catalogue::from_bytes(&decree.buckets)?);
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

    /// Proposes the change of buckets that waits longest, unless something else is being agreed
    /// on: then it is looked at again when that is decided.
    pub(crate) fn define_buckets(&mut self) {
        while self.desk.proposing.is_none() && self.core.decree.phase == Phase::Stable {
            let waiting = self.running.iter().find_map(|(key, running)| {
                let Operation::Catalogue(op) = &running.operation else {
                    return None;
                };
                let (request, deadline) = op.waits()?;
                Some((*key, request.clone(), deadline))
            });
            let Some((key, request, deadline)) = waiting else {
                return;
            };
            let proposal = self.with_change(&request);
            let Some(Running {
                operation: Operation::Catalogue(op),
                ..
            }) = self.running.get_mut(&key)
            else {
                return;
            };
            match proposal {
                Ok((decree, info)) => {
                    op.proposed(decree.clone(), info);
                    self.propose(&decree, None, deadline);
                }
                Err(error) => {
                    let flow = op.refuse(&mut self.core, error);
                    self.settle(key, flow, None);
                }
            }
        }
    }

    /// The buckets there are, as far as this node knows.
    #[must_use]
    pub fn buckets(&self) -> Vec<BucketInfo> {
        self.core.catalogue.list()
    }

    /// The decree that does what is asked for on top of all there is.
    fn with_change(&self, request: &BucketRequest) -> Result<(Decree, BucketInfo), ErrorBody> {
        let core = &self.core;
        let (me, most) = (core.me, core.ring.replicas_max());
        let (name, options) = (request.name.as_str(), &request.options);
        let mut next = core.catalogue.clone();
        let info = match request.verb.as_str() {
            "create" => next.create(me, name, options, most)?,
            "set" => next.set(me, name, options, most)?,
            _ => next.drop_bucket(me, name)?,
        };
        let (up, all) = self.voters_up();
        if 2 * up <= all {
            let message = format!(
                "{up} of {all} members are up, a majority is needed to change buckets; nothing was \
                 changed"
            );
            return Err(ErrorBody::new(ErrorCode::Unavailable, message));
        }
        let note = format!("bucket {name}: {}", request.verb);
        let decree = core.decree.defining(next.to_bytes().into(), note);
        Ok((decree, info))
    }

    /// A decree is in force, and with it the buckets it names.
    pub(super) fn take_buckets(&mut self, decree: &Decree) {
        if let Ok(agreed) = Catalogue::from_bytes(&decree.buckets) {
            self.core.catalogue.merge(&agreed);
            self.lease_stamps();
        }
    }

    /// Whoever wanted buckets to be changed by this decree learns how that ended.
    pub(super) fn buckets_decided(&mut self, decree: &Decree) {
        let keys: Vec<OpKey> = self.running.keys().copied().collect();
        for key in keys {
            if let Some(Running {
                operation: Operation::Catalogue(op),
                ..
            }) = self.running.get_mut(&key)
                && op.decided(&mut self.core, decree)
            {
                // A decree is adopted when it is on disk, and its buckets with it.
                let flow = op.stored_here(&mut self.core);
                self.settle(key, flow, None);
            }
        }
        self.define_buckets();
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
        }
    }
}
