//! Directories that are lost, put back or copied: who comes back under an old name.

use quorate_client::wire::ErrorCode;
use quorate_node::{
    identity::{Identity, META_IDENTITY_KEY},
    store::{Table, memory::Image},
};
use quorate_ring::NodeUuid;
use quorate_sim::{story::Story, world::World};

const KEY: u32 = 0;

fn uuid(world: &World, node: usize) -> NodeUuid {
    let stored = world.processes[node]
        .disk
        .synced(Table::Meta, META_IDENTITY_KEY);
    let identity = Identity::stored(&stored.expect("every directory has one"));
    identity.expect("it is sound").uuid
}

fn is_named(world: &World, node: usize) -> bool {
    let id = world.processes[node].id;
    world.rings.newest().directory(id) == Some(uuid(world, node))
}

/// Rows 39, 48: an empty directory under an old name takes part in writes, and in no read before it
/// holds again what the others hold.
#[test]
fn a_wiped_node_counts_for_no_read_until_rebuilt() {
    let mut story = Story::begin(39);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    let (op, _) = story.put(a, KEY, None);
    story.wait(1_000);
    let before = uuid(&story.world, b);
    assert!(is_named(&story.world, b));
    story.world.replace_directory(b, None, Image::default());
    story.world.isolate(c);
    story.world.start(b);
    story.wait(5_000);
    assert_ne!(uuid(&story.world, b), before);
    assert!(
        !is_named(&story.world, b),
        "one owner has not told it what it holds"
    );
    assert_eq!(
        story.get(a, KEY, 2).code(),
        Some(ErrorCode::Unavailable),
        "one replica is away, one does not count"
    );
    let seen = story.get(a, KEY, 1).seen();
    let (second, answer) = story.put(a, KEY, Some(seen));
    assert_eq!(answer.ops(), [second], "it counts for writes");
    story.world.network.mend();
    story.wait(10_000);
    assert!(is_named(&story.world, b));
    story.world.isolate(c);
    assert_eq!(story.get(a, KEY, 2).ops(), [second], "and not {op:?}");
    story.end();
}

/// Rows 7, 48: a directory that is put back to an earlier state gets a new name, so that nothing it
/// has minted before is minted again; what is in it is merged as what it is.
#[test]
fn a_restored_backup_reissues_no_dot() {
    let mut story = Story::begin(48);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    let (first, _) = story.put(a, KEY, None);
    story.wait(5_000);
    let backup = story.world.processes[a].disk.snapshot();
    let (second, _) = story.put(a, KEY, None);
    // Written to, a directory begins another life every few seconds.
    story.wait(5_000);
    let before = uuid(&story.world, a);
    assert!(story.world.is_recognised(a, &backup));
    story.world.replace_directory(a, None, backup);
    story.world.start(a);
    let (third, _) = story.put(a, KEY, None);
    assert_eq!(story.get(b, KEY, 2).ops(), [first, second, third]);
    story.wait(10_000);
    assert_ne!(uuid(&story.world, a), before);
    assert!(is_named(&story.world, a), "it has been rebuilt");
    assert_eq!(story.get(a, KEY, 1).ops(), [first, second, third]);
    story.end();
}

/// Row 7: a directory that was copied from another member's is nobody's.
#[test]
fn a_cloned_directory_is_fenced() {
    let mut story = Story::begin(7);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    let (first, _) = story.put(a, KEY, None);
    story.wait(1_000);
    let copy = story.world.processes[a].disk.snapshot();
    story.world.replace_directory(b, None, copy);
    story.world.start(b);
    assert_ne!(uuid(&story.world, a), uuid(&story.world, b));
    let (second, _) = story.put(a, KEY, None);
    let (third, _) = story.put(b, KEY, None);
    story.wait(10_000);
    assert!(is_named(&story.world, a) && is_named(&story.world, b));
    assert_eq!(story.get(b, KEY, 3).ops(), [first, second, third]);
    story.end();
}

/// Row 39: who was away while a directory in place of a lost one was new hears of it only after it
/// was opened again, and from itself. It is not an old one for that, and what it took in counts.
#[test]
fn a_new_directory_that_was_opened_again_is_believed_by_who_was_away() {
    let mut story = Story::begin(390);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    story.put(a, KEY, None);
    story.wait(5_000);
    story.world.isolate(c);
    story.world.replace_directory(b, None, Image::default());
    story.world.start(b);
    story.wait(3_000);
    let new = uuid(&story.world, b);
    story.world.crash(b, None);
    story.world.start(b);
    story.wait(3_000);
    for (from, to) in [(b, c), (c, b)] {
        story.world.network.set_cut(from, to, false);
    }
    story.wait(5_000);
    assert_eq!(uuid(&story.world, b), new);
    story.world.network.mend();
    story.wait(10_000);
    assert!(uuid(&story.world, b) == new && is_named(&story.world, b));
    story.end();
}

/// A process that is told of a later life of its directory goes on under another name by itself.
#[test]
fn a_node_put_back_while_nobody_hears_it_is_told_later() {
    let mut story = Story::begin(77);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.put(a, KEY, None);
    story.wait(5_000);
    let backup = story.world.processes[a].disk.snapshot();
    let (second, _) = story.put(b, KEY, None);
    story.wait(5_000);
    let before = uuid(&story.world, a);
    story.world.replace_directory(a, None, backup);
    story.world.isolate(a);
    story.world.start(a);
    story.wait(5_000);
    assert_eq!(uuid(&story.world, a), before, "nobody could tell it");
    story.world.network.mend();
    let read = story.get(b, KEY, 2).ops();
    assert!(
        read.contains(&second),
        "a copy of nobody known counts for nothing"
    );
    story.wait(20_000);
    assert_ne!(uuid(&story.world, a), before);
    assert!(is_named(&story.world, a));
    story.end();
}

/// Who has lost its memory does not vote, and what a majority agrees on without it stays.
#[test]
fn every_node_is_wiped_once_and_nothing_is_lost() {
    let mut story = Story::begin(78);
    let a = story.owner(KEY, 0);
    let (op, _) = story.put(a, KEY, None);
    story.wait(1_000);
    for node in 0..5 {
        story.world.replace_directory(node, None, Image::default());
        story.world.start(node);
        story.wait(10_000);
        assert!(is_named(&story.world, node), "n{}", node + 1);
    }
    assert_eq!(story.get(a, KEY, 2).ops(), [op]);
    story.end();
}
