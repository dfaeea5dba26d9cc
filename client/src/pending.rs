//! Requests that wait for an answer on one lane.
//!
//! A slot's number and generation together are the request id, so that a late answer to a request
//! that was given up never reaches the request that took over its slot. How many may wait is
//! decided by whoever inserts.

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by request id.
#[derive(Debug)]
pub(crate) struct Pending<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Pending<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Keeps `value` and names it. No id is zero, which belongs to Hello.
    pub(crate) fn insert(&mut self, value: T) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
            u32::try_from(self.slots.len() - 1).expect("four billion requests do not fit in memory")
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1).max(1);
        slot.value = Some(value);
        u64::from(slot.generation) << 32 | u64::from(index)
    }

    /// Gives the value back, once.
    pub(crate) fn take(&mut self, id: u64) -> Option<T> {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of an id")]
        let (generation, index) = ((id >> 32) as u32, id as u32);
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != generation {
            return None;
        }
        let value = slot.value.take()?;
        self.free.push(index);
        Some(value)
    }

    /// Gives everything back.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        let mut values = Vec::new();
        for (index, slot) in (0..).zip(&mut self.slots) {
            if let Some(value) = slot.value.take() {
                self.free.push(index);
                values.push(value);
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_given_back_once() {
        let mut pending = Pending::new();
        let (a, b) = (pending.insert("a"), pending.insert("b"));
        assert_eq!(pending.take(b), Some("b"));
        assert_eq!(pending.take(b), None);
        assert!(!pending.is_empty());
        assert_eq!(pending.take(a), Some("a"));
        assert!(pending.is_empty());
    }

    #[test]
    fn an_old_id_does_not_reach_the_slots_next_value() {
        let mut pending = Pending::new();
        let old = pending.insert("old");
        pending.take(old);
        let new = pending.insert("new");
        assert_ne!(old, new);
        assert_eq!(pending.take(old), None);
        assert_eq!(pending.take(new), Some("new"));
    }

    #[test]
    fn ids_nobody_gave_out_find_nothing() {
        let mut pending = Pending::<()>::new();
        for id in [0, 1, u64::MAX, 1 << 32] {
            assert_eq!(pending.take(id), None);
        }
    }

    #[test]
    fn draining_leaves_every_slot_free() {
        let mut pending = Pending::new();
        let ids: Vec<u64> = (0..10).map(|n| pending.insert(n)).collect();
        pending.take(ids[3]);
        assert_eq!(pending.drain().len(), 9);
        assert!(pending.is_empty());
        assert!(ids.iter().all(|id| pending.take(*id).is_none()));
    }
}
