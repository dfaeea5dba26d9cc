//! The load generator against a real cluster: what it writes is there, and its figures add up.

#![allow(
    clippy::unwrap_used,
    reason = "a cluster that cannot be started fails the test, as it should"
)]

#[path = "churn.rs"]
mod churn;
#[path = "cluster.rs"]
mod cluster;
#[path = "moving.rs"]
mod moving;

use std::path::Path;

use cluster::{Cluster, run, words};

#[test]
fn a_second_of_load_loses_nothing() {
    let cluster = Cluster::of(3);
    let load = "run --workload a --clients 8 --records 50 --warm-up 1s --duration 1s --verify \
                --report out.html";
    let (figures, text) = cluster.figures(load, &[]);
    // A disk that stalls for the second leaves few of them.
    assert!(figures["ops"].as_u64() > Some(0), "{figures}");
    for wrong in ["lost", "stale", "duplicated", "resurrected"] {
        assert_eq!(figures[wrong], 0, "{wrong}");
    }
    assert_eq!(figures["verified"], true);
    assert_eq!(figures["loop"], "closed");
    assert!(figures["cpu_us_per_op"].as_f64() > Some(0.0), "{figures}");
    assert_eq!(figures["resident_bytes"].as_array().map(Vec::len), Some(3));
    assert!(figures["latency_us"]["get"]["p50"].as_u64() > Some(0));
    let series = figures["series"].as_array().unwrap();
    assert!(
        series[0]["at"].as_f64() <= Some(0.0),
        "the warm-up is shown"
    );
    assert!(series[1]["at"].as_f64() > Some(0.0));
    assert_eq!(series[0]["nodes"].as_array().map(Vec::len), Some(3));
    let counted = figures["latency_us"]["get"]["count"].as_u64();
    let in_seconds = series[1..]
        .iter()
        .map(|s| s["latency_us"]["get"]["count"].as_u64());
    assert!(in_seconds.flatten().sum::<u64>() <= counted.unwrap());
    assert!(text.contains("op/s"), "a line each second: {text}");
    let page = std::fs::read_to_string(cluster.0.path().join("out.html")).unwrap();
    assert!(page.contains("\"series\":[{") && page.contains("--workload a"));
}

#[test]
fn an_open_loop_keeps_its_rate_while_a_node_is_killed_and_new_records_come() {
    let cluster = Cluster::of(3);
    let load =
        "run --workload d --clients 16 --records 50 --rate 200 --duration 4s --verify --fault";
    let (figures, text) = cluster.figures(load, &["kill n2 @1s, start n2 @2s"]);
    for wrong in ["lost", "duplicated", "resurrected"] {
        assert_eq!(figures[wrong], 0, "{wrong}: {text}");
    }
    assert_eq!(figures["loop"], "open");
    let started = figures["ops"].as_u64().unwrap() + figures["not_started"].as_u64().unwrap();
    // On a busy machine the end may come a little late, and what is due until then goes on.
    assert!(started <= 900, "never more than what was due: {started}");
    assert!(
        figures["latency_us"]["put"]["count"].as_u64() > Some(0),
        "inserts"
    );
    let events = figures["events"].as_array().unwrap();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["kill n2", "start n2"]);
    assert!(
        events.iter().all(|event| event["error"].is_null()),
        "{events:?}"
    );
}

#[test]
fn two_runs_are_compared() {
    let cluster = Cluster::of(3);
    for (name, workload) in [("a.json", "get"), ("b.json", "put")] {
        let load = format!("run --workload {workload} --clients 4 --records 20 --duration 1s");
        let output = cluster.bench(&[&words(&load)[..], &["--json", name]].concat());
        assert_eq!(output.status.code(), Some(0));
    }
    let output = cluster.bench(&words("compare a.json b.json --output json"));
    let compared: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(compared["metrics"][0]["metric"], "ops/s");
    assert_eq!(compared["metrics"][0]["verdict"], "too few samples");
    let output = cluster.bench(&words("compare a.json missing.json"));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn without_a_cluster_it_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Path::new(env!("CARGO_BIN_EXE_quorate-bench"));
    let output = run(bench, dir.path(), &["run", "--workload", "put"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("quorate dev"));
}

#[test]
fn the_transport_alone_is_measured_with_the_certificates_of_a_cluster() {
    let cluster = Cluster::of(3);
    for how in ["--clients 8", "--rate 500"] {
        let output = cluster.bench(&words(&format!("echo --duration 1s {how}")));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        for (shape, line) in ["put", "get"].iter().zip(text.lines()) {
            let (name, figures) = line.split_once(": ").unwrap();
            assert_eq!(name, format!("echo of a {shape}"));
            let rate: u64 = figures.split(' ').next().unwrap().parse().unwrap();
            assert!(0 < rate, "{line}");
        }
        assert_eq!(text.lines().count(), 2);
    }
    let elsewhere = cluster.bench(&["echo", "--dir", "nowhere"]);
    assert!(!elsewhere.status.success());
    let text = String::from_utf8_lossy(&elsewhere.stderr).into_owned();
    assert!(text.contains("quorate dev"), "{text}");
}
