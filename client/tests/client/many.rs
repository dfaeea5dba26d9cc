//! Many keys at once, sessions, and callers that wait.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quorate_client::{
    Options, Outcome, PutItem, ReadError, Retry, WriteError, blocking,
    wire::{ErrorCode, GetReply, Request, Response, WriteReply},
};

use super::{
    LONG, handler, storing,
    support::server::{Cluster, Reaction, error},
};

#[tokio::test]
async fn each_of_many_has_an_outcome_of_its_own() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (ids, busy) = (seen.clone(), Arc::new(AtomicUsize::new(0)));
    let cluster = Cluster::start(
        3,
        handler(move |_, request| match request {
            Request::Put(put) => {
                ids.lock().unwrap().push((put.op_id.clone(), put.retry));
                match &put.key[..] {
                    b"conflict" => Reaction::Answer(error(ErrorCode::Conflict)),
                    b"silence" => Reaction::Silence,
                    _ => Reaction::Answer(Response::Written(WriteReply::default())),
                }
            }
            Request::Get(get) if get.key == "absent" => {
                Reaction::Answer(error(ErrorCode::UnknownBucket))
            }
            Request::Get(_) => {
                busy.fetch_add(1, Ordering::SeqCst);
                Reaction::Answer(Response::Got(GetReply::default()))
            }
            _ => Reaction::Silence,
        }),
    );
    let client = cluster.client(LONG).await;
    let named = PutItem {
        op_id: Some(client.op_id()),
        ..PutItem::from(("named", "v"))
    };
    let items = ["a", "conflict", "silence", "b"].map(|key| PutItem::from((key, "v")));
    let items = items.into_iter().chain([named.clone()]);
    let many = client.put_many("b", items).concurrency(2);
    let many = many.timeout(Duration::from_millis(200)).send().await;
    let outcomes: Vec<_> = many.iter().map(|one| one.result.is_ok()).collect();
    assert_eq!(outcomes, [true, false, false, true, true]);
    let error = |at: usize| many[at].result.clone().unwrap_err();
    assert!(matches!(error(1), WriteError::Conflict(_)));
    assert_eq!(error(2).outcome(), Outcome::Unknown);
    assert_eq!(error(2).retry(), Retry::SameOperation);
    assert_eq!(many[2].item.key, "silence");
    let mut ids: Vec<_> = many.iter().filter_map(|one| one.item.op_id).collect();
    let op = |id: quorate_client::OpId| Bytes::copy_from_slice(id.as_bytes());
    {
        let seen = seen.lock().unwrap();
        // Only an id that came from outside may have been used before.
        assert!(seen.contains(&(op(named.op_id.unwrap()), true)));
        assert!(seen.contains(&(op(ids[0]), false)));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let got = client.get_many("b", ["x", "absent", "y"]).send().await;
    let found: Vec<_> = got.iter().map(Result::is_ok).collect();
    assert_eq!(found, [true, false, true]);
}

#[tokio::test]
async fn a_thousand_keys_are_written_and_read_in_order() {
    let cluster = Cluster::start(3, storing());
    let client = cluster.client(LONG).await;
    let items = (0..1000_u32).map(|n| (n.to_be_bytes(), n.to_string()));
    let written = client.put_many("b", items).send().await;
    assert!(written.iter().all(|one| one.result.is_ok()));
    let keys = (0..1000_u32).map(u32::to_be_bytes);
    let got = client.get_many("b", keys).concurrency(300).send().await;
    for (n, got) in got.into_iter().enumerate() {
        assert_eq!(got.unwrap().value().unwrap(), &n.to_string());
    }
    assert!(client.get_many("b", [""; 0]).send().await.is_empty());
}

#[tokio::test]
async fn a_session_brings_along_what_it_has_seen() {
    let brought = Arc::new(Mutex::new(Vec::new()));
    let (seen, count) = (brought.clone(), AtomicUsize::new(0));
    let cluster = Cluster::start(
        3,
        handler(move |_, request| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let context = Bytes::from(number.to_string());
            match request {
                Request::Get(get) => {
                    seen.lock().unwrap().push(get.seen.clone());
                    Reaction::Answer(match number {
                        3 => error(ErrorCode::Stale),
                        6 => error(ErrorCode::BadContext),
                        _ => Response::Got(GetReply {
                            context: (number != 5).then_some(context),
                            ..GetReply::default()
                        }),
                    })
                }
                Request::Put(put) => {
                    let had = put.context.clone();
                    seen.lock().unwrap().push(had.into_iter().collect());
                    Reaction::Answer(Response::Written(WriteReply {
                        context,
                        ..WriteReply::default()
                    }))
                }
                _ => Reaction::Silence,
            }
        }),
    );
    let client = cluster.client(LONG).await;
    let session = client.session();
    let get = async || session.get("b", "k").send().await;
    get().await.unwrap();
    session.put("b", "k", "v").send().await.unwrap();
    get().await.unwrap();
    // The first try is refused as stale, the second is answered.
    get().await.unwrap();
    assert_eq!(session.len(), 1);
    // Nobody knows anything of the key: it is gone for good.
    get().await.unwrap();
    assert!(session.is_empty());
    let other = client.session();
    session.put("b", "k", "v").send().await.ok();
    other.take_in(&session.to_text()).unwrap();
    assert!(other.take_in("AAAA").is_err() && other.take_in("!").is_err());
    let brought = brought.lock().unwrap();
    let texts: Vec<Vec<&str>> = brought
        .iter()
        .map(|seen| {
            seen.iter()
                .map(|s| std::str::from_utf8(s).unwrap())
                .collect()
        })
        .collect();
    let expected: [&[&str]; 7] = [&[], &["0"], &["1"], &["2"], &["2"], &["4"], &[]];
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn a_session_that_nobody_can_satisfy_says_so() {
    let cluster = Cluster::start(
        3,
        handler(|_, request| match request {
            Request::Put(_) => Reaction::Answer(Response::Written(WriteReply {
                hinted: 1,
                ..WriteReply::default()
            })),
            Request::Get(get) if get.key == "hinted" => {
                Reaction::Answer(Response::Got(GetReply::default()))
            }
            _ => Reaction::Answer(error(ErrorCode::Stale)),
        }),
    );
    let client = cluster.client(LONG).await;
    let session = client.session();
    for key in ["hinted", "lost"] {
        session.put("b", key, "v").send().await.unwrap();
        let get = session.get("b", key).timeout(Duration::from_millis(200));
        let error = get.send().await.unwrap_err();
        assert!(matches!(error, ReadError::Stale(_)), "{error:?}");
        assert_eq!(error.retry(), Retry::AfterPause);
    }
    session.forget("b", "hinted");
    session.get("b", "hinted").send().await.unwrap();
}

#[test]
fn who_does_not_know_of_async_waits() {
    let cluster = Cluster::start(3, storing());
    let options = Options {
        timeout: LONG,
        ..Options::default()
    };
    let client = blocking::Client::connect_with(&cluster.profile, &options).unwrap();
    client.put("b", "k", "v").unwrap();
    assert_eq!(client.get("b", "k").unwrap().value().unwrap(), "v");
    let put = client.asynchronous().put("b", "k", "w").if_absent();
    assert!(matches!(
        client.wait(put.send()),
        Err(WriteError::Conflict(_))
    ));
    client.update("b", "k", |_| "merged").unwrap();
    client.put_many("b", [("x", "1"), ("y", "2")]);
    let got = client.get_many("b", ["k", "x"]);
    assert_eq!(got[0].as_ref().unwrap().value().unwrap(), "merged");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let client = client.clone();
            scope.spawn(move || assert_eq!(client.get("b", "y").unwrap().value().unwrap(), "2"));
        }
    });
    client.close();
}
