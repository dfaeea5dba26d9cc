//! Planned restarts under load: SIGTERM, and `drain` before it. No client sees an error.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quorate_client::Client;

use super::dev::Dev;

const CLIENTS: usize = 8;

#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    failed: std::sync::Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Tally {
    fn note(&self, what: Result<(), String>) {
        match what {
            Ok(()) => drop(self.done.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.failed.lock().expect("nobody panics").push(error),
        }
    }

    fn wait_for(&self, more: u64) {
        let goal = self.done.load(Ordering::Relaxed) + more;
        let limit = Instant::now() + Duration::from_mins(1);
        while self.done.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < limit, "nothing goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn load(client: Client, name: usize, tally: Arc<Tally>) {
    let mut number = 0_u64;
    while !tally.stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("k{name}-{}", number % 50);
        let put = client.put("default", &key, number.to_string());
        let written = put.send().await;
        tally.note(written.map(drop).map_err(|error| format!("put: {error}")));
        let got = client.get("default", &key).send().await;
        tally.note(got.map(drop).map_err(|error| format!("get: {error}")));
    }
}

/// Runs `work` on each node in turn under load, and lets the others agree before the next.
fn in_turn(work: impl Fn(&Dev, u16)) {
    let dev = Dev::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let tally = Arc::new(Tally::default());
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|name| {
            let client = runtime.block_on(dev.client());
            runtime.spawn(load(client, name, tally.clone()))
        })
        .collect();
    tally.wait_for(500);
    for number in 1..=3 {
        work(&dev, number);
        tally.wait_for(500);
    }
    tally.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        runtime.block_on(task).expect("clients do not panic");
    }
    let failed = tally.failed.lock().expect("nobody panics");
    let done = tally.done.load(Ordering::Relaxed);
    assert!(
        failed.is_empty(),
        "{} of {done} failed: {failed:?}",
        failed.len()
    );
    eprintln!("{done} operations, none failed");
}

fn quorate(dev: &Dev, args: &[&str]) -> (Option<i32>, String) {
    let output = dev.command().args(args).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

#[test]
fn each_node_is_restarted_in_turn_by_sigterm_and_no_client_sees_an_error() {
    in_turn(|dev, number| {
        dev.node("stop", number);
        std::thread::sleep(Duration::from_millis(300));
        dev.node("start", number);
    });
}

#[test]
fn each_node_is_drained_and_let_back_and_no_client_sees_an_error() {
    in_turn(|dev, number| {
        let name = format!("n{number}");
        let drained = quorate(dev, &["drain", &name]);
        assert_eq!(drained.0, Some(0), "{}", drained.1);
        let status = quorate(dev, &["cluster", "status", "--output", "json"]).1;
        assert!(status.contains("\"draining\":true"), "{status}");
        std::thread::sleep(Duration::from_millis(300));
        let back = quorate(dev, &["drain", &name, "--undo"]);
        assert_eq!(back.0, Some(0), "{}", back.1);
        let status = quorate(dev, &["cluster", "status", "--output", "json"]).1;
        assert!(!status.contains("\"draining\":true"), "{status}");
    });
}
