//! The client against nodes that do as the test says.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

mod support;

#[path = "client/many.rs"]
mod many;
#[path = "client/requests.rs"]
mod requests;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quorate_client::{
    Client, ConnectError, Context, Options, Outcome, ReadError, WriteError,
    wire::{
        BucketInfo, BucketOptions, ErrorCode, KeyItem, KeysReply, Request, Response, WriteReply,
    },
};
use support::server::{Cluster, Handler, Reaction, Store, error};

/// Long enough for any machine; no test waits for it to pass.
const LONG: Duration = Duration::from_mins(1);

fn handler(react: impl Fn(usize, &Request) -> Reaction + Send + Sync + 'static) -> Handler {
    Arc::new(react)
}

fn storing() -> Handler {
    let store = Store::default();
    handler(move |_, request| Reaction::Answer(store.answer(request)))
}

fn written() -> Reaction {
    Reaction::Answer(Response::Written(WriteReply::default()))
}

#[tokio::test]
async fn what_is_put_is_got() {
    let cluster = Cluster::start(3, storing());
    let client = cluster.client(LONG).await;
    let none = client.get("b", "k").send().await.unwrap();
    assert_eq!((none.value(), &none.context), (None, &None));
    let written = client.put("b", "k", "v").send().await.unwrap();
    let got = client.get("b", "k").send().await.unwrap();
    assert_eq!(got.value(), Some(&Bytes::from("v")));
    assert_eq!(got.context, Some(written.context));
    client.close().await;
}

#[tokio::test]
async fn hundreds_of_callers_share_one_connection_to_each_node() {
    let store = Store::default();
    let count = AtomicUsize::new(0);
    // Answers come in another order than requests.
    let cluster = Cluster::start(
        3,
        handler(move |_, request| {
            let response = store.answer(request);
            match count.fetch_add(1, Ordering::SeqCst) % 3 {
                0 => Reaction::Late(Duration::from_millis(2), response),
                _ => Reaction::Answer(response),
            }
        }),
    );
    let client = cluster.client(LONG).await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..256_u32 {
        let client = client.clone();
        callers.spawn(async move {
            for round in 0..10_u32 {
                let key = caller.to_be_bytes();
                let value = vec![7; ((caller * 97 + round * 1013) % 5000) as usize];
                client.put("b", key, value.clone()).send().await.unwrap();
                let got = client.get("b", key).send().await.unwrap();
                assert_eq!(got.value().unwrap(), &value);
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    for node in &cluster.nodes {
        assert!(node.connections.load(Ordering::SeqCst) <= 1);
    }
}

#[tokio::test]
async fn a_large_value_travels_whole_and_one_too_large_is_refused_here() {
    let cluster = Cluster::start(1, storing());
    let client = cluster.client(LONG).await;
    let value = Bytes::from(vec![9; 4 << 20]);
    client.put("b", "k", value.clone()).send().await.unwrap();
    let got = client.get("b", "k").send().await.unwrap();
    assert_eq!(got.value(), Some(&value));
    let larger = client.put("b", "k", vec![9; 5 << 20]).send().await;
    assert!(matches!(larger, Err(WriteError::Invalid(_))));
}

#[tokio::test]
async fn a_killed_and_restarted_node_is_found_again_and_the_write_sent_again() {
    let retries = Arc::new(Mutex::new(Vec::new()));
    let seen = retries.clone();
    let mut cluster = Cluster::start(
        1,
        handler(move |_, request| {
            let Request::Put(put) = request else {
                return Reaction::Silence;
            };
            let mut seen = seen.lock().unwrap();
            seen.push((put.op_id.clone(), put.retry));
            if seen.len() == 1 {
                Reaction::Silence
            } else {
                written()
            }
        }),
    );
    let client = cluster.client(LONG).await;
    let writer = client.clone();
    let put = tokio::spawn(async move { writer.put("b", "k", "v").send().await });
    while retries.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.kill(0);
    cluster.restart(0);
    let written = put.await.unwrap().unwrap();
    let seen = retries.lock().unwrap();
    let id = Bytes::copy_from_slice(written.op_id.as_bytes());
    assert_eq!(seen[..], [(id.clone(), false), (id, true)]);
}

#[tokio::test]
async fn a_node_that_falls_silent_is_left_for_another() {
    let mut cluster = Cluster::start(3, storing());
    let client = cluster.client(LONG).await;
    for n in 0..50_u8 {
        client.put("b", [n], "v").send().await.unwrap();
    }
    cluster.kill(1);
    for n in 0..50_u8 {
        client.put("b", [n], "w").send().await.unwrap();
        let got = client.get("b", [n]).send().await.unwrap();
        assert_eq!(got.value(), Some(&Bytes::from("w")));
    }
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown() {
    let cluster = Cluster::start(3, handler(|_, _| Reaction::Silence));
    let client = cluster.client(LONG).await;
    let put = client
        .put("b", "k", "v")
        .timeout(Duration::from_millis(100));
    let error = put.send().await.unwrap_err();
    assert!(matches!(error, WriteError::Unknown(_)));
    assert_eq!(error.outcome(), Outcome::Unknown);
    let get = client.get("b", "k").timeout(Duration::from_millis(100));
    assert!(matches!(get.send().await, Err(ReadError::Unavailable(_))));
}

#[tokio::test]
async fn a_refused_write_is_certainly_not_applied() {
    for code in [
        ErrorCode::Conflict,
        ErrorCode::Denied,
        ErrorCode::UnknownBucket,
        ErrorCode::Unavailable,
        ErrorCode::Overloaded,
    ] {
        let cluster = Cluster::start(3, handler(move |_, _| Reaction::Answer(error(code))));
        let client = cluster.client(LONG).await;
        let put = client
            .put("b", "k", "v")
            .timeout(Duration::from_millis(300));
        let error = put.send().await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}");
        assert_eq!(error.body().code, code);
    }
}

#[tokio::test]
async fn a_refusal_after_a_lost_try_leaves_the_write_unknown() {
    let tries = AtomicUsize::new(0);
    let cluster = Cluster::start(
        3,
        handler(move |_, _| match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Reaction::HangUp,
            _ => Reaction::Answer(error(ErrorCode::Conflict)),
        }),
    );
    let client = cluster.client(LONG).await;
    let error = client.put("b", "k", "v").send().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(error.body().code, ErrorCode::UnknownOutcome);
    assert!(error.body().message.contains("the test says conflict"));
}

#[tokio::test]
async fn an_overloaded_cluster_is_asked_again_until_it_takes_the_write() {
    let tries = AtomicUsize::new(0);
    let cluster = Cluster::start(
        3,
        handler(move |_, _| match tries.fetch_add(1, Ordering::SeqCst) {
            0..5 => Reaction::Answer(error(ErrorCode::Overloaded)),
            _ => written(),
        }),
    );
    let client = cluster.client(LONG).await;
    client.put("b", "k", "v").send().await.unwrap();
}

#[tokio::test]
async fn a_slow_read_is_asked_of_another_node_as_well() {
    let first = Arc::new(Mutex::new(None));
    let store = Store::default();
    let cluster = Cluster::start(
        3,
        handler(move |node, request| {
            let slow = *first.lock().unwrap().get_or_insert(node);
            if slow == node {
                Reaction::Silence
            } else {
                Reaction::Answer(store.answer(request))
            }
        }),
    );
    let client = cluster.client(LONG).await;
    client.get("b", "k").send().await.unwrap();
}

#[tokio::test]
async fn a_node_that_sends_garbage_is_left_and_nothing_panics() {
    let tries = AtomicUsize::new(0);
    let cluster = Cluster::start(
        3,
        handler(move |_, _| match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Reaction::Garbage,
            _ => written(),
        }),
    );
    let client = cluster.client(LONG).await;
    client.put("b", "k", "v").send().await.unwrap();
}

#[tokio::test]
async fn a_pinned_client_asks_one_node_only() {
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = asked.clone();
    let store = Store::default();
    let cluster = Cluster::start(
        3,
        handler(move |node, request| {
            seen.lock().unwrap().insert(node);
            Reaction::Answer(store.answer(request))
        }),
    );
    let options = Options {
        timeout: LONG,
        pin: Some(cluster.nodes[2].address.to_string()),
        ..Options::default()
    };
    let client = Client::connect_with(&cluster.profile, &options)
        .await
        .unwrap();
    for n in 0..30_u8 {
        client.put("b", [n], "v").send().await.unwrap();
        client.get("b", [n]).send().await.unwrap();
    }
    assert_eq!(*asked.lock().unwrap(), BTreeSet::from([2]));
    assert_eq!(cluster.nodes[0].connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_update_that_was_overtaken_begins_again() {
    let cluster = Cluster::start(3, storing());
    let client = cluster.client(LONG).await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let client = client.clone();
        writers.spawn(async move {
            for _ in 0..5 {
                let longer = |siblings: &[quorate_client::wire::Version]| {
                    let old = siblings.first().and_then(|s| s.value.clone());
                    [&old.unwrap_or_default()[..], b"x"].concat()
                };
                client.update("b", "k", longer).await.unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let got = client.get("b", "k").send().await.unwrap();
    assert_eq!(got.value().unwrap().len(), 20);
}

#[tokio::test]
async fn keys_are_listed_page_by_page() {
    let cluster = Cluster::start(
        1,
        handler(|_, request| {
            let Request::Keys(keys) = request else {
                return Reaction::Silence;
            };
            assert_eq!((&keys.bucket[..], &keys.prefix[..]), ("b", &b"p"[..]));
            let from = keys.cursor.first().copied().unwrap_or(0);
            let until = (from + 3).min(10);
            let key = |n: u8| KeyItem {
                key: Bytes::copy_from_slice(&[b'p', n]),
            };
            Reaction::Answer(Response::Keys(KeysReply {
                items: (from..until).map(key).collect(),
                cursor: (until < 10).then(|| Bytes::copy_from_slice(&[until])),
            }))
        }),
    );
    let client = cluster.client(LONG).await;
    let list = async |limit| {
        let mut keys = client.keys("b").prefix("p").limit(limit);
        let mut found = Vec::new();
        while let Some(key) = keys.next().await {
            found.push(key.unwrap()[1]);
        }
        found
    };
    assert_eq!(list(u64::MAX).await, (0..10).collect::<Vec<u8>>());
    assert_eq!(list(4).await, [0, 1, 2, 3]);
    assert!(list(0).await.is_empty());
}

#[tokio::test]
async fn a_bucket_is_made_at_most_once() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let cluster = Cluster::start(
        3,
        handler(move |_, request| match request {
            Request::Bucket(bucket) if bucket.verb == "create" => {
                count.fetch_add(1, Ordering::SeqCst);
                Reaction::HangUp
            }
            Request::Bucket(bucket) => Reaction::Answer(Response::Buckets(vec![BucketInfo {
                name: bucket.name.clone(),
                ..BucketInfo::default()
            }])),
            _ => Reaction::Silence,
        }),
    );
    let client = cluster.client(LONG).await;
    let created = client.create_bucket("b", BucketOptions::default()).await;
    assert!(matches!(created, Err(WriteError::Unknown(_))));
    assert_eq!(made.load(Ordering::SeqCst), 1);
    assert_eq!(client.bucket("b").await.unwrap().name, "b");
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_unreachable() {
    let mut cluster = Cluster::start(2, storing());
    cluster.kill(0);
    cluster.kill(1);
    let options = Options {
        timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let client = Client::connect_with(&cluster.profile, &options).await;
    let Err(ConnectError::Unreachable { tried }) = client else {
        panic!("{client:?}");
    };
    assert_eq!(tried.len(), 2);
}

#[tokio::test]
async fn one_live_node_of_the_profile_is_enough() {
    let mut cluster = Cluster::start(3, storing());
    cluster.kill(0);
    cluster.kill(1);
    let client = cluster.client(LONG).await;
    client.put("b", "k", "v").send().await.unwrap();
}

#[tokio::test]
async fn a_client_of_another_cluster_is_denied() {
    let cluster = Cluster::start(1, storing());
    let other = Cluster::start(1, storing());
    let mut profile = cluster.profile.clone();
    profile.nodes = other.profile.nodes.clone();
    let options = Options {
        timeout: LONG,
        ..Options::default()
    };
    let client = Client::connect_with(&profile, &options).await;
    assert!(matches!(client, Err(ConnectError::Denied(_))), "{client:?}");
}

#[tokio::test]
async fn a_context_goes_to_the_node_as_it_came() {
    let cluster = Cluster::start(3, storing());
    let client = cluster.client(LONG).await;
    let first = client.put("b", "k", "1").send().await.unwrap();
    let text = first.context.to_text();
    let context = Context::from_text(&text).unwrap();
    let put = client.put("b", "k", "2").if_match(&context);
    put.clone().send().await.unwrap();
    assert!(matches!(put.send().await, Err(WriteError::Conflict(_))));
}
