//! Under which name this replica mints, and what it says of itself.
//!
//! A process begins under a name of its own, which no disk knows and no other process will ever
//! have; it goes over to that of its directory when enough others know of it. A name is left for
//! good when the directory turns out not to be the only one of that name.

use bytes::Bytes;
use quorate_ring::NodeUuid;

use super::{
    Address, Pending, Replica, damage::Damages, hints::HintIndex, next_ticket, recent::Recent,
};
use crate::{
    causality::{EPOCH_LEASE, Minter},
    identity::Identity,
    limits::Limits,
    message::BucketId,
    store::Command,
};

/// A name that lives no longer than its process needs no lease on disk.
const APART_END: u64 = u64::MAX / 2;

impl Replica {
    /// From now on dots are minted under a name that only this process has.
    pub(crate) fn mint_apart(&mut self, uuid: NodeUuid) {
        self.minter = Minter::new(uuid, 1, APART_END);
    }

    /// From now on dots are minted under the directory's name, which this process has not used yet.
    pub(crate) fn mint_as_directory(&mut self) {
        let Identity {
            uuid,
            lease_start,
            lease_end,
            ..
        } = self.identity;
        if self.minter.uuid() != uuid {
            self.minter = Minter::new(uuid, lease_start, lease_end);
        }
    }

    /// Whether what is held here counts for reads of others.
    pub(crate) fn set_counts(&mut self, counts: bool) {
        self.counts = counts;
    }

    /// How many writes there were.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Begins another life of the directory; to be made durable.
    pub(crate) fn live_on(&mut self, mark: u64) -> Identity {
        self.identity.lives = self.identity.lives.and(mark);
        self.to_store()
    }

    /// Remembers whether data was lost; to be made durable.
    pub(crate) fn set_rebuilding(&mut self, rebuilding: bool) -> Identity {
        self.identity.rebuilding = rebuilding;
        self.to_store()
    }

    /// The directory has a new name, which is durable.
    pub(crate) fn rename(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Nothing is held any more, and no work on any key is left.
    pub(crate) fn forget_all(&mut self, limits: &Limits) {
        self.recent = Recent::new(limits.recent_bytes_max);
        self.hints = HintIndex::new(limits.hint_bytes_max);
        self.damages = Damages::new(limits.damages_max);
        self.damaged.clear();
    }

    /// A longer lease that is on its way to the disk must not be taken back.
    fn to_store(&self) -> Identity {
        let ahead = if self.extending { EPOCH_LEASE } else { 0 };
        Identity {
            lease_end: self.identity.lease_end + ahead,
            ..self.identity
        }
    }

    /// Asks for a longer lease before this one is used up.
    pub(super) fn extend_lease(&mut self, tickets: &mut u64) {
        if self.extending {
            return;
        }
        let Some(end) = self.minter.wants_extension() else {
            return;
        };
        self.extending = true;
        let ticket = next_ticket(tickets);
        let uuid = self.identity.uuid;
        let identity = Identity {
            lease_end: end,
            ..self.identity
        };
        self.commands.push_back(Command::Write {
            ticket,
            writes: vec![identity.to_write()],
        });
        let nowhere = Address {
            token: 0,
            bucket: BucketId(0),
            key: Bytes::new(),
            hint_for: None,
        };
        self.tickets
            .insert(ticket, (Pending::Lease { uuid, end }, nowhere, 0));
    }

    pub(super) fn lease_stored(&mut self, uuid: NodeUuid, end: u64) {
        self.extending = false;
        if self.identity.uuid == uuid {
            self.identity.lease_end = end;
            if self.minter.uuid() == uuid {
                self.minter.extended(end);
            }
        }
    }

    /// Starts a new boot epoch, so that rule 0 ends every actor this node has used so far.
    pub(super) fn renew_epochs(&mut self) {
        let end = self.minter.lease_end();
        let start = self.minter.take().map_or(end, |used| used + 1);
        self.minter = Minter::new(self.minter.uuid(), start, end);
    }
}
