//! Whole runs: seeds that once failed, and what must hold for any. Fresh seeds are drawn by
//! `.ci/run`, others for every state of the sources.

use quorate_sim::{Options, options::Generation, replay::Plan, soak::Summary};

/// Seeds that once broke a promise, each with what was wrong then.
const ONCE_FAILED: [(u64, &str); 6] = [
    (
        1000,
        "a damaged record was recovered by reading it, for ever",
    ),
    (
        2070,
        "a read of all showed what a later read of two did not",
    ),
    (
        2382,
        "a healed record without versions was told from an absent one",
    ),
    (
        200_088,
        "the oracle counted a copy that was damaged before the write was acknowledged",
    ),
    (
        200_225,
        "who waited for one repair was told of another that carried less",
    ),
    (
        200_505,
        "the oracle overlooked deletes beyond those that a context names",
    ),
];

/// The same, since links were narrow and clients in a hurry.
const FAILED_LAST: [(u64, &str); 1] = [(
    56,
    "a page of a transfer held more keys than may be in work, and never went through",
)];

/// The same, since there were more classes of fault.
const FAILED_LATER: [(u64, &str); 2] = [
    (
        278,
        "a comparison that began before a ring change brought back what had been handed over",
    ),
    (
        10_000,
        "a node started while the ring was small took the first bucket for a smaller one",
    ),
];

/// The same, since tombstones are reaped and directories are lost.
const FAILED_NOW: [(u64, &str); 2] = [
    (
        52_627,
        "a lie about an operation id was to be noticed by replicas that it was not sent to",
    ),
    (
        3_400_630,
        "a new directory in place of a lost one answered alone when it was opened again",
    ),
];

/// The same, since faults are aimed at the steps of ring changes and at directories put back.
const FAILED_AIMED: [(u64, &str); 6] = [
    (
        5_000_838,
        "an old directory that believed itself rebuilt acknowledged before anybody had heard of it",
    ),
    (
        5_101_007,
        "a read that had asked stand-ins in vain did not wait for its repairs",
    ),
    (
        3_529_751_781,
        "a node without a place called itself clean while writes were on their way to its disk",
    ),
    (
        246,
        "a question that had come twice when the ring changed was answered as if it had not",
    ),
    (1_052, "the same, and it was asked by another"),
    (
        1_340,
        "what was on its way to the disk when all there was set aside was acknowledged later",
    ),
];

/// The same, since directories are lost while writes wait.
const FAILED_LOST: [(u64, &str); 5] = [
    (
        80_212,
        "who coordinated a write counted its own copy after that had been set aside",
    ),
    (
        9_400_436,
        "what a replica showed from memory counted as stored, though its disk had lost it",
    ),
    (
        1_492_993_199,
        "a read had to see what only a stand-in had left after the one replica's copy was damaged",
    ),
    (
        3_702_627_510,
        "a rebuilt directory had to hold what a stand-in handed over after it had been rebuilt",
    ),
    (
        888_001_455,
        "who had been away took a new directory that had been opened twice for an old one",
    ),
];

/// The same, since nodes hear late of what their disks have done.
const FAILED_TOLD: [(u64, &str); 6] = [
    (
        71_241,
        "a tree was compared with what its node had not been told of",
    ),
    (
        71_392,
        "a value under a reused id, replaced unseen, left a record that nobody could read",
    ),
    (
        83_629,
        "a directory was refused after more others than are remembered",
    ),
    (
        84_334,
        "verify was blamed for a tombstone that had come back from a disk that was slow to reap it",
    ),
    (
        1_880_118_984,
        "what has expired was to be gone sooner than small limits let it go",
    ),
    (
        1_147_039_030,
        "a repeated write was sent on as what was left when its record had been set aside",
    ),
];

fn check(summary: &Summary) {
    if let Some((plan, broken)) = summary.broken.first() {
        panic!("{broken}\n{summary}\n{plan}");
    }
}

#[test]
fn seeds_that_once_failed_pass() {
    let old = ONCE_FAILED.map(|(seed, what)| (Plan::of(seed, Generation::First), what));
    let new = FAILED_LATER.map(|(seed, what)| (Plan::of(seed, Generation::Second), what));
    let now = FAILED_LAST.map(|(seed, what)| (Plan::of(seed, Generation::Third), what));
    let newest = FAILED_NOW.map(|(seed, what)| (Plan::of(seed, Generation::Fourth), what));
    let aimed = FAILED_AIMED.map(|(seed, what)| (Plan::of(seed, Generation::Fifth), what));
    let all = old.into_iter().chain(new).chain(now).chain(newest);
    let lost = FAILED_LOST.map(|(seed, what)| (Plan::of(seed, Generation::Sixth), what));
    let told = FAILED_TOLD.map(|(seed, what)| (Plan::new(seed), what));
    for (plan, what) in all.chain(aimed).chain(lost).chain(told) {
        let mut summary = Summary::default();
        summary.run(plan, false);
        assert!(summary.broken.is_empty(), "{what}: {:?}", summary.broken);
    }
}

#[test]
fn the_first_seeds_pass_with_and_without_encoding() {
    let mut summary = Summary::default();
    for seed in 0..10 {
        let plan = Plan {
            seconds: Some(10),
            ..Plan::new(seed)
        };
        let report = summary.run(plan, false);
        summary.run_plain(plan, &report);
    }
    check(&summary);
    assert!(summary.acknowledged > 1_000, "{summary}");
}

/// W12: at another hour nodes mint the same dots and give the same answers. (Clocks that differ
/// between nodes are a class of fault: answers come a little earlier or later with them.)
#[test]
fn the_hour_changes_no_outcome() {
    for seed in 0..5 {
        let outcome = |wall_shift_ms| {
            let mut options = Options::from_seed(seed);
            options.duration = 10_000_000_000;
            options.classes.clock = false;
            options.wall_shift_ms = wall_shift_ms;
            quorate_sim::run(options, false).outcome
        };
        assert_eq!(outcome(0), outcome(-9_000_000_000), "seed {seed}");
    }
}

#[test]
fn a_seed_is_a_run() {
    let plan = Plan {
        seconds: Some(5),
        ..Plan::new(4)
    };
    let mut summary = Summary::default();
    let (first, second) = (summary.run(plan, false), summary.run(plan, false));
    assert_eq!((first.hash, first.events), (second.hash, second.events));
}
