//! Damaged records: one of this node's own cannot be trusted, so the other replicas are asked.
//!
//! Decides when a recovery starts and how many may run. What a recovered record is, the read
//! operation and the replica decide.

use std::time::Duration;

use super::Node;
use crate::{
    coordinator::{Operation, read::ReadOp},
    event::Event,
    replica::Damage,
};

impl Node {
    /// A record does not speak for its key at present. A hint that is damaged is gone; its owner
    /// learns from the other replicas what it held.
    pub(super) fn doubt(&mut self, damage: Damage) {
        let address = damage.address();
        if address.is_hint() {
            let (bucket, key) = (address.bucket, address.key.clone());
            self.core.upkeep.corrupt += 1;
            self.core.event(Event::CorruptRecord { bucket, key });
            return;
        }
        self.healing.doubted(address.token);
        self.recover(damage);
    }

    /// Our own record of a key is damaged: ask all others what it held, once at a time.
    pub(super) fn recover(&mut self, damage: Damage) {
        let (Damage::Unreadable(address) | Damage::Suspect(address)) = &damage;
        let address = address.clone();
        if self.recoveries.contains_key(&address) {
            return;
        }
        if matches!(damage, Damage::Unreadable(_)) {
            self.core.upkeep.corrupt += 1;
            self.core.event(Event::CorruptRecord {
                bucket: address.bucket,
                key: address.key.clone(),
            });
        }
        let Some(n) = self.core.catalogue.replicas(address.bucket) else {
            return;
        };
        let token = quorate_ring::Token::new(address.token);
        let replicas = self
            .core
            .ring
            .preference(token)
            .owners(usize::from(n))
            .to_vec();
        if self.core.limits.recoveries_max <= self.recoveries.len() {
            // The next one who touches the key tries again.
            return;
        }
        let key = self.core.op_key();
        let deadline = self.core.now.mono + Duration::from_secs(10);
        let place = (address.clone(), replicas);
        if let Some(op) = ReadOp::recovery(&mut self.core, key, place, deadline) {
            self.recoveries.insert(address, key);
            self.core.upkeep.recovering = self.recoveries.len();
            self.run(key, Operation::Read(Box::new(op)));
        }
    }
}
