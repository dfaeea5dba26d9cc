//! What disks do: damage, loss, misdirection, no space, half a journal.

use std::time::Duration;

use quorate_client::wire::ErrorCode;
use quorate_sim::{Options, story::Story};

const KEY: u32 = 0;

/// Row 24: a restart in peace finds everything that was acknowledged.
#[test]
fn a_clean_restart_reads_everything_acknowledged() {
    let mut story = Story::begin(24);
    let a = story.owner(KEY, 0);
    let (first, _) = story.put(a, KEY, None);
    let seen = story.get(a, KEY, 3).seen();
    let (second, _) = story.put(a, KEY, Some(seen));
    story.wait(1_000);
    story.world.crash(a, None);
    story.world.start(a);
    story.wait(3_000);
    assert_eq!(story.get(a, KEY, 1).ops(), [second], "and not {first:?}");
    story.end();
}

/// Row 25: no damaged byte leaves the node, to clients or to replicas.
#[test]
fn damaged_bytes_are_neither_served_nor_spread() {
    for seed in 0..8 {
        let mut story = Story::begin(250 + seed);
        let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
        let (first, _) = story.put(a, KEY, None);
        story.wait(1_000);
        assert!(story.world.damage(b, KEY), "the record was there");
        assert_eq!(story.get(b, KEY, 1).ops(), [first], "from another replica");
        let (second, _) = story.put(b, KEY, None);
        story.wait(1_000);
        assert_eq!(story.get(b, KEY, 3).ops(), [first, second]);
        story.end();
    }
}

/// Row 27: the checksum is bound to the key, so a record of another key is damage.
#[test]
fn a_record_found_under_another_key_is_damage() {
    let mut story = Story::begin(27);
    let a = story.owner(KEY, 0);
    let (first, _) = story.put(a, KEY, None);
    let other = (1..200)
        .find(|&key| (0..3).any(|place| story.owner(key, place) == a))
        .expect("a node has more than one key");
    story.put(a, other, None);
    story.wait(1_000);
    assert!(story.world.misdirect(a, KEY), "both records were there");
    assert_eq!(story.get(a, KEY, 1).ops(), [first]);
    story.end();
}

/// Row 28: a full disk refuses writes, not reads; what it refused does not make it reuse a name.
#[test]
fn a_full_disk_reads_on_and_reuses_no_dot() {
    let mut story = Story::begin(28);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    let (first, _) = story.put(a, KEY, None);
    story.wait(1_000);
    story.world.processes[a].disk.set_full(true);
    assert_eq!(story.get(a, KEY, 1).ops(), [first]);
    // Minted at the node that cannot store it; the other two can.
    let (second, answer) = story.put(a, KEY, None);
    assert_eq!(answer.ops(), [first, second]);
    story.wait(1_000);
    story.world.processes[a].disk.set_full(false);
    let (third, _) = story.put(a, KEY, None);
    assert_eq!(story.get(b, KEY, 3).ops(), [first, second, third]);
    story.end();
}

/// Row 28: with no space anywhere nothing is acknowledged.
#[test]
fn nothing_is_acknowledged_when_all_disks_are_full() {
    let mut story = Story::begin(29);
    let a = story.owner(KEY, 0);
    for place in 0..3 {
        let node = story.owner(KEY, place);
        story.world.processes[node].disk.set_full(true);
    }
    let (op, answer) = story.put(a, KEY, None);
    assert_eq!(answer.code(), Some(ErrorCode::UnknownOutcome));
    for place in 0..3 {
        let node = story.owner(KEY, place);
        story.world.processes[node].disk.set_full(false);
    }
    let again = story.send(a, op);
    assert_eq!(again.ops(), [op], "the same operation, when there is space");
    story.end();
}

/// Row 23: a journal that ends too early is not the end of the log. The node that lost synced
/// writes knows it, and counts for no read before it has been rebuilt.
#[test]
fn mid_log_damage_is_not_end_of_log() {
    let mut story = Story::begin(23);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    let (op, _) = story.put(a, KEY, None);
    story.wait(1_000);
    story.world.processes[b].disk.damage_journal();
    story.world.crash(b, None);
    story.world.isolate(c);
    story.world.start(b);
    story.wait(3_000);
    assert_eq!(
        story.get(a, KEY, 2).code(),
        Some(ErrorCode::Unavailable),
        "one replica is away, one does not count"
    );
    story.world.network.mend();
    story.wait(10_000);
    story.world.isolate(c);
    assert_eq!(story.get(a, KEY, 2).ops(), [op], "it is rebuilt");
    story.end();
}

/// Row 26: what the others said of a damaged record heals it, unless it was written and damaged
/// again since they were asked.
#[test]
fn what_was_said_before_a_second_damage_heals_nothing() {
    let mut options = Options::calm(26);
    options.limits.recent_bytes_max = 0; // Read from the disk each time.
    let mut story = Story::with(options);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    story.put(a, KEY, None);
    story.wait(1_000);
    story.world.isolate(c);
    assert!(story.world.damage(a, KEY), "the record was there");
    // B answers the recovery that this begins, C does not.
    story.get(a, KEY, 1);
    let seen = story.get(b, KEY, 1).seen();
    let (second, answer) = story.put(b, KEY, Some(seen));
    assert_eq!(answer.ops(), [second], "stored by A and B");
    assert!(story.world.damage(a, KEY), "it was written again");
    story.get(a, KEY, 1);
    story.world.network.mend();
    story.world.isolate(b);
    story.wait(4_000);
    let answer = story.get(c, KEY, 2);
    assert_eq!(
        answer.code(),
        Some(ErrorCode::Unavailable),
        "A cannot know what B has: {answer:?}"
    );
    story.world.network.mend();
    story.wait(5_000);
    assert_eq!(story.get(a, KEY, 3).ops(), [second]);
    story.end();
}

/// Row 29: a replica's trees say what it once wrote, and its disk holds an older state of a part of
/// the token space. The audit of the trees notices, and a comparison mends it; nobody reads.
#[test]
fn an_old_partition_copied_back_is_noticed_and_mended() {
    let mut options = Options::calm(329);
    options.trees.interval = Duration::from_secs(1);
    options.trees.audit_pause = Duration::from_secs(1);
    let mut story = Story::with(options);
    let b = story.owner(KEY, 1);
    let owns = |story: &Story, key: u32| (0..3).any(|place| story.owner(key, place) == b);
    let keys: Vec<u32> = (0..100).filter(|key| owns(&story, *key)).take(20).collect();
    let mut old = Vec::new();
    for &key in &keys {
        let node = story.owner(key, 0);
        story.put(node, key, None);
        story.wait(100);
        old.push(story.world.stored(b, key).expect("it owns the key"));
        story.put(node, key, None);
    }
    story.wait(5_000);
    for (&key, old) in keys.iter().zip(&old) {
        story.world.go_back(b, key, old.clone());
    }
    story.wait(15_000);
    for (&key, old) in keys.iter().zip(&old) {
        assert_ne!(story.world.stored(b, key).as_ref(), Some(old), "key {key}");
    }
    story.end();
}

/// Row 25: of three copies two are damaged before anybody has found the first. The third is all
/// there is, and when each has heard all others both count again.
#[test]
fn two_damaged_copies_are_healed_from_the_third() {
    for seed in 0..4 {
        let mut story = Story::begin(260 + seed);
        let [a, b, c] = [0, 1, 2].map(|place| story.owner(KEY, place));
        let (op, _) = story.put(a, KEY, None);
        story.wait(1_000);
        for node in [a, b] {
            assert!(story.world.damage(node, KEY), "the record was there");
        }
        story.wait(30_000);
        story.world.isolate(c);
        let answer = story.get(a, KEY, 2);
        assert_eq!(answer.ops(), [op], "A and B have asked all there are");
        story.end();
    }
}

/// Row 25: of three copies two are damaged, and the third was never written. Nobody can say what
/// they held, so they are no reason to call the key absent; whoever writes it anew ends that.
#[test]
fn two_damaged_copies_of_which_nobody_knows_are_not_absent() {
    let mut options = Options::calm(268);
    options.limits.recent_bytes_max = 0; // Read from the disk each time.
    let mut story = Story::with(options);
    let [a, b, c] = [0, 1, 2].map(|place| story.owner(KEY, place));
    story.world.isolate(c);
    story.put(a, KEY, None);
    for node in [a, b] {
        assert!(story.world.damage(node, KEY), "the record was there");
    }
    story.world.network.mend();
    story.wait(20_000);
    let code = story.get(c, KEY, 2).code();
    assert_eq!(code, Some(ErrorCode::Unavailable), "one copy is no quorum");
    story.put(c, KEY, None);
    story.wait(30_000);
    // The story ends without a read: all copies of the first put, which was acknowledged, are gone.
    for node in [a, b, c] {
        let record = story.world.record(node, KEY).expect("the second put");
        assert!(!record.suspect, "n{} speaks for the key again", node + 1);
    }
}

/// Row 25: of three copies two are damaged, and who has not heard all the others does not count.
#[test]
fn a_damaged_copy_waits_for_a_damaged_one_that_is_away() {
    let mut options = Options::calm(264);
    options.limits.recent_bytes_max = 0; // Read from the disk each time.
    let mut story = Story::with(options);
    let [a, b, c] = [0, 1, 2].map(|place| story.owner(KEY, place));
    story.put(a, KEY, None);
    story.wait(1_000);
    for node in [a, b] {
        assert!(story.world.damage(node, KEY), "the record was there");
    }
    story.world.isolate(b);
    story.wait(10_000);
    let answer = story.get(c, KEY, 2);
    assert_eq!(
        answer.code(),
        Some(ErrorCode::Unavailable),
        "B is not heard"
    );
    story.world.network.mend();
    story.wait(30_000);
    story.world.isolate(b);
    assert_eq!(story.get(c, KEY, 2).ops().len(), 1);
    story.end();
}
