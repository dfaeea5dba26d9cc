//! Version vectors: per actor, the greatest counter seen.
//!
//! A sorted vector, since nearly every key has one to four actors. A clock never shrinks by itself:
//! an entry that is dropped resurrects what it covered, unless all agree (see `healing::reap`).

use std::cmp::Ordering;

use quorate_ring::NodeUuid;

use super::dot::{Actor, Dot};

/// A version vector: covers (a, n) if its entry for a is at least n.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Clock {
    /// Strictly ascending by actor; no zero counters.
    entries: Vec<(Actor, u64)>,
}

impl Clock {
    /// A clock that covers nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// From entries in strictly ascending order of actor with counters above zero, else nothing.
    pub(crate) fn from_sorted(entries: Vec<(Actor, u64)>) -> Option<Self> {
        let sorted = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let positive = entries.iter().all(|(_, n)| 0 < *n);
        (sorted && positive).then_some(Self { entries })
    }

    /// True if nothing was ever seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of actors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entries in order of actor.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Actor, u64)> + Clone + '_ {
        self.entries.iter().copied()
    }

    pub(crate) fn entries(&self) -> &[(Actor, u64)] {
        &self.entries
    }

    /// The actor's counter, zero if there is none.
    #[must_use]
    pub fn get(&self, actor: Actor) -> u64 {
        match self.position(actor) {
            Ok(index) => self.entries[index].1,
            Err(_) => 0,
        }
    }

    /// True if the dot was seen by whoever holds this clock.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        dot.n <= self.get(dot.actor)
    }

    /// The greatest (epoch, counter) among the actors of a node; (0, 0) if it has none.
    #[must_use]
    pub fn highest(&self, uuid: NodeUuid) -> (u64, u64) {
        let end = self
            .entries
            .partition_point(|(actor, _)| actor.uuid <= uuid);
        match self.entries[..end].last() {
            Some((actor, n)) if actor.uuid == uuid => (actor.epoch, *n),
            Some(_) | None => (0, 0),
        }
    }

    /// True if this clock covers everything the other one covers.
    #[must_use]
    pub fn dominates(&self, other: &Self) -> bool {
        other
            .entries
            .iter()
            .all(|(actor, n)| *n <= self.get(*actor))
    }

    /// Covers from now on what the other one covers. True if that changed anything.
    pub fn join(&mut self, other: &Self) -> bool {
        if self.dominates(other) {
            return false;
        }
        let mut joined = Vec::with_capacity(self.entries.len() + other.entries.len());
        let (mut ours, mut theirs) = (self.entries.iter(), other.entries.iter());
        let (mut left, mut right) = (ours.next(), theirs.next());
        while let (Some(a), Some(b)) = (left, right) {
            match a.0.cmp(&b.0) {
                Ordering::Less => {
                    joined.push(*a);
                    left = ours.next();
                }
                Ordering::Greater => {
                    joined.push(*b);
                    right = theirs.next();
                }
                Ordering::Equal => {
                    joined.push((a.0, a.1.max(b.1)));
                    (left, right) = (ours.next(), theirs.next());
                }
            }
        }
        joined.extend(left.into_iter().chain(ours));
        joined.extend(right.into_iter().chain(theirs));
        self.entries = joined;
        true
    }

    /// Covers the dot and all earlier ones of its actor from now on.
    pub(crate) fn insert(&mut self, dot: Dot) {
        match self.position(dot.actor) {
            Ok(index) => {
                let n = &mut self.entries[index].1;
                *n = dot.n.max(*n);
            }
            Err(index) => self.entries.insert(index, (dot.actor, dot.n)),
        }
    }

    /// Entries of closed epochs: of each node all but the newest.
    pub(crate) fn closed(&self) -> impl Iterator<Item = Actor> + '_ {
        let pairs = self.entries.windows(2);
        pairs.filter_map(|pair| (pair[0].0.uuid == pair[1].0.uuid).then_some(pair[0].0))
    }

    /// The same without these entries, which must be in order.
    pub(crate) fn without(&self, actors: &[Actor]) -> Self {
        let kept = |(actor, _): &&(Actor, u64)| actors.binary_search(actor).is_err();
        Self {
            entries: self.entries.iter().filter(kept).copied().collect(),
        }
    }

    /// Index of an actor's entry.
    pub(crate) fn position(&self, actor: Actor) -> Result<usize, usize> {
        self.entries.binary_search_by(|(held, _)| held.cmp(&actor))
    }
}
