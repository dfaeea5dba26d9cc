//! Whom this node compares with, and over which parts of the token space.
//!
//! Two nodes are compared for each n over the partitions of which both are among the first n
//! owners. Both work this out from the same ring, so they must be at the same epoch to compare.

use std::collections::BTreeMap;

use quorate_ring::{NodeId, Partition, Ring, RingEpoch};

use crate::healing::merkle::trie::{LEAF_BITS, Span};

/// A peer and a value of n.
pub(super) type PairKey = (NodeId, u8);

/// Common ground by pair.
#[derive(Debug, Default)]
pub(super) struct Layout {
    made_of: Option<(RingEpoch, Vec<u8>)>,
    domains: BTreeMap<PairKey, Vec<Span>>,
}

impl Layout {
    /// Follows the ring and the buckets. True if anything changed.
    pub(super) fn refresh(&mut self, ring: &Ring, me: NodeId, ns: Vec<u8>) -> bool {
        let made_of = Some((ring.epoch(), ns));
        if self.made_of == made_of {
            return false;
        }
        self.domains.clear();
        for n in made_of.iter().flat_map(|(_, ns)| ns) {
            for member in ring.members() {
                if member.id == me {
                    continue;
                }
                let spans = common(ring, *n, me, member.id);
                if !spans.is_empty() {
                    self.domains.insert((member.id, *n), spans);
                }
            }
        }
        self.made_of = made_of;
        true
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = PairKey> + '_ {
        self.domains.keys().copied()
    }

    /// What is compared with that peer; nothing if it is no pair.
    pub(super) fn domain(&self, pair: PairKey) -> &[Span] {
        self.domains.get(&pair).map_or(&[], Vec::as_slice)
    }
}

/// Leaves of the partitions of which both nodes are among the first `n` owners; neighbours joined.
pub(super) fn common(ring: &Ring, n: u8, a: NodeId, b: NodeId) -> Vec<Span> {
    let count = ring.partitions().count();
    let width = LEAF_BITS - count.trailing_zeros();
    let mut spans: Vec<Span> = Vec::new();
    for partition in 0..count {
        let owners = ring.list(Partition(partition)).owners(usize::from(n));
        if !owners.contains(&a) || !owners.contains(&b) {
            continue;
        }
        let (first, end) = (partition << width, (partition + 1) << width);
        match spans.last_mut() {
            Some(last) if last.end == first => last.end = end,
            Some(_) | None => spans.push(Span { first, end }),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use quorate_ring::{Member, Partitions};

    use super::*;

    #[test]
    fn every_leaf_is_compared_by_all_pairs_of_its_owners() {
        let names = ["a", "b", "c", "d", "e"];
        let members = names.map(|name| Member::new(name, "127.0.0.1:1", "z", 1).unwrap());
        let partitions = Partitions::new(64).unwrap();
        let ring = Ring::founding(members.to_vec(), partitions, 1, 5).unwrap();
        let ids = names.map(NodeId::of_name);
        for n in 1..=5_u8 {
            let mut leaves = 0_u64;
            for (at, a) in ids.iter().enumerate() {
                for b in &ids[at + 1..] {
                    let spans = common(&ring, n, *a, *b);
                    assert_eq!(spans, common(&ring, n, *b, *a));
                    assert!(spans.windows(2).all(|pair| pair[0].end < pair[1].first));
                    let here = spans.iter().map(|span| u64::from(span.end - span.first));
                    leaves += here.sum::<u64>();
                }
            }
            let pairs = u64::from(n) * u64::from(n - 1) / 2;
            assert_eq!(leaves, pairs << LEAF_BITS);
        }
    }
}
