//! Where members are who have moved since the ring was agreed on, and who was forgotten.
//!
//! The ring says who a member is and what it owns; where it is may change without anybody's
//! agreement. Each member says it itself, under a version that it raises above every other one it
//! hears about itself; everybody else passes on what has the greatest. A wrong address does no
//! harm: whoever answers there has to show the member's certificate.
//!
//! Not decided here: what is sent to whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_gossip::Instant;
use quorate_ring::{MEMBERS_MAX, Member, NodeId};

/// When something was last heard of, also if that was before this process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    at: Instant,
    before: Duration,
}

impl Heard {
    pub(crate) const fn now(now: Instant) -> Self {
        Self::ago(now, Duration::ZERO)
    }

    pub(crate) const fn ago(now: Instant, before: Duration) -> Self {
        Self { at: now, before }
    }

    /// How long ago that is.
    pub(crate) fn away(self, now: Instant) -> Duration {
        now.since(self.at).saturating_add(self.before)
    }

    /// The later of two.
    pub(crate) fn latest(self, other: Self, now: Instant) -> Self {
        if other.away(now) < self.away(now) {
            other
        } else {
            self
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    version: u64,
    address: String,
}

/// A node that was forgotten: records of it up to that version are worth nothing.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    pub(crate) member: Member,
    pub(crate) version: u64,
    pub(crate) since: Heard,
}

/// What is known of places.
#[derive(Debug, Default)]
pub(crate) struct Places {
    moved: BTreeMap<NodeId, Place>,
    gone: BTreeMap<NodeId, Gone>,
    /// This node, as the others should know it.
    own: Option<Member>,
    /// Who may not know yet where this node is.
    unaware: BTreeSet<NodeId>,
}

impl Places {
    /// Where a member of the ring is, if not where the ring says.
    pub(crate) fn address(&self, node: NodeId) -> Option<&str> {
        self.moved.get(&node).map(|place| place.address.as_str())
    }

    /// The version of what is known of a node here; zero if it has never moved.
    pub(crate) fn version(&self, node: NodeId) -> u64 {
        let moved = self.moved.get(&node).map(|place| place.version);
        let gone = self.gone.get(&node).map(|gone| gone.version);
        moved.max(gone).unwrap_or(0)
    }

    /// A member is said to be there; true if that is news. Of two places of one version any may
    /// win, as long as it is the same one everywhere.
    pub(crate) fn moves(&mut self, node: NodeId, address: &str, version: u64) -> bool {
        let place = Place {
            version,
            address: address.to_owned(),
        };
        let rank = |place: &Place| (place.version, place.address.clone());
        match self.moved.get(&node) {
            Some(known) if rank(&place) <= rank(known) => false,
            None if MEMBERS_MAX <= self.moved.len() => false,
            Some(_) | None => {
                self.moved.insert(node, place);
                true
            }
        }
    }

    /// Where a member is does not matter here any more.
    pub(crate) fn leave(&mut self, node: NodeId) {
        self.moved.remove(&node);
    }

    /// Members that have said where they are: id, address and version.
    pub(crate) fn moved(&self) -> impl Iterator<Item = (NodeId, &str, u64)> {
        let hints = |(_, place): &(&NodeId, &Place)| place.version != 0;
        let said = self.moved.iter().filter(hints);
        said.map(|(node, place)| (*node, place.address.as_str(), place.version))
    }

    /// A node was forgotten; true if that is news.
    pub(crate) fn forget(&mut self, gone: Gone) -> bool {
        let id = gone.member.id;
        let known = self.gone.get(&id).map(|known| known.version);
        if known.is_some_and(|version| gone.version <= version)
            || MEMBERS_MAX <= self.gone.len() && known.is_none()
        {
            return false;
        }
        self.gone.insert(id, gone);
        true
    }

    /// True if a record of that version is of somebody who has been forgotten since. A later one
    /// ends the forgetting.
    pub(crate) fn is_gone(&mut self, node: NodeId, version: u64) -> bool {
        let gone = self.gone.get(&node).map(|gone| gone.version);
        let outlived = gone.is_some_and(|gone| gone < version);
        if outlived {
            self.gone.remove(&node);
        }
        gone.is_some() && !outlived
    }

    /// Those who were forgotten.
    pub(crate) fn gone(&self) -> impl Iterator<Item = &Gone> {
        self.gone.values()
    }

    /// Forgets that somebody was forgotten, after so long: by then everybody has.
    pub(crate) fn expire(&mut self, now: Instant, after: Duration) {
        self.gone.retain(|_, gone| gone.since.away(now) < after);
    }

    /// This node is there.
    pub(crate) fn reside(&mut self, own: Member) {
        self.own = Some(own);
    }

    pub(crate) const fn own(&self) -> Option<&Member> {
        self.own.as_ref()
    }

    /// These have to be told where this node is.
    pub(crate) fn tell(&mut self, peers: impl IntoIterator<Item = NodeId>) {
        self.unaware.extend(peers);
    }

    /// A peer has reached this node: it knows where it is.
    pub(crate) fn reached(&mut self, by: NodeId) {
        self.unaware.remove(&by);
    }

    /// Who may not know yet where this node is.
    pub(crate) fn unaware(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.unaware.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NODE: NodeId = NodeId::new(4);

    fn gone(version: u64) -> Gone {
        let member = Member::new("n4", "h:1", "z", 1).unwrap();
        let since = Heard::now(Instant::START);
        Gone {
            member: Member { id: NODE, ..member },
            version,
            since,
        }
    }

    #[test]
    fn what_was_heard_before_the_process_began_counts() {
        let hour = Duration::from_hours(1);
        let early = Instant::from_nanos(5);
        let (old, new) = (Heard::ago(early, hour), Heard::now(early));
        assert_eq!(old.away(early + hour), hour * 2);
        assert_eq!(old.latest(new, early), new);
        assert_eq!(new.latest(old, early), new);
    }

    #[test]
    fn who_was_forgotten_stays_so_until_it_joins_again_or_long_after() {
        let mut places = Places::default();
        assert!(places.forget(gone(3)));
        assert!(!places.forget(gone(3)));
        assert!(places.is_gone(NODE, 3), "told by one who did not hear");
        assert_eq!(places.version(NODE), 3);
        assert!(!places.is_gone(NODE, 4), "it has joined again");
        assert!(!places.is_gone(NODE, 3));
        let day = Duration::from_hours(24);
        places.forget(gone(5));
        places.expire(Instant::START + day, day);
        assert_eq!(places.gone().count(), 0);
    }

    #[test]
    fn a_node_that_cannot_be_reached_is_told_until_it_reaches_us() {
        let mut places = Places::default();
        places.tell([NODE, NodeId::new(5)]);
        places.reached(NODE);
        assert_eq!(places.unaware().collect::<Vec<_>>(), [NodeId::new(5)]);
    }

    proptest! {
        /// Everybody comes to the same place, in whatever order the news arrive.
        #[test]
        fn places_are_the_same_everywhere(
            mut news in prop::collection::vec((0_u64..4, 0_u64..4, 1_u64..5), 1..20),
            turn in any::<prop::sample::Index>(),
        ) {
            let told = |news: &[(u64, u64, u64)]| {
                let mut places = Places::default();
                for (node, port, version) in news {
                    places.moves(NodeId::new(*node), &format!("h:{port}"), *version);
                }
                let moved = places.moved();
                let all = moved.map(|(node, address, version)| (node, address.to_owned(), version));
                all.collect::<Vec<_>>()
            };
            let first = told(&news);
            let at = turn.index(news.len());
            news.rotate_left(at);
            news.reverse();
            prop_assert_eq!(told(&news), first);
        }
    }
}
