//! Staged changes, plans and decrees: what is merged, what moves, what is refused.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;
use quorate_ring::{
    Change, Decree, Member, NodeId, NodeUuid, Partitions, Phase, Plan, PlanError, Ring, RingEpoch,
    Staged, Token, Voter,
};

const ME: NodeId = NodeId::new(1);

fn member(at: usize) -> Member {
    let address = format!("127.0.0.1:{}", 7400 + at);
    Member::new(&format!("n{at}"), &address, "z", 1).unwrap()
}

fn found(count: usize, q: u32) -> Decree {
    let members = (0..count).map(member).collect();
    let ring = Ring::founding(members, Partitions::new(q).unwrap(), 7, 5);
    Decree::founding(ring.unwrap())
}

fn staged(decree: &Decree, changes: impl IntoIterator<Item = Change>) -> Staged {
    let mut staged = Staged::new(decree.epoch);
    for change in changes {
        assert!(staged.stage(ME, change));
    }
    staged
}

fn uuid(node: NodeId) -> NodeUuid {
    NodeUuid::new(u128::from(node.get()))
}

#[test]
fn a_join_moves_little_more_than_it_must() {
    for count in [5, 8, 20] {
        let decree = found(count, 256);
        let staged = staged(&decree, [Change::Join(member(count))]);
        let plan = Plan::new(&decree, &staged, 3).unwrap();
        assert!(plan.moved_share <= 1.10 * plan.minimum_share, "{count}");
        assert!(plan.moves.iter().all(|step| step.to == member(count).id));
        let again = Plan::new(&decree, &staged, 3).unwrap();
        assert_eq!(plan.digest, again.digest);
    }
}

#[test]
fn a_zone_may_change_beside_a_weight_and_the_spread_follows() {
    let decree = found(6, 64);
    let zone = |at: usize, zone: &str| Change::Zone(format!("n{at}"), zone.to_owned());
    let changes = [zone(0, "a"), zone(1, "a"), zone(2, "b"), zone(3, "b")];
    let weight = Change::Weight("n5".to_owned(), 2);
    let all = staged(&decree, changes.into_iter().chain([weight]));
    assert_eq!(Staged::from_bytes(&all.to_bytes()).unwrap(), all);
    let plan = Plan::new(&decree, &all, 3).unwrap();
    let weighty = plan.ring.member(NodeId::of_name("n5")).unwrap();
    assert_eq!((weighty.zone.as_str(), weighty.weight), ("z", 2));
    for p in (0..64).map(quorate_ring::Partition) {
        let owners = plan.ring.list(p).owners(3).iter();
        let zones = owners.map(|id| plan.ring.member(*id).unwrap().zone.as_str());
        assert_eq!(zones.collect::<std::collections::BTreeSet<_>>().len(), 3);
    }
    let odd = staged(&decree, [zone(0, "no zone")]);
    assert!(matches!(
        Plan::new(&decree, &odd, 3),
        Err(PlanError::Setting(_))
    ));
}

#[test]
fn a_replacement_takes_exactly_the_places_of_the_replaced() {
    let decree = found(6, 64);
    let change = Change::Replace("n2".to_owned(), member(9));
    let plan = Plan::new(&decree, &staged(&decree, [change]), 3).unwrap();
    let gone = NodeId::of_name("n2");
    assert!(
        plan.moves
            .iter()
            .all(|step| step.from == gone && step.to == member(9).id)
    );
    assert_eq!(plan.held[&gone].0, plan.held[&member(9).id].1);
}

#[test]
fn doubling_the_partitions_moves_nothing() {
    let decree = found(5, 64);
    let plan = Plan::new(&decree, &staged(&decree, [Change::Resize(128)]), 3).unwrap();
    assert!(plan.moves.is_empty());
    let odd = Plan::new(&decree, &staged(&decree, [Change::Resize(512)]), 3);
    assert_eq!(odd, Err(PlanError::Partitions(512)));
    let moving = decree.moving(plan.ring, Vec::new(), String::new(), uuid);
    for token in (0..1000).map(|at| Token::new(u64::MAX / 1000 * at)) {
        assert!(!moving.moved(token));
    }
}

#[test]
fn nonsense_makes_no_plan() {
    let decree = found(3, 8);
    let plan = |change| Plan::new(&decree, &staged(&decree, [change]), 3);
    let unknown = Change::Leave("n7".to_owned());
    assert_eq!(plan(unknown), Err(PlanError::NoMember("n7".to_owned())));
    assert_eq!(
        plan(Change::Join(member(1))),
        Err(PlanError::Member("n1".to_owned()))
    );
    let nothing = Plan::new(&decree, &Staged::new(decree.epoch), 3);
    assert_eq!(nothing, Err(PlanError::Nothing));
    let stale = Staged::new(RingEpoch::new(9));
    assert_eq!(Plan::new(&decree, &stale, 3), Err(PlanError::Nothing));
}

#[test]
fn a_change_goes_through_its_steps_and_chains_their_hashes() {
    let stable = found(4, 64);
    let next = stable.ring.successor((0..5).map(member).collect()).unwrap();
    let moving = stable.moving(next.clone(), Vec::new(), "join n4".to_owned(), uuid);
    let switched = moving.switched(uuid);
    let settled = switched.settled(uuid);
    let aborted = moving.aborted(uuid).unwrap();
    assert_eq!(moving.previous, stable.hash());
    assert_eq!(settled.previous, switched.hash());
    assert_eq!(settled.epoch, RingEpoch::new(4));
    assert_eq!(moving.reading(), stable.ring.at_epoch(moving.epoch));
    assert_eq!(moving.other(), Some(next.at_epoch(moving.epoch)));
    assert_eq!(switched.reading(), next.at_epoch(switched.epoch));
    assert_eq!(aborted.ring, stable.ring);
    assert_eq!(switched.aborted(uuid), None);
    assert_eq!(settled.phase, Phase::Stable);
    for decree in [&stable, &moving, &switched, &settled, &aborted] {
        assert_eq!(Decree::from_bytes(&decree.to_bytes()).as_ref(), Ok(decree));
    }
    let tokens = (0..64).map(|at| Token::new(u64::MAX / 64 * at));
    for token in tokens {
        let moves = moving.moved(token);
        assert_eq!(moving.admits(stable.epoch, token), !moves);
        assert_eq!(settled.admits(switched.epoch, token), !moves);
        assert!(moving.admits(moving.epoch, token));
    }
}

#[test]
fn buckets_go_along_with_every_later_decree() {
    let stable = found(4, 64);
    let defined = stable.defining(b"buckets".to_vec(), "bucket b: create".to_owned());
    assert_eq!(
        (defined.previous, defined.phase),
        (stable.hash(), Phase::Stable)
    );
    assert_eq!(defined.ring, stable.ring);
    assert!(defined.admits(stable.epoch, Token::new(7)), "no data moves");
    let next = stable.ring.successor((0..5).map(member).collect()).unwrap();
    let moving = defined.moving(next, Vec::new(), "join n4".to_owned(), uuid);
    let aborted = moving.aborted(uuid).unwrap();
    for decree in [&moving.switched(uuid).settled(uuid), &aborted] {
        assert_eq!(decree.buckets, b"buckets");
        assert_eq!(Decree::from_bytes(&decree.to_bytes()).as_ref(), Ok(decree));
    }
    assert_ne!(
        stable
            .defining(b"others".to_vec(), defined.note.clone())
            .hash(),
        defined.hash()
    );
}

#[test]
fn decrees_of_before_they_named_buckets_are_read() {
    let stable = found(3, 8);
    let mut bytes = stable.to_bytes();
    bytes[4] = 1;
    let place = bytes.len() - 4 - 4 - 3 * (8 + 16) - 4;
    bytes.drain(place..place + 4);
    assert_eq!(Decree::from_bytes(&bytes), Ok(stable));
}

#[test]
fn a_directory_nobody_named_does_not_vote() {
    let stable = found(3, 8);
    let (node, other) = (member(0).id, NodeUuid::new(99));
    assert!(stable.may_vote(node, other));
    let moving = stable.moving(stable.ring.clone(), Vec::new(), String::new(), uuid);
    assert!(moving.may_vote(node, other), "nobody was named yet");
    let moving = named(&stable).moving(stable.ring.clone(), Vec::new(), String::new(), |_| other);
    assert!(moving.may_vote(node, uuid(node)));
    assert!(
        !moving.may_vote(node, other),
        "a change of the ring names no other directory"
    );
    assert!(!moving.may_vote(member(5).id, other));
}

fn named(decree: &Decree) -> Decree {
    let voters = decree.voters.iter().map(|voter| Voter {
        uuid: uuid(voter.node),
        ..*voter
    });
    decree.naming(&voters.collect::<Vec<_>>(), "named".to_owned())
}

#[test]
fn a_member_that_lost_its_directory_is_named_again_by_a_later_epoch_only() {
    let stable = named(&found(3, 8));
    let (node, other) = (member(0).id, NodeUuid::new(99));
    let suspending = stable.suspending(&[node], "n0 is being rebuilt".to_owned());
    assert!(suspending.suspends(node) && !suspending.suspends(member(1).id));
    assert!(!suspending.may_vote(node, uuid(node)) && !suspending.may_vote(node, other));
    // What was planned before is planned anew everywhere: it may count what was lost.
    let token = Token::new(7);
    assert!(!suspending.admits(stable.epoch, token) && suspending.fences(token));
    let next = stable.ring.successor((0..4).map(member).collect()).unwrap();
    let moving = suspending.moving(next, Vec::new(), String::new(), |_| other);
    let settled = moving.switched(|_| other).settled(|_| other);
    assert!(
        settled.suspends(node),
        "a change of the ring rebuilds nobody"
    );
    assert_eq!(
        settled.directory(member(3).id),
        Some(other),
        "who joined is named"
    );
    let uuid = other;
    let again = settled.naming(&[Voter { node, uuid }], "n0 has been rebuilt".to_owned());
    assert!(again.may_vote(node, other));
    assert!(again.admits(settled.epoch, token) || again.moved(token));
    assert_eq!(Decree::from_bytes(&again.to_bytes()), Ok(again));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn copies_of_staged_changes_become_equal_in_any_order(
        left in prop::collection::vec((0_usize..4, 0_u64..3), 0..6),
        right in prop::collection::vec((0_usize..4, 0_u64..3), 0..6),
    ) {
        let make = |list: &[(usize, u64)]| {
            let mut staged = Staged::new(RingEpoch::new(1));
            for (at, by) in list {
                let by = NodeId::new(*by);
                match by.get() {
                    0 => staged.clear(by),
                    1 => drop(staged.stage(by, Change::Leave(format!("n{at}")))),
                    _ => drop(staged.stage(by, Change::Weight(format!("n{at}"), 2))),
                }
            }
            staged
        };
        // Nodes that stage at the same time do so under stamps of their own.
        let (one, two) = (make(&left), {
            let mut two = Staged::new(RingEpoch::new(1));
            for (at, by) in &right {
                two.stage(NodeId::new(10 + by), Change::Leave(format!("n{at}")));
            }
            two
        });
        let (mut ab, mut ba) = (one.clone(), two.clone());
        ab.merge(&two);
        ba.merge(&one);
        prop_assert_eq!(&ab, &ba);
        prop_assert!(!ab.merge(&ba));
        prop_assert_eq!(Staged::from_bytes(&ab.to_bytes()), Ok(ab));
    }

    #[test]
    fn damaged_decrees_never_panic(at in 0_usize..2000, flip in 1_u8..=255, cut in 0_usize..2000) {
        let stable = found(3, 8);
        let next = stable.ring.successor((0..4).map(member).collect()).unwrap();
        let mut bytes = stable.moving(next, Vec::new(), "x".to_owned(), uuid).to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        let _ = Decree::from_bytes(&bytes);
        let _ = Decree::from_bytes(&bytes[..cut.min(bytes.len())]);
        let _ = Staged::from_bytes(&bytes);
    }
}
