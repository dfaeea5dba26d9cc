//! The ring as the client last heard of it, with a link to each member.

use std::{collections::BTreeMap, sync::Arc};

use quorate_ring::{Member, NodeId, Ring, Token};

use crate::{
    link::Link,
    routing::{Candidate, Preference, Score},
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
    ) -> Option<&'a Arc<Link>> {
        let mut best = Best {
            found: None,
            preference,
            tried,
        };
        match route {
            Route::Key(bucket, key) => {
                let token = Token::of(self.ring.seed(), bucket, key);
                for id in self.ring.preference(token).owners(REPLICAS) {
                    if let Some(link) = self.links.get(id) {
                        best.consider(link, true);
                    }
                }
                if !best.is_good() {
                    self.links().for_each(|link| best.consider(link, false));
                }
            }
            Route::Any => self.links().for_each(|link| best.consider(link, true)),
        }
        if !best.is_good() {
            for link in seeds {
                best.consider(link, false);
            }
        }
        best.found.map(|(_, link)| link)
    }
}

/// The best node seen so far.
struct Best<'a, 'b> {
    found: Option<(Score, &'a Arc<Link>)>,
    preference: Preference,
    tried: &'b [Arc<Link>],
}

impl<'a> Best<'a, '_> {
    fn consider(&mut self, link: &'a Arc<Link>, replica: bool) {
        if self.tried.iter().any(|tried| Arc::ptr_eq(tried, link)) {
            return;
        }
        let candidate = Candidate {
            health: link.health(),
            replica,
            in_flight: link.in_flight(),
        };
        let score = Score::of(candidate, self.preference);
        // A replica is considered once more among all members, as a lesser candidate.
        if self.found.is_none_or(|(least, _)| score < least) {
            self.found = Some((score, link));
        }
    }

    fn is_good(&self) -> bool {
        self.found.is_some_and(|(score, _)| score.is_good())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quorate_ring::Partitions;

    use super::*;

    fn ring(count: usize) -> Ring {
        let members = (1..=count)
            .map(|n| Member::new(&format!("n{n}"), &format!("127.0.0.1:{n}"), "z", 1).unwrap())
            .collect();
        Ring::founding(members, Partitions::new(64).unwrap(), 7, 3).unwrap()
    }

    fn all(table: &Table, seeds: &[Arc<Link>], route: Route<'_>) -> Vec<String> {
        let mut tried: Vec<Arc<Link>> = Vec::new();
        while let Some(link) = table.choose(seeds, route, Preference::First, &tried) {
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
    fn reads_go_where_least_is_in_flight() {
        let table = Table::new(ring(3), None);
        let route = Route::Key("b", b"k");
        let choose = || {
            let link = table.choose(&[], route, Preference::Idlest, &[]);
            link.unwrap().clone()
        };
        let flights: Vec<_> = (0..30).map(|_| choose().begin()).collect();
        assert!(table.links().all(|link| link.in_flight() == 10));
        drop(flights);
        assert!(table.links().all(|link| link.in_flight() == 0));
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
