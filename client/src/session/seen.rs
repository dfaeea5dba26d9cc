//! What a session has seen, key by key: pure, and bounded.
//!
//! Of each key it keeps the contexts that the next read has to cover. A read that covers them puts
//! its own in their place; a write takes the place of the context it was sent with. Beyond a
//! number of keys, those that were not used for longest are forgotten.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    Context,
    wire::{SeenKey, request::SEEN_MAX},
};

/// A bucket and a key.
pub(crate) type Place = (String, Bytes);

/// One context to be covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) context: Context,
    /// Replicas have it. Not known of a write that fallbacks keep for them.
    pub(crate) settled: bool,
}

#[derive(Debug, Default)]
struct Floor {
    marks: Vec<Mark>,
    /// Writes that will bring a context each.
    writing: usize,
    used: u64,
}

/// Why a read shows less than the session has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Less;

/// A key has so many contexts that none may be added before they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Everything a session has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    floors: BTreeMap<Place, Floor>,
    order: BTreeMap<u64, Place>,
    keys_max: usize,
    uses: u64,
}

impl Seen {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self {
            floors: BTreeMap::new(),
            order: BTreeMap::new(),
            keys_max: keys_max.max(1),
            uses: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.floors.len()
    }

    /// What the next read of a key has to cover.
    pub(crate) fn marks(&mut self, place: &Place) -> Vec<Mark> {
        if self.floors.contains_key(place) {
            self.touch(place).marks.clone()
        } else {
            Vec::new()
        }
    }

    /// A read was sent with `sent`, and answered with this context.
    pub(crate) fn read(
        &mut self,
        place: &Place,
        sent: &[Mark],
        context: Option<&Context>,
    ) -> Result<(), Less> {
        let Some(context) = context else {
            if sent.iter().any(|mark| !mark.settled) {
                return Err(Less);
            }
            // All replicas agree that there is nothing: what was there has been deleted for good.
            self.replace(place, sent, None);
            return Ok(());
        };
        let mark = Mark {
            context: context.clone(),
            settled: true,
        };
        self.replace(place, sent, Some(mark));
        Ok(())
    }

    /// A write begins: the context to send it with, if there is one.
    pub(crate) fn begin_write(&mut self, place: &Place) -> Result<Option<Context>, Full> {
        let floor = self.touch(place);
        if SEEN_MAX <= floor.marks.len() + floor.writing {
            return Err(Full);
        }
        floor.writing += 1;
        Ok(floor.marks.last().map(|mark| mark.context.clone()))
    }

    /// A write that had begun is over, one way or the other.
    pub(crate) fn end_write(&mut self, place: &Place) {
        if let Some(floor) = self.floors.get_mut(place) {
            floor.writing = floor.writing.saturating_sub(1);
            if floor.marks.is_empty() && floor.writing == 0 {
                self.forget(place);
            }
        }
    }

    /// A write was sent with a context, and acknowledged with another.
    pub(crate) fn wrote(&mut self, place: &Place, sent: Option<&Context>, mark: Mark) {
        let old = self.floors.get(place).map(|floor| &floor.marks[..]);
        let old = old.unwrap_or_default().iter();
        let replaced: Vec<Mark> = old
            .filter(|mark| Some(&mark.context) == sent)
            .cloned()
            .collect();
        self.replace(place, &replaced, Some(mark));
    }

    pub(crate) fn forget(&mut self, place: &Place) {
        if let Some(floor) = self.floors.remove(place) {
            self.order.remove(&floor.used);
        }
    }

    fn replace(&mut self, place: &Place, old: &[Mark], new: Option<Mark>) {
        if new.is_none() && !self.floors.contains_key(place) {
            return;
        }
        let floor = self.touch(place);
        floor.marks.retain(|mark| !old.contains(mark));
        if let Some(new) = new
            && !floor.marks.contains(&new)
        {
            floor.marks.push(new);
        }
        if floor.marks.is_empty() && floor.writing == 0 {
            self.forget(place);
        }
    }

    /// The floor of a key, which is now the one used last.
    fn touch(&mut self, place: &Place) -> &mut Floor {
        self.uses += 1;
        if let Some(floor) = self.floors.get(place) {
            self.order.remove(&floor.used);
        } else if self.keys_max <= self.floors.len()
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.floors.remove(&oldest);
        }
        self.order.insert(self.uses, place.clone());
        let floor = self.floors.entry(place.clone()).or_default();
        floor.used = self.uses;
        floor
    }

    /// All of it, the key used last at the end.
    pub(crate) fn to_keys(&self) -> Vec<SeenKey> {
        let floors = self.order.values().filter_map(|place| {
            let floor = self.floors.get(place)?;
            (!floor.marks.is_empty()).then_some((place, floor))
        });
        floors
            .map(|((bucket, key), floor)| SeenKey {
                bucket: bucket.clone(),
                key: key.clone(),
                settled: floor.marks.iter().all(|mark| mark.settled),
                contexts: floor
                    .marks
                    .iter()
                    .map(|mark| mark.context.as_bytes().clone())
                    .collect(),
            })
            .collect()
    }

    /// Takes in what another session has seen.
    pub(crate) fn add(&mut self, keys: Vec<SeenKey>) {
        for seen in keys {
            let place = (seen.bucket, seen.key);
            for context in seen.contexts {
                let mark = Mark {
                    context: Context::from_bytes(context),
                    settled: seen.settled,
                };
                self.replace(&place, &[], Some(mark));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &'static str) -> Place {
        ("b".to_owned(), Bytes::from_static(key.as_bytes()))
    }

    fn context(text: &'static str) -> Context {
        Context::from_bytes(Bytes::from_static(text.as_bytes()))
    }

    fn mark(text: &'static str) -> Mark {
        Mark {
            context: context(text),
            settled: true,
        }
    }

    #[test]
    fn a_read_has_to_cover_what_was_read_and_written_before() {
        let mut seen = Seen::new(10);
        let k = place("k");
        assert!(seen.marks(&k).is_empty());
        seen.read(&k, &[], Some(&context("1"))).unwrap();
        assert_eq!(seen.marks(&k), [mark("1")]);
        // A write that had seen that covers it; one that had not does not.
        assert_eq!(seen.begin_write(&k), Ok(Some(context("1"))));
        seen.wrote(&k, Some(&context("1")), mark("2"));
        seen.end_write(&k);
        assert_eq!(seen.marks(&k), [mark("2")]);
        seen.wrote(&k, None, mark("3"));
        assert_eq!(seen.marks(&k), [mark("2"), mark("3")]);
        let sent = seen.marks(&k);
        // What is written while a read is on its way is not covered by it.
        seen.wrote(&k, None, mark("4"));
        seen.read(&k, &sent, Some(&context("5"))).unwrap();
        assert_eq!(seen.marks(&k), [mark("4"), mark("5")]);
    }

    #[test]
    fn nothing_on_any_replica_is_believed_unless_only_fallbacks_had_it() {
        let mut seen = Seen::new(10);
        let k = place("k");
        seen.wrote(&k, None, mark("1"));
        let sent = seen.marks(&k);
        assert_eq!(seen.read(&k, &sent, None), Ok(()));
        assert_eq!(seen.len(), 0);
        let hinted = Mark {
            context: context("2"),
            settled: false,
        };
        seen.wrote(&k, None, hinted);
        let sent = seen.marks(&k);
        assert_eq!(seen.read(&k, &sent, None), Err(Less));
        assert_eq!(seen.marks(&k), sent);
        seen.read(&k, &sent, Some(&context("3"))).unwrap();
        assert_eq!(seen.marks(&k), [mark("3")]);
    }

    #[test]
    fn the_key_that_was_not_used_for_longest_is_forgotten() {
        let mut seen = Seen::new(2);
        for key in ["a", "b"] {
            seen.wrote(&place(key), None, mark("1"));
        }
        assert_eq!(seen.marks(&place("a")), [mark("1")]);
        seen.wrote(&place("c"), None, mark("1"));
        assert!(seen.marks(&place("b")).is_empty());
        assert_eq!(seen.marks(&place("a")), [mark("1")]);
        assert_eq!((seen.len(), seen.order.len()), (2, 2));
    }

    #[test]
    fn no_more_writes_of_a_key_begin_than_a_read_can_cover() {
        let mut seen = Seen::new(10);
        let k = place("k");
        for _ in 0..SEEN_MAX {
            assert_eq!(seen.begin_write(&k), Ok(None));
        }
        assert_eq!(seen.begin_write(&k), Err(Full));
        for _ in 0..SEEN_MAX {
            seen.end_write(&k);
        }
        assert_eq!((seen.len(), seen.order.len()), (0, 0));
    }

    #[test]
    fn what_was_seen_can_be_handed_on() {
        let mut seen = Seen::new(10);
        for (key, text) in [("a", "1"), ("b", "2"), ("a", "3")] {
            seen.wrote(&place(key), None, mark(text));
        }
        let mut other = Seen::new(10);
        other.add(seen.to_keys());
        for key in ["a", "b", "c"] {
            assert_eq!(other.marks(&place(key)), seen.marks(&place(key)));
        }
    }
}
