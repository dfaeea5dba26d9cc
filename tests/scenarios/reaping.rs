//! Deletes that stay deleted: what is reaped, what must not be, and what comes late.

use std::time::Duration;

use quorate_client::wire::{Condition, RingRequest};
use quorate_node::{
    message::{BucketId, Message, RpcId},
    store::format,
};
use quorate_ring::{Phase, RingEpoch};
use quorate_sim::{
    Options,
    steer::{commit, say},
    story::Story,
    world::{Event, Payload},
};

const KEY: u32 = 0;

/// Tombstones go as soon as all agree.
pub(super) fn story(seed: u64) -> Story {
    let mut options = Options::calm(seed);
    options.limits.tombstone_age = Duration::ZERO;
    options.trees.audit_pause = Duration::from_millis(200);
    options.trees.interval = Duration::from_secs(1);
    Story::with(options)
}

pub(super) fn held(story: &Story) -> usize {
    let nodes = 0..story.world.processes.len();
    nodes
        .filter(|&node| story.world.record(node, KEY).is_some())
        .count()
}

/// A value, and its delete; on all owners.
fn delete(story: &mut Story) {
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.put(a, KEY, None);
    let seen = story.get(b, KEY, 3).seen();
    story.delete(b, KEY, seen);
}

#[test]
fn a_deleted_key_is_forgotten_when_all_owners_agree() {
    let mut story = story(330);
    delete(&mut story);
    assert_eq!(held(&story), 3);
    story.wait(15_000);
    assert_eq!(held(&story), 0);
    let a = story.owner(KEY, 0);
    assert_eq!(story.get(a, KEY, 3).ops(), []);
    story.end();
}

#[test]
fn nothing_is_reaped_while_anybody_is_down_and_nothing_comes_back() {
    let mut story = story(331);
    let c = story.owner(KEY, 2);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.put(a, KEY, None);
    let seen = story.get(b, KEY, 3).seen();
    story.world.crash(c, None);
    story.delete(b, KEY, seen);
    story.wait(60_000);
    assert_eq!(held(&story), 3, "the one that is down holds the value");
    story.world.start(c);
    story.wait(20_000);
    assert_eq!(held(&story), 0);
    assert_eq!(story.get(c, KEY, 3).ops(), []);
    story.end();
}

#[test]
fn a_member_that_owns_nothing_of_it_is_waited_for_too() {
    let mut story = story(332);
    let owners: Vec<usize> = (0..3).map(|place| story.owner(KEY, place)).collect();
    let other = (0..5).find(|node| !owners.contains(node)).unwrap();
    story.world.crash(other, None);
    delete(&mut story);
    story.wait(30_000);
    assert_eq!(held(&story), 3);
    story.world.start(other);
    story.wait(20_000);
    assert_eq!(held(&story), 0);
    story.end();
}

/// Row 6: the key is reaped and created anew, and then what was on its way all the while arrives.
#[test]
fn reap_then_recreate_then_late_message() {
    let mut story = story(333);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.put(a, KEY, None);
    let old = story.world.stored(a, KEY).unwrap();
    let seen = story.get(b, KEY, 3).seen();
    story.delete(b, KEY, seen.clone());
    story.wait(15_000);
    assert_eq!(held(&story), 0);
    let late = |story: &mut Story, to: usize| {
        let store_key = &story.world.layout.store_keys[0];
        let (token, bucket, key) = format::parse_object_key(store_key).unwrap();
        let message = Message::Replicate {
            id: RpcId(1),
            epoch: RingEpoch::FIRST,
            bucket: BucketId(bucket),
            token,
            key: store_key.slice_ref(key),
            record: old.clone(),
            generation: 0,
        };
        let payload = Payload::Plain(Box::new(message));
        let at = story.world.now;
        let event = Event::Deliver {
            from: a,
            to,
            payload,
        };
        story.world.agenda.plan(at, event);
        story.wait(1_000);
    };
    late(&mut story, b);
    assert_eq!(held(&story), 0, "nobody takes it in");
    let (new, _) = story.put(b, KEY, None);
    late(&mut story, a);
    assert_eq!(story.get(a, KEY, 3).ops(), [new]);
    // A context from before replaces nothing that it has not seen.
    let (second, answer) = story.put(a, KEY, Some(seen));
    assert_eq!(answer.ops(), [new, second]);
    story.end();
}

/// A commit that reaches one owner only: the others keep the tombstone, and it goes later.
#[test]
fn a_commit_that_reaches_one_owner_only_is_made_good_later() {
    let mut story = story(334);
    let (b, c) = (story.owner(KEY, 1), story.owner(KEY, 2));
    delete(&mut story);
    while !story.world.reaped.contains_key(&true) {
        story.world.step();
    }
    story.world.crash(b, None);
    story.world.crash(c, None);
    story.wait(10_000);
    assert_eq!(held(&story), 2);
    story.world.start(b);
    story.world.start(c);
    story.wait(30_000);
    assert_eq!(held(&story), 0);
    assert_eq!(story.get(b, KEY, 3).ops(), []);
    story.end();
}

/// A write that comes while the tombstone is being reaped is not reaped with it.
#[test]
fn a_write_that_meets_its_keys_reaping_stays() {
    for (seed, place) in (340..360).zip([0, 1, 2].into_iter().cycle()) {
        let mut story = story(seed);
        let a = story.owner(KEY, place);
        delete(&mut story);
        // Each time at another moment of the round.
        let pause = (seed - 340) * 250_000;
        let asked = |story: &Story| {
            story.world.processes.iter().any(|process| {
                let levels = process.levels().into_iter();
                let mut levels = levels.filter(|level| level.name == "reap_waiting");
                levels.any(|level| 0 < level.value)
            })
        };
        while !asked(&story) {
            story.world.step();
        }
        let until = story.world.now + 1_000_000_000 + pause;
        while story.world.now < until && !story.world.reaped.contains_key(&true) {
            story.world.step();
        }
        let op = story.prepare(KEY, false, None, Condition::None);
        assert_eq!(story.send(a, op).ops().last(), Some(&op));
        story.wait(20_000);
        assert_eq!(story.get(a, KEY, 3).ops(), [op]);
        story.end();
    }
}

/// A key that is rewritten across a thousand restarts does not collect the epochs of all of them.
#[test]
fn a_key_rewritten_across_a_thousand_restarts_keeps_a_small_clock() {
    let mut story = story(335);
    let owners: Vec<usize> = (0..3).map(|place| story.owner(KEY, place)).collect();
    let mut last = None;
    for round in 0..334 {
        for &node in &owners {
            story.world.crash(node, None);
            story.world.start(node);
        }
        story.wait(1_500);
        for &node in &owners {
            // A context from before a compaction would bring back what was dropped, for a while.
            let seen = last.map(|_| story.get(node, KEY, 3).seen());
            last = Some(story.put(node, KEY, seen).0);
        }
        if round % 8 == 7 {
            story.wait(12_000);
        }
    }
    let record = story.world.record(owners[0], KEY).unwrap();
    let entries = record.container.clock().len();
    assert!(entries * 26 < 2_048, "{entries} entries");
    assert!(story.world.reaped.contains_key(&false));
    let answer = story.get(owners[1], KEY, 3);
    assert_eq!(answer.ops(), [last.unwrap()]);
    story.end();
}

/// Row 34: who has left the ring still keeps a hint, and does not reach whom it is for. What that
/// hint holds is deleted meanwhile.
#[test]
fn nothing_is_reaped_while_one_who_left_keeps_a_hint() {
    let mut options = story(336).world.options;
    options.spare = 1;
    options.sloppy = true;
    let mut story = Story::with(options);
    story.wait(2_000);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    let cut = |story: &mut Story, node: usize, cut: bool| {
        story.world.network.set_cut(node, c, cut);
        story.world.network.set_cut(c, node, cut);
    };
    story.world.isolate(c);
    story.wait(15_000);
    let (op, _) = story.put(a, KEY, None);
    story.wait(1_000);
    let keeps = |node: &usize| story.world.hints_of(*node, KEY).next().is_some();
    let leaver = (0..6).find(keeps).expect("somebody stands in");
    for other in (0..6).filter(|other| ![c, leaver].contains(other)) {
        cut(&mut story, other, false);
    }
    let replace = RingRequest {
        node: format!("n{}", leaver + 1),
        other: "n6".to_owned(),
        ..say("replace")
    };
    story.wait(5_000);
    story.ring(a, replace).expect("it is staged");
    let plan = story.ring(a, say("plan")).expect("a plan").plan;
    let plan = plan.expect("a plan is in it");
    story
        .ring(a, commit(&plan.digest))
        .expect("it is agreed on");
    story.wait(10_000);
    assert_eq!(story.decree().phase, Phase::Stable);
    assert_eq!(story.get(b, KEY, 3).ops(), [op]);
    let seen = story.get(b, KEY, 3).seen();
    story.delete(b, KEY, seen);
    story.wait(30_000);
    assert!(story.world.hints_of(leaver, KEY).next().is_some());
    assert_eq!(held(&story), 3, "the one who left is waited for");
    cut(&mut story, leaver, false);
    story.wait(60_000);
    assert_eq!(held(&story), 0);
    assert_eq!(story.get(c, KEY, 3).ops(), []);
    story.end();
}
