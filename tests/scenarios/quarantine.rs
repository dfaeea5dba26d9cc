//! Directories that are older than what was reaped since: what they hold goes out of the way.

use quorate_node::store::memory::Image;
use quorate_sim::story::Story;

use super::reaping::{held, story};

const KEY: u32 = 0;

fn set_aside(story: &Story, node: usize) -> u64 {
    let machine = story.world.processes[node].machine.as_ref();
    machine.map_or(0, |node| node.set_aside().0)
}

/// A value, a copy of the directory of the owner at `place`, and a delete that is reaped.
fn copy_then_reap(story: &mut Story, place: usize) -> Image {
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.put(a, KEY, None);
    story.wait(5_000);
    let node = story.owner(KEY, place);
    let copy = story.world.processes[node].disk.snapshot();
    let seen = story.get(b, KEY, 3).seen();
    story.delete(b, KEY, seen);
    story.wait(20_000);
    assert_eq!(held(story), 0);
    copy
}

/// Rows 34, 48: a directory of before is put back.
#[test]
fn a_restored_directory_with_reaped_keys_brings_nothing_back() {
    let mut story = story(480);
    let a = story.owner(KEY, 0);
    let backup = copy_then_reap(&mut story, 0);
    assert!(story.world.is_recognised(a, &backup));
    story.world.replace_directory(a, None, backup);
    story.world.start(a);
    story.wait(20_000);
    assert_eq!(held(&story), 0);
    assert_eq!(
        set_aside(&story, a),
        1,
        "it is kept for a person to look at"
    );
    assert_eq!(story.get(a, KEY, 3).ops(), []);
    story.end();
}

/// The same, asked at once, before it has been told that it is an old one.
#[test]
fn a_restored_directory_shows_nothing_of_what_was_reaped() {
    for pause in [0, 1, 3, 10, 30, 100, 300] {
        let mut story = story(481);
        let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
        let backup = copy_then_reap(&mut story, 0);
        story.world.replace_directory(a, None, backup);
        story.world.start(a);
        story.wait(pause);
        assert_eq!(story.get(a, KEY, 2).ops(), []);
        assert_eq!(story.get(b, KEY, 2).ops(), []);
        story.wait(20_000);
        assert_eq!(held(&story), 0);
        story.end();
    }
}

/// Row 7: a copy of another owner's directory, of before.
#[test]
fn a_cloned_directory_with_reaped_keys_brings_nothing_back() {
    let mut story = story(482);
    let b = story.owner(KEY, 1);
    let copy = copy_then_reap(&mut story, 2);
    story.world.replace_directory(b, None, copy);
    story.world.start(b);
    story.wait(20_000);
    assert_eq!((held(&story), set_aside(&story, b)), (0, 1));
    story.end();
}

/// A node that dies while it sets aside what it holds goes on where it was.
#[test]
fn a_crash_while_a_directory_is_set_aside_brings_nothing_back() {
    for pause in [1, 2, 5, 10, 20, 50, 100, 200, 500] {
        let mut story = story(483);
        let a = story.owner(KEY, 0);
        let backup = copy_then_reap(&mut story, 0);
        story.world.replace_directory(a, None, backup);
        story.world.start(a);
        story.wait(pause);
        story.world.crash(a, None);
        story.world.start(a);
        story.wait(20_000);
        assert_eq!((held(&story), set_aside(&story, a)), (0, 1), "{pause} ms");
        story.end();
    }
}

/// What was written to an old directory and acknowledged before it was refused is not lost.
#[test]
fn no_acknowledgement_counts_on_a_directory_that_is_refused_later() {
    let mut story = story(484);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    let backup = copy_then_reap(&mut story, 0);
    story.world.replace_directory(a, None, backup);
    story.world.start(a);
    let (op, _) = story.put(b, KEY, None);
    story.wait(20_000);
    assert_eq!(story.get(c, KEY, 2).ops(), [op]);
    assert_eq!(story.get(a, KEY, 1).ops(), [op]);
    story.end();
}
