//! The ring as the client last heard of it, with a link to each member.

use std::{collections::BTreeMap, sync::Arc};

use quorate_ring::{Member, NodeId, Ring, Token};
use tokio::time::Instant;

use crate::{
    link::Link,
    routing::{Candidate, Health, Preference, is_good, pick},
};

/// Replicas of a key among which requests are spread: a bucket's usual n. In a bucket with more,
/// the others are asked only when these are down; with fewer, a node forwards.
const REPLICAS: usize = 3;

/// Where a request may go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route<'a> {
    /// To the replicas of a key.
    Key(&'a str, &'a [u8]),
    /// To any node.
    Any,
}

/// The ring and a link to each of its members.
#[derive(Debug)]
pub(crate) struct Table {
    epoch: u64,
    ring: Ring,
    links: BTreeMap<NodeId, Arc<Link>>,
}

impl Table {
    /// A table for `ring`; links of members whose address is the same are taken from `old`.
    pub(crate) fn new(ring: Ring, old: Option<&Self>) -> Self {
        let links = ring.members().iter().map(|member| {
            let known = old
                .and_then(|old| old.links.get(&member.id))
                .filter(|link| link.address == member.address);
            let link = known.cloned().unwrap_or_else(|| {
                Arc::new(Link::new(Some(member.name.clone()), member.address.clone()))
            });
            (member.id, link)
        });
        Self {
            epoch: ring.epoch().get(),
            links: links.collect(),
            ring,
        }
    }

    /// Whether that ring says more: it is newer, or its members are elsewhere.
    pub(crate) fn is_behind(&self, ring: &Ring) -> bool {
        let elsewhere = || {
            let places = |member: &Member| (member.id, member.address.clone());
            !ring
                .members()
                .iter()
                .map(places)
                .eq(self.ring.members().iter().map(places))
        };
        let epoch = ring.epoch().get();
        self.epoch < epoch || self.epoch == epoch && elsewhere()
    }

    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The link to the member of this name.
    pub(crate) fn link(&self, name: &str) -> Option<&Arc<Link>> {
        self.links.get(&NodeId::of_name(name))
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.links.values()
    }

    /// The best node for a request among those not in `tried`; `seeds` come after all members.
    pub(crate) fn choose<'a>(
        &'a self,
        seeds: &'a [Arc<Link>],
        route: Route<'_>,
        preference: Preference,
        tried: &[Arc<Link>],
        dice: Dice,
    ) -> Option<&'a Arc<Link>> {
        let mut known = Known::default();
        let fresh = |link: &&Arc<Link>| !tried.iter().any(|tried| Arc::ptr_eq(tried, link));
        match route {
            Route::Key(bucket, key) if preference != Preference::Any => {
                let token = Token::of(self.ring.seed(), bucket, key);
                let owners = self.ring.preference(token).owners(REPLICAS);
                let replicas = owners.iter().filter_map(|id| self.links.get(id));
                known.add(replicas.filter(fresh), true, dice.now);
                if let Some(good) = known.good(preference, dice.word) {
                    return Some(good);
                }
                let others = self.links.iter().filter(|(id, _)| !owners.contains(id));
                known.add(others.map(|(_, link)| link).filter(fresh), false, dice.now);
            }
            Route::Key(..) | Route::Any => {
                known.add(self.links().filter(fresh), true, dice.now);
            }
        }
        // The same nodes under other names: only if the ring's are of no use.
        if known
            .candidates
            .iter()
            .all(|one| one.health == Health::Down)
        {
            known.add(seeds.iter().filter(fresh), false, dice.now);
        }
        let best = pick(&known.candidates, preference, dice.word)?;
        Some(known.links[best])
    }
}

/// What a choice depends on beside the table: the time, and chance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice {
    pub(crate) now: Instant,
    pub(crate) word: u64,
}

/// The nodes looked at so far.
#[derive(Default)]
struct Known<'a> {
    links: Vec<&'a Arc<Link>>,
    candidates: Vec<Candidate>,
}

impl<'a> Known<'a> {
    fn add(&mut self, links: impl Iterator<Item = &'a Arc<Link>>, replica: bool, now: Instant) {
        for link in links {
            self.links.push(link);
            self.candidates.push(link.candidate(replica, now));
        }
    }

    /// The best of them, if looking further would not find better.
    fn good(&self, preference: Preference, word: u64) -> Option<&'a Arc<Link>> {
        let best = pick(&self.candidates, preference, word)?;
        is_good(&self.candidates, best).then(|| self.links[best])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quorate_ring::Partitions;

    use super::*;
    use crate::routing::scatter;

    fn ring(count: usize) -> Ring {
        let members = (1..=count)
            .map(|n| Member::new(&format!("n{n}"), &format!("127.0.0.1:{n}"), "z", 1).unwrap())
            .collect();
        Ring::founding(members, Partitions::new(64).unwrap(), 7, 3).unwrap()
    }

    fn dice(word: u64) -> Dice {
        Dice {
            now: Instant::now(),
            word: scatter(word),
        }
    }

    fn all(table: &Table, seeds: &[Arc<Link>], route: Route<'_>) -> Vec<String> {
        let mut tried: Vec<Arc<Link>> = Vec::new();
        let first = Preference::First;
        while let Some(link) = table.choose(seeds, route, first, &tried, dice(0)) {
            tried.push(link.clone());
        }
        tried.iter().map(|link| link.label()).collect()
    }

    #[test]
    fn a_key_is_asked_of_its_replicas_first_then_of_everyone_then_of_the_profile() {
        let table = Table::new(ring(5), None);
        let seeds = [Arc::new(Link::new(None, "seed:1".to_owned()))];
        let order = all(&table, &seeds, Route::Key("b", b"k"));
        let token = Token::of(7, "b", b"k");
        let owners = table.ring.preference(token).owners(3).to_vec();
        for (label, id) in order.iter().zip(&owners) {
            assert_eq!(*label, table.links[id].label());
        }
        assert_eq!(order.len(), 6);
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 6);
        assert_eq!(order[5], "seed:1");
    }

    #[test]
    fn reads_go_where_little_is_in_flight() {
        let table = Table::new(ring(3), None);
        let route = Route::Key("b", b"k");
        let choose = |word| {
            let link = table.choose(&[], route, Preference::Soonest, &[], dice(word));
            link.unwrap().clone()
        };
        let now = Instant::now();
        let flights: Vec<_> = (0..300).map(|word| choose(word).begin(now)).collect();
        let owed = |link: &Arc<Link>| link.candidate(true, now).in_flight;
        assert!(table.links().all(|link| (98..=102).contains(&owed(link))));
        drop(flights);
        assert!(table.links().all(|link| owed(link) == 0));
    }

    #[test]
    fn a_member_that_moved_gets_a_new_link() {
        let old = Table::new(ring(3), None);
        assert!(!old.is_behind(&ring(3)));
        let n2 = NodeId::of_name("n2");
        let moved = ring(3).relocated(|node| (node == n2).then_some("127.0.0.1:99"));
        assert!(old.is_behind(&moved));
        let new = Table::new(moved, Some(&old));
        let link = |table: &Table, name| table.link(name).unwrap().clone();
        assert!(Arc::ptr_eq(&link(&old, "n1"), &link(&new, "n1")));
        assert_eq!(link(&new, "n2").label(), "n2 (127.0.0.1:99)");
    }

    #[test]
    fn a_new_ring_keeps_the_links_of_members_that_stay() {
        let old = Table::new(ring(3), None);
        let new = Table::new(ring(4), Some(&old));
        for name in ["n1", "n2", "n3"] {
            assert!(Arc::ptr_eq(
                old.link(name).unwrap(),
                new.link(name).unwrap()
            ));
        }
        assert!(old.link("n4").is_none() && new.link("n4").is_some());
    }
}
