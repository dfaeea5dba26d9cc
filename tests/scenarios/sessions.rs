//! Readers that bring along what they have seen, and requests that are taken back.

use quorate_client::wire::{Condition, ErrorCode};
use quorate_sim::story::Story;

use super::KEY;

/// With r = 1 a replica that missed a write would answer from its own copy. A reader that has seen
/// the write is answered by another replica, or told that nobody has it.
#[test]
fn a_reader_is_shown_nothing_older_than_what_it_has_seen() {
    let mut story = Story::begin(61);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    let (first, _) = story.put(a, KEY, None);
    story.wait(1_000);
    story.world.isolate(c);
    let seen = story.get(a, KEY, 2).seen();
    let (second, written) = story.put(a, KEY, Some(seen));
    let seen = written.seen();
    // Cut off, it does not know better, and says so once its reader brings along what it has seen.
    assert_eq!(story.get(c, KEY, 1).ops(), [first]);
    let refused = story.get_within(c, KEY, 1, &seen);
    assert_eq!(refused.code(), Some(ErrorCode::Stale));
    story.world.network.mend();
    assert_eq!(story.get_within(c, KEY, 1, &seen).ops(), [second]);
    assert_eq!(story.get_within(b, KEY, 1, &seen).ops(), [second]);
    story.end();
}

/// A deleted key is not found, and stays so for who has seen the delete.
#[test]
fn a_reader_that_saw_a_delete_is_not_shown_what_was_deleted() {
    let mut story = Story::begin(62);
    let (a, c) = (story.owner(KEY, 0), story.owner(KEY, 2));
    story.put(a, KEY, None);
    story.wait(1_000);
    story.world.isolate(c);
    let seen = story.get(a, KEY, 2).seen();
    let (_, deleted) = story.delete(a, KEY, seen);
    let seen = deleted.seen();
    assert_eq!(story.get(c, KEY, 1).ops().len(), 1);
    let refused = story.get_within(c, KEY, 1, &seen);
    assert_eq!(refused.code(), Some(ErrorCode::Stale));
    story.world.network.mend();
    assert!(story.get_within(c, KEY, 1, &seen).ops().is_empty());
    story.end();
}

/// A write that is taken back while its coordinator still asks the others was certainly not
/// applied.
#[test]
fn a_write_taken_back_before_it_is_minted_is_not_applied() {
    let mut story = Story::begin(63);
    let a = story.owner(KEY, 0);
    story.put(a, KEY, None);
    story.wait(1_000);
    let before = story.get(a, KEY, 3).ops();
    // The precondition makes it ask, and nobody answers.
    story.world.isolate(a);
    let op = story.prepare(KEY, false, None, Condition::IfAbsent);
    let serial = story.start(a, op);
    story.wait(20);
    story.take_back(a, serial);
    assert_eq!(story.hear(serial).code(), Some(ErrorCode::Unavailable));
    story.world.network.mend();
    story.wait(5_000);
    assert_eq!(story.get(a, KEY, 3).ops(), before);
    story.end();
}

/// A write that has been minted goes on, whoever waits for it.
#[test]
fn a_write_taken_back_too_late_is_applied() {
    let mut story = Story::begin(64);
    let a = story.owner(KEY, 0);
    story.wait(1_000);
    story.world.isolate(a);
    let op = story.prepare(KEY, false, None, Condition::None);
    let serial = story.start(a, op);
    story.wait(20);
    story.take_back(a, serial);
    story.world.network.mend();
    assert_eq!(story.hear(serial).ops(), [op]);
    assert_eq!(story.get(a, KEY, 3).ops(), [op]);
    story.end();
}
