//! What the replica does when a write is coordinated here: merge what others hold, check, mint.

use std::sync::Arc;

use super::{
    Address, Caller, Done, Entry, Held, Intent, Refusal, Replica, Waits, admission,
    answer::refusal, hold,
};
use crate::causality::{Coordinated, coordinate, receive};

impl Replica {
    pub(super) fn coordinate(
        &mut self,
        entry: &mut Entry,
        address: &Address,
        caller: Caller,
        intent: Intent,
    ) -> Waits {
        match self.try_coordinate(entry, address, intent) {
            Ok((done, waits)) => {
                self.done.push_back((caller, address.clone(), done));
                waits
            }
            Err(refusal) => {
                let done = Done::Refused(refusal);
                self.done.push_back((caller, address.clone(), done));
                Waits::No
            }
        }
    }

    fn try_coordinate(
        &mut self,
        entry: &mut Entry,
        address: &Address,
        intent: Intent,
    ) -> Result<(Done, Waits), Refusal> {
        let suspect = entry.latest.is_suspect();
        let merged = match (&entry.latest, &intent.base) {
            (Held::Unreadable, None) => return Err(Refusal::Unreadable),
            (latest, Some(base)) => {
                let received = receive(latest.container(), base.clone(), &mut self.minter)
                    .map_err(|error| refusal(&error))?;
                // An empty base on an absent key is still absent.
                let nothing = received.container.clock().is_empty();
                (!nothing).then_some((received.container, received.changed))
            }
            (latest, None) => latest.container().map(|local| (local.clone(), false)),
        };
        let (local, base_changed) = match merged {
            Some((container, changed)) => (Some(container), changed),
            None => (None, false),
        };
        admission::check(local.as_ref(), &intent)?;
        match coordinate(local.as_ref(), &mut self.minter, intent.write) {
            Coordinated::Minted {
                dot,
                container,
                rule,
            } => {
                entry.latest = hold(address, container, suspect);
                let Held::Present(stored) = &entry.latest else {
                    unreachable!("just put there")
                };
                let done = Done::Coordinated {
                    dot: Some(dot),
                    rule,
                    stored: Arc::clone(stored),
                };
                Ok((done, Waits::ForNextWrite))
            }
            Coordinated::AlreadyApplied => {
                let known = local.expect("an operation is known only to a key that is there");
                if base_changed {
                    entry.latest = hold(address, known, suspect);
                }
                let Held::Present(stored) = &entry.latest else {
                    unreachable!("the operation was found in it")
                };
                let done = Done::Coordinated {
                    dot: None,
                    rule: None,
                    stored: Arc::clone(stored),
                };
                let waits = if base_changed {
                    Waits::ForNextWrite
                } else {
                    Waits::ForWhatIsThere
                };
                Ok((done, waits))
            }
            Coordinated::OpIdReused => Err(Refusal::OpIdReused),
            Coordinated::LeaseExhausted => Err(Refusal::Limit("epoch_lease")),
        }
    }
}
