//! What a node does to know the time where the last write wins.
//!
//! Peers say what their clocks show whenever bucket catalogues are compared; the bound of the
//! stamps that may be taken is kept ahead of the time on disk while there is such a bucket: looked
//! at with every comparison, which are closer together than the bound is ahead.

use std::collections::BTreeSet;

use quorate_ring::NodeId;

use super::Node;
use crate::{
    api::Output,
    hybrid::META_BOUND_KEY,
    message::RpcId,
    replica::OpKey,
    store::{Command, Table, Ticket},
};

impl Node {
    /// A peer has said what its clock shows. Only an answer that is still waited for is fresh.
    pub(super) fn hear_clock(&mut self, from: NodeId, id: RpcId, wall_ms: u64) {
        let core = &mut self.core;
        if wall_ms != 0 && self.running.contains_key(&OpKey(id.0)) {
            core.hybrid.heard(from, wall_ms, core.now);
            // Who left the ring and is still known helps to outvote a wrong clock in a small one.
            let known = core.hybrid.peers().filter(|peer| core.knows(*peer));
            let known: BTreeSet<NodeId> = known.collect();
            core.hybrid.retain(|peer| known.contains(&peer));
        }
    }

    /// Reads the bound of an earlier process, then keeps our own ahead of the time.
    pub(super) fn lease_stamps(&mut self) {
        let core = &mut self.core;
        if !core.catalogue.has_lww() {
            return;
        }
        let ticket = Ticket(core.tickets + 1);
        let command = if core.hybrid.wants_to_read() {
            core.hybrid.reading(ticket);
            Command::Read {
                ticket,
                table: Table::Meta,
                key: META_BOUND_KEY.into(),
            }
        } else if let Some(write) = core.hybrid.extend(core.now, ticket) {
            let writes = vec![write];
            Command::Write { ticket, writes }
        } else {
            return;
        };
        core.tickets += 1;
        core.outputs.push_back(Output::Store(command));
    }
}
