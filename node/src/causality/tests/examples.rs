//! One small story per rule of the container.

use super::sample::{NOW_MS, coordinated, minter, op, put, uuid, write};
use crate::{
    causality::{
        Actor, Container, Context, Coordinated, Dot, Minter, ReceiveError, Rule, coordinate,
        receive,
    },
    store::format::{self, Record},
};

fn values(container: &Container) -> Vec<&str> {
    let live = container.live_values(NOW_MS);
    live.map(|(_, sibling)| {
        let value = sibling.value.as_ref().expect("live values are values");
        std::str::from_utf8(value).expect("tests write text")
    })
    .collect()
}

fn synced(a: &Container, b: &Container) -> Container {
    let mut merged = a.clone();
    merged.sync(b).expect("tests mint each dot once");
    merged
}

#[test]
fn two_blind_writes_at_one_node_are_siblings() {
    let mut a = minter(1);
    let one = put(None, &mut a, 1, &[], Some("one"));
    let two = put(Some(&one), &mut a, 2, &[], Some("two"));
    assert_eq!(values(&two), ["one", "two"]);
    assert_eq!(synced(&one, &two), two);
}

#[test]
fn a_write_with_a_context_replaces_what_it_saw_and_nothing_else() {
    let (mut a, mut b) = (minter(1), minter(2));
    let one = put(None, &mut a, 1, &[], Some("one"));
    let elsewhere = put(None, &mut b, 2, &[], Some("elsewhere"));
    let replaced = put(Some(&one), &mut a, 3, &[&one], Some("three"));
    assert_eq!(values(&replaced), ["three"]);
    assert_eq!(
        values(&synced(&replaced, &elsewhere)),
        ["three", "elsewhere"]
    );
}

#[test]
fn two_writers_with_one_context_at_one_node_become_siblings() {
    let mut a = minter(1);
    let one = put(None, &mut a, 1, &[], Some("one"));
    let two = put(Some(&one), &mut a, 2, &[&one], Some("two"));
    let three = put(Some(&two), &mut a, 3, &[&one], Some("three"));
    assert_eq!(values(&three), ["two", "three"]);
}

#[test]
fn a_delete_hides_what_it_saw_and_leaves_a_context() {
    let mut a = minter(1);
    let one = put(None, &mut a, 1, &[], Some("one"));
    let deleted = put(Some(&one), &mut a, 2, &[&one], None);
    assert!(deleted.is_tombstone_only(NOW_MS));
    let stale = synced(&deleted, &one);
    assert_eq!(stale, deleted, "an old replica brings nothing back");
    let again = put(Some(&deleted), &mut a, 3, &[&deleted], Some("again"));
    assert_eq!(values(&again), ["again"]);
    assert_eq!(again.siblings().len(), 1, "the tombstone is superseded");
}

#[test]
fn a_blind_delete_removes_nothing_it_has_not_seen() {
    let mut a = minter(1);
    let one = put(None, &mut a, 1, &[], Some("one"));
    let deleted = put(Some(&one), &mut a, 2, &[], None);
    assert_eq!(values(&deleted), ["one"]);
    assert_eq!(deleted.siblings().len(), 2);
}

#[test]
fn an_expired_value_is_hidden_and_still_known() {
    let mut dated = write(1, Some("short-lived"));
    dated.expires_at_ms = Some(NOW_MS + 1);
    let held = coordinated(None, &mut minter(1), dated);
    assert_eq!(values(&held), ["short-lived"]);
    assert!(held.live_values(NOW_MS + 1).next().is_none());
    assert!(held.is_tombstone_only(NOW_MS + 1));
}

#[test]
fn a_retry_at_the_same_coordinator_is_applied_once() {
    let mut a = minter(1);
    let one = put(None, &mut a, 1, &[], Some("one"));
    let retry = coordinate(Some(&one), &mut a, write(1, Some("one")));
    assert_eq!(retry, Coordinated::AlreadyApplied);
    let two = put(Some(&one), &mut a, 2, &[&one], Some("two"));
    let late = coordinate(Some(&two), &mut a, write(1, Some("one")));
    assert_eq!(late, Coordinated::AlreadyApplied, "also when superseded");
}

#[test]
fn an_id_used_for_another_request_is_refused() {
    let mut a = minter(1);
    let one = put(None, &mut a, 1, &[], Some("one"));
    let other = coordinate(Some(&one), &mut a, write(1, Some("another")));
    assert_eq!(other, Coordinated::OpIdReused);
    let mut based = write(1, Some("one"));
    based.context = one.context();
    let elsewhere = coordinate(None, &mut minter(2), based);
    assert_eq!(
        elsewhere,
        Coordinated::OpIdReused,
        "it has read its own result"
    );
}

#[test]
fn a_retry_at_another_coordinator_collapses_into_one_version() {
    let one = put(None, &mut minter(1), 1, &[], Some("one"));
    let twin = put(None, &mut minter(2), 1, &[], Some("one"));
    let merged = synced(&one, &twin);
    assert_eq!(values(&merged), ["one"]);
    assert_eq!(synced(&twin, &one), merged);
    assert_eq!(synced(&merged, &twin), merged);
}

#[test]
fn replacing_one_version_of_a_retried_write_replaces_the_other() {
    let (mut a, mut b) = (minter(1), minter(2));
    let one = put(None, &mut a, 1, &[], Some("one"));
    let twin = put(None, &mut b, 1, &[], Some("one"));
    let replaced = put(Some(&twin), &mut b, 2, &[&twin], Some("two"));
    assert_eq!(values(&synced(&replaced, &one)), ["two"]);
    assert_eq!(values(&synced(&one, &replaced)), ["two"]);
    // The writer read the twin; the coordinator holds the first version only.
    let crossed = put(Some(&one), &mut a, 2, &[&twin], Some("two"));
    assert_eq!(values(&crossed), ["two"]);
}

#[test]
fn different_values_under_one_id_both_stay() {
    let one = put(None, &mut minter(1), 1, &[], Some("one"));
    let other = put(None, &mut minter(2), 1, &[], Some("other"));
    assert_eq!(values(&synced(&one, &other)), ["one", "other"]);
}

#[test]
fn replacing_one_of_two_values_under_one_id_leaves_the_other() {
    let (mut a, mut b) = (minter(1), minter(2));
    let one = put(None, &mut a, 1, &[], Some("one"));
    let other = put(None, &mut b, 1, &[], Some("other"));
    let later = put(Some(&other), &mut b, 2, &[&other], Some("later"));
    // Of what it replaced, the last version does not tell the id.
    let last = put(Some(&later), &mut b, 3, &[&later], Some("last"));
    let mut write = write(4, Some("new"));
    write.context = Context::new(last.clock().clone(), vec![op(3)]);
    let both = synced(&one, &other);
    let held = coordinated(Some(&both), &mut a, write);
    assert_eq!(values(&held), ["one", "new"]);
    let record = Record {
        container: held,
        suspect: false,
    };
    let stored = format::encode(1, b"key", &record);
    assert_eq!(format::decode(1, b"key", &stored), Ok(record));
}

#[test]
fn one_dot_with_two_values_is_refused() {
    let one = put(None, &mut minter(1), 1, &[], Some("one"));
    let two = put(None, &mut minter(1), 2, &[], Some("two"));
    let before = one.clone();
    let mut held = one.clone();
    assert!(held.sync(&two).is_err());
    assert_eq!(held, before);
    let refused = receive(Some(&one), two.clone(), &mut minter(1));
    assert!(matches!(refused, Err(ReceiveError::EqualDotsDiffer(_))));
}

#[test]
fn each_rule_ends_the_epoch() {
    let mut first = minter(1);
    let one = put(None, &mut first, 1, &[], Some("one"));
    let two = put(Some(&one), &mut first, 2, &[], Some("two"));
    let rule = |local: Option<&Container>, minter: &mut Minter, seen: &Container| {
        let mut next = write(9, Some("nine"));
        next.context = seen.context();
        let Coordinated::Minted { rule, dot, .. } = coordinate(local, minter, next) else {
            panic!("the write was not given a dot");
        };
        (rule, dot.actor.epoch, dot.n)
    };
    let none = Container::new();
    assert_eq!(rule(Some(&two), &mut first, &two), (None, 1, 3));
    assert_eq!(rule(None, &mut first, &none), (Some(Rule::Absent), 2, 1));
    assert_eq!(
        rule(Some(&one), &mut first, &two),
        (Some(Rule::Amnesia), 3, 1)
    );
    let mut second = Minter::new(uuid(1), 10_001, 20_001);
    let restarted = rule(Some(&two), &mut second, &two);
    assert_eq!(restarted, (Some(Rule::Restart), 10_001, 1));
}

#[test]
fn a_replica_that_knows_more_of_us_starts_an_epoch_without_a_version() {
    let mut a = minter(1);
    let one = put(None, &mut a, 1, &[], Some("one"));
    let received = receive(None, one.clone(), &mut a).expect("nothing conflicts");
    assert!(received.rule3 && received.changed);
    let actor = Actor {
        uuid: uuid(1),
        epoch: 2,
    };
    assert_eq!(received.container.clock().get(actor), 1);
    assert_eq!(received.container.siblings().len(), 1);
    let next = put(Some(&received.container), &mut a, 2, &[], Some("two"));
    assert!(next.siblings().any(|(dot, _)| dot == Dot { actor, n: 2 }));
    let again = receive(Some(&next), one.clone(), &mut a).expect("nothing conflicts");
    assert!(!again.rule3 && !again.changed);
}

#[test]
fn a_used_up_lease_refuses_and_changes_nothing() {
    let mut empty = Minter::new(uuid(1), 5, 5);
    let refused = coordinate(None, &mut empty, write(1, Some("one")));
    assert_eq!(refused, Coordinated::LeaseExhausted);
    let own = put(None, &mut minter(1), 1, &[], Some("one"));
    let refused = receive(None, own.clone(), &mut empty);
    assert!(matches!(refused, Err(ReceiveError::LeaseExhausted(_))));
    empty.extended(6);
    assert!(receive(None, own.clone(), &mut empty).is_ok());
}

#[test]
fn only_the_ids_of_lately_superseded_operations_are_kept() {
    let mut a = minter(1);
    let mut held = put(None, &mut a, 0, &[], Some("v"));
    for id in 1..100 {
        held = put(Some(&held), &mut a, id, &[&held], Some("v"));
    }
    assert_eq!(held.recent().len(), crate::causality::RECENT_MAX);
    assert!(held.knows(op(98)).is_some());
    let mut late = write(100, Some("v"));
    late.now_ms += crate::causality::RECENT_WINDOW_MS + 1;
    let held = coordinated(Some(&held), &mut a, late);
    assert!(held.recent().is_empty());
    assert!(held.knows(op(99)).is_some(), "it is live still");
}
