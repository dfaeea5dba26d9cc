//! Which records of this node were found damaged, and which damage it was.
//!
//! A damaged record is healed by a merge of what all other replicas hold, and of what those who are
//! up keep for them as hints. What they answer counts only for the damage that was known when they
//! were asked: a record that was written since and was then damaged again may have held what none
//! of those answers has. So each damage has a name, and who asks the others takes it along.
//!
//! Another replica may have lost its record as well. When it has written something over it, it is
//! heard like the others: what it has lost for good nobody can learn from it, and what all have
//! said is all there is. So two of three copies that are damaged at one time do not wait for each
//! other. While it cannot be read it is not heard.
//!
//! Bounded: of too many the one found first is forgotten. It is then found anew by the next who
//! touches its key; a recovery under way does not heal it.

use std::collections::BTreeMap;

use super::Address;

/// Names one damage of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DamageId(u64);

/// A record that does not speak for its key at present.
#[derive(Debug)]
pub(crate) enum Damage {
    /// It cannot be read.
    Unreadable(Address),
    /// It was written over one that could not be read, and the others were never all asked.
    Suspect(Address),
}

impl Damage {
    pub(crate) const fn address(&self) -> &Address {
        let (Self::Unreadable(address) | Self::Suspect(address)) = self;
        address
    }
}

#[derive(Debug)]
struct Known {
    id: DamageId,
    /// Something was written over it.
    written: bool,
}

/// The damage that is known and not healed.
#[derive(Debug)]
pub(super) struct Damages {
    max: usize,
    last: u64,
    known: BTreeMap<Address, Known>,
    order: BTreeMap<DamageId, Address>,
}

impl Damages {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            last: 0,
            known: BTreeMap::new(),
            order: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The damage of that record, if any is known.
    pub(super) fn id(&self, address: &Address) -> Option<DamageId> {
        self.known.get(address).map(|known| known.id)
    }

    /// A record was read and is damaged.
    pub(super) fn found(&mut self, damage: &Damage) {
        let address = damage.address();
        let (again, written) = match damage {
            Damage::Unreadable(_) => (self.known.get(address).is_some_and(|k| k.written), false),
            Damage::Suspect(_) => (false, true),
        };
        if again {
            self.healed(address);
        }
        if self.known.contains_key(address) {
            return;
        }
        if self.max <= self.known.len()
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.known.remove(&oldest);
        }
        self.last += 1;
        let id = DamageId(self.last);
        self.order.insert(id, address.clone());
        self.known.insert(address.clone(), Known { id, written });
    }

    /// A record that is still suspect is being written over it.
    pub(super) fn written(&mut self, address: &Address) {
        if let Some(known) = self.known.get_mut(address) {
            known.written = true;
        }
    }

    /// A record that speaks for the key again is being written.
    pub(super) fn healed(&mut self, address: &Address) {
        if let Some(known) = self.known.remove(address) {
            self.order.remove(&known.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::BucketId;

    fn address(key: u8) -> Address {
        Address {
            token: u64::from(key),
            bucket: BucketId(1),
            key: Bytes::copy_from_slice(&[key]),
            hint_for: None,
        }
    }

    fn unreadable(key: u8) -> Damage {
        Damage::Unreadable(address(key))
    }

    #[test]
    fn damage_found_twice_is_one_until_something_is_written_over_it() {
        let mut damages = Damages::new(8);
        damages.found(&unreadable(1));
        let first = damages.id(&address(1));
        damages.found(&unreadable(1));
        assert_eq!(damages.id(&address(1)), first);
        damages.written(&address(1));
        damages.found(&Damage::Suspect(address(1)));
        assert_eq!(damages.id(&address(1)), first);
        damages.found(&unreadable(1));
        assert!(first < damages.id(&address(1)));
    }

    #[test]
    fn damage_after_healing_is_another_one() {
        let mut damages = Damages::new(8);
        damages.found(&unreadable(1));
        let first = damages.id(&address(1));
        damages.healed(&address(1));
        assert_eq!(damages.id(&address(1)), None);
        damages.found(&unreadable(1));
        assert!(first < damages.id(&address(1)));
    }

    #[test]
    fn of_too_many_the_first_is_forgotten() {
        let mut damages = Damages::new(2);
        for key in 1..=3 {
            damages.found(&unreadable(key));
        }
        assert_eq!(damages.id(&address(1)), None);
        assert!(damages.id(&address(2)).is_some() && damages.id(&address(3)).is_some());
        assert_eq!((damages.len(), damages.order.len()), (2, 2));
    }
}
