//! What wrong clocks do where the last write wins.

use quorate_client::wire::ErrorCode;
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
    let op = story.prepare(KEY, false, None, quorate_client::wire::Condition::None);
    story.world.history.ops[op.at()].w = 1;
    assert_eq!(story.send(a, op).code(), Some(ErrorCode::Overloaded));
    story.end();
}
