//! The laws of placement: distinct nodes, distinct zones, balance, few moves, canonical bytes.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a test may fail, and its counts are small"
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quorate_ring::{Member, NodeId, Partition, Partitions, Ring};

fn members(count: usize, zones: usize, weight: impl Fn(usize) -> u32) -> Vec<Member> {
    let member = |at| {
        let (name, zone) = (format!("n{at}"), format!("z{}", at % zones));
        Member::new(
            &name,
            &format!("127.0.0.1:{}", 7400 + at),
            &zone,
            weight(at),
        )
        .unwrap()
    };
    (0..count).map(member).collect()
}

fn even(count: usize) -> Vec<Member> {
    members(count, 1, |_| 1)
}

fn found(members: Vec<Member>, q: u32) -> Ring {
    Ring::founding(members, Partitions::new(q).unwrap(), 7, 5).unwrap()
}

fn lists(ring: &Ring, n: usize) -> impl Iterator<Item = &[NodeId]> {
    (0..ring.partitions().count()).map(move |p| ring.list(Partition(p)).owners(n))
}

fn load(ring: &Ring, n: usize) -> BTreeMap<NodeId, f64> {
    let mut load: BTreeMap<NodeId, f64> = ring.members().iter().map(|m| (m.id, 0.0)).collect();
    for node in lists(ring, n).flatten() {
        *load.get_mut(node).unwrap() += 1.0;
    }
    for member in ring.members() {
        *load.get_mut(&member.id).unwrap() /= f64::from(member.weight);
    }
    load
}

/// Max over mean of the load per weight, after allowing one partition of rounding.
fn imbalance(ring: &Ring, n: usize) -> f64 {
    let load = load(ring, n);
    let weights: f64 = ring.members().iter().map(|m| f64::from(m.weight)).sum();
    let slots = f64::from(ring.partitions().count()) * n.min(ring.members().len()) as f64;
    let max = load.values().fold(0.0_f64, |a, b| a.max(*b));
    (max - 1.0) / (slots / weights)
}

/// Replicas that a node holds now and did not hold before, among the first `n` places.
fn moved(old: &Ring, new: &Ring, n: usize) -> usize {
    let pairs = lists(old, n).zip(lists(new, n));
    pairs
        .map(|(old, new)| new.iter().filter(|node| !old.contains(node)).count())
        .sum()
}

fn check_distinct(ring: &Ring) {
    let want = ring.members().len().min(5);
    let zone = |id: &NodeId| ring.member(*id).unwrap().zone.clone();
    let zones: BTreeSet<_> = ring.members().iter().map(|m| m.zone.clone()).collect();
    for list in lists(ring, 5) {
        assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), want);
        for n in 1..=want {
            let here: BTreeSet<_> = list[..n].iter().map(zone).collect();
            assert_eq!(here.len(), n.min(zones.len()), "zones of the first {n}");
        }
    }
}

#[test]
fn equal_nodes_hold_equally_much_at_every_n() {
    for (count, q) in [(3, 8), (4, 64), (5, 256), (7, 256), (30, 1024), (64, 4096)] {
        let ring = found(even(count), q);
        check_distinct(&ring);
        for n in 1..=5 {
            assert!(
                imbalance(&ring, n) <= 1.02,
                "{count} nodes, {q} partitions, n={n}"
            );
        }
    }
}

#[test]
fn two_hundred_nodes_and_sixty_five_thousand_partitions() {
    let ring = found(even(200), 65_536);
    check_distinct(&ring);
    let load = load(&ring, 3);
    let max = load.values().fold(0.0_f64, |a, b| a.max(*b));
    assert!(max / (65_536.0 * 3.0 / 200.0) <= 1.02);
    let mut fewer = even(200);
    fewer.remove(77);
    let next = ring.successor(fewer).unwrap();
    check_distinct(&next);
    let least = 65_536.0 * 5.0 / 200.0;
    assert!(moved(&ring, &next, 5) as f64 <= 1.10 * least);
    assert!(imbalance(&next, 3) <= 1.02);
}

#[test]
fn a_newcomer_takes_its_fair_share_and_nobody_else_moves() {
    for count in [3_usize, 5, 9, 29] {
        let ring = found(even(count), 1024);
        let next = ring.successor(even(count + 1)).unwrap();
        check_distinct(&next);
        for n in [3, 5] {
            let fair = 1024.0 * n.min(count + 1) as f64 / (count + 1) as f64;
            let grown = 1024.0 * (n.min(count + 1) - n.min(count)) as f64;
            let moved = moved(&ring, &next, n) as f64;
            assert!(
                moved <= 1.10 * fair.max(grown) + 1.0,
                "{count} nodes, n={n}: {moved}"
            );
            assert!(imbalance(&next, n) <= 1.02, "{count} nodes, n={n}");
        }
    }
}

#[test]
fn growing_one_by_one_keeps_balance() {
    let mut ring = found(even(3), 256);
    for count in 4..=20 {
        ring = ring.successor(even(count)).unwrap();
        check_distinct(&ring);
        assert!(imbalance(&ring, 3) <= 1.02, "{count} nodes");
    }
}

#[test]
fn weights_decide_the_share() {
    let ring = found(
        members(12, 1, |at| 1 + u32::try_from(at % 4).unwrap()),
        1024,
    );
    assert!(imbalance(&ring, 3) <= 1.02);
}

#[test]
fn fallbacks_are_everyone_else_once() {
    let ring = found(even(9), 64);
    for partition in (0..64).map(Partition) {
        let mut all: Vec<_> = ring.list(partition).owners(3).to_vec();
        all.extend(ring.fallbacks(partition, 3));
        assert_eq!(all.len(), 9);
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 9);
    }
}

#[test]
fn bytes_are_pinned() {
    let ring = found(even(2), 8);
    let bytes = ring.to_bytes();
    assert_eq!(
        bytes.len(),
        4 + 2 + 8 + 4 + 4 + 1 + 16 + 2 + 2 * (3 + 2 + 14 + 2 + 4) + 8 * 2 * 2
    );
    assert_eq!(&bytes[..6], b"QRNG\x01\0");
    assert_eq!(ring.hash(), 0xdebc_f0b8_a106_99fc_4e00_4089_50a1_2138);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cluster_keeps_the_laws_through_a_change(
        count in 1_usize..24,
        zones in 1_usize..5,
        bits in 3_u32..9,
        leaver in 0_usize..24,
        joiners in 0_usize..3,
    ) {
        let ring = found(members(count, zones, |_| 1), 1 << bits);
        check_distinct(&ring);
        let mut after = members(count + joiners, zones, |_| 1);
        if leaver < count && 1 < after.len() {
            after.remove(leaver);
        }
        let next = ring.successor(after.clone()).unwrap();
        prop_assert_eq!(next.clone(), ring.successor(after).unwrap());
        check_distinct(&next);
        for list in lists(&next, 5) {
            let distinct: BTreeSet<_> = list.iter().collect();
            prop_assert_eq!(distinct.len(), next.members().len().min(5));
        }
        prop_assert_eq!(Ring::from_bytes(&next.to_bytes()), Ok(next));
    }

    #[test]
    fn damaged_bytes_never_panic(at in 0_usize..400, flip in 1_u8..=255, cut in 0_usize..400) {
        let mut bytes = found(even(5), 16).to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let _ = Ring::from_bytes(&bytes);
        let _ = Ring::from_bytes(&bytes[..cut.min(bytes.len())]);
    }
}
