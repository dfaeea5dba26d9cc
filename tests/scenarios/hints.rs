//! What is kept for replicas that are down: it is counted only when it is on disk, it goes only
//! when it has arrived, and those who keep it mint no version twice.

use quorate_client::wire::Condition;
use quorate_sim::{Options, history::Seen, story::Story};

const KEY: u32 = 0;

fn sloppy(seed: u64) -> Options {
    let mut options = Options::calm(seed);
    options.sloppy = true;
    options
}

fn owners(story: &Story) -> [usize; 3] {
    [0, 1, 2].map(|place| story.owner(KEY, place))
}

/// The nodes that are no replicas of the key.
fn others(story: &Story) -> Vec<usize> {
    let owners = owners(story);
    (0..5).filter(|node| !owners.contains(node)).collect()
}

/// Kills nodes, and waits until all others know.
fn kill(story: &mut Story, nodes: &[usize]) {
    for &node in nodes {
        story.world.crash(node, None);
    }
    story.wait(20_000);
}

fn start(story: &mut Story, nodes: &[usize]) {
    for &node in nodes {
        story.world.start(node);
    }
    story.wait(20_000);
}

fn hints(story: &Story, node: usize) -> usize {
    story.world.hints_of(node, KEY).count()
}

fn hints_of_all(story: &Story) -> usize {
    (0..5).map(|node| hints(story, node)).sum()
}

/// Row 4: one who stood in, handed over and forgot, mints under another name the next time.
#[test]
fn fallback_mints_after_handoff() {
    let mut story = Story::with(sloppy(104));
    let [a, b, c] = owners(&story);
    let f = others(&story)[0];
    kill(&mut story, &[a, b, c]);
    let (first, answer) = story.put(f, KEY, None);
    assert_eq!(answer.ops(), [first]);
    assert!(0 < hints_of_all(&story));
    start(&mut story, &[a, b]);
    assert_eq!(hints_of_all(&story), 0, "all of it is handed over");
    kill(&mut story, &[a, b]);
    let (second, answer) = story.put(f, KEY, None);
    assert_eq!(
        answer.ops(),
        [second],
        "it knows nothing of the first any more"
    );
    start(&mut story, &[a, b, c]);
    assert_eq!(story.get(c, KEY, 3).ops(), [first, second]);
    story.end();
}

/// Row 4, a hundred times.
#[test]
fn a_fallback_that_flips_a_hundred_times_loses_nothing() {
    let mut story = Story::with(sloppy(105));
    let nodes = owners(&story);
    let f = others(&story)[0];
    let mut seen: Option<Seen> = None;
    let mut blind = Vec::new();
    for round in 0..100 {
        kill(&mut story, &nodes);
        let context = seen.take().filter(|_| round % 3 != 0);
        let replaced = context.is_some();
        let (op, answer) = story.put(f, KEY, context);
        assert!(answer.ops().contains(&op), "round {round}");
        start(&mut story, &nodes);
        assert_eq!(hints_of_all(&story), 0, "round {round}");
        let read = story.get(nodes[round % 3], KEY, 3);
        if replaced {
            blind.clear();
        }
        blind.push(op);
        assert_eq!(read.ops(), blind, "round {round}");
        seen = Some(read.seen());
    }
    story.end();
}

/// Row 14: what there is no room for is refused by name, and nothing that counted is dropped.
#[test]
fn a_full_holder_refuses_and_keeps_what_it_has() {
    let mut options = sloppy(114);
    options.limits.hint_bytes_max = 1;
    let mut story = Story::with(options);
    let [a, b, c] = owners(&story);
    kill(&mut story, &[b, c]);
    let (first, answer) = story.put(a, KEY, None);
    assert_eq!(answer.ops(), [first], "each has room for one");
    story.wait(200);
    assert_eq!(hints_of_all(&story), 2);
    let before = story.world.refusals;
    let op = story.prepare(KEY, false, None, Condition::None);
    story.world.history.ops[op.at()].w = 3;
    let answer = story.send(a, op);
    assert!(answer.code().is_some(), "{answer:?}");
    assert!(before < story.world.refusals, "a limit was met");
    assert_eq!(hints_of_all(&story), 2);
    start(&mut story, &[b, c]);
    assert!(story.get(c, KEY, 3).ops().contains(&first));
    story.end();
}

/// Row 16: an owner that dies before it has synced what it was handed has not got it.
#[test]
fn a_hint_stays_until_its_owner_has_it_on_disk() {
    let mut story = Story::with(sloppy(116));
    let [a, b, c] = owners(&story);
    kill(&mut story, &[b, c]);
    let (op, answer) = story.put(a, KEY, None);
    assert_eq!(answer.ops(), [op]);
    story.wait(200);
    assert_eq!(hints_of_all(&story), 2);
    for node in [b, c] {
        story.world.processes[node].disk.set_slow(true);
        story.world.start(node);
    }
    for _ in 0..20 {
        story.wait(100);
        story.world.crash(b, None);
        story.world.start(b);
    }
    for node in [b, c] {
        story.world.processes[node].disk.set_slow(false);
    }
    story.wait(30_000);
    assert_eq!(hints_of_all(&story), 0);
    story.end();
}

/// Row 17: who kept hints and was restarted hands them over although nobody asks for anything.
#[test]
fn hints_are_handed_over_after_a_restart_without_traffic() {
    let mut story = Story::with(sloppy(117));
    let [a, b, c] = owners(&story);
    let keepers = others(&story);
    kill(&mut story, &[b, c]);
    let (op, answer) = story.put(a, KEY, None);
    assert_eq!(answer.ops(), [op]);
    story.wait(200);
    for &node in &keepers {
        assert_eq!(hints(&story, node), 1);
        story.world.crash(node, None);
    }
    // The others cannot heal it: the only replica that has it is gone.
    kill(&mut story, &[a]);
    start(&mut story, &[b, c]);
    assert!(story.world.record(b, KEY).is_none());
    start(&mut story, &keepers);
    assert_eq!(hints_of_all(&story), 0);
    assert!(story.world.record(b, KEY).is_some() && story.world.record(c, KEY).is_some());
    story.end();
}

/// Where nobody may stand in, too few replicas are too few; and where some must be replicas, too.
#[test]
fn nobody_stands_in_where_that_is_forbidden() {
    let mut story = Story::with(sloppy(118));
    let [a, b, c] = owners(&story);
    kill(&mut story, &[b, c]);
    let strict = story.prepare(KEY, false, None, Condition::None);
    story.world.history.ops[strict.at()].sloppy = false;
    assert!(story.send(a, strict).code().is_some());
    let primary = story.prepare(KEY, false, None, Condition::None);
    story.world.history.ops[primary.at()].pw = 2;
    assert!(story.send(a, primary).code().is_some());
    assert_eq!(hints_of_all(&story), 0);
    start(&mut story, &[b, c]);
    story.end();
}

/// Row 44: one who stood still with a hint in its hands goes on with what is true then.
#[test]
fn a_holder_that_stood_still_deletes_nothing_new() {
    let mut story = Story::with(sloppy(144));
    let [a, b, c] = owners(&story);
    let keepers = others(&story);
    kill(&mut story, &[b, c]);
    let (first, _) = story.put(a, KEY, None);
    for &node in &[b, c] {
        story.world.start(node);
    }
    story.wait(150);
    story.world.pause(keepers[0]);
    story.wait(500);
    story.world.crash(b, None);
    story.world.crash(c, None);
    story.wait(3_000);
    story.world.resume(keepers[0]);
    story.wait(20_000);
    let (second, answer) = story.put(a, KEY, None);
    assert!(answer.ops().contains(&second));
    start(&mut story, &[b, c]);
    assert_eq!(story.get(b, KEY, 3).ops(), [first, second]);
    story.end();
}

/// Row 25 with row 4: of a write that one owner and a stand-in have, the owner's copy is damaged
/// before the hint is handed over. The other owners know nothing of it: the hint is all there is,
/// and who asks what the damaged record held asks for hints as well.
#[test]
fn a_damaged_copy_is_healed_by_what_is_kept_for_the_other_owners() {
    let mut options = sloppy(254);
    options.limits.recent_bytes_max = 0; // Read from the disk each time.
    let mut story = Story::with(options);
    let [a, b, c] = owners(&story);
    let others = others(&story);
    story.world.isolate(b);
    story.world.isolate(c);
    story.wait(10_000);
    let (op, answer) = story.put(a, KEY, None);
    assert_eq!(answer.ops(), [op], "two stand in");
    story.world.network.mend();
    for owner in [b, c] {
        for other in &others {
            story.world.network.set_cut(*other, owner, true);
            story.world.network.set_cut(owner, *other, true);
        }
    }
    assert!(story.world.damage(a, KEY), "the record was there");
    story.wait(10_000);
    let record = story.world.record(a, KEY).expect("it was mended");
    assert!(!record.suspect && record.container.siblings().len() == 1);
    assert_eq!(story.get(b, KEY, 3).ops(), [op]);
    story.world.network.mend();
    story.end();
}
