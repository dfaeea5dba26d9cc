//! How requests find their node, are given up, and are asked twice.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quorate_client::{Client, Options, Outcome, Routing, WriteError};
use quorate_ring::Token;
use tokio::time::Instant;

use super::{
    LONG, handler, storing,
    support::server::{Cluster, Reaction, Store},
};

/// Reads of one test.
const READS: usize = 1000;

/// Waits for something that another task does soon.
async fn until(what: impl Fn() -> bool) {
    let limit = Instant::now() + LONG;
    while !what() {
        assert!(Instant::now() < limit, "it does not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_is_taken_back() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let cluster = Cluster::start(
        1,
        handler(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            Reaction::Silence
        }),
    );
    let client = cluster.client(LONG).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..10_u8 {
        let client = client.clone();
        tasks.spawn(async move { client.put("b", [n], "v").send().await });
    }
    until(|| asked.load(Ordering::SeqCst) == 10).await;
    tasks.shutdown().await;
    until(|| cluster.cancelled() == 10).await;
}

#[tokio::test]
async fn an_answered_request_is_not_taken_back() {
    let cluster = Cluster::start(3, storing());
    let client = cluster.client(LONG).await;
    for n in 0..50_u8 {
        client.put("b", [n], "v").send().await.unwrap();
        client.get("b", [n]).send().await.unwrap();
    }
    client.close().await;
    assert_eq!(cluster.cancelled(), 0);
}

#[tokio::test]
async fn a_ring_that_a_node_tells_is_followed_at_once() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen, store) = (asked.clone(), Store::default());
    let cluster = Cluster::start(
        3,
        handler(move |node, request| {
            seen.lock().unwrap().push(node);
            Reaction::Answer(store.answer(request))
        }),
    );
    let client = cluster.client(LONG).await;
    client.put("b", "k", "v").send().await.unwrap();
    // One of the three leaves, and says so itself.
    let ring = client.ring().await.unwrap().ring;
    let token = Token::of(ring.seed(), "b", b"k");
    let gone = ring.preference(token).owners(1)[0];
    let name = &ring.member(gone).unwrap().name;
    let number = name[1..].parse::<usize>().unwrap() - 1;
    let rest = ring.members().iter().filter(|member| member.id != gone);
    let next = ring.successor(rest.cloned().collect()).unwrap();
    let mut in_a_row = 0;
    while in_a_row < 20 {
        // Who has connected just now has missed what was told before.
        cluster.tell_ring(number, &next);
        asked.lock().unwrap().clear();
        client.put("b", "k", "v").send().await.unwrap();
        let stayed = !asked.lock().unwrap().contains(&number);
        in_a_row = if stayed { in_a_row + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_slow_node_is_gray_and_the_others_answer() {
    let slow = Arc::new(Mutex::new(None));
    let counts = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let (chosen, counted, store) = (slow.clone(), counts.clone(), Store::default());
    let cluster = Cluster::start(
        3,
        handler(move |node, request| {
            counted[node].fetch_add(1, Ordering::SeqCst);
            let answer = store.answer(request);
            if *chosen.lock().unwrap() == Some(node) {
                Reaction::Late(Duration::from_millis(150), answer)
            } else {
                Reaction::Answer(answer)
            }
        }),
    );
    let client = cluster.client(LONG).await;
    for n in 0..100_u8 {
        client.get("b", [n]).send().await.unwrap();
    }
    *slow.lock().unwrap() = Some(1);
    for n in 0..20_u8 {
        client.put("b", [n], "v").send().await.unwrap();
    }
    let before = counts[1].load(Ordering::SeqCst);
    let began = Instant::now();
    for n in 0..100_u8 {
        client.put("b", [n], "v").send().await.unwrap();
        client.get("b", [n]).send().await.unwrap();
    }
    let asked = counts[1].load(Ordering::SeqCst) - before;
    assert!(asked < 30, "the slow node was asked {asked} times");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn reads_that_take_longer_than_most_are_asked_twice_within_the_budget() {
    let count = Arc::new(AtomicUsize::new(0));
    let (counter, store) = (count.clone(), Store::default());
    let cluster = Cluster::start(
        3,
        handler(move |_, request| {
            let answer = store.answer(request);
            // One in fifty takes very long, whichever node it is.
            match counter.fetch_add(1, Ordering::SeqCst) % 50 {
                49 => Reaction::Late(Duration::from_secs(20), answer),
                _ => Reaction::Answer(answer),
            }
        }),
    );
    let client = cluster.client(LONG).await;
    let began = Instant::now();
    for n in 0..READS {
        client.get("b", n.to_string()).send().await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    let extra = count.load(Ordering::SeqCst) - READS;
    assert!((10..=READS / 20 + 64).contains(&extra), "{extra} extra");
    assert!(10 <= cluster.cancelled());
}

#[tokio::test]
async fn a_client_that_routes_at_random_asks_everybody_alike() {
    let counts = Arc::new([const { AtomicUsize::new(0) }; 5]);
    let (counted, store) = (counts.clone(), Store::default());
    let cluster = Cluster::start(
        5,
        handler(move |node, request| {
            counted[node].fetch_add(1, Ordering::SeqCst);
            Reaction::Answer(store.answer(request))
        }),
    );
    let options = Options {
        timeout: LONG,
        routing: Routing::Random,
        ..Options::default()
    };
    let client = Client::connect_with(&cluster.profile, &options).await;
    let client = client.unwrap();
    for _ in 0..500 {
        client.get("b", "k").send().await.unwrap();
    }
    let counts = counts.each_ref().map(|count| count.load(Ordering::SeqCst));
    assert!(counts.iter().all(|count| 50 < *count), "{counts:?}");
}

#[tokio::test]
async fn one_node_that_takes_nothing_in_does_not_hold_up_the_others() {
    // Answers never come, so that what is sent stays owed.
    let cluster = Cluster::start(1, handler(|_, _| Reaction::Silence));
    let client = cluster.client(LONG).await;
    let value = Bytes::from(vec![7; 3 << 20]);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..30_u8 {
        let (client, value) = (client.clone(), value.clone());
        tasks.spawn(async move {
            let put = client.put("b", [n], value);
            put.timeout(Duration::from_millis(400)).send().await
        });
    }
    let mut unknown = 0;
    while let Some(done) = tasks.join_next().await {
        match done.unwrap().unwrap_err() {
            // It was sent.
            error @ WriteError::Unknown(_) => {
                assert_eq!(error.outcome(), Outcome::Unknown);
                unknown += 1;
            }
            // It was not.
            error => assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}"),
        }
    }
    assert!(0 < unknown);
}
