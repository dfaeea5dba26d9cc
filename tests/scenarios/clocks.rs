//! What wrong clocks do where the last write wins, and what becomes of values that expire.

use quorate_client::wire::{Condition, ErrorCode};
use quorate_sim::{Options, story::Story};

const KEY: u32 = 0;
const HOUR_MS: i64 = 3_600_000;

fn story(seed: u64) -> Story {
    Story::with(Options {
        lww: true,
        ..Options::calm(seed)
    })
}

/// Row 2: a clock that is an hour ahead stamps no write an hour ahead, which would win over all
/// writes of that hour; and one that is behind loses none of its own.
#[test]
fn doomed_future_timestamp() {
    for (seed, wrong) in [(60, HOUR_MS), (61, -HOUR_MS), (62, 24 * HOUR_MS)] {
        let mut story = story(seed);
        let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
        story.world.processes[a].clock.set_offset(wrong);
        let (_, answer) = story.put(a, KEY, None);
        assert_eq!(answer.ops().len(), 1);
        story.wait(100);
        let (second, _) = story.put(b, KEY, None);
        story.wait(100);
        assert_eq!(story.get(a, KEY, 2).ops(), [second]);
        let (third, _) = story.put(a, KEY, None);
        story.wait(100);
        assert_eq!(story.get(b, KEY, 2).ops(), [third]);
        story.end();
    }
}

/// Row 2: with most clocks an hour ahead a write is stamped an hour ahead. When they are put right
/// it is neither shown nor built upon until its time comes, and other keys are not harmed.
#[test]
fn a_stamp_that_nobody_believes_is_not_built_upon() {
    let mut story = story(63);
    let all = story.world.processes.len();
    let set = |story: &mut Story, ms| {
        for node in 0..all - 1 {
            story.world.processes[node].clock.set_offset(ms);
        }
    };
    set(&mut story, HOUR_MS);
    story.wait(60_000);
    let a = story.owner(KEY, 0);
    let (first, _) = story.put(a, KEY, None);
    assert_eq!(story.get(a, KEY, 2).ops(), [first]);
    set(&mut story, 0);
    story.wait(60_000);
    assert_eq!(
        story.put(a, KEY, None).1.code(),
        Some(ErrorCode::Overloaded)
    );
    assert_eq!(story.get(a, KEY, 2).code(), Some(ErrorCode::Unavailable));
    let other = (1..200).find(|&key| story.owner(key, 0) != a);
    let other = other.expect("some key begins elsewhere");
    let b = story.owner(other, 0);
    let (second, _) = story.put(b, other, None);
    assert_eq!(story.get(b, other, 2).ops(), [second]);
    set(&mut story, HOUR_MS);
    story.wait(60_000);
    let (third, _) = story.put(a, KEY, None);
    assert_eq!(story.get(a, KEY, 2).ops(), [third]);
    story.end();
}

/// A node that has not compared its clock yet, as after a start that finds nobody, takes no write
/// that needs one.
#[test]
fn a_clock_compared_with_nobody_stamps_nothing() {
    let mut story = story(64);
    let a = story.owner(KEY, 0);
    story.put(a, KEY, None);
    for node in 0..story.world.processes.len() {
        story.world.crash(node, None);
    }
    story.world.start(a);
    story.wait(5_000);
    let op = story.prepare(KEY, false, None, Condition::None);
    story.world.history.ops[op.at()].w = 1;
    assert_eq!(story.send(a, op).code(), Some(ErrorCode::Overloaded));
    story.end();
}

/// Row 35: what expires leaves a tombstone of its own, so that a replica which missed it brings
/// nothing back, whether or not the others have removed the value by then.
#[test]
fn what_an_expired_value_replaced_does_not_come_back() {
    for (seed, away_ms) in [(350, 2_000), (351, 60_000)] {
        let mut options = Options::calm(seed);
        // The expiry oracle looks at the disks of such runs.
        options.workload.mortal = 1;
        let mut story = Story::with(options);
        let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
        story.put(a, KEY, None);
        let seen = story.get(a, KEY, 3).seen();
        story.world.crash(b, None);
        let op = story.prepare(KEY, false, Some(seen), Condition::None);
        story.world.history.ops[op.at()].ttl_ms = 1_500;
        assert_eq!(story.send(a, op).ops(), [op]);
        assert_eq!(story.get(a, KEY, 2).ops(), [op]);
        story.wait(away_ms);
        story.world.start(b);
        story.wait(5_000);
        assert_eq!(story.get(b, KEY, 3).ops(), []);
        let seen = story.get(b, KEY, 2).seen();
        let (next, answer) = story.put(b, KEY, Some(seen));
        assert_eq!(answer.ops(), [next]);
        story.end();
    }
}
