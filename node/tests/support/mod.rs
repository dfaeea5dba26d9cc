//! A cluster of real nodes on loopback, each in a directory of its own, and a client that speaks
//! plain frames.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::BytesMut;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TokioRuntime};
use quorate_client::{
    tls::{Alpn, Credentials, Identity, Role, SERVER_NAME},
    transport::{self, EndpointKeys},
    wire::{
        Frame, FrameReader, Hello, HelloReply, Request, Response, decode_body,
        frame::{self, kind},
    },
};
use quorate_node::{
    config::NodeConfig,
    shell::{ExitReason, ServeError, Stop, load_config, serve_within},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use tempfile::TempDir;

pub const CLUSTER: u128 = 0x00ab_cdef_0123_4567_89ab_cdef_0123_4567;

/// Directories, certificates and configurations of a cluster.
pub struct Cluster {
    dir: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    addresses: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
}

impl Cluster {
    pub fn new(nodes: usize) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            authority: CertifiedIssuer::self_signed(params, key).unwrap(),
            addresses: (0..nodes).map(|_| free_udp()).collect(),
            http: (0..nodes).map(|_| free_tcp()).collect(),
        };
        for node in 0..nodes {
            cluster.write_node(node);
        }
        cluster
    }

    pub fn address(&self, node: usize) -> SocketAddr {
        self.addresses[node]
    }

    pub fn node_dir(&self, node: usize) -> PathBuf {
        self.dir.path().join(name(node))
    }

    pub fn config_path(&self, node: usize) -> PathBuf {
        self.node_dir(node).join("node.toml")
    }

    pub fn config(&self, node: usize) -> NodeConfig {
        load_config(&self.config_path(node)).unwrap()
    }

    pub fn start(&self, node: usize) -> Running {
        Running::start(self.config(node))
    }

    /// Writes certificates for `cluster` over those that are there.
    pub fn certify(&self, node: usize, cluster: u128) {
        let dir = self.node_dir(node);
        let name = name(node);
        let (certificate, key) = self.issue(cluster, Role::Node, &name);
        fs::write(dir.join("ca.pem"), self.authority.pem()).unwrap();
        fs::write(dir.join("node.pem"), certificate.pem()).unwrap();
        write_secret(&dir.join("node.key"), &key.serialize_pem());
        write_secret(&dir.join("cluster.key"), &"5a".repeat(32));
    }

    fn write_node(&self, node: usize) {
        fs::create_dir(self.node_dir(node)).unwrap();
        self.certify(node, CLUSTER);
        let mut members = String::new();
        for (node, address) in self.addresses.iter().enumerate() {
            let name = name(node);
            writeln!(
                members,
                "[[members]]\nname = \"{name}\"\naddress = \"{address}\""
            )
            .unwrap();
        }
        let text = format!(
            "name = \"{}\"\nlisten = \"{}\"\nhttp = \"{}\"\n\
             [tls]\nca = \"ca.pem\"\ncert = \"node.pem\"\nkey = \"node.key\"\n\
             cluster_key = \"cluster.key\"\n\
             [cluster]\nname = \"test\"\n{members}",
            name(node),
            self.addresses[node],
            self.http[node],
        );
        fs::write(self.config_path(node), text).unwrap();
    }

    fn issue(&self, cluster: u128, role: Role, name: &str) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        let identity = Identity {
            cluster,
            role,
            name: name.to_owned(),
        };
        let uri = identity.to_uri().as_str().try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.authority).unwrap(), key)
    }

    pub fn credentials(&self, role: Role, name: &str) -> Credentials {
        let (certificate, key) = self.issue(CLUSTER, role, name);
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let authority = self.authority.der().clone();
        Credentials::new(vec![authority], vec![certificate.der().clone()], key).unwrap()
    }

    pub async fn client(&self, node: usize, role: Role) -> Client {
        let credentials = self.credentials(role, "tester");
        Client::connect(self.address(node), &credentials).await
    }
}

pub fn name(node: usize) -> String {
    format!("n{}", node + 1)
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub fn free_udp() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

fn free_tcp() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

/// A node on a thread of this process.
pub struct Running {
    stop: Stop,
    thread: Option<JoinHandle<Result<ExitReason, ServeError>>>,
}

impl Running {
    pub fn start(config: NodeConfig) -> Self {
        let stop = Stop::default();
        let stopped = stop.clone();
        let thread = thread::spawn(move || serve_within(&config, &stopped));
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Waits for a node that ends by itself.
    pub fn outcome(mut self) -> Result<ExitReason, ServeError> {
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn stop(self) -> Result<ExitReason, ServeError> {
        self.stop.gently();
        self.outcome()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.now();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One connection with one lane.
pub struct Client {
    _endpoint: Endpoint,
    pub connection: Connection,
    send: SendStream,
    recv: RecvStream,
    reader: FrameReader,
    next: u64,
}

impl Client {
    /// Until somebody is there.
    pub async fn connect(address: SocketAddr, credentials: &Credentials) -> Self {
        loop {
            match Self::try_connect(address, credentials, Alpn::Client).await {
                Ok(client) => return client,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    pub async fn try_connect(
        address: SocketAddr,
        credentials: &Credentials,
        alpn: Alpn,
    ) -> Result<Self, String> {
        let socket = transport::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let keys = EndpointKeys::random().unwrap();
        let config = keys.endpoint_config();
        let endpoint = Endpoint::new(config, None, socket, Arc::new(TokioRuntime)).unwrap();
        let config = credentials.client_config(alpn, None).unwrap();
        let connecting = endpoint.connect_with(config, address, SERVER_NAME).unwrap();
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let (send, recv) = connection.open_bi().await.map_err(|e| e.to_string())?;
        let mut client = Self {
            _endpoint: endpoint,
            connection,
            send,
            recv,
            reader: FrameReader::new(),
            next: 0,
        };
        let mut out = BytesMut::new();
        let hello = Hello::new(credentials.identity().cluster, "tester", 0);
        frame::append(&mut out, kind::HELLO, 0, &hello).unwrap();
        client.write(&out).await?;
        let reply = client.read().await?;
        if reply.kind != kind::HELLO_REPLY {
            return Err(format!("{:?}", Response::decode(reply.kind, &reply.body)));
        }
        let reply: HelloReply = decode_body(&reply.body).unwrap();
        // The first ring, or the one that names the directories of its members.
        assert!((1..=2).contains(&reply.ring_epoch));
        Ok(client)
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.send.write_all(bytes).await.map_err(|e| e.to_string())
    }

    pub async fn read(&mut self) -> Result<Frame, String> {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                return Ok(frame);
            }
            let chunk = self.recv.read_chunk(1 << 20, true).await;
            match chunk.map_err(|error| error.to_string())? {
                Some(chunk) => self.reader.feed(chunk.bytes),
                None => return Err("the node ended the stream".to_owned()),
            }
        }
    }

    pub async fn try_ask(&mut self, request: &Request) -> Result<Response, String> {
        self.next += 1;
        let mut out = BytesMut::new();
        request.append_to(&mut out, self.next).unwrap();
        self.write(&out).await?;
        let mut frame = self.read().await?;
        while frame.id == 0 {
            // Told without being asked.
            frame = self.read().await?;
        }
        assert_eq!(frame.id, self.next);
        Ok(Response::decode(frame.kind, &frame.body).unwrap())
    }

    pub async fn ask(&mut self, request: &Request) -> Response {
        self.try_ask(request).await.unwrap()
    }
}
