//! Rings that change: nothing that was acknowledged is lost on the way from one owner to another,
//! nobody is asked before they have the data, and two rings of one epoch never exist.

use quorate_client::wire::{ErrorCode, RingAnswer, RingRequest};
use quorate_ring::Phase;
use quorate_sim::{Options, story::Story};

/// The first of the nodes that have no place in the ring at first.
const SPARE: usize = 5;

fn story(seed: u64, spare: usize) -> Story {
    let mut options = Options::calm(seed);
    options.spare = spare;
    Story::with(options)
}

fn request(story: &Story, verb: &str, node: usize) -> RingRequest {
    RingRequest {
        verb: verb.to_owned(),
        node: story.world.processes[node].name.clone(),
        timeout_ms: 3_000,
        ..RingRequest::default()
    }
}

/// Stages that, and says under which digest it can be committed.
fn stage(story: &mut Story, via: usize, verb: &str, node: usize) -> String {
    let staged = story.operate(via, request(story, verb, node));
    staged.unwrap_or_else(|code| panic!("{verb} is not staged: {code:?}"));
    let plan = story.operate(via, request(story, "plan", node));
    let plan = plan.unwrap_or_else(|code| panic!("{verb} makes no plan: {code:?}"));
    plan.plan.expect("a plan was asked for").digest
}

fn commit(story: &mut Story, via: usize, digest: &str) -> Result<RingAnswer, Option<ErrorCode>> {
    let request = RingRequest {
        digest: digest.to_owned(),
        ..request(story, "commit", via)
    };
    story.operate(via, request)
}

/// Agrees on a change, and leaves it under way.
fn begin(story: &mut Story, via: usize, verb: &str, node: usize) {
    let digest = stage(story, via, verb, node);
    let answer = commit(story, via, &digest);
    answer.unwrap_or_else(|code| panic!("{verb} is not agreed on: {code:?}"));
}

fn phase(story: &Story, node: usize) -> Phase {
    let machine = story.world.processes[node].machine.as_ref();
    machine.expect("the story lets it live").decree().phase
}

/// Waits for the end of the change.
fn settle(story: &mut Story) {
    for _ in 0..600 {
        story.wait(100);
        let nodes = 0..story.world.processes.len();
        let alive = nodes.filter(|node| story.world.processes[*node].machine.is_some());
        if alive
            .map(|node| phase(story, node))
            .all(|phase| phase == Phase::Stable)
        {
            return;
        }
    }
    panic!("the ring is still changing");
}

/// A key of which the node is an owner under the newest ring.
fn key_of(story: &Story, node: usize) -> u32 {
    let owns = |key: &u32| (0..3).any(|place| story.owner(*key, place) == node);
    (0..60).find(owns).expect("every node owns something")
}

fn cut(story: &mut Story, some: &[usize], others: &[usize], is_cut: bool) {
    for &a in some {
        for &b in others {
            story.world.network.set_cut(a, b, is_cut);
            story.world.network.set_cut(b, a, is_cut);
        }
    }
}

/// Row 11: two join and two leave one after the other, while everything is written and read.
#[test]
fn recent_writes_survive_two_joins_and_two_leaves() {
    let mut story = story(411, 2);
    let mut last = Vec::new();
    for key in 0..40 {
        let (op, _) = story.put(key as usize % 5, key, None);
        last.push(op);
    }
    let steps = [
        ("join", SPARE),
        ("join", SPARE + 1),
        ("leave", 0),
        ("leave", 1),
    ];
    for (verb, node) in steps {
        begin(&mut story, 2, verb, node);
        for key in 0..40 {
            let via = 2 + key as usize % 3;
            let answer = story.get(via, key, 2);
            assert_eq!(
                answer.ops(),
                [last[key as usize]],
                "key {key} during {verb}"
            );
            let (op, answer) = story.put(via, key, Some(answer.seen()));
            assert_eq!(answer.ops(), [op]);
            last[key as usize] = op;
        }
        settle(&mut story);
    }
    for key in 0..40 {
        assert_eq!(story.get(3, key, 3).ops(), [last[key as usize]]);
    }
    story.end();
}

/// Row 13: a new owner has nothing yet. Whoever asks it gets what the old owners hold, and the
/// next ring is not in force while one of them has not handed over.
#[test]
fn a_new_owner_is_not_read_before_it_has_the_data() {
    let mut story = story(413, 1);
    let ops: Vec<_> = (0..60)
        .map(|key| story.put(key as usize % 5, key, None).0)
        .collect();
    let digest = stage(&mut story, 0, "join", SPARE);
    // It holds up the move of what it owns.
    story.world.crash(4, None);
    story.wait(15_000);
    commit(&mut story, 0, &digest).expect("four of five agree");
    story.wait(30_000);
    assert_eq!(
        phase(&story, SPARE),
        Phase::Moving,
        "not all has been handed over"
    );
    let key = key_of(&story, SPARE);
    for via in [SPARE, 0] {
        assert_eq!(story.get(via, key, 1).ops(), [ops[key as usize]]);
    }
    story.world.start(4);
    settle(&mut story);
    assert_eq!(story.get(SPARE, key, 3).ops(), [ops[key as usize]]);
    story.end();
}

/// Row 36: what only a new owner has is not acknowledged, and a change that is taken back takes
/// nothing acknowledged with it.
#[test]
fn a_new_owner_replaces_no_acknowledgement() {
    let mut story = story(436, 1);
    let digest = stage(&mut story, 0, "join", SPARE);
    story.world.crash(4, None);
    story.wait(15_000);
    commit(&mut story, 0, &digest).expect("four of five agree");
    story.wait(3_000);
    let key = key_of(&story, SPARE);
    let (acknowledged, answer) = story.put(SPARE, key, None);
    assert_eq!(answer.ops(), [acknowledged], "old owners have it as well");
    cut(&mut story, &[SPARE], &[0, 1, 2, 3], true);
    let (_, answer) = story.put(SPARE, key, None);
    assert!(
        !matches!(answer, quorate_sim::story::Answer::Listed(..)),
        "{answer:?}"
    );
    let aborted = story.operate(0, request(&story, "abort", 0));
    aborted.expect("the others take the change back");
    story.wait(3_000);
    assert_eq!(phase(&story, 0), Phase::Stable);
    assert_eq!(story.get(0, key, 2).ops(), [acknowledged]);
    cut(&mut story, &[SPARE], &[0, 1, 2, 3], false);
    story.world.start(4);
    story.end();
}

/// Row 37: two operators on two sides of a partition. One wins; the other is told that nobody has
/// agreed, and, when the sides hear each other, that the plan is no longer the plan.
#[test]
fn of_two_operators_on_two_sides_one_wins() {
    let mut story = story(437, 2);
    let ours = stage(&mut story, 0, "join", SPARE);
    let (few, many) = ([0, 1, SPARE], [2, 3, 4, SPARE + 1]);
    cut(&mut story, &few, &many, true);
    story.wait(15_000);
    let lost = commit(&mut story, 0, &ours);
    assert!(
        matches!(
            lost,
            Err(Some(ErrorCode::Unavailable | ErrorCode::UnknownOutcome))
        ),
        "two of five decide nothing: {lost:?}"
    );
    let unstaged = story.operate(2, request(&story, "unstage", 2));
    unstaged.expect("the other side wants something else");
    begin(&mut story, 2, "weight", 3);
    assert_eq!(phase(&story, 0), Phase::Stable, "it has heard of nothing");
    cut(&mut story, &few, &many, false);
    settle(&mut story);
    let epochs = story.world.processes.iter().take(5).map(|process| {
        let machine = process.machine.as_ref().expect("it lives");
        (machine.decree().epoch, machine.decree().hash())
    });
    let mut epochs: Vec<_> = epochs.collect();
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "one history: {epochs:?}");
    let late = commit(&mut story, 0, &ours);
    assert!(matches!(late, Err(Some(ErrorCode::Conflict))), "{late:?}");
    story.end();
}

/// Row 38: who leaves keeps everything until the new owners have it on disk, dies on the way, and
/// goes on when it is back.
#[test]
fn who_leaves_keeps_everything_until_others_have_it() {
    let mut story = story(438, 0);
    let ops: Vec<_> = (0..40)
        .map(|key| story.put(key as usize % 5, key, None).0)
        .collect();
    let leaver = 4;
    let held: Vec<u32> = (0..40)
        .filter(|key| story.world.record(leaver, *key).is_some())
        .collect();
    assert!(!held.is_empty());
    let digest = stage(&mut story, 0, "leave", leaver);
    story.world.crash(3, None);
    story.wait(15_000);
    commit(&mut story, 0, &digest).expect("four of five agree");
    story.wait(20_000);
    assert_eq!(
        phase(&story, leaver),
        Phase::Moving,
        "n4 cannot take anything in"
    );
    story.world.crash(leaver, None);
    story.wait(5_000);
    story.world.start(leaver);
    story.wait(5_000);
    let keeps = |story: &Story| {
        held.iter()
            .all(|key| story.world.record(leaver, *key).is_some())
    };
    assert!(keeps(&story));
    story.world.start(3);
    settle(&mut story);
    story.wait(10_000);
    let left: Vec<&u32> = held
        .iter()
        .filter(|key| story.world.record(leaver, **key).is_some())
        .collect();
    assert!(left.is_empty(), "it has handed over and deleted: {left:?}");
    for key in 0..40 {
        assert_eq!(story.get(leaver, key, 3).ops(), [ops[key as usize]]);
    }
    story.end();
}
