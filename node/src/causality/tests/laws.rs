//! What holds after any history.

use proptest::prelude::*;

use super::model::{REPLICAS, World, faulty_history, mistaken_history, retrying_history};
use crate::{
    causality::Container,
    store::format::{self, Record},
};

fn synced(a: &Container, b: &Container) -> Container {
    let mut merged = a.clone();
    let changed = merged.sync(b).expect("no dot is reused");
    assert_eq!(
        changed,
        merged != *a,
        "sync says whether it changed anything"
    );
    merged
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_version_is_live_unless_a_known_write_had_seen_it(history in faulty_history()) {
        let mut world = World::after(&[]);
        for step in history {
            world.step(step);
            for replica in 0..REPLICAS {
                let model: Vec<_> = world.live(replica).into_iter().collect();
                prop_assert_eq!(world.held(replica), model);
            }
        }
    }

    #[test]
    fn sync_is_commutative_associative_and_idempotent(history in faulty_history()) {
        let world = World::after(&history);
        let held = |replica: usize| world.held[replica].clone().unwrap_or_default();
        let (a, b, c) = (held(0), held(1), held(2));
        prop_assert_eq!(synced(&a, &b), synced(&b, &a));
        prop_assert_eq!(synced(&synced(&a, &b), &c), synced(&a, &synced(&b, &c)));
        let ab = synced(&a, &b);
        prop_assert_eq!(synced(&a, &a), a);
        prop_assert_eq!(synced(&ab, &b), ab);
    }

    #[test]
    fn sync_keeps_every_version_the_other_side_has_not_seen(history in faulty_history()) {
        let world = World::after(&history);
        let held = |replica: usize| world.held[replica].clone().unwrap_or_default();
        let (a, b) = (held(0), held(1));
        let merged = synced(&a, &b);
        prop_assert!(merged.clock().dominates(a.clock()) && merged.clock().dominates(b.clock()));
        for (ours, theirs) in [(&a, &b), (&b, &a)] {
            for (dot, sibling) in ours.siblings() {
                if !theirs.clock().covers(dot) {
                    prop_assert!(merged.siblings().any(|kept| kept == (dot, sibling)));
                }
            }
        }
    }

    #[test]
    fn a_retried_write_is_never_lost_and_never_a_sibling_of_itself(
        history in retrying_history(),
    ) {
        let mut world = World::after(&[]);
        for step in history {
            world.step(step);
            for replica in 0..REPLICAS {
                let held = world.held(replica);
                prop_assert!(held.windows(2).all(|pair| pair[0] != pair[1]));
                let model = world.live(replica);
                prop_assert!(model.iter().all(|op| held.contains(op)));
            }
        }
    }

    #[test]
    fn when_all_have_told_all_a_retried_write_was_applied_once(history in retrying_history()) {
        let mut world = World::after(&history);
        world.exchange();
        world.exchange();
        for replica in 0..REPLICAS {
            let model: Vec<_> = world.live(replica).into_iter().collect();
            prop_assert_eq!(world.held(replica), model);
            prop_assert_eq!(&world.held[replica], &world.held[0]);
        }
    }

    #[test]
    fn what_is_held_can_be_stored_whatever_ids_were_reused(history in mistaken_history()) {
        let mut world = World::after(&[]);
        for step in history {
            world.step(step);
            let held: Vec<Container> = world.held.iter().flatten().cloned().collect();
            let pairs = held.iter().flat_map(|a| held.iter().map(move |b| (a, b)));
            for (a, b) in pairs {
                let container = synced(a, b);
                prop_assert_eq!(&container, &synced(b, a));
                let record = Record { container, suspect: false };
                let stored = format::encode(1, b"key", &record);
                prop_assert_eq!(format::decode(1, b"key", &stored), Ok(record));
            }
        }
    }

    #[test]
    fn replicas_come_to_the_same_whatever_ids_were_reused(history in mistaken_history()) {
        let mut world = World::after(&history);
        world.exchange();
        world.exchange();
        for replica in 0..REPLICAS {
            prop_assert_eq!(&world.held[replica], &world.held[0]);
        }
    }
}
