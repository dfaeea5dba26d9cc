//! Real nodes over real QUIC, in this process and in others.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    missing_docs,
    reason = "tests live in the outside world"
)]

mod support;
#[path = "serve/unasked.rs"]
mod unasked;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quorate_client::{
    tls::{Alpn, Role},
    wire::{
        ErrorCode, GetReply, GetRequest, Request, Response, WriteReply, WriteRequest,
        frame::{HEADER_BYTES, Header, kind},
    },
};
use quorate_node::shell::{ExitReason, ServeError, serve};
use support::{CLUSTER, Client, Cluster, Running};

const TIMEOUT_MS: u32 = 10_000;
const CONFIG: &str = "QUORATE_TEST_NODE";

fn put(key: &'static [u8], value: &'static [u8], op: u8) -> Request {
    Request::Put(WriteRequest {
        bucket: "default".to_owned(),
        key: Bytes::from_static(key),
        value: Some(Bytes::from_static(value)),
        op_id: Bytes::from(vec![op; 16]),
        timeout_ms: TIMEOUT_MS,
        ..WriteRequest::default()
    })
}

fn get(key: &'static [u8]) -> Request {
    Request::Get(GetRequest {
        bucket: "default".to_owned(),
        key: Bytes::from_static(key),
        timeout_ms: TIMEOUT_MS,
        ..GetRequest::default()
    })
}

async fn written(client: &mut Client, request: Request) -> WriteReply {
    loop {
        match client.ask(&request).await {
            Response::Written(reply) => return reply,
            Response::Error(error) if error.code == ErrorCode::Unavailable => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Just after a start no node counts for reads of a quorum yet: others have to hear of it first.
async fn got(client: &mut Client, request: Request) -> GetReply {
    loop {
        match client.ask(&request).await {
            Response::Got(reply) => return reply,
            Response::Error(error) if error.code == ErrorCode::Unavailable => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn http(cluster: &Cluster, node: usize, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(cluster.http[node]).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn three_nodes_store_a_value_and_any_of_them_returns_it() {
    let cluster = Cluster::new(3);
    let nodes: Vec<_> = (0..3).map(|node| cluster.start(node)).collect();
    let mut clients = Vec::new();
    for node in 0..3 {
        clients.push(cluster.client(node, Role::Write).await);
    }
    let reply = written(&mut clients[0], put(b"key", b"value", 1)).await;
    assert!(2 <= reply.durable_on.len(), "{reply:?}");
    for client in &mut clients {
        let reply = got(client, get(b"key")).await;
        assert_eq!(reply.siblings.len(), 1);
        assert_eq!(reply.siblings[0].value.as_deref(), Some(&b"value"[..]));
    }
    let metrics = http(&cluster, 0, "/metrics", "localhost");
    assert!(
        metrics.contains("quorate_requests_total{op=\"put\",outcome=\"ok\"} 1"),
        "{metrics}"
    );
    // Requests are served a little sooner: ready is who has compared buckets with all others.
    let limit = Instant::now() + Duration::from_secs(10);
    while !http(&cluster, 0, "/health/ready", "127.0.0.1").starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < limit, "never ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(http(&cluster, 0, "/health/live", "evil.example").starts_with("HTTP/1.1 403"));
    for node in nodes {
        assert_eq!(node.stop().unwrap(), ExitReason::Drained);
    }
}

#[tokio::test]
async fn a_stopped_node_remembers_and_knows_its_ring() {
    let cluster = Cluster::new(1);
    let node = cluster.start(0);
    let mut client = cluster.client(0, Role::Write).await;
    let Request::Put(mut write) = put(b"key", b"value", 1) else {
        unreachable!();
    };
    write.w = Some(1);
    write.sloppy = Some(false);
    let reply = written(&mut client, Request::Put(write)).await;
    assert_eq!(reply.durable_on, ["n1"]);
    assert_eq!(node.stop().unwrap(), ExitReason::Drained);

    let node = cluster.start(0);
    let mut client = cluster.client(0, Role::Read).await;
    let Request::Get(mut read) = get(b"key") else {
        unreachable!();
    };
    read.r = Some(1);
    assert_eq!(got(&mut client, Request::Get(read)).await.siblings.len(), 1);
    drop(client);
    node.stop().unwrap();

    cluster.certify(0, CLUSTER + (1 << 64));
    let error = cluster.start(0).outcome().unwrap_err();
    assert!(matches!(error, ServeError::Identity { .. }), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn a_port_or_a_directory_in_use_is_refused() {
    let cluster = Cluster::new(2);
    let _first = cluster.start(0);
    cluster.client(0, Role::Read).await;
    let error = cluster.start(0).outcome().unwrap_err();
    assert!(matches!(error, ServeError::Open(_)), "{error}");
    let mut config = cluster.config(1);
    config.listen = cluster.address(0).to_string();
    let error = Running::start(config).outcome().unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }), "{error}");
    assert!(error.to_string().contains("`listen`"), "{error}");
    let mut config = cluster.config(1);
    config.http = cluster.http[0].to_string();
    let error = Running::start(config).outcome().unwrap_err();
    assert!(error.to_string().contains("`http`"), "{error}");
}

#[test]
fn open_keys_and_other_nodes_certificates_are_refused() {
    let cluster = Cluster::new(2);
    for key in ["node.key", "cluster.key"] {
        let path = cluster.node_dir(0).join(key);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = cluster.start(0).outcome().unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let mut config = cluster.config(0);
    config.tls.cert = cluster.node_dir(1).join("node.pem");
    config.tls.key = cluster.node_dir(1).join("node.key");
    let error = Running::start(config).outcome().unwrap_err();
    assert!(
        matches!(error, ServeError::WrongCertificate { .. }),
        "{error}"
    );
    let mut config = cluster.config(0);
    config.listen = "nowhere".to_owned();
    let error = Running::start(config).outcome().unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
}

#[tokio::test]
async fn roles_and_rings_decide_who_may_come_in() {
    let cluster = Cluster::new(1);
    let _node = cluster.start(0);
    let mut reader = cluster.client(0, Role::Read).await;
    match reader.ask(&put(b"key", b"value", 1)).await {
        Response::Error(error) => assert_eq!(error.code, ErrorCode::Denied),
        other => panic!("{other:?}"),
    }
    // A client on the nodes' protocol, a node on the clients', and a node of no ring.
    for (role, name, alpn) in [
        (Role::Admin, "tester", Alpn::Peer),
        (Role::Node, "n1", Alpn::Client),
        (Role::Node, "n9", Alpn::Peer),
    ] {
        let credentials = cluster.credentials(role, name);
        let outcome = Client::try_connect(cluster.address(0), &credentials, alpn).await;
        assert!(outcome.is_err(), "{role} {name}");
    }
    assert!(matches!(
        reader.ask(&Request::Status).await,
        Response::Status(_)
    ));
}

#[tokio::test]
async fn garbage_ends_its_connection_and_nothing_else() {
    let cluster = Cluster::new(1);
    let _node = cluster.start(0);
    let mut witness = cluster.client(0, Role::Read).await;
    let too_long = Header {
        length: 0,
        kind: kind::GET,
        flags: 0,
        id: 1,
    };
    let mut too_long = too_long.encode();
    too_long[..4].copy_from_slice(&[0xff; 4]);
    for garbage in [&[0xff; 100][..], &too_long, b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = cluster.client(0, Role::Admin).await;
        client.write(garbage).await.unwrap();
        assert!(client.read().await.is_err());
    }
    // A frame that is whole but means nothing is answered, and the connection goes on.
    let mut client = cluster.client(0, Role::Admin).await;
    for (kind, body) in [(kind::PUT, &[0xc1; 7][..]), (999, b"\x80"), (203, b"\x80")] {
        let length = u32::try_from(body.len()).unwrap();
        let header = Header {
            length,
            kind,
            flags: 0,
            id: 77,
        };
        let mut out = BytesMut::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(body);
        client.write(&out).await.unwrap();
        let frame = client.read().await.unwrap();
        assert_eq!((frame.kind, frame.id), (kind::ERROR, 77));
    }
    assert!(matches!(
        client.ask(&Request::Status).await,
        Response::Status(_)
    ));
    assert!(matches!(
        witness.ask(&Request::Status).await,
        Response::Status(_)
    ));
}

/// Not a test: the process of a node, when the test below starts this program again.
#[test]
fn node_process() {
    let Ok(path) = std::env::var(CONFIG) else {
        return;
    };
    let config = quorate_node::shell::load_config(path.as_ref()).unwrap();
    let code = match serve(&config, false) {
        Ok(_) => 0,
        Err(error) => error.exit_code(),
    };
    std::process::exit(code.into());
}

fn process(cluster: &Cluster, node: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "node_process", "--nocapture"])
        .env(CONFIG, cluster.config_path(node))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_client_hears_of_a_kill_and_restart_from_the_new_process() {
    let cluster = Cluster::new(1);
    let mut first = process(&cluster, 0);
    let mut client = cluster.client(0, Role::Read).await;
    client.ask(&Request::Status).await;
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = process(&cluster, 0);
    cluster.client(0, Role::Read).await;
    // The old connection is told by a stateless reset, not by its own silence.
    assert!(client.try_ask(&Request::Status).await.is_err());
    let reason = client.connection.close_reason().unwrap();
    assert!(matches!(reason, quinn::ConnectionError::Reset), "{reason}");
    let status = Command::new("kill").arg(second.id().to_string()).status();
    assert!(status.unwrap().success());
    assert_eq!(second.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_process_on_a_directory_exits_with_an_error() {
    let cluster = Cluster::new(1);
    let mut first = process(&cluster, 0);
    cluster.client(0, Role::Read).await;
    assert_eq!(process(&cluster, 0).wait().unwrap().code(), Some(1));
    first.kill().unwrap();
    first.wait().unwrap();
}
