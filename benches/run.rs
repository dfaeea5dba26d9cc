//! The load generator against a real cluster: what it writes is there, and its figures add up.

use std::{
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The cluster's binary: testing the whole workspace builds it beside this one.
fn quorate() -> PathBuf {
    let bench = Path::new(env!("CARGO_BIN_EXE_quorate-bench"));
    let quorate = bench.with_file_name("quorate");
    assert!(quorate.exists(), "build the workspace first");
    quorate
}

fn run(program: &Path, dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    let output = command.current_dir(dir).args(args).output();
    output.expect("the program runs")
}

#[test]
fn a_second_of_load_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (base, http) = (
        port.min(64_000).to_string(),
        (port.min(64_000) + 500).to_string(),
    );
    let dev = [
        "dev",
        "--detach",
        "--base-port",
        &base,
        "--base-http",
        &http,
    ];
    let started = run(&quorate(), dir.path(), &dev);
    assert!(
        started.status.success(),
        "{}",
        String::from_utf8_lossy(&started.stderr)
    );

    let bench = Path::new(env!("CARGO_BIN_EXE_quorate-bench"));
    let load = "run --workload a --clients 8 --records 50 --duration 1s --verify --json -";
    let output = run(bench, dir.path(), &load.split(' ').collect::<Vec<_>>());
    let stopped = run(&quorate(), dir.path(), &["dev", "stop"]);

    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(figures["ops"].as_u64() > Some(100), "{figures}");
    assert_eq!(
        (&figures["lost"], &figures["stale"]),
        (&0.into(), &0.into())
    );
    assert_eq!(figures["verified"], true);
    assert!(figures["cpu_us_per_op"].as_f64() > Some(0.0), "{figures}");
    assert_eq!(figures["resident_bytes"].as_array().map(Vec::len), Some(3));
    assert!(figures["latency_us"]["get"]["p50"].as_u64() > Some(0));
    assert!(stopped.status.success());
}

#[test]
fn without_a_cluster_it_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Path::new(env!("CARGO_BIN_EXE_quorate-bench"));
    let output = run(bench, dir.path(), &["run", "--workload", "put"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("quorate dev"));
}
