//! Who may talk to whom.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::SocketAddr;

use quinn::Endpoint;
use quorate_client::{
    tls::{self, Alpn, Credentials, Identity, IdentityError, Role, SERVER_NAME, TlsError},
    transport,
};
use rcgen::ExtendedKeyUsagePurpose;

use support::{Authority, CLUSTER, credentials_of, usages};

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn server(credentials: &Credentials) -> (Endpoint, SocketAddr) {
    let keys = transport::EndpointKeys::random().unwrap();
    let endpoint = Endpoint::new(
        keys.endpoint_config(),
        Some(credentials.server_config().unwrap()),
        transport::bind(LOOPBACK).unwrap(),
        std::sync::Arc::new(quinn::TokioRuntime),
    )
    .unwrap();
    let address = endpoint.local_addr().unwrap();
    (endpoint, address)
}

/// What both sides make of a meeting: the dialling side sees whether a byte comes back.
struct Meeting {
    dialled: Result<Identity, String>,
    accepted: Result<(Identity, Alpn), String>,
}

async fn meet(node: &Credentials, config: quinn::ClientConfig) -> Meeting {
    let (server, address) = server(node);
    let accept = async {
        let connecting = server.accept().await.unwrap();
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let peer = match tls::peer_identity(&connection) {
            Ok(peer) => peer,
            Err(error) => {
                connection.close(transport::close::ROLE.into(), b"role");
                return Err(error.to_string());
            }
        };
        let mut stream = connection.open_uni().await.map_err(|e| e.to_string())?;
        stream.write_all(b"x").await.map_err(|e| e.to_string())?;
        connection.closed().await;
        Ok(peer)
    };
    let dial = async {
        let client = Endpoint::client(LOOPBACK).unwrap();
        let connection = client
            .connect_with(config, address, SERVER_NAME)
            .unwrap()
            .await
            .map_err(|error| format!("{error:?}"))?;
        let mut byte = [0];
        let mut stream = connection.accept_uni().await.map_err(|e| e.to_string())?;
        stream
            .read_exact(&mut byte)
            .await
            .map_err(|e| e.to_string())?;
        let (identity, _) = tls::peer_identity(&connection).map_err(|e| e.to_string())?;
        connection.close(0_u32.into(), b"");
        Ok(identity)
    };
    let (accepted, dialled) = tokio::join!(accept, dial);
    Meeting { dialled, accepted }
}

async fn meet_for(node: &Credentials, client: &Credentials, alpn: Alpn) -> Meeting {
    meet(node, client.client_config(alpn, None).unwrap()).await
}

#[tokio::test]
async fn every_role_may_use_the_protocol_meant_for_it_and_no_other() {
    let authority = Authority::new();
    let node = authority.credentials(CLUSTER, Role::Node, "n1");
    for role in [Role::Read, Role::Write, Role::Admin, Role::Node] {
        for alpn in [Alpn::Client, Alpn::Peer] {
            let client = authority.credentials(CLUSTER, role, "other");
            let meeting = meet_for(&node, &client, alpn).await;
            if (role == Role::Node) == (alpn == Alpn::Peer) {
                let (identity, seen) = meeting.accepted.unwrap();
                assert_eq!((identity.role, seen), (role, alpn));
                assert_eq!(meeting.dialled.unwrap().name, "n1");
            } else {
                assert!(meeting.accepted.unwrap_err().contains("may not speak"));
                assert!(meeting.dialled.is_err());
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_both_sides() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let node = ours.credentials(CLUSTER, Role::Node, "n1");
    let foreign = theirs.credentials(CLUSTER, Role::Admin, "c");
    let meeting = meet_for(&node, &foreign, Alpn::Client).await;
    assert!(
        meeting
            .dialled
            .unwrap_err()
            .contains("invalid peer certificate")
    );

    // This one accepts our authority, so that it is for the node to refuse.
    let uri = foreign.identity().to_uri();
    let (certificate, key) = theirs.issue(&[uri], usages(Role::Admin), |_| {});
    let sly = credentials_of(&ours, &certificate, &key);
    let meeting = meet_for(&node, &sly, Alpn::Client).await;
    assert!(meeting.accepted.is_err());
    assert!(meeting.dialled.is_err());
}

#[tokio::test]
async fn an_expired_and_a_future_certificate_are_refused() {
    let authority = Authority::new();
    let node = authority.credentials(CLUSTER, Role::Node, "n1");
    let client = authority.credentials(CLUSTER, Role::Admin, "c");
    for (from, until) in [(2000, 2001), (2900, 2901)] {
        let change = |params: &mut rcgen::CertificateParams| {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
        };
        let bad = authority.changed_credentials(CLUSTER, Role::Admin, "c", change);
        let meeting = meet_for(&node, &bad, Alpn::Client).await;
        assert!(meeting.accepted.is_err() && meeting.dialled.is_err());
        let bad = authority.changed_credentials(CLUSTER, Role::Node, "n1", change);
        let meeting = meet_for(&bad, &client, Alpn::Client).await;
        assert!(meeting.accepted.is_err() && meeting.dialled.is_err());
    }
}

#[tokio::test]
async fn a_certificate_of_another_cluster_is_refused_by_both_sides() {
    let authority = Authority::new();
    let node = authority.credentials(CLUSTER, Role::Node, "n1");
    for role in [Role::Admin, Role::Node] {
        let alpn = if role == Role::Node {
            Alpn::Peer
        } else {
            Alpn::Client
        };
        let other = authority.credentials(CLUSTER + 1, role, "c");
        let meeting = meet_for(&node, &other, alpn).await;
        assert!(meeting.dialled.unwrap_err().contains("Cluster"));
        assert!(meeting.accepted.is_err());
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let node = authority.credentials(CLUSTER, Role::Node, "n1");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![Alpn::Client.name().to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
    // It asks for a host name, which this certificate has.
    let named = authority.changed_credentials(CLUSTER, Role::Node, "n1", |params| {
        let name = SERVER_NAME.try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::DnsName(name));
    });
    assert_eq!(named.identity(), node.identity());
    let meeting = meet(&named, config).await;
    assert!(meeting.accepted.is_err());
    assert!(meeting.dialled.is_err());
}

#[tokio::test]
async fn a_client_does_not_pass_for_a_node() {
    let authority = Authority::new();
    let client = authority.credentials(CLUSTER, Role::Admin, "c");
    let uri = authority
        .credentials(CLUSTER, Role::Write, "n1")
        .identity()
        .to_uri();
    let (certificate, key) = authority.issue(&[uri], usages(Role::Node), |_| {});
    let sly = credentials_of(&authority, &certificate, &key);
    let meeting = meet_for(&sly, &client, Alpn::Client).await;
    assert!(meeting.dialled.unwrap_err().contains("NotANode"));
}

#[tokio::test]
async fn key_usage_is_checked() {
    let authority = Authority::new();
    let client = authority.credentials(CLUSTER, Role::Admin, "c");
    let uri = authority
        .credentials(CLUSTER, Role::Node, "n1")
        .identity()
        .to_uri();
    let usage = [ExtendedKeyUsagePurpose::ClientAuth];
    let (certificate, key) = authority.issue(&[uri], &usage, |_| {});
    let node = credentials_of(&authority, &certificate, &key);
    let meeting = meet_for(&node, &client, Alpn::Client).await;
    assert!(meeting.dialled.is_err());
}

#[tokio::test]
async fn a_node_that_is_not_the_one_expected_is_refused() {
    let authority = Authority::new();
    let node = authority.credentials(CLUSTER, Role::Node, "n1");
    let peer = authority.credentials(CLUSTER, Role::Node, "n2");
    for (expected, good) in [("n1", true), ("n3", false)] {
        let config = peer.client_config(Alpn::Peer, Some(expected)).unwrap();
        assert_eq!(meet(&node, config).await.dialled.is_ok(), good);
    }
}

#[test]
fn a_certificate_names_exactly_one_identity() {
    let authority = Authority::new();
    let node = authority
        .credentials(CLUSTER, Role::Node, "n1")
        .identity()
        .clone();
    for (uris, count) in [
        (vec![], 0),
        (vec!["https://example.org/".to_owned()], 0),
        (vec![node.to_uri(), node.to_uri()], 2),
    ] {
        let (certificate, _) = authority.issue(&uris, &[], |_| {});
        assert_eq!(
            Identity::of(certificate.der()),
            Err(IdentityError::NotOne(count))
        );
    }
    let uris = [node.to_uri(), "https://example.org/".to_owned()];
    let (certificate, _) = authority.issue(&uris, &[], |_| {});
    assert_eq!(Identity::of(certificate.der()), Ok(node));
}

#[test]
fn files_are_read_and_an_open_key_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let authority = Authority::new();
    let node = authority
        .credentials(CLUSTER, Role::Node, "n1")
        .identity()
        .clone();
    let (certificate, key) = authority.issue(&[node.to_uri()], usages(Role::Node), |_| {});
    std::fs::write(path("ca.pem"), authority.pem()).unwrap();
    std::fs::write(path("node.pem"), certificate.pem()).unwrap();
    std::fs::write(path("node.key"), key.serialize_pem()).unwrap();
    let mode = |mode| {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path("node.key"), permissions).unwrap();
    };
    let load = |ca: &str| Credentials::load(&path(ca), &path("node.pem"), &path("node.key"));

    mode(0o640);
    let error = load("ca.pem").unwrap_err();
    assert!(matches!(error, TlsError::KeyIsOpen { mode: 0o640, .. }));
    assert!(error.to_string().contains("node.key") && error.to_string().contains("chmod 600"));
    mode(0o600);
    assert_eq!(*load("ca.pem").unwrap().identity(), node);
    assert!(matches!(load("none.pem"), Err(TlsError::Read { .. })));
    assert!(matches!(load("node.key"), Err(TlsError::Pem { .. })));
}
