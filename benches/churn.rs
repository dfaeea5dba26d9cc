//! Members join and leave under load, again and again, with and without `kill -9` of those that
//! move: nothing that was acknowledged is lost, and a planned change fails no request.
//!
//! One round each; `QUORATE_CHURN_ROUNDS=20` runs as many.

use std::{
    env,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::cluster::Cluster;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;

const NODES: usize = 5;
/// One at a time: five nodes and their load are enough for a small machine.
static ALONE: Mutex<()> = Mutex::new(());
/// Only so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_mins(5);

fn rounds() -> u64 {
    let given = env::var("QUORATE_CHURN_ROUNDS").ok();
    given.map_or(1, |given| given.parse().expect("a number of rounds"))
}

/// Two different nodes.
fn pair(rng: &mut Pcg64Mcg) -> [usize; 2] {
    let first = rng.random_range(0..NODES);
    let second = (first + rng.random_range(1..NODES)) % NODES;
    [first + 1, second + 1]
}

/// Repeats what is refused because somebody is away, or still busy with the last change.
fn insist(cluster: &Cluster, command: &str) -> Value {
    let limit = Instant::now() + PATIENCE;
    loop {
        let (exit, json) = cluster.ask(command);
        if exit == 0 {
            return json;
        }
        assert!(Instant::now() < limit, "{command}: {json}");
        thread::sleep(Duration::from_millis(200));
    }
}

fn is_stable(cluster: &Cluster) -> bool {
    insist(cluster, "ring transfers")["state"] == "stable"
}

/// Two members leave, or join; returns when all is moved and nothing is left behind.
fn change(cluster: &Cluster, verb: &str, pair: [usize; 2], mut meanwhile: impl FnMut()) {
    let limit = Instant::now() + PATIENCE;
    let before = insist(cluster, "ring show")["nodes"].clone();
    // A commit whose outcome is unknown is repeated only if it was not agreed on.
    loop {
        for node in pair {
            insist(cluster, &format!("ring stage {verb} n{node}"));
        }
        let plan = insist(cluster, "ring plan");
        let digest = plan["digest"].as_str().unwrap();
        let (exit, json) = cluster.ask(&format!("ring commit {digest}"));
        if exit == 0 || !is_stable(cluster) {
            break;
        }
        if insist(cluster, "ring show")["nodes"] != before {
            break;
        }
        assert!(Instant::now() < limit, "commit: {json}");
        thread::sleep(Duration::from_millis(200));
    }
    meanwhile();
    insist(cluster, "ring wait --timeout 4m");
}

/// Runs `course` while load runs, until both are over; what the runs of the load found. They
/// follow one upon the other, each on the records of the one before.
fn under_load(cluster: &Cluster, course: impl FnOnce() + Send) -> Vec<Value> {
    let load = "run --workload a --clients 16 --records 500 --rate 250 --duration 8s --verify";
    thread::scope(|scope| {
        // The records exist, and the bucket, before anything changes.
        let mut runs = vec![cluster.figures(&load.replace("8s", "1s"), &[]).0];
        let course = scope.spawn(course);
        loop {
            let over = course.is_finished();
            runs.push(cluster.figures(load, &[]).0);
            if over {
                course.join().expect("the ring is changed");
                return runs;
            }
        }
    })
}

fn sum(runs: &[Value], what: &str) -> u64 {
    runs.iter().map(|run| run[what].as_u64().unwrap()).sum()
}

fn converged(cluster: &Cluster) {
    cluster.ok("cluster wait-converged --timeout 2m");
    cluster.ok("verify --timeout 2m");
}

#[test]
fn members_that_join_and_leave_under_load_fail_no_request_and_lose_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::of(NODES);
    let runs = under_load(&cluster, || {
        for round in 0..rounds() {
            let pair = pair(&mut Pcg64Mcg::seed_from_u64(round));
            change(&cluster, "leave", pair, || {});
            change(&cluster, "join", pair, || {});
        }
    });
    for wrong in ["lost", "stale", "duplicated", "resurrected"] {
        assert_eq!(sum(&runs, wrong), 0, "{wrong}");
    }
    let failed: Vec<&Value> = runs.iter().map(|run| &run["errors"]).collect();
    assert!(
        failed
            .iter()
            .all(|errors| **errors == serde_json::json!({})),
        "{failed:?}"
    );
    converged(&cluster);
    eprintln!("{} operations, {} rounds", sum(&runs, "ops"), rounds());
}

#[test]
fn members_that_are_killed_while_they_join_and_leave_lose_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::of(NODES);
    let runs = under_load(&cluster, || {
        for round in 0..rounds() {
            let mut rng = Pcg64Mcg::seed_from_u64(1_000 + round);
            let pair = pair(&mut rng);
            for verb in ["leave", "join"] {
                change(&cluster, verb, pair, || {
                    for _ in 0..2 {
                        let moving = pair[rng.random_range(0..2)];
                        pause(&mut rng);
                        cluster.ok(&format!("dev node kill {moving}"));
                        pause(&mut rng);
                        cluster.ok(&format!("dev node start {moving}"));
                    }
                });
            }
        }
    });
    // Which of them fail is no matter of the change, but of the nodes that are away.
    for wrong in ["lost", "duplicated", "resurrected"] {
        assert_eq!(sum(&runs, wrong), 0, "{wrong}");
    }
    converged(&cluster);
    eprintln!("{} operations, {} rounds", sum(&runs, "ops"), rounds());
}

fn pause(rng: &mut Pcg64Mcg) {
    thread::sleep(Duration::from_millis(rng.random_range(0..1_500)));
}
