//! Requests that are taken back, and what nodes say without being asked.

use bytes::BytesMut;
use quorate_client::{
    tls::Role,
    wire::{
        GetRequest, Request, Response, RingReply, RingRequest, decode_body,
        frame::{append_cancel, kind},
    },
};
use quorate_ring::Ring;

use super::support::{Cluster, Running, free_udp};

fn get(key: &'static [u8]) -> Request {
    Request::Get(GetRequest {
        bucket: "default".to_owned(),
        key: key.into(),
        r: Some(1),
        timeout_ms: super::TIMEOUT_MS,
        ..GetRequest::default()
    })
}

#[tokio::test]
async fn a_request_that_is_taken_back_is_not_answered() {
    let cluster = Cluster::new(1);
    let _node = cluster.start(0);
    let mut client = cluster.client(0, Role::Write).await;
    let mut out = BytesMut::new();
    get(b"one").append_to(&mut out, 101).unwrap();
    get(b"two").append_to(&mut out, 102).unwrap();
    append_cancel(&mut out, 101);
    // Nobody has asked under this one, and the last was answered long ago.
    append_cancel(&mut out, 7);
    client.write(&out).await.unwrap();
    assert_eq!(client.read().await.unwrap().id, 102);
    let mut out = BytesMut::new();
    append_cancel(&mut out, 102);
    // An id that is free again may be used again.
    get(b"three").append_to(&mut out, 101).unwrap();
    client.write(&out).await.unwrap();
    assert_eq!(client.read().await.unwrap().id, 101);
}

#[tokio::test]
async fn clients_are_told_a_new_ring_without_asking() {
    let cluster = Cluster::new(1);
    let _node = cluster.start(0);
    let mut listener = cluster.client(0, Role::Read).await;
    let mut operator = cluster.client(0, Role::Admin).await;
    let Response::Ring(reply) = listener.ask(&Request::Ring).await else {
        panic!("a ring was asked for");
    };
    let before = Ring::from_bytes(&reply.ring).unwrap().epoch();
    let mut change = async |verb: &str, digest: &str| {
        let request = Request::RingChange(RingRequest {
            verb: verb.to_owned(),
            node: "n1".to_owned(),
            weight: Some(3),
            digest: digest.to_owned(),
            timeout_ms: super::TIMEOUT_MS,
            ..RingRequest::default()
        });
        match operator.ask(&request).await {
            Response::RingChange(answer) => answer,
            other => panic!("{other:?}"),
        }
    };
    change("weight", "").await;
    let plan = change("plan", "").await.plan.unwrap();
    change("commit", &plan.digest).await;
    let told = listener.read().await.unwrap();
    assert_eq!((told.id, told.kind), (0, kind::RING_IS));
    let reply: RingReply = decode_body(&told.body).unwrap();
    assert!(before < Ring::from_bytes(&reply.ring).unwrap().epoch());
}

#[tokio::test]
async fn clients_are_told_where_a_member_is_that_has_moved() {
    let cluster = Cluster::new(2);
    let _node = cluster.start(0);
    let moves = cluster.start(1);
    let mut listener = cluster.client(0, Role::Read).await;
    // It has been there, or else it has not moved.
    drop(cluster.client(1, Role::Read).await);
    drop(moves);
    let mut config = cluster.config(1);
    config.listen = free_udp().to_string();
    let address = config.listen.clone();
    let _moved = Running::start(config);
    loop {
        let told = listener.read().await.unwrap();
        assert_eq!((told.id, told.kind), (0, kind::RING_IS));
        let reply: RingReply = decode_body(&told.body).unwrap();
        let ring = Ring::from_bytes(&reply.ring).unwrap();
        let member = ring.members().iter().find(|member| member.name == "n2");
        if member.unwrap().address == address {
            break;
        }
    }
}
