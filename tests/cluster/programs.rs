//! What programs do with the client library, on real nodes that die meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quorate_client::{Got, Options, ReadError, Routing, blocking};

use super::dev::Dev;

/// The number in a value, zero if there is none.
fn number(got: &Got) -> u64 {
    let values = got.siblings.iter().filter_map(|v| v.value.as_ref());
    let numbers = values.filter_map(|value| std::str::from_utf8(value).ok()?.parse().ok());
    numbers.max().unwrap_or(0)
}

/// With r = w = 1 and nodes that are killed and come back behind the others, a session reads what
/// it wrote, or hears that nobody has it; it never reads an older value.
#[test]
fn a_session_never_reads_backwards_while_nodes_die_and_come_back() {
    let dev = Dev::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let client = runtime.block_on(dev.client());
    let done = stop.clone();
    let task = runtime.spawn(async move {
        let session = client.session();
        let (mut written, mut stale, mut read) = (0, 0, 0);
        let mut next = 0;
        while !done.load(Ordering::Relaxed) {
            next += 1;
            let put = session.put("default", "k", next.to_string()).w(1);
            if put.timeout(Duration::from_secs(1)).send().await.is_ok() {
                written = next;
            }
            for _ in 0..3 {
                let get = session.get("default", "k").r(1);
                match get.timeout(Duration::from_millis(300)).send().await {
                    Ok(got) => {
                        assert!(written <= number(&got), "{written} was written: {got:?}");
                        written = written.max(number(&got));
                        read += 1;
                    }
                    Err(ReadError::Stale(_)) => stale += 1,
                    Err(_) => {}
                }
            }
        }
        (written, read, stale)
    });
    for number in [1, 2, 3, 1, 2, 3] {
        dev.node("kill", number);
        std::thread::sleep(Duration::from_millis(300));
        dev.node("start", number);
    }
    stop.store(true, Ordering::Relaxed);
    let (written, read, stale) = runtime.block_on(task).expect("it does not panic");
    eprintln!("{written} written, {read} read, {stale} stale");
    assert!(100 < read, "{read}");
}

/// The library's example, as a program without async code would have it.
#[test]
fn a_program_without_async_writes_and_reads_many_keys_through_any_node() {
    let dev = Dev::start();
    for routing in [Routing::Replica, Routing::Random] {
        let options = Options {
            routing,
            ..Options::default()
        };
        let client = blocking::Client::connect_with(&dev.profile(), &options).expect("connects");
        let key = |n: u32| format!("{routing:?}-{n}");
        let items = (0..300).map(|n| (key(n), n.to_string()));
        let outcomes = client.put_many("default", items);
        assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
        for (n, got) in client
            .get_many("default", (0..300).map(key))
            .iter()
            .enumerate()
        {
            let got = got.as_ref().expect("readable");
            assert_eq!(got.value().expect("one value"), &n.to_string());
        }
        client
            .update("default", "longest", |_| "merged")
            .expect("written");
        let found = client.keys("default", format!("{routing:?}-1"));
        let found: Result<Vec<_>, _> = found.collect();
        // 1, 10 to 19, and 100 to 199.
        assert_eq!(found.expect("listed").len(), 111);
        client.close();
    }
}
