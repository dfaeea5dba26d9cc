//! What requests pay while data moves: a join of a node that takes much, and a node that comes back
//! and is handed many hints.
//!
//! The same open-loop load runs in windows before, during and after, several times over, so that
//! both kinds of windows see the same machine; compared are the medians of their 99th percentiles.
//! Nothing is asserted of times: a busy machine would fail what is right.

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

use super::cluster::Cluster;
use serde_json::Value;

/// How long a window is, in seconds.
const WINDOW: u64 = 6;
/// The same while hints go: that is over soon.
const SHORT: u64 = 2;
const SETTLES: Duration = Duration::from_secs(20);

fn load(cluster: &Cluster, seconds: u64) -> Value {
    let load = format!(
        "run --workload a --bucket small --records 200 --clients 64 --rate 400 --warm-up 1s \
         --duration {seconds}s --verify"
    );
    cluster.figures(&load, &[]).0
}

fn given(name: &str, usual: u64) -> u64 {
    let given = env::var(name).ok();
    given.map_or(usual, |given| given.parse().expect("a number"))
}

/// Percentiles of the windows of one kind, in microseconds.
#[derive(Default)]
struct Windows {
    get: Vec<u64>,
    put: Vec<u64>,
}

impl Windows {
    /// One more window of load; what it found must be right.
    fn look(&mut self, cluster: &Cluster, seconds: u64, what: &str) {
        self.add(&load(cluster, seconds), what);
    }

    fn add(&mut self, figures: &Value, what: &str) {
        for wrong in ["lost", "duplicated", "resurrected"] {
            assert_eq!(figures[wrong], 0, "{wrong}");
        }
        let p99 = |op: &str| figures["latency_us"][op]["p99"].as_u64().unwrap();
        let (get, put) = (p99("get"), p99("put"));
        self.get.push(get);
        self.put.push(put);
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default().to_owned();
        let errors = &figures["errors"];
        eprintln!(
            "{what:<12} get p99 {get:>7} us, put p99 {put:>7} us   errors {errors}, load {load}"
        );
    }
}

fn median(all: &[u64]) -> u64 {
    let mut all = all.to_vec();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

fn tell(quiet: &Windows, busy: &Windows) {
    for (op, quiet, busy) in [
        ("get", &quiet.get, &busy.get),
        ("put", &quiet.put, &busy.put),
    ] {
        let (q, b) = (median(quiet), median(busy));
        let (windows, more) = (quiet.len(), busy.len());
        let times = ratio(b, q);
        eprintln!(
            "{op} p99, medians: {q} us undisturbed ({windows} windows), {b} us meanwhile ({more}): \
             {times:.2} times"
        );
    }
}

fn change(cluster: &Cluster, verb: &str) {
    cluster.ok(&format!("ring stage {verb} n4"));
    let plan = cluster.ok("ring plan");
    let digest = plan["digest"].as_str().unwrap();
    cluster.ok(&format!("ring commit {digest}"));
}

/// Windows in which nothing moves. What compactions of a fill or a move cost is not usual.
fn rest(cluster: &Cluster, quiet: &mut Windows) {
    thread::sleep(SETTLES);
    for _ in 0..6 {
        quiet.look(cluster, WINDOW, "undisturbed");
    }
}

fn is_moving(cluster: &Cluster) -> bool {
    cluster.ok("ring transfers")["state"] == "moving"
}

/// A fourth node joins a ring of three and takes its share of `QUORATE_MOVE_MIB` (1024) mebibytes,
/// leaves and joins again, `QUORATE_MOVE_ROUNDS` (2) times.
#[test]
#[ignore = "measures; run it alone, with --release and --nocapture"]
fn what_requests_pay_for_a_join() {
    const VALUE: u64 = 16 << 10;
    let cluster = Cluster::of(3);
    // A node of four takes three quarters of each copy.
    let records = given("QUORATE_MOVE_MIB", 1_024) * (1 << 20) / VALUE * 4 / 3;
    let fill = format!(
        "run --workload get --bucket large --records {records} --value-bytes {VALUE} --clients 64 \
         --duration 1s"
    );
    cluster.figures(&fill, &[]);
    cluster.ok("dev add");
    let (mut quiet, mut busy) = (Windows::default(), Windows::default());
    Windows::default().look(&cluster, WINDOW, "warm-up");
    for round in 0..given("QUORATE_MOVE_ROUNDS", 2) {
        if 0 < round {
            change(&cluster, "leave");
            cluster.ok("ring wait --timeout 30m");
        }
        rest(&cluster, &mut quiet);
        let began = Instant::now();
        change(&cluster, "join");
        while is_moving(&cluster) {
            let figures = load(&cluster, WINDOW);
            // The last one may have seen the end.
            if is_moving(&cluster) {
                busy.add(&figures, "joining");
            }
        }
        let took = began.elapsed().as_secs_f64();
        cluster.ok("ring wait --timeout 30m");
        let rows = cluster.ok("cluster status")["nodes"].clone();
        let disk = rows[3]["disk_bytes"].as_u64().unwrap() >> 20;
        eprintln!("n4 has joined after {took:.0} s, {disk} MiB on its disk");
        rest(&cluster, &mut quiet);
    }
    tell(&quiet, &busy);
}

/// Of five nodes one is away while `QUORATE_HINTS` (100000) records are written, and comes back.
#[test]
#[ignore = "measures; run it alone, with --release and --nocapture"]
fn what_requests_pay_for_hints_that_are_handed_over() {
    let cluster = Cluster::of(5);
    let wanted = given("QUORATE_HINTS", 100_000);
    let (mut quiet, mut busy) = (Windows::default(), Windows::default());
    Windows::default().look(&cluster, SHORT, "warm-up");
    let held = || cluster.ok("hints")["total"].as_u64().unwrap();
    for round in 0..given("QUORATE_MOVE_ROUNDS", 2) {
        for _ in 0..6 {
            quiet.look(&cluster, SHORT, "undisturbed");
        }
        cluster.ok("dev node kill 5");
        thread::sleep(Duration::from_secs(10));
        // Three of five replicas of all keys are n5's.
        let records = wanted * 5 / 3;
        let fill = format!(
            "run --workload get --bucket away{round} --records {records} --clients 128 \
             --duration 1s"
        );
        cluster.figures(&fill, &[]);
        let before = held();
        cluster.ok("dev node start 5");
        let began = Instant::now();
        while 1_000 < held() {
            let figures = load(&cluster, SHORT);
            if 1_000 < held() {
                busy.add(&figures, "handing");
            }
        }
        let took = began.elapsed().as_secs_f64();
        let rate = ratio(before, began.elapsed().as_secs());
        eprintln!("{before} hints handed over in {took:.0} s or less, {rate:.0}/s");
        cluster.ok("cluster wait-converged --timeout 10m");
    }
    tell(&quiet, &busy);
}
