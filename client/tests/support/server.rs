//! Nodes that are none: they speak the protocol and do as the test says.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, Endpoint};
use quorate_client::{
    Client, Options, Profile,
    tls::{self, Identity, Role},
    transport::{self, EndpointKeys},
    wire::{
        Condition, ErrorBody, ErrorCode, Frame, FrameReader, GetReply, Hello, HelloReply, Request,
        Response, RingReply, Version, WriteReply, decode_body,
        frame::{self, kind},
    },
};
use quorate_ring::{Member, Partitions, Ring};
use tokio::runtime::Runtime;

use super::{Authority, CLUSTER, usages};

/// What a node does about a request.
pub enum Reaction {
    Answer(Response),
    /// Answer after this time.
    Late(Duration, Response),
    /// Never answer.
    Silence,
    /// Close the connection.
    HangUp,
    /// Send bytes that are no frame.
    Garbage,
}

/// Told the node's number and the request.
pub type Handler = Arc<dyn Fn(usize, &Request) -> Reaction + Send + Sync>;

/// One node, on a runtime of its own so that it can be killed.
pub struct Node {
    runtime: Option<Runtime>,
    pub address: SocketAddr,
    keys: EndpointKeys,
    pub connections: Arc<AtomicUsize>,
    /// Requests that were taken back.
    pub cancelled: Arc<AtomicUsize>,
    lanes: Lanes,
}

/// Where answers go, and what is said without being asked.
type Lanes = Arc<Mutex<Vec<tokio::sync::mpsc::Sender<Bytes>>>>;

/// A cluster of such nodes, and a directory with a profile.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub profile: Profile,
    authority: Authority,
    handler: Handler,
    ring: Arc<OnceLock<Ring>>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub fn start(count: usize, handler: Handler) -> Self {
        let authority = Authority::new();
        let ring = Arc::new(OnceLock::new());
        let nodes: Vec<Node> = (0..count)
            .map(|number| {
                let mut node = Node {
                    runtime: None,
                    address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
                    keys: EndpointKeys::random().unwrap(),
                    connections: Arc::default(),
                    cancelled: Arc::default(),
                    lanes: Arc::default(),
                };
                node.run(number, &authority, handler.clone(), ring.clone());
                node
            })
            .collect();
        let member = |(number, node): (usize, &Node)| {
            let name = format!("n{}", number + 1);
            Member::new(&name, &node.address.to_string(), "z", 1).unwrap()
        };
        let members = nodes.iter().enumerate().map(member).collect();
        let partitions = Partitions::new(64).unwrap();
        ring.set(Ring::founding(members, partitions, 7, 3).unwrap())
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let profile = write_profile(dir.path(), &authority, &nodes);
        Self {
            nodes,
            profile,
            authority,
            handler,
            ring,
            _dir: dir,
        }
    }

    pub async fn client(&self, timeout: Duration) -> Client {
        let options = Options {
            timeout,
            ..Options::default()
        };
        Client::connect_with(&self.profile, &options).await.unwrap()
    }

    /// All requests that were taken back.
    pub fn cancelled(&self) -> usize {
        let all = self.nodes.iter();
        all.map(|node| node.cancelled.load(Ordering::SeqCst)).sum()
    }

    /// A node tells everyone who is connected to it a ring.
    pub fn tell_ring(&self, number: usize, ring: &Ring) {
        let response = Response::Ring(RingReply {
            ring: ring.to_bytes().into(),
            state: "stable".to_owned(),
        });
        for lane in self.nodes[number].lanes.lock().unwrap().iter() {
            // One that is gone does not mind.
            drop(lane.try_send(encode(&response, 0)));
        }
    }

    /// As kill -9 would: nothing is said to anyone.
    pub fn kill(&mut self, number: usize) {
        let runtime = self.nodes[number].runtime.take().unwrap();
        // In a thread of its own, since waiting is not allowed in async code.
        std::thread::scope(|scope| {
            scope.spawn(|| runtime.shutdown_timeout(Duration::from_secs(5)));
        });
    }

    /// With the same address and keys.
    pub fn restart(&mut self, number: usize) {
        let (handler, ring) = (self.handler.clone(), self.ring.clone());
        self.nodes[number].run(number, &self.authority, handler, ring);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(runtime) = node.runtime.take() {
                runtime.shutdown_background();
            }
        }
    }
}

fn write_profile(dir: &std::path::Path, authority: &Authority, nodes: &[Node]) -> Profile {
    use std::os::unix::fs::PermissionsExt;

    let identity = Identity {
        cluster: CLUSTER,
        role: Role::Admin,
        name: "tester".to_owned(),
    };
    let (certificate, key) = authority.issue(&[identity.to_uri()], usages(Role::Admin), |_| {});
    let profile = Profile {
        nodes: nodes.iter().map(|node| node.address.to_string()).collect(),
        ca: dir.join("ca.pem"),
        cert: dir.join("client.pem"),
        key: dir.join("client.key"),
    };
    std::fs::write(&profile.ca, authority.pem()).unwrap();
    std::fs::write(&profile.cert, certificate.pem()).unwrap();
    std::fs::write(&profile.key, key.serialize_pem()).unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&profile.key, private).unwrap();
    profile
}

impl Node {
    fn run(
        &mut self,
        number: usize,
        authority: &Authority,
        handler: Handler,
        ring: Arc<OnceLock<Ring>>,
    ) {
        let credentials = authority.credentials(CLUSTER, Role::Node, &format!("n{}", number + 1));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let endpoint = {
            let _inside = runtime.enter();
            Endpoint::new(
                self.keys.endpoint_config(),
                Some(credentials.server_config().unwrap()),
                transport::bind(self.address).unwrap(),
                Arc::new(quinn::TokioRuntime),
            )
            .unwrap()
        };
        self.address = endpoint.local_addr().unwrap();
        let connections = self.connections.clone();
        let (cancelled, lanes) = (self.cancelled.clone(), self.lanes.clone());
        runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let Ok(connection) = incoming.await else {
                    continue;
                };
                connections.fetch_add(1, Ordering::SeqCst);
                let served = Served {
                    number,
                    handler: handler.clone(),
                    ring: ring.clone(),
                    cancelled: cancelled.clone(),
                    lanes: lanes.clone(),
                };
                tokio::spawn(serve(connection, served));
            }
        });
        self.runtime = Some(runtime);
    }
}

/// What one connection needs.
struct Served {
    number: usize,
    handler: Handler,
    ring: Arc<OnceLock<Ring>>,
    cancelled: Arc<AtomicUsize>,
    lanes: Lanes,
}

async fn serve(connection: Connection, served: Served) -> Option<()> {
    let number = served.number;
    tls::peer_identity(&connection).unwrap();
    let (mut send, mut receive) = connection.accept_bi().await.ok()?;
    let (queue, mut queued) = tokio::sync::mpsc::channel::<Bytes>(10_000);
    tokio::spawn(async move {
        while let Some(bytes) = queued.recv().await {
            send.write_chunk(bytes).await.ok()?;
        }
        Some(())
    });
    served.lanes.lock().unwrap().push(queue.clone());
    let mut reader = FrameReader::new();
    loop {
        while let Some(frame) = reader.next_frame().unwrap() {
            let id = frame.id;
            match react(&frame, &served) {
                Reaction::Answer(response) => queue.send(encode(&response, id)).await.ok()?,
                Reaction::Late(pause, response) => {
                    let queue = queue.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(pause).await;
                        queue.send(encode(&response, id)).await.ok()
                    });
                }
                Reaction::Silence => {
                    if frame.kind == kind::HELLO {
                        let reply = HelloReply::new(1, CLUSTER, format!("n{}", number + 1), 1);
                        let mut out = BytesMut::new();
                        frame::append(&mut out, kind::HELLO_REPLY, 0, &reply).unwrap();
                        queue.send(out.freeze()).await.ok()?;
                    }
                }
                Reaction::HangUp => {
                    connection.close(1_u32.into(), b"");
                    return None;
                }
                Reaction::Garbage => queue.send(Bytes::from_static(&[9; 64])).await.ok()?,
            }
        }
        let chunk = receive.read_chunk(usize::MAX, true).await.ok()??;
        reader.feed(chunk.bytes);
    }
}

fn react(frame: &Frame, served: &Served) -> Reaction {
    if frame.kind == kind::CANCEL {
        served.cancelled.fetch_add(1, Ordering::SeqCst);
        return Reaction::Silence;
    }
    if frame.kind == kind::HELLO {
        let hello: Hello = decode_body(&frame.body).unwrap();
        hello.agree(CLUSTER).unwrap();
        return Reaction::Silence;
    }
    match Request::decode(frame.kind, &frame.body).unwrap() {
        Request::Ring => Reaction::Answer(Response::Ring(RingReply {
            ring: served.ring.get().unwrap().to_bytes().into(),
            state: "stable".to_owned(),
        })),
        request => (served.handler)(served.number, &request),
    }
}

fn encode(response: &Response, id: u64) -> Bytes {
    let mut out = BytesMut::new();
    response.append_to(&mut out, id).unwrap();
    out.freeze()
}

/// One value for each key, for all nodes together; a context is the number of the write.
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<BTreeMap<Bytes, (u64, Bytes)>>>);

impl Store {
    pub fn answer(&self, request: &Request) -> Response {
        let mut values = self.0.lock().unwrap();
        match request {
            Request::Get(get) => Response::Got(match values.get(&get.key) {
                Some((count, value)) => GetReply {
                    siblings: vec![version(value)],
                    context: Some(context(*count)),
                    asked: 1,
                    answered: 1,
                    stand_ins: 0,
                },
                None => GetReply::default(),
            }),
            Request::Put(put) => {
                let count = values.get(&put.key).map_or(0, |(count, _)| *count);
                let stale = put.context.as_ref().is_some_and(|c| *c != context(count));
                let taken = put.condition == Condition::IfAbsent && count > 0;
                if stale || taken {
                    return error(ErrorCode::Conflict);
                }
                let value = put.value.clone().unwrap();
                values.insert(put.key.clone(), (count + 1, value));
                Response::Written(WriteReply {
                    context: context(count + 1),
                    ..WriteReply::default()
                })
            }
            _ => error(ErrorCode::NotAvailableYet),
        }
    }
}

fn context(count: u64) -> Bytes {
    Bytes::copy_from_slice(&count.to_be_bytes())
}

fn version(value: &Bytes) -> Version {
    Version {
        value: Some(value.clone()),
        ..Version::default()
    }
}

pub fn error(code: ErrorCode) -> Response {
    Response::Error(ErrorBody::new(
        code,
        format!("the test says {}", code.as_str()),
    ))
}
