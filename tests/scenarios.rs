//! Stories: one way to lose data each, acted out on the simulated cluster with every oracle on.
//!
//! Rows are those of the list of ways in which leaderless stores lose data.
//!
//! | rows | where |
//! |---|---|
//! | 1, 3, 5, 12, 19, 21, 26, 31, 42 | here |
//! | 23, 24, 25, 27, 28, 29 | `storage`; 25 also `care` |
//! | 2, 35 | `clocks` |
//! | 7, 39, 48 | `identity` |
//! | 18, 32, 44, 45 | `network` |
//! | 43, 46, 50 | `clients` |
//! | readers behind | `sessions` |
//! | large values | `reads` |
//! | 8, 30 | no story: oracles W4 and W5 in every run, planted bug `merge_by_overwrite` |
//! | 20, 22, 49 | real files: the store's conformance suite, golden files |
//! | 40, 47 | real processes: `node/tests` |
//! | 4, 10, 14 to 17 | `hints` |
//! | 9 | no story: oracle W7 in every run, planted bug `hint_deleted_on_send` |
//! | 11, 13, 36 to 38 | `ring`; 37 also `buckets` |
//! | 6, 33, 44 | `reaping` |
//! | 7, 34, 48 once more | `quarantine` |
//! | 34 of a node that left | `reaping` |
//! | 41 | counters are not offered |
//!
//! A disk that acknowledges a write and keeps the old version (the other half of row 27) is not
//! survived: its node counts on from a dot it does not know (`run --extras lying_disk`).

use quorate_client::wire::{Condition, ErrorCode};
use quorate_sim::{Options, story::Story};

#[path = "scenarios/buckets.rs"]
mod buckets;
#[path = "scenarios/care.rs"]
mod care;
#[path = "scenarios/clients.rs"]
mod clients;
#[path = "scenarios/clocks.rs"]
mod clocks;
#[path = "scenarios/hints.rs"]
mod hints;
#[path = "scenarios/identity.rs"]
mod identity;
#[path = "scenarios/membership.rs"]
mod membership;
#[path = "scenarios/network.rs"]
mod network;
#[path = "scenarios/quarantine.rs"]
mod quarantine;
#[path = "scenarios/reads.rs"]
mod reads;
#[path = "scenarios/reaping.rs"]
mod reaping;
#[path = "scenarios/ring.rs"]
mod ring;
#[path = "scenarios/sessions.rs"]
mod sessions;
#[path = "scenarios/storage.rs"]
mod storage;

const KEY: u32 = 0;

#[test]
fn concurrent_writers_become_siblings_and_a_reader_joins_them() {
    let mut story = Story::begin(1);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    let (first, _) = story.put(a, KEY, None);
    let (second, _) = story.put(b, KEY, None);
    let both = story.get(a, KEY, 2);
    assert_eq!(both.ops(), [first, second]);
    let (third, answer) = story.put(b, KEY, Some(both.seen()));
    assert_eq!(answer.ops(), [third]);
    assert_eq!(story.get(a, KEY, 2).ops(), [third]);
    story.end();
}

#[test]
fn a_stale_context_replaces_only_what_it_had_seen() {
    let mut story = Story::begin(2);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.put(a, KEY, None);
    let stale = story.get(b, KEY, 2).seen();
    let (second, _) = story.put(a, KEY, Some(stale.clone()));
    let (third, _) = story.put(b, KEY, Some(stale));
    assert_eq!(story.get(a, KEY, 3).ops(), [second, third]);
    story.end();
}

#[test]
fn a_retry_storm_with_lost_answers_applies_a_write_once() {
    for seed in 0..5 {
        let mut options = Options::calm(seed);
        options.net.client_loss = 400_000;
        options.net.loss = 100_000;
        let mut story = Story::with(options);
        let op = story.prepare(KEY, false, None, Condition::None);
        for round in 0..12 {
            let node = story.owner(KEY, round % 3);
            story.start(node, op);
            story.wait(3);
        }
        story.wait(5_000);
        story.world.network.heal();
        let a = story.owner(KEY, 0);
        assert_eq!(story.get(a, KEY, 3).ops(), [op]);
        story.end();
    }
}

#[test]
fn a_retry_after_the_write_was_replaced_does_not_bring_it_back() {
    let mut story = Story::begin(3);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    let (first, _) = story.put(a, KEY, None);
    let seen = story.get(a, KEY, 2).seen();
    let (second, _) = story.put(b, KEY, Some(seen));
    let again = story.send(c, first);
    assert_eq!(again.ops(), [second], "the retry is told what is live now");
    assert_eq!(story.get(a, KEY, 3).ops(), [second]);
    story.end();
}

#[test]
fn a_retry_at_a_node_that_missed_everything_is_recognised() {
    let mut story = Story::begin(13);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    story.world.isolate(c);
    let (first, _) = story.put(a, KEY, None);
    let seen = story.get(a, KEY, 2).seen();
    let (second, _) = story.put(b, KEY, Some(seen));
    story.world.network.mend();
    let again = story.send(c, first);
    assert_eq!(again.ops(), [second], "it asked the others first");
    assert_eq!(story.world.history.op(first).dots.len(), 1, "minted once");
    story.end();
}

#[test]
fn a_coordinator_that_forgot_the_key_does_not_reuse_its_dots() {
    let mut story = Story::begin(4);
    let a = story.owner(KEY, 0);
    let (first, _) = story.put(a, KEY, None);
    story.wait(1_000);
    assert!(story.world.lose(a, KEY), "the record was there");
    let (second, _) = story.put(a, KEY, None);
    assert_eq!(story.get(a, KEY, 3).ops(), [first, second]);
    story.end();
}

#[test]
fn a_power_cut_between_send_and_fsync_does_not_reuse_the_dot() {
    let mut story = Story::begin(5);
    let a = story.owner(KEY, 0);
    story.put(a, KEY, None);
    story.wait(1_000);
    // The coordinator's own sync takes so long that the other two acknowledge before it.
    story.world.processes[a].disk.set_slow(true);
    let seen = story.get(a, KEY, 2).seen();
    let (second, answer) = story.put(a, KEY, Some(seen));
    assert_eq!(answer.ops(), [second]);
    story.world.crash(a, None);
    story.world.processes[a].disk.set_slow(false);
    story.world.start(a);
    story.wait(3_000);
    let (third, _) = story.put(a, KEY, None);
    assert_eq!(story.get(a, KEY, 3).ops(), [second, third]);
    story.end();
}

#[test]
fn a_failed_write_surfaces_later_but_stays() {
    let mut story = Story::begin(6);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.world.isolate(a);
    let (op, answer) = story.put(a, KEY, None);
    assert_eq!(answer.code(), Some(ErrorCode::UnknownOutcome));
    assert_eq!(
        story.get(b, KEY, 2).ops(),
        [],
        "nobody else has heard of it"
    );
    story.world.network.mend();
    story.wait(10_000);
    assert_eq!(story.get(b, KEY, 3).ops(), [op]);
    story.world.isolate(a);
    assert_eq!(
        story.get(b, KEY, 2).ops(),
        [op],
        "what was read once is read again"
    );
    story.end();
}

#[test]
fn a_corrupt_record_is_not_an_absent_one() {
    let mut story = Story::begin(7);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    let (first, _) = story.put(b, KEY, None);
    story.wait(1_000);
    assert!(story.world.damage(a, KEY), "the record was there");
    let (_, answer) = story.put_if(a, KEY, None, Condition::IfAbsent);
    assert_eq!(answer.code(), Some(ErrorCode::Conflict));
    assert_eq!(story.get(a, KEY, 2).ops(), [first]);
    let (second, _) = story.put(a, KEY, None);
    assert_eq!(story.get(b, KEY, 3).ops(), [first, second]);
    story.end();
}

#[test]
fn a_deleted_key_stays_deleted_when_an_old_copy_returns() {
    let mut story = Story::begin(8);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 2));
    story.put(a, KEY, None);
    story.wait(1_000);
    story.world.crash(b, None);
    let seen = story.get(a, KEY, 2).seen();
    story.delete(a, KEY, seen);
    assert_eq!(story.get(a, KEY, 2).ops(), []);
    story.world.start(b);
    story.wait(10_000);
    assert_eq!(story.get(b, KEY, 2).ops(), []);
    assert_eq!(story.get(b, KEY, 3).ops(), []);
    story.end();
}

#[test]
fn a_clock_in_the_future_dooms_nobody() {
    let mut story = Story::begin(9);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.world.processes[a]
        .clock
        .set_offset(1_000 * 3_600 * 1_000);
    story.put(a, KEY, None);
    let seen = story.get(b, KEY, 2).seen();
    let (second, _) = story.put(b, KEY, Some(seen));
    assert_eq!(story.get(a, KEY, 3).ops(), [second]);
    story.end();
}

#[test]
fn everything_acknowledged_survives_a_power_cut_of_all_nodes() {
    let mut story = Story::begin(10);
    let a = story.owner(KEY, 0);
    let (op, _) = story.put(a, KEY, None);
    for node in 0..5 {
        story.world.crash(node, None);
    }
    for node in 0..5 {
        story.world.start(node);
    }
    story.wait(10_000);
    assert_eq!(story.get(a, KEY, 2).ops(), [op]);
    story.end();
}

#[test]
fn a_failed_sync_stops_the_node_and_loses_nothing() {
    let mut story = Story::begin(11);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    let (first, _) = story.put(a, KEY, None);
    story.world.processes[b].disk.fail_next_sync();
    let (second, answer) = story.put(a, KEY, None);
    assert_eq!(answer.ops(), [first, second], "two of three are enough");
    story.wait(100);
    assert!(
        story.world.processes[b].machine.is_none(),
        "it must not go on"
    );
    story.end();
}

#[test]
fn two_racing_conditional_writes_never_leave_one_value_for_two_oks() {
    let mut story = Story::begin(12);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.put(a, KEY, None);
    story.wait(1_000);
    let seen = story.get(a, KEY, 3).seen();
    let first = story.prepare(KEY, false, Some(seen.clone()), Condition::IfMatch);
    let second = story.prepare(KEY, false, Some(seen), Condition::IfMatch);
    let (one, two) = (story.start(a, first), story.start(b, second));
    let failed = [story.hear(one), story.hear(two)].map(|answer| answer.code());
    let live = story.get(a, KEY, 3).ops();
    match failed {
        [None, None] => assert_eq!(live, [first, second]),
        [None, Some(ErrorCode::Conflict)] => assert_eq!(live, [first]),
        [Some(ErrorCode::Conflict), None] => assert_eq!(live, [second]),
        other => panic!("{other:?}"),
    }
    story.end();
}
