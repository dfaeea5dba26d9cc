//! How the detector does at scale: up to 200 nodes, three messages in ten lost, processes that
//! stand still.
//!
//! One queue of deliveries and wake-ups, one seed, simulated time, and messages as long as they
//! are on the wire. Prints what it measures (`--nocapture`), and asserts what must hold: traffic
//! does not grow with the cluster, no live node stays down once the loss stops, and a process that
//! is slow itself makes few others suspect.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that prints what it measures"
)]

use std::{collections::BTreeMap, time::Duration};

use quorate_gossip::{Config, State};

#[path = "gossip/world.rs"]
mod world;

use world::World;

const COUNTS: [usize; 3] = [10, 50, 200];
const THIRTY_PERCENT: f64 = 0.3;

/// Sent by each node per second: messages and bytes.
fn traffic(count: usize, loss: f64) -> (f64, f64) {
    let mut world = World::new(count, loss, Config::lan(), 5);
    // The news that everybody is there has to be out of the way.
    world.run(Duration::from_mins(4));
    let before = (world.messages, world.bytes);
    world.run(Duration::from_mins(1));
    let nodes = f64::from(u32::try_from(count).unwrap());
    let per_node = |sum: u64| f64::from(u32::try_from(sum).unwrap()) / nodes / 60.0;
    (
        per_node(world.messages - before.0),
        per_node(world.bytes - before.1),
    )
}

#[test]
fn what_a_node_sends_does_not_grow_with_the_cluster() {
    for loss in [0.0, THIRTY_PERCENT] {
        let sent = COUNTS.map(|count| traffic(count, loss));
        for (count, (messages, bytes)) in COUNTS.iter().zip(sent) {
            println!("{count} nodes, loss {loss}: {messages:.1} messages/s, {bytes:.0} bytes/s");
        }
        let [_, (messages, _), (most_messages, most_bytes)] = sent;
        assert!(most_messages <= messages * 1.2);
        // While there are no news; with news, as many as fit into each message.
        assert!(most_bytes <= if loss == 0.0 { 1_000.0 } else { 10_000.0 });
    }
}

/// How long after a death half of the others, and all of them, think the node down.
fn detection(count: usize, loss: f64) -> (Duration, Option<Duration>) {
    let mut world = World::new(count, loss, Config::lan(), 7);
    world.run(Duration::from_secs(20));
    let (dead, died) = (count / 2, world.now);
    world.kill(dead);
    let (mut half, mut all) = (None, None);
    while all.is_none() && world.now.since(died) < Duration::from_mins(2) {
        world.run(Duration::from_millis(100));
        let seen = world.seen_down(dead);
        let since = world.now.since(died);
        if count <= 2 * seen {
            half.get_or_insert(since);
        }
        if seen == count - 1 {
            all = Some(since);
        }
    }
    (half.expect("half of them notice"), all)
}

#[test]
fn a_death_is_noticed_by_all() {
    for count in COUNTS {
        for loss in [0.0, THIRTY_PERCENT] {
            let (half, all) = detection(count, loss);
            println!("{count} nodes, loss {loss}: half know after {half:.1?}, all after {all:.1?}");
            assert!(all.is_some());
        }
    }
}

#[test]
fn heavy_loss_leaves_no_live_node_down() {
    for count in COUNTS {
        let mut world = World::new(count, 0.0, Config::lan(), 7);
        world.run(Duration::from_mins(2));
        world.loss = THIRTY_PERCENT;
        let mut wrong = 0;
        for _ in 0..60 {
            world.run(Duration::from_secs(1));
            wrong += (0..count)
                .map(|about| world.seen_down(about))
                .sum::<usize>();
        }
        let pairs = f64::from(u32::try_from(count * (count - 1) * 60).unwrap());
        let share = f64::from(u32::try_from(wrong).unwrap()) / pairs;
        let (suspicions, downs) = (world.accused(State::Suspect), world.accused(State::Down));
        println!(
            "{count} live nodes, 30 % loss, one minute: {suspicions} suspicions, {downs} of them \
             became a false down; a node was wrongly down {:.3} % of the time",
            share * 100.0
        );
        world.loss = 0.0;
        world.run(Duration::from_mins(1));
        for about in 0..count {
            assert_eq!(world.seen_down(about), 0, "node {about} lives");
        }
    }
}

/// Suspicions of healthy nodes, and how many of them became a false down, while one process in
/// ten is starved.
fn starved_processes(config: Config) -> (usize, usize) {
    const COUNT: usize = 50;
    const SLOW: usize = 5;
    let mut world = World::new(COUNT, 0.0, config, 11);
    world.run(Duration::from_secs(10));
    for slow in 0..SLOW {
        world.starve(slow);
    }
    world.run(Duration::from_mins(2));
    let healthy = |state| {
        (SLOW..COUNT)
            .map(|about| world.accusations(about, state))
            .sum()
    };
    let outcome = (healthy(State::Suspect), healthy(State::Down));
    world.feed();
    world.run(Duration::from_mins(1));
    for about in 0..COUNT {
        assert_eq!(world.seen_down(about), 0, "node {about} lives");
    }
    outcome
}

#[test]
fn a_process_that_is_starved_itself_makes_few_others_suspect() {
    let with = starved_processes(Config::lan());
    let without = starved_processes(Config {
        health_max: 0,
        ..Config::lan()
    });
    println!(
        "5 of 50 processes starved for two minutes: {} suspicions and {} false downs of healthy \
         nodes, without the multiplier {} and {}",
        with.0, with.1, without.0, without.1
    );
    assert!(with.0 * 5 <= without.0, "its own health comes first");
    assert_eq!(with.1, 0, "nobody healthy is thought down");
}

#[test]
fn a_process_that_stood_still_for_long_takes_nobody_down() {
    let mut world = World::new(20, 0.0, Config::lan(), 3);
    world.run(Duration::from_secs(10));
    world.pause(4);
    world.run(Duration::from_secs(40));
    assert_eq!(world.seen_down(4), 19, "it is gone as far as they can tell");
    world.resume(4);
    world.run(Duration::from_secs(30));
    let others: BTreeMap<usize, usize> = (0..20)
        .filter(|about| *about != 4)
        .map(|about| (about, world.accusations(about, State::Suspect)))
        .filter(|(_, suspicions)| 0 < *suspicions)
        .collect();
    assert!(others.is_empty(), "suspected: {others:?}");
    assert_eq!(world.seen_down(4), 0, "it is back");
}
