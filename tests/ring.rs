//! Rings that change while everything else goes on: what was acknowledged stays, reads never go
//! back behind it, there is one history of rings, and in the end everybody holds what is theirs.

use std::collections::BTreeMap;

use quorate_sim::{Options, run, steer::commit, story::Story, world::World};

/// Runs a seed with an operator who never rests, with and without other faults.
fn changes(seed: u64, calm: bool) -> u64 {
    let mut options = if calm {
        Options::calm(seed)
    } else {
        Options::from_seed(seed)
    };
    let harmed = options.classes.bit_rot || options.classes.silent_loss;
    if harmed || options.classes.misdirected {
        // Damage strikes one place of each key's list, which must not change.
        return 0;
    }
    options.spare = 2;
    options.ring_interval = Some(500_000_000);
    options.duration = 20_000_000_000;
    let report = run(options, false);
    if let Some(broken) = report.broken {
        panic!("seed {seed}: {broken}");
    }
    report.faults["ring_changes"]
}

#[test]
fn nodes_join_leave_and_replace_each_other_under_load() {
    let changed: u64 = (0..8).map(|seed| changes(seed, true)).sum();
    assert!(20 < changed, "only {changed} changes came to their end");
}

#[test]
fn rings_change_while_everything_else_fails() {
    let changed: u64 = (100..130).map(|seed| changes(seed, false)).sum();
    assert!(10 < changed, "only {changed} changes came to their end");
}

#[test]
fn who_left_while_another_joined_is_known_after_all_were_started_anew() {
    changes(2225, false);
}

const HUNDRED: usize = 100;
const MS: u64 = 1_000_000;

/// A hundred members that have just been started for the first time, and one more node; a share of
/// all messages is lost.
fn a_hundred(loss: u32) -> Story {
    let mut options = Options::calm(100);
    options.nodes = HUNDRED;
    options.spare = 1;
    options.encode = false;
    options.net.loss = loss;
    let mut world = World::new(options, false);
    world.heard = Some(BTreeMap::new());
    Story { world }
}

/// Commits a plan through the first node: milliseconds until all nodes have the stable ring, and
/// until that node says so to whoever waits for it.
fn until_stable(story: &mut Story, digest: &str) -> (u64, u64) {
    let before = story.world.now;
    let epoch = story.decree().epoch;
    // Its client may give up; the decision goes on.
    if let Err(Some(error)) = story.ring(0, commit(digest)) {
        eprintln!("{error:?}");
    }
    story.wait_until_settled();
    assert!(epoch < story.decree().epoch);
    let stable = story.world.now - before;
    while !story.is_told_done(0) {
        story.wait(10);
    }
    (stable / MS, (story.world.now - before) / MS)
}

/// How long a ring of a hundred nodes takes from a commit to being stable on every node. Nothing is
/// stored, so that only agreement and its spreading count.
#[test]
#[ignore = "measures; run it with --nocapture"]
fn a_ring_of_a_hundred_nodes_becomes_stable() {
    for percent in [0, 5] {
        let mut story = a_hundred(percent * 10_000);
        // The first change gives each directory its name in the ring.
        while story.decree().epoch.get() < 2 || !story.is_settled() {
            story.wait(10);
        }
        eprintln!(
            "{percent} % lost: founded together, {} ms from the start of all",
            story.world.now / MS
        );
        let some: Vec<_> = (0..10).map(|node| ("weight", 10 * node)).collect();
        for (what, changes) in [
            ("one weight", &some[..1]),
            ("nine weights", &some[1..]),
            ("a join", &[("join", HUNDRED)]),
            ("a leave", &[("leave", 50)]),
        ] {
            let digest = story.stage(0, changes);
            let (stable, told) = until_stable(&mut story, &digest);
            eprintln!("{percent} % lost: {what}, stable after {stable} ms, told after {told} ms");
        }
    }
}
