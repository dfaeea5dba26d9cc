//! Who looks after what is stored: scrubs, and looks at everything.
//!
//! Here trees are compared so rarely that nothing else could find or mend what is damaged.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::wire::Difference;
use quorate_sim::{Options, story::Story};

const KEY: u32 = 0;
const HOUR: Duration = Duration::from_hours(1);

/// After the first comparisons, none for an hour, and no pass of the scrub either.
fn sleepy(seed: u64) -> Story {
    let mut options = Options::calm(seed);
    options.trees.interval = HOUR;
    options.trees.audit_pause = HOUR;
    Story::with(options)
}

fn scrub(story: &mut Story, node: usize) {
    let machine = story.world.processes[node].machine.as_mut();
    let wish = machine.expect("it runs").scrub();
    story.world.drain(node);
    story.wait(2_000);
    let machine = story.world.processes[node].machine.as_mut();
    let progress = machine.expect("it runs").scrub_progress();
    assert!(wish <= progress.fulfilled, "{progress:?}");
}

fn verify(story: &mut Story) -> Vec<Difference> {
    let mut after = Bytes::new();
    let mut found = Vec::new();
    loop {
        let page = story.world.verify_page(after).expect("an answer");
        assert!(page.silent.is_empty() && page.unlisted.is_empty());
        found.extend(page.differences);
        match page.next {
            Some(next) => after = next,
            None => return found,
        }
    }
}

/// Row 25: what is remembered hides what has become of the disk; a scrub looks at the disk.
#[test]
fn a_scrub_finds_damage_behind_what_is_remembered() {
    let mut story = sleepy(71);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    let (first, _) = story.put(a, KEY, None);
    story.wait(1_000);
    assert!(story.world.damage(b, KEY), "the record was there");
    assert!(story.world.record(b, KEY).is_none(), "it is unreadable");
    assert_eq!(story.get(b, KEY, 1).ops(), [first], "as remembered");
    scrub(&mut story, b);
    assert!(story.world.record(b, KEY).is_some(), "it was mended");
    let mended = story.world.processes[b]
        .machine
        .as_ref()
        .map(|node| node.mended());
    assert_eq!(mended, Some(1));
    story.end();
}

/// A wish in the middle of a pass is a wish for all of it.
#[test]
fn a_wish_during_a_pass_begins_anew_and_further_ones_wait() {
    let mut story = sleepy(72);
    let a = story.owner(KEY, 0);
    let machine = story.world.processes[a].machine.as_mut().expect("it runs");
    let wishes = [machine.scrub(), machine.scrub(), machine.scrub()];
    story.world.drain(a);
    story.wait(2_000);
    let machine = story.world.processes[a].machine.as_mut().expect("it runs");
    assert_eq!(machine.scrub_progress().fulfilled, wishes[2]);
    story.end();
}

/// Each kind of difference is found on the node that has it, and nothing else.
#[test]
fn verify_names_what_is_damaged_missing_old_and_nothing_else() {
    // Damage that leaves the keys around it listable.
    let mut story = sleepy(173);
    let owners = [0, 1, 2].map(|place| story.owner(KEY, place));
    let others: Vec<u32> = (1..200)
        .filter(|key| (0..3).all(|place| owners.contains(&story.owner(*key, place))))
        .take(2)
        .collect();
    let keys = [KEY, others[0], others[1]];
    for key in keys {
        let node = story.owner(key, 0);
        story.put(node, key, None);
    }
    story.wait(1_000);
    assert_eq!(verify(&mut story), []);
    let old = story.world.stored(owners[2], KEY).expect("it is there");
    let node = story.owner(KEY, 0);
    story.put(node, KEY, None);
    story.wait(1_000);
    story.world.go_back(owners[2], KEY, old);
    assert!(story.world.damage(owners[0], keys[1]));
    assert!(story.world.lose(owners[1], keys[2]));
    let mut found: Vec<(String, Bytes, String)> = verify(&mut story)
        .into_iter()
        .map(|difference| (difference.what, difference.key, difference.node))
        .collect();
    found.sort_unstable();
    let key = |at: usize| story.world.workload.keys()[keys[at] as usize].clone();
    let name = |at: usize| story.world.processes[owners[at]].name.clone();
    assert_eq!(
        found,
        [
            ("damaged".to_owned(), key(1), name(0)),
            ("differs".to_owned(), key(0), name(2)),
            ("missing".to_owned(), key(2), name(1)),
        ]
    );
}

/// Who is away is named, and judged by nobody.
#[test]
fn verify_names_who_is_away() {
    let mut story = sleepy(74);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    story.put(a, KEY, None);
    story.world.crash(b, None);
    story.wait(10_000);
    let name = story.world.processes[b].name.clone();
    let page = loop {
        if let Some(page) = story.world.verify_page(Bytes::new()) {
            break page;
        }
    };
    assert_eq!((page.silent, page.differences), (vec![name], Vec::new()));
}
