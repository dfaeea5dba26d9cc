//! Real processes, real QUIC, `kill -9`: what the simulator cannot see.
//!
//! Each test has a cluster of its own, made and broken through the command line, and
//! clients that remember what was acknowledged. The promise they look for is P1: an acknowledged
//! write is there at the end, or something that was written by one who had seen it.

#[path = "cluster/dev.rs"]
mod dev;
#[path = "cluster/directories.rs"]
mod directories;
#[path = "cluster/handoff.rs"]
mod handoff;
#[path = "cluster/lan.rs"]
mod lan;
#[path = "cluster/moving.rs"]
mod moving;
#[path = "cluster/operator.rs"]
mod operator;
#[path = "cluster/programs.rs"]
mod programs;
#[path = "cluster/restart.rs"]
mod restart;
#[path = "cluster/salvage.rs"]
mod salvage;
#[path = "cluster/split.rs"]
mod split;

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dev::Dev;
use quorate_client::{Client, Context, OpId, Outcome};

/// One client that writes its own keys in turn, each time replacing what it wrote before.
struct Writer {
    name: usize,
    client: Client,
    /// Per key: the last context, and the number of the last acknowledged value.
    keys: BTreeMap<String, (Context, u64)>,
}

const KEYS: u64 = 20;

impl Writer {
    /// Writes until told to stop; an operation that is not acknowledged is tried again as the
    /// same operation until it is.
    async fn run(mut self, stop: Arc<AtomicBool>, acknowledged: Arc<AtomicU64>) -> Self {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let key = format!("w{}-{}", self.name, number % KEYS);
            let seen = self.keys.get(&key).map(|(context, _)| context.clone());
            let id = self.client.op_id();
            let context = loop {
                match self.put(&key, number, seen.as_ref(), id).await {
                    Some(context) => break context,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            self.keys.insert(key, (context, number));
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        self
    }

    async fn put(&self, key: &str, n: u64, seen: Option<&Context>, id: OpId) -> Option<Context> {
        let mut put = self.client.put("default", key, n.to_string()).op_id(id);
        if let Some(seen) = seen {
            put = put.context(seen);
        }
        match put.send().await {
            Ok(written) => {
                assert!(2 <= written.durable_on.len(), "{written:?}");
                Some(written.context)
            }
            Err(error) => {
                let known = matches!(error.outcome(), Outcome::NotApplied | Outcome::Unknown);
                assert!(known, "{error}");
                None
            }
        }
    }

    /// Every key has exactly the last acknowledged value: each write had seen the one before.
    async fn check(&self, reader: &Client) {
        for (key, (_, number)) in &self.keys {
            let got = reader.get("default", key).send().await.expect("readable");
            let values: Vec<_> = got.siblings.iter().map(|v| v.value.clone()).collect();
            assert_eq!(values, [Some(number.to_string().into())], "{key}");
        }
    }
}

async fn writers(dev: &Dev, count: usize) -> Vec<Writer> {
    let mut writers = Vec::new();
    for name in 0..count {
        let (client, keys) = (dev.client().await, BTreeMap::new());
        writers.push(Writer { name, client, keys });
    }
    writers
}

/// Runs `faults` while four writers write; afterwards everything acknowledged must be there.
fn under_fire(faults: impl FnOnce(&Dev) + Send) {
    let dev = Dev::start();
    writing(&dev, |_| faults(&dev));
}

/// The same in a cluster that is there. What it runs is given a way to wait for so many writes.
fn writing(dev: &Dev, faults: impl FnOnce(&dyn Fn(u64))) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = runtime
        .block_on(writers(dev, 4))
        .into_iter()
        .map(|writer| runtime.spawn(writer.run(stop.clone(), acknowledged.clone())))
        .collect();
    let progress = |by: u64| {
        let goal = acknowledged.load(Ordering::Relaxed) + by;
        let limit = Instant::now() + Duration::from_mins(1);
        while acknowledged.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < limit, "writes have stopped");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    progress(100);
    faults(&progress);
    progress(100);
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        let reader = dev.client().await;
        for task in tasks {
            let writer = task.await.expect("writers do not panic");
            assert!(!writer.keys.is_empty());
            writer.check(&reader).await;
        }
    });
    let writes = acknowledged.load(Ordering::Relaxed);
    eprintln!("{writes} writes acknowledged");
}

fn pause() {
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn acknowledged_writes_survive_the_killing_of_each_node_in_turn() {
    under_fire(|dev| {
        for number in [1, 2, 3, 1, 2, 3] {
            dev.node("kill", number);
            pause();
            dev.node("start", number);
        }
    });
}

#[test]
fn acknowledged_writes_survive_the_killing_of_all_nodes_at_once() {
    under_fire(|dev| {
        for _ in 0..2 {
            (1..=3).for_each(|number| dev.node("kill", number));
            (1..=3).for_each(|number| dev.node("start", number));
        }
    });
}

#[test]
fn acknowledged_writes_survive_a_node_that_stands_still_and_comes_back() {
    under_fire(|dev| {
        dev.node("pause", 2);
        std::thread::sleep(Duration::from_secs(2));
        dev.node("resume", 2);
        dev.node("stop", 3);
        pause();
        dev.node("start", 3);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_values_stand_side_by_side_until_somebody_merges_them() {
    let dev = Dev::start();
    let (one, two) = (dev.pinned(1).await, dev.pinned(2).await);
    let before = one.put("default", "cart", "empty").send().await.unwrap();
    let milk = one.put("default", "cart", "milk").context(&before.context);
    let eggs = two.put("default", "cart", "eggs").context(&before.context);
    let (milk, eggs) = tokio::join!(milk.send(), eggs.send());
    milk.unwrap();
    eggs.unwrap();
    let three = dev.pinned(3).await;
    let got = three.get("default", "cart").send().await.unwrap();
    let mut values: Vec<_> = got
        .siblings
        .iter()
        .filter_map(|v| v.value.clone())
        .collect();
    values.sort();
    assert_eq!(values, ["eggs", "milk"]);
    let seen = got.context.expect("what exists has a context");
    let merged = three.put("default", "cart", "eggs, milk").context(&seen);
    merged.send().await.unwrap();
    let got = one.get("default", "cart").send().await.unwrap();
    assert_eq!(got.value().map(|v| &v[..]), Some(&b"eggs, milk"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_at_once_when_its_node_was_killed_and_started_again() {
    let dev = Dev::start();
    let client = dev.pinned(1).await;
    client.put("default", "k", "before").send().await.unwrap();
    dev.node("kill", 1);
    dev.node("start", 1);
    let began = Instant::now();
    let got = client.get("default", "k").send().await.unwrap();
    eprintln!("answered {:?} after the restart", began.elapsed());
    assert_eq!(got.value().map(|v| &v[..]), Some(&b"before"[..]));
}

/// A data set like the index of packages of a distribution: one JSON line a package.
fn package_index(count: usize) -> String {
    let line = |n: usize| {
        let depends: Vec<_> = (0..n % 7)
            .map(|d| format!("lib{}", (n * 31 + d) % count))
            .collect();
        serde_json::json!({
            "Package": format!("package-{n}"), "Version": format!("{}.{}-{}", n % 9, n % 41, n % 5),
            "Depends": depends.join(", "), "Installed-Size": n * 37 % 90_000,
            "Description": format!("{} «ünïcode» {}", "words ".repeat(n % 50), n),
        })
        .to_string()
    };
    (0..count).map(|n| line(n) + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_goes_through_while_a_node_is_killed_and_reads_back_from_every_node() {
    let dev = Dev::start();
    let index = package_index(3_000);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(index.as_bytes()).unwrap();
    let created = dev
        .command()
        .args(["bucket", "create", "packages"])
        .status();
    assert!(created.unwrap().success());
    let import = dev
        .command()
        .args(["import", "packages", file.path().to_str().unwrap()])
        .args(["--format", "jsonl", "--key", "Package", "--output", "json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let watcher = dev.pinned(3).await;
    let limit = Instant::now() + Duration::from_secs(30);
    loop {
        let got = watcher.get("packages", "package-200").send().await.unwrap();
        if !got.siblings.is_empty() {
            break;
        }
        assert!(Instant::now() < limit, "the import does not get on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    dev.node("kill", 2);
    let output = import.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let counts: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&counts["imported"], &counts["failed"]),
        (&3_000.into(), &0.into())
    );

    dev.node("start", 2);
    // A read of all replicas repairs what the killed node has missed.
    let all = dev.client().await;
    let mut repaired = Vec::new();
    for line in index.lines() {
        let package: serde_json::Value = serde_json::from_str(line).unwrap();
        let key = package["Package"].as_str().unwrap().to_owned();
        let got = all.get("packages", &key).r(3).send().await.unwrap();
        assert_eq!(got.value().map(|v| &v[..]), Some(line.as_bytes()), "{key}");
        repaired.push((key, line));
    }
    for number in 1..=3 {
        let client = dev.pinned(number).await;
        for (key, line) in &repaired {
            let got = client.get("packages", key).r(1).send().await.unwrap();
            assert_eq!(
                got.value().map(|v| &v[..]),
                Some(line.as_bytes()),
                "{key} on n{number}"
            );
        }
    }
}

#[test]
fn a_node_that_was_away_is_brought_up_to_date_although_nobody_reads() {
    const KEYS: u64 = 200;
    let dev = Dev::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let command = |args: &[&str]| {
        let output = dev.command().args(args).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    dev.node("stop", 3);
    runtime.block_on(async {
        let client = dev.client().await;
        for key in 0..KEYS {
            let put = client.put("default", format!("k{key}"), format!("v{key}"));
            put.send().await.expect("two of three are enough");
        }
    });
    let early = command(&["cluster", "wait-converged", "--timeout", "1s"]);
    assert_eq!(early.0, Some(4), "silence is not convergence: {}", early.1);
    dev.node("start", 3);
    let repaired = command(&["repair", "--wait", "--timeout", "60s", "--output", "json"]);
    assert_eq!(repaired.0, Some(0), "{}", repaired.1);
    let converged = command(&["cluster", "wait-converged", "--output", "json"]);
    assert_eq!(converged.0, Some(0), "{}", converged.1);
    assert!(
        converged.1.contains("\"converged\":true"),
        "{}",
        converged.1
    );
    runtime.block_on(async {
        let own = dev.pinned(3).await;
        for key in 0..KEYS {
            let got = own.get("default", format!("k{key}")).r(1).send().await;
            let got = got.expect("its own copy");
            let values: Vec<_> = got.siblings.iter().map(|v| v.value.clone()).collect();
            assert_eq!(values, [Some(format!("v{key}").into())], "k{key}");
        }
    });
}
