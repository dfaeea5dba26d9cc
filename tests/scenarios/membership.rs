//! Who is where, and how quick: members that move, nodes that nobody needs any more, and nodes
//! that live and are slow.

use std::time::Duration;

use quorate_gossip::State;
use quorate_ring::{Member, NodeId};
use quorate_sim::{Options, story::Story};

const KEY: u32 = 0;

/// What `by` knows of everybody.
fn members(story: &Story, by: usize) -> Vec<Member> {
    let machine = story.world.processes[by].machine.as_ref();
    machine.expect("the story lets it live").members()
}

fn state(story: &Story, by: usize, about: usize) -> Option<State> {
    let node = story.world.processes[about].id;
    let machine = story.world.processes[by].machine.as_ref();
    machine.expect("the story lets it live").member_state(node)
}

fn address(story: &Story, by: usize, about: usize) -> String {
    let node: NodeId = story.world.processes[about].id;
    let all = members(story, by);
    let member = all.iter().find(|member| member.id == node);
    member.expect("it is a member").address.clone()
}

fn move_to(story: &mut Story, node: usize, address: &str) {
    story.world.crash(node, None);
    address.clone_into(&mut story.world.processes[node].address);
}

/// A member that comes back elsewhere is found there by all, also by those who start later, and
/// holds what it held.
#[test]
fn a_member_that_moves_is_found_where_it_is() {
    let mut story = Story::begin(61);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    let (first, _) = story.put(a, KEY, None);
    for place in ["10.0.0.7:7400", "10.0.0.8:7400", "127.0.0.1:7400"] {
        move_to(&mut story, b, place);
        story.wait(8_000);
        assert_eq!(state(&story, a, b), Some(State::Down));
        story.world.start(b);
        story.wait(8_000);
        for by in 0..5 {
            assert_eq!(address(&story, by, b), place, "as n{} sees it", by + 1);
            assert_ne!(
                state(&story, by, b),
                Some(State::Down),
                "as n{} sees it",
                by + 1
            );
        }
        story.world.crash(a, None);
        story.wait(3_000);
        story.world.start(a);
        story.wait(5_000);
        assert_eq!(address(&story, a, b), place, "it is on disk");
    }
    assert_eq!(story.get(b, KEY, 3).ops(), [first]);
    story.end();
}

/// Two that move at the same time find each other through those who stay.
#[test]
fn two_members_that_move_at_once_find_each_other() {
    let mut story = Story::begin(62);
    let (a, b) = (story.owner(KEY, 0), story.owner(KEY, 1));
    move_to(&mut story, a, "10.0.0.1:7400");
    move_to(&mut story, b, "10.0.0.2:7400");
    story.wait(2_000);
    story.world.start(a);
    story.world.start(b);
    story.wait(15_000);
    assert_eq!(address(&story, a, b), "10.0.0.2:7400");
    assert_eq!(address(&story, b, a), "10.0.0.1:7400");
    assert_eq!(state(&story, a, b), Some(State::Up));
    story.put(a, KEY, None);
    story.end();
}

/// A node without a place in the ring is forgotten by everybody when it is away for long, also by
/// those who were away themselves, and is heard again once it joins.
#[test]
fn who_has_no_place_is_forgotten_after_a_while() {
    let mut options = Options::calm(63);
    options.spare = 1;
    options.limits.forget_after = Duration::from_secs(20);
    let mut story = Story::with(options);
    let (spare, away) = (5, 3);
    let knows = |story: &Story, by: usize| {
        let id = story.world.processes[spare].id;
        members(story, by).iter().any(|member| member.id == id)
    };
    story.wait(30_000);
    assert!((0..5).all(|by| knows(&story, by)), "while it lives");
    story.world.crash(spare, None);
    story.wait(5_000);
    story.world.crash(away, None);
    story.wait(40_000);
    story.world.start(away);
    story.wait(30_000);
    let left: Vec<usize> = (0..5).filter(|by| knows(&story, *by)).collect();
    assert!(left.is_empty(), "all have forgotten it: {left:?}");
    let moment = story.world.processes[0].clock.moment(story.world.now);
    let member = quorate_sim::layout::Layout::member(&story.world.processes[spare].name.clone());
    let machine = story.world.processes[0].machine.as_mut().expect("it lives");
    machine
        .welcome(moment, &member)
        .expect("it is welcome again");
    story.world.start(spare);
    story.wait(10_000);
    assert!((0..5).all(|by| knows(&story, by)), "it has joined again");
}

/// Gray failure: a replica that lives and is slow is asked last, and recovers its place when it is
/// quick again, though nobody has asked it anything meanwhile.
#[test]
fn a_slow_replica_is_asked_last_and_recovers_its_place() {
    let mut story = Story::begin(64);
    let (a, b, c) = (
        story.owner(KEY, 0),
        story.owner(KEY, 1),
        story.owner(KEY, 2),
    );
    story.put(a, KEY, None);
    // The slowest of the last of many reads, in milliseconds.
    let slowest = |story: &mut Story, r: u8| {
        let mut took = Vec::new();
        for _ in 0..80 {
            let before = story.world.now;
            story.get(a, KEY, r);
            took.push((story.world.now - before) / 1_000_000);
            story.wait(250);
        }
        took.split_off(60).into_iter().max().unwrap_or(0)
    };
    story.world.network.slow(Some(b), 400);
    let worst = slowest(&mut story, 3);
    assert!(100 < worst, "who asks all waits for b: {worst} ms");
    assert_ne!(state(&story, a, b), Some(State::Down), "slow is not dead");
    let worst = slowest(&mut story, 2);
    assert!(worst < 5, "b is asked last: {worst} ms");
    // What is remembered of b is worse than what is seen of c, and no longer true.
    story.world.network.slow(Some(c), 20);
    let worst = slowest(&mut story, 2);
    assert!(worst < 5, "b has recovered its place: {worst} ms");
    story.end();
}

/// Who says that it is ready has a quorum to read from, however slowly all of them find each other
/// after all were down.
#[test]
fn a_node_that_is_ready_answers_reads_of_a_quorum() {
    for seed in 640..660 {
        let mut options = Options::calm(seed);
        options.nodes = 3;
        let mut story = Story::with(options);
        let (op, _) = story.put(0, KEY, None);
        story.wait(1_000);
        for node in 0..3 {
            story.world.crash(node, None);
        }
        story.world.network.slow(Some(0), 20 * (seed - 639));
        for node in 0..3 {
            story.wait(37 * (seed - 640) * node as u64 / 2);
            story.world.start(node);
        }
        let mut ready = [false; 3];
        while ready != [true; 3] {
            for (node, ready) in ready.iter_mut().enumerate() {
                if !*ready && story.world.processes[node].is_ready() {
                    *ready = true;
                    let got = story.get(node, KEY, 2);
                    assert_eq!(got.ops(), [op], "seed {seed}, n{}", node + 1);
                }
            }
            story.world.step();
        }
        story.end();
    }
}
