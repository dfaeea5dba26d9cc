//! Rings that change, step by step: joiners and leavers that die, an operator whose node dies, and
//! two operators who do not know of each other.

use quorate_client::wire::{ErrorCode, RingRequest};
use quorate_ring::Phase;
use quorate_sim::{
    Options,
    steer::{commit, say},
    story::Story,
};

const KEYS: u32 = 6;

/// Five members, and two nodes that have joined and hold nothing.
fn with_spares(seed: u64) -> Story {
    let mut options = Options::calm(seed);
    options.spare = 2;
    options.workload.keys = usize::try_from(KEYS).expect("a few");
    Story::with(options)
}

/// Reads and writes every key through these nodes in turn; what each holds is what was written
/// last, or the story's oracles end it.
fn use_all(story: &mut Story, through: &[usize]) {
    for key in 0..KEYS {
        let at = |place: usize| through[place % through.len()];
        let place = usize::try_from(key).expect("a few");
        let read = story.get(at(place), key, 2);
        let seen = (!read.ops().is_empty()).then(|| read.seen());
        let (op, answer) = story.put(at(place + 1), key, seen);
        assert_eq!(answer.ops(), [op]);
        assert_eq!(story.get(at(place + 2), key, 2).ops(), [op]);
    }
}

/// Rows 11 and 12: two nodes join and two leave in one change, and every read shows the write
/// before it, in each step, through old, new and leaving members.
#[test]
fn two_join_and_two_leave_at_once_and_reads_follow_writes_all_the_while() {
    let mut story = with_spares(11);
    let all = [0, 1, 2, 3, 4, 5, 6];
    use_all(&mut story, &all[..5]);
    let moving = [("join", 5), ("join", 6), ("leave", 0), ("leave", 1)];
    let digest = story.stage(0, &moving);
    // Transfers take so long that all of it is done in every step.
    story.world.network.slow(Some(5), 300);
    story.ring(3, commit(&digest)).expect("it is agreed on");
    let mut phases = Vec::new();
    while !story.is_settled() {
        phases.push(story.decree().phase);
        use_all(&mut story, &all);
    }
    phases.dedup();
    assert!(phases.contains(&Phase::Moving), "{phases:?}");
    use_all(&mut story, &all[2..]);
    story.end();
}

/// Rows 13 and 36: who has not got its data yet counts for no read, and replaces nobody's
/// acknowledgement: the change is taken back, it is gone, and everything is there.
#[test]
fn a_joiner_that_never_gets_its_data_is_asked_for_nothing_and_missed_by_nobody() {
    let mut story = with_spares(13);
    let members = [0, 1, 2, 3, 4];
    use_all(&mut story, &members);
    let digest = story.stage(0, &[("join", 5)]);
    story.ring(0, commit(&digest)).expect("it is agreed on");
    story.world.isolate(5);
    for _ in 0..3 {
        use_all(&mut story, &members);
        story.wait(2_000);
        assert_eq!(story.decree().phase, Phase::Moving, "it waits for n6");
    }
    story.world.crash(5, None);
    // Not the node that was told to begin it.
    story.ring(3, say("abort")).expect("it is taken back");
    story.wait_until_settled();
    let ring = story.decree();
    assert!(ring.ring.members().iter().all(|node| node.name != "n6"));
    use_all(&mut story, &members);
    story.world.network.mend();
    story.end();
}

/// Row 38: a member that leaves and dies before it has handed over is waited for; the change ends
/// when it is back, or is taken back through any other node.
#[test]
fn a_leaver_that_dies_on_the_way_is_waited_for_or_stays_a_member() {
    for (seed, comes_back) in [(381, true), (382, false)] {
        let mut story = with_spares(seed);
        let others = [0, 1, 2, 3];
        use_all(&mut story, &[0, 1, 2, 3, 4]);
        let digest = story.stage(0, &[("leave", 4), ("join", 5)]);
        story.world.network.slow(Some(5), 300);
        story.ring(1, commit(&digest)).expect("it is agreed on");
        story.wait(100);
        story.world.crash(4, None);
        story.wait(10_000);
        use_all(&mut story, &others);
        assert_eq!(story.decree().phase, Phase::Moving, "it waits for n5");
        if comes_back {
            story.world.start(4);
        } else {
            story.ring(2, say("abort")).expect("it is taken back");
            story.world.start(4);
        }
        story.wait_until_settled();
        let members = story.decree().ring.members().to_vec();
        let is_member = |name: &str| members.iter().any(|node| node.name == name);
        assert_eq!(
            (is_member("n5"), is_member("n6")),
            (!comes_back, comes_back)
        );
        use_all(&mut story, &others);
        story.end();
    }
}

/// The node through which a change was committed dies at any point of it: the others go on, or a
/// repeated commit does, and nobody has to wait for its return.
#[test]
fn a_change_goes_on_without_the_node_that_was_told_to_begin_it() {
    let mut resumed = 0;
    for after in [0, 1, 2, 3, 4, 6, 8, 12, 20, 50, 100, 200, 400] {
        let mut story = with_spares(3_700 + after);
        use_all(&mut story, &[0, 1, 2, 3, 4]);
        let digest = story.stage(1, &[("weight", 2)]);
        let serial = story.start_ring(0, commit(&digest));
        story.wait(after);
        story.world.crash(0, None);
        // Silence is no answer: whether it was agreed on shows, or it is asked for again.
        let _ = story.hear_ring(serial);
        story.wait(10_000);
        if story.decree().epoch.get() == 2 {
            let digest = story.ring(3, say("plan")).expect("a plan").plan;
            let digest = digest.expect("a plan is in it").digest;
            story.ring(3, commit(&digest)).expect("it is agreed on");
        } else {
            resumed += 1;
        }
        use_all(&mut story, &[1, 2, 3, 4]);
        // The dead member is a part of the change that is needed: it comes back, late.
        story.world.start(0);
        story.wait_until_settled();
        assert_eq!(weight(&story, 2), 2, "died after {after} ms");
        use_all(&mut story, &[0, 1, 2, 3, 4]);
        story.end();
    }
    assert!(
        (3..13).contains(&resumed),
        "{resumed} of 13 went on by themselves"
    );
}

/// The same, and the change is taken back through each of the others.
#[test]
fn a_change_is_taken_back_through_any_other_node_when_the_first_is_dead() {
    for other in 1..5 {
        let mut story = with_spares(3_750);
        use_all(&mut story, &[0, 1, 2, 3, 4]);
        let digest = story.stage(0, &[("join", 5), ("leave", 4)]);
        story.world.network.slow(Some(5), 300);
        story.ring(0, commit(&digest)).expect("it is agreed on");
        story.wait(50);
        story.world.crash(0, None);
        story.wait(5_000);
        assert_eq!(story.decree().phase, Phase::Moving);
        story.ring(other, say("abort")).expect("it is taken back");
        use_all(&mut story, &[1, 2, 3, 4]);
        story.world.start(0);
        story.wait_until_settled();
        assert_eq!(story.decree().ring.members().len(), 5);
        use_all(&mut story, &[0, 1, 2, 3, 4]);
        story.end();
    }
}

/// Whoever waits for a change hears of its end when it is there, whichever node is asked; one that
/// has just been started knows as soon as it is heard of.
#[test]
fn every_node_soon_knows_that_a_change_is_over() {
    for seed in 3_800..3_810 {
        let mut story = with_spares(seed);
        use_all(&mut story, &[0, 1, 2, 3, 4]);
        let digest = story.stage(0, &[("join", 5), ("leave", 4)]);
        story.ring(0, commit(&digest)).expect("it is agreed on");
        story.wait_until_settled();
        story.wait(300);
        for by in 0..6 {
            assert!(story.is_told_done(by), "n{}", by + 1);
        }
        story.world.crash(2, Some(10_000_000_000));
        story.wait(12_000);
        for by in 0..6 {
            assert!(story.is_told_done(by), "n{}", by + 1);
        }
        story.end();
    }
}

fn weight(story: &Story, node: usize) -> u32 {
    let decree = story.decree();
    let members = decree.ring.members().iter();
    let named = |name: &str| name == format!("n{}", node + 1);
    let mut members = members.filter(|member| named(&member.name));
    members.next().expect("a member").weight
}

/// Cuts off, or connects, one side of the network.
fn cut(story: &mut Story, side: &[usize]) {
    for node in 0..story.world.processes.len() {
        for other in side {
            if !side.contains(&node) {
                story.world.network.set_cut(node, *other, true);
                story.world.network.set_cut(*other, node, true);
            }
        }
    }
}

/// Row 37: two changes are committed on the two sides of a partition. The larger side's happens,
/// the smaller side's operator is told, and there is one history.
#[test]
fn of_two_changes_on_two_sides_one_happens_and_the_other_is_refused() {
    let mut story = with_spares(37);
    let lost = story.stage(0, &[("weight", 0)]);
    story.ring(2, say("unstage")).expect("nothing is staged");
    let won = story.stage(3, &[("weight", 4)]);
    story.ring(2, say("unstage")).expect("nothing is staged");
    let again = story.stage(0, &[("weight", 0)]);
    assert_eq!(lost, again, "a plan is what it says");
    cut(&mut story, &[0, 1]);
    let waiting = story.start_ring(0, commit(&lost));
    let told = story
        .hear_ring(waiting)
        .expect_err("three are out of reach");
    let code = told.map(|error| error.code);
    assert_eq!(code, Some(ErrorCode::UnknownOutcome));
    // Who misses most of the others doubts itself, and is slow to call them dead.
    story.wait(40_000);
    story.ring(3, say("unstage")).expect("nothing is staged");
    assert_eq!(story.stage(3, &[("weight", 4)]), won);
    story.ring(4, commit(&won)).expect("three of five agree");
    let told = story.ring(1, commit(&lost)).expect_err("it knows now");
    let code = told.map(|error| error.code);
    assert_eq!(code, Some(ErrorCode::Unavailable));
    // Who asks in the moment in which they meet again hears which was first.
    let waiting = story.start_ring(0, commit(&lost));
    story.world.network.mend();
    let told = story.hear_ring(waiting).expect_err("another was first");
    let code = told.map(|error| error.code);
    assert!(
        matches!(code, Some(ErrorCode::Unavailable | ErrorCode::Conflict)),
        "{code:?}"
    );
    story.wait_until_settled();
    assert_eq!((weight(&story, 0), weight(&story, 4)), (1, 2));
    let told = story
        .ring(0, commit(&lost))
        .expect_err("its ring is no more");
    assert_eq!(told.map(|error| error.code), Some(ErrorCode::Conflict));
    story.end();
}

/// Milliseconds that a join takes that pulls through slow links of a member, which has clients of
/// its own or has none.
fn join_beside(clients: bool) -> u64 {
    let mut options = Options::calm(3_900);
    options.spare = 1;
    options.workload.keys = 600;
    let mut story = Story::with(options);
    for key in 0..600 {
        story.put(0, key, None);
    }
    let digest = story.stage(0, &[("join", 5)]);
    // Nobody asks for anything, as far as the members know.
    story.wait(6_000);
    story.world.network.slow(Some(0), 50);
    let before = story.world.now;
    story.ring(1, commit(&digest)).expect("it is agreed on");
    let mut key = 0;
    while !story.is_settled() {
        key = (key + 1) % 600;
        if clients {
            story.put(0, key, None);
        } else {
            story.wait(20);
        }
    }
    let took = (story.world.now - before) / 1_000_000;
    story.end();
    took
}

/// A joiner has no clients whose requests could tell it to be slow: those of the members from which
/// it pulls do.
#[test]
fn a_joiner_rests_while_clients_of_the_members_are_served_slowly() {
    let (alone, beside) = (join_beside(false), join_beside(true));
    assert!(
        2 * alone < beside,
        "{beside} ms beside clients, {alone} ms alone"
    );
}

/// What was agreed on is known to one node only, which nobody hears; all others die, and begin to
/// agree on something else.
#[test]
fn a_vote_that_was_cast_is_remembered_by_a_voter_that_dies() {
    let mut alone = 0;
    for pause in 4..14 {
        let mut story = Story::begin(3_950 + pause);
        let digest = story.stage(0, &[("weight", 2)]);
        let before = story.decree().epoch.get();
        story.start_ring(0, commit(&digest));
        // It hears the others' votes, and they hear nothing any more: each time from another
        // moment on.
        let until = story.world.now + pause * 250_000;
        story.world.run_until(until);
        for other in 1..5 {
            story.world.network.set_cut(0, other, true);
        }
        story.wait(300);
        let epoch = |story: &Story, node: usize| {
            let machine = story.world.processes[node].machine.as_ref();
            machine.expect("it is up").decree().epoch.get()
        };
        let knows = |node: &usize| epoch(&story, *node) != before;
        if (0..5).filter(knows).collect::<Vec<_>>() != [0] {
            continue;
        }
        alone += 1;
        for node in 1..5 {
            story.world.crash(node, None);
            story.world.start(node);
        }
        story.wait(3_000);
        let other = RingRequest {
            node: "n5".to_owned(),
            weight: Some(3),
            ..say("weight")
        };
        for _ in 0..5 {
            let _ = story.ring(3, other.clone());
            let plan = story.ring(3, say("plan")).ok().and_then(|told| told.plan);
            if let Some(plan) = plan {
                let _ = story.ring(3, commit(&plan.digest));
            }
            story.wait(500);
        }
        story.world.network.mend();
        story.wait_until_settled();
        assert_eq!(weight(&story, 2), 2, "cut off after {pause} steps");
        story.end();
    }
    assert!(0 < alone, "nobody was ever alone with it");
}
