//! What networks and schedulers do: one-way links, doubled messages, nodes that stand still.

use quorate_client::wire::{Condition, ErrorCode};
use quorate_sim::{Options, story::Story};

const KEY: u32 = 0;

/// Row 18: two acknowledgements of one node are one.
#[test]
fn doubled_acknowledgements_count_once() {
    let mut options = Options::calm(18);
    options.net.duplicate = 1_000_000;
    let mut story = Story::with(options);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    story.world.isolate(c);
    let three = story.prepare(KEY, false, None, Condition::None);
    story.world.history.ops[three.at()].w = 3;
    let answer = story.send(a, three);
    assert_ne!(answer.code(), None, "two nodes are not three");
    let (two, answer) = story.put(b, KEY, None);
    assert!(answer.ops().contains(&two), "w = 2 has its two");
    story.world.network.mend();
    story.wait(10_000);
    story.end();
}

/// Row 45: what a replica has stored and cannot say is not counted; repeated where it can be said,
/// it is applied once.
#[test]
fn an_answer_that_cannot_return_is_not_counted() {
    let mut story = Story::begin(45);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    story.world.network.set_cut(b, a, true);
    story.world.network.set_cut(c, a, true);
    let (op, answer) = story.put(a, KEY, None);
    assert_eq!(answer.code(), Some(ErrorCode::UnknownOutcome));
    let again = story.send(b, op);
    assert_eq!(again.ops(), [op]);
    assert_eq!(story.world.history.op(op).dots.len(), 1, "applied once");
    story.world.network.mend();
    story.wait(5_000);
    assert_eq!(story.get(c, KEY, 3).ops(), [op]);
    story.end();
}

/// Row 44: a coordinator that stood still in the middle of a write wakes up in another world and
/// takes nothing back.
#[test]
fn a_node_that_stood_still_undoes_nothing() {
    let mut story = Story::begin(44);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.put(a, KEY, None);
    story.wait(1_000);
    let late = story.prepare(KEY, false, None, Condition::None);
    let serial = story.start(a, late);
    story.world.pause(a);
    let seen = story.get(b, KEY, 2).seen();
    let (newer, _) = story.put(b, KEY, Some(seen));
    story.wait(30_000);
    story.world.resume(a);
    story.wait(1_000);
    story.hear(serial);
    let live = story.get(b, KEY, 3).ops();
    assert!(live.contains(&newer), "{live:?}");
    story.end();
}

/// Row 32: what a quorum read has shown is shown by every later one, whoever was down meanwhile.
#[test]
fn a_value_read_once_is_read_again_after_a_power_cut() {
    let mut story = Story::begin(32);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    story.world.isolate(c);
    story.world.processes[b].disk.set_slow(true);
    let op = story.prepare(KEY, false, None, Condition::None);
    story.start(a, op);
    story.wait(4);
    let read = story.get(a, KEY, 2).ops();
    story.world.crash(a, None);
    story.world.crash(b, None);
    story.world.processes[b].disk.set_slow(false);
    story.world.network.mend();
    story.world.start(a);
    story.world.start(b);
    story.wait(10_000);
    let later = story.get(c, KEY, 2).ops();
    assert!(
        read.iter().all(|seen| later.contains(seen)),
        "{read:?}, {later:?}"
    );
    story.end();
}
