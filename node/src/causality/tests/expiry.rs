//! Values that expire: each replica removes them by itself, and repair does not mind.

use proptest::prelude::*;

use super::sample;
use crate::causality::{Container, Minter};

const PAST: u64 = sample::NOW_MS + 1_000;

fn mortal(local: Option<&Container>, minter: &mut Minter, id: u128, at_ms: u64) -> Container {
    let mut write = sample::write(id, Some("milk"));
    write.expires_at_ms = Some(at_ms);
    sample::coordinated(local, minter, write)
}

fn synced(a: &Container, b: &Container) -> Container {
    let mut merged = a.clone();
    let changed = merged.sync(b).expect("one version under two forms");
    assert_eq!(changed, merged != *a);
    merged
}

#[test]
fn an_expired_value_becomes_what_a_delete_leaves_under_its_own_name() {
    let whole = mortal(None, &mut sample::minter(1), 1, PAST);
    let mut expired = whole.clone();
    assert!(!expired.expire(PAST - 1), "not yet");
    assert!(expired.expire(PAST) && !expired.expire(PAST));
    assert!(
        expired.is_tombstone_only(0),
        "whatever a clock says from now on"
    );
    assert_eq!(expired.clock(), whole.clock());
    assert_eq!(expired.context(), whole.context());
    assert_eq!(expired.expires_at_ms(), None);
    for merged in [synced(&whole, &expired), synced(&expired, &whole)] {
        assert_eq!(merged, expired);
    }
}

#[test]
fn what_an_expired_value_had_replaced_stays_replaced() {
    let mut minter = sample::minter(1);
    let first = sample::put(None, &mut minter, 1, &[], Some("eggs"));
    let mut write = sample::write(2, Some("milk"));
    write.context = first.context();
    write.expires_at_ms = Some(PAST);
    let mut second = sample::coordinated(Some(&first), &mut minter, write);
    second.expire(PAST);
    assert_eq!(synced(&first, &second).live_values(0).count(), 0);
}

#[test]
fn a_request_coordinated_twice_expires_as_one() {
    let one = mortal(None, &mut sample::minter(1), 1, PAST);
    let other = mortal(None, &mut sample::minter(2), 1, PAST + 5);
    let mut both = synced(&one, &other);
    both.expire(PAST + 5);
    assert_eq!(both.siblings().len(), 1);
    let mut early = one;
    early.expire(PAST);
    assert_eq!(synced(&early, &other).siblings().len(), 1);
}

#[test]
fn another_value_under_a_reused_id_does_not_go_with_the_expired_one() {
    let mut one = mortal(None, &mut sample::minter(1), 1, PAST);
    let other = sample::put(None, &mut sample::minter(2), 1, &[], Some("cream"));
    one.expire(PAST);
    assert_eq!(synced(&one, &other).live_values(PAST).count(), 1);
}

#[test]
fn two_values_that_never_expire_under_one_dot_still_differ() {
    let one = sample::put(None, &mut sample::minter(1), 1, &[], Some("milk"));
    let mut other = sample::put(None, &mut sample::minter(1), 1, &[], None);
    assert!(other.sync(&one).is_err());
}

proptest! {
    #[test]
    fn replicas_that_expire_at_any_time_come_to_the_same(
        ends in prop::collection::vec(0..20_u64, 1..6),
        times in prop::array::uniform3(0..25_u64),
    ) {
        let mut minters = [sample::minter(1), sample::minter(2), sample::minter(3)];
        let mut held = vec![Container::new(); 3];
        for (id, end) in (1..).zip(ends) {
            let at = usize::try_from(end % 3).expect("a few");
            let local = (!held[at].clock().is_empty()).then(|| held[at].clone());
            held[at] = mortal(local.as_ref(), &mut minters[at], id, end);
            held[2] = synced(&held[2], &held[at]);
        }
        for (container, time) in held.iter_mut().zip(times) {
            container.expire(time);
        }
        let (a, b, c) = (&held[0], &held[1], &held[2]);
        prop_assert_eq!(synced(a, b), synced(b, a));
        prop_assert_eq!(synced(&synced(a, b), c), synced(a, &synced(b, c)));
        let mut all = synced(&synced(a, b), c);
        let mut later = all.clone();
        all.expire(20);
        for container in &mut held {
            container.expire(20);
        }
        later = synced(&later, &synced(&synced(&held[0], &held[1]), &held[2]));
        prop_assert_eq!(later, all);
    }
}
