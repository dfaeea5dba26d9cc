//! Records whose values are left out, against whole ones.

use proptest::prelude::*;

use super::{
    model::{REPLICAS, Step, World, faulty_history, retrying_history},
    sample,
};
use crate::causality::{Container, Stamp};

fn synced(a: &Container, b: &Container) -> Container {
    let mut merged = a.clone();
    merged.sync(b).expect("no dot is reused");
    merged
}

/// A whole record and an outline are as much as two whole ones, or a value is missing.
pub(super) fn is_as_good_as_whole(a: &Container, b: &Container) {
    let unseen = |container: &Container| {
        let mut values = container.siblings().filter(|(_, s)| s.value.is_some());
        values.any(|(dot, _)| !a.clock().covers(dot))
    };
    match a.with_brief(&b.without_values()).expect("no dot is reused") {
        Some(merged) => assert_eq!(merged, synced(a, b)),
        None => assert!(unseen(b), "{b:?} has nothing that {a:?} has not"),
    }
}

fn compare_all(history: &[Step]) {
    let mut world = World::after(&[]);
    for step in history {
        world.step(*step);
        let held = |replica: usize| world.held[replica].clone().unwrap_or_default();
        for one in 0..REPLICAS {
            for other in 0..REPLICAS {
                is_as_good_as_whole(&held(one), &held(other));
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_left_out_is_not_missed(history in faulty_history()) {
        compare_all(&history);
    }

    #[test]
    fn nor_is_it_when_requests_are_repeated(history in retrying_history()) {
        compare_all(&history);
    }
}

#[test]
fn an_expired_value_needs_no_value() {
    let mut write = sample::write(1, Some("milk"));
    write.expires_at_ms = Some(sample::NOW_MS);
    let whole = sample::coordinated(None, &mut sample::minter(1), write);
    let mut expired = whole.clone();
    expired.expire(sample::NOW_MS);
    for (one, other) in [(&whole, &expired), (&expired, &whole)] {
        let merged = one.with_brief(&other.without_values());
        assert_eq!(merged, Ok(Some(expired.clone())));
    }
}

#[test]
fn different_values_under_one_dot_are_told_apart_by_their_requests() {
    let one = sample::put(None, &mut sample::minter(1), 1, &[], Some("milk"));
    let other = sample::put(None, &mut sample::minter(1), 1, &[], Some("cream"));
    assert!(one.with_brief(&other.without_values()).is_err());
}

#[test]
fn where_the_last_write_wins_a_request_applied_twice_needs_its_value() {
    let (mut one, mut two) = (sample::minter(1), sample::minter(2));
    let stamped = |id, ms| {
        let mut write = sample::write(id, Some("milk"));
        write.stamp = Some(Stamp::at_ms(ms));
        write
    };
    let first = sample::coordinated(None, &mut one, stamped(1, 10));
    let replaced = sample::coordinated(Some(&first), &mut one, stamped(2, 20));
    let again = sample::coordinated(None, &mut two, stamped(1, 30));
    assert_eq!(replaced.with_brief(&again.without_values()), Ok(None));
    is_as_good_as_whole(&again, &replaced);
}
