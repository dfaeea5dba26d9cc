//! Clients that do not want an answer any more.
//!
//! A read ends at once. A write ends if nothing of it has been begun, and is then certainly not
//! applied; one that has been minted goes on to its replicas, as it would if its client had died.
//! What is handed on to another node, and what spans many keys, ends with its own time.

use std::collections::BTreeSet;

use crate::{
    api::{Moment, RequestId},
    coordinator::Operation,
    core::Origin,
    node::Node,
    replica::OpKey,
};

impl Node {
    /// Nobody waits for the answers to these requests. They are answered all the same, once each,
    /// now or later.
    pub fn handle_cancel(&mut self, now: Moment, ids: &BTreeSet<RequestId>) {
        self.core.now = now;
        let given_up = |operation: &Operation| match operation.origin() {
            Some(Origin::Client { id, .. }) => ids.contains(&id),
            Some(Origin::Peer { .. }) | None => false,
        };
        let running = self.running.iter();
        let keys: Vec<OpKey> = running
            .filter(|(_, running)| given_up(&running.operation))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            if let Some(running) = self.running.get_mut(&key) {
                let flow = running.operation.give_up(&mut self.core);
                self.settle(key, flow, None);
            }
        }
        self.pump();
    }
}
