//! Who may come in, and what they get.
//!
//! The handshake has proved a certificate of our cluster; here its role is held against the
//! protocol, and a node's name against the ring. Everything before that is bounded: the number of
//! connections and handshakes, and the time they may take. What a client may do is decided by the
//! node, from the [`Principal`] made here.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use quinn::{Connection, Endpoint, Incoming, VarInt};
use quorate_client::{
    tls::{Alpn, Identity, Role as CertificateRole, TlsError, peer_identity},
    transport::close,
    wire::{FrameReader, Hello},
};
use quorate_ring::NodeId;
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    HANDSHAKE_TIMEOUT,
    frames::{Frames, GreetError, ReceiveError},
    host::{Host, decode},
    join,
    lane::Lane,
};
use crate::message::{Principal, Role};

/// Accepted connections at a time, clients and peers together.
const CONNECTIONS_MAX: usize = 8_192;
/// Handshakes in progress from which new ones must first prove their address.
const HANDSHAKES_BEFORE_RETRY: usize = 64;
/// Answers waiting for a client that does not read; beyond it the connection goes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// While more than this waits for a client, its requests are not read.
const ANSWER_BYTES_PAUSE: usize = 4 << 20;
/// A client's first stream is followed by at most so many more.
const CLIENT_STREAMS_MAX: u32 = 64;
const PEER_STREAMS_MAX: u32 = 8;

/// Accepts connections.
#[derive(Clone)]
pub(super) struct Acceptor {
    pub(super) host: Arc<Host>,
    pub(super) me: NodeId,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) handshakes: Arc<AtomicUsize>,
}

/// Why a connection was turned away.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("node {0:?} has not joined this cluster")]
    NotAMember(String),
    #[error(transparent)]
    Greet(#[from] GreetError),
    #[error("no hello within {HANDSHAKE_TIMEOUT:?}")]
    Silent,
}

/// Counts down when dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A close code as the transport wants it.
pub(super) fn code(code: u32) -> VarInt {
    VarInt::from_u32(code)
}

impl Acceptor {
    /// Until the node stops.
    pub(super) async fn run(self, endpoint: Endpoint) {
        loop {
            // Biased: stopping comes first. Accepting is cancel-safe.
            let incoming = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                incoming = endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else {
                return;
            };
            if CONNECTIONS_MAX <= self.connections.load(Ordering::Relaxed) {
                self.host.metrics.refused("connections");
                incoming.refuse();
                continue;
            }
            let many = HANDSHAKES_BEFORE_RETRY <= self.handshakes.load(Ordering::Relaxed);
            if many && incoming.may_retry() {
                // It was just asked whether it may.
                let _ = incoming.retry();
                continue;
            }
            let acceptor = self.clone();
            self.tasks
                .spawn(async move { Box::pin(acceptor.handle(incoming)).await });
        }
    }

    async fn handle(self, incoming: Incoming) {
        let address = incoming.remote_address();
        let counted = Counted::new(&self.connections);
        let handshake = Counted::new(&self.handshakes);
        let connected = timeout(HANDSHAKE_TIMEOUT, self.handshake(incoming)).await;
        drop(handshake);
        let outcome = match connected {
            Ok(Ok((connection, identity, alpn))) => match alpn {
                Alpn::Peer => self.peer(&connection, &identity).await,
                Alpn::Client => self.client(&connection, &identity).await,
            },
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Err(Refusal::Silent),
        };
        drop(counted);
        if let Err(refusal) = outcome {
            tracing::info!(%address, %refusal, "connection refused");
        }
    }

    async fn handshake(&self, incoming: Incoming) -> Result<(Connection, Identity, Alpn), Refusal> {
        let connection = incoming.await?;
        match peer_identity(&connection) {
            Ok((identity, alpn)) => Ok((connection, identity, alpn)),
            Err(error) => {
                connection.close(code(close::ROLE), error.to_string().as_bytes());
                Err(error.into())
            }
        }
    }

    async fn hello(
        &self,
        connection: &Connection,
    ) -> Result<(Hello, (quinn::SendStream, Frames)), Refusal> {
        let host = &self.host;
        let greeted = async {
            let (mut send, recv) = connection.accept_bi().await?;
            let mut frames = Frames::new(recv);
            let epoch = host.ring_epoch();
            let hello = frames
                .welcome(&mut send, host.cluster, &host.name, epoch)
                .await?;
            Ok((hello, (send, frames)))
        };
        let greeted = timeout(HANDSHAKE_TIMEOUT, greeted)
            .await
            .unwrap_or(Err(Refusal::Silent));
        if let Err(refusal) = &greeted {
            connection.close(code(close::HELLO), refusal.to_string().as_bytes());
        }
        greeted
    }

    async fn peer(&self, connection: &Connection, identity: &Identity) -> Result<(), Refusal> {
        let id = NodeId::of_name(&identity.name);
        let (hello, (send, control)) = self.hello(connection).await?;
        if hello.joins {
            let answer = join::answer(&self.host, &identity.name, (send, control));
            let answered = timeout(2 * HANDSHAKE_TIMEOUT, answer).await;
            return answered.unwrap_or(Ok(())).map_err(Refusal::Greet);
        }
        let link = self.host.link(id);
        let Some(link) = link.filter(|link| link.leads_to(&identity.name) && id != self.me) else {
            connection.close(code(close::ROLE), b"not a member of the cluster");
            return Err(Refusal::NotAMember(identity.name.clone()));
        };
        // Open for as long as the connection: the other side knows by it that we are there.
        let _send = send;
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(1));
        connection.set_max_concurrent_uni_streams(VarInt::from_u32(PEER_STREAMS_MAX));
        link.note_back();
        self.host.metrics.connected("peer", 1);
        self.spawn_peer_lane(connection, id, control);
        loop {
            // Whatever comes first; all are cancel-safe.
            tokio::select! {
                biased;
                datagram = connection.read_datagram() => match datagram {
                    Ok(datagram) => self.datagram(id, datagram),
                    Err(_) => break,
                },
                stream = connection.accept_uni() => match stream {
                    Ok(stream) => self.spawn_peer_lane(connection, id, Frames::new(stream)),
                    Err(_) => break,
                },
            }
        }
        self.host.metrics.connected("peer", -1);
        Ok(())
    }

    fn datagram(&self, from: NodeId, datagram: Bytes) {
        let mut reader = FrameReader::new();
        reader.feed(datagram);
        if let Ok(Some(frame)) = reader.next_frame()
            && let Some(message) = decode(&frame, &self.host.metrics)
        {
            self.host.messages(&mut vec![message], from);
        }
    }

    fn spawn_peer_lane(&self, connection: &Connection, from: NodeId, mut lane: Frames) {
        let host = self.host.clone();
        let connection = connection.clone();
        self.tasks.spawn(async move {
            let mut frames = Vec::new();
            let mut messages = Vec::new();
            let ended = loop {
                match lane.receive(&mut frames).await {
                    Ok(true) => {}
                    Ok(false) => break None,
                    Err(error) => break Some(error),
                }
                let decoded = frames.drain(..);
                messages.extend(decoded.filter_map(|frame| decode(&frame, &host.metrics)));
                host.messages(&mut messages, from);
            };
            close_if_garbage(&connection, ended);
        });
    }

    async fn client(&self, connection: &Connection, identity: &Identity) -> Result<(), Refusal> {
        let principal = Arc::new(Principal {
            name: identity.name.clone(),
            role: match identity.role {
                CertificateRole::Read => Role::Read,
                CertificateRole::Write => Role::Write,
                // Nodes are not admitted here.
                CertificateRole::Admin | CertificateRole::Node => Role::Admin,
            },
        });
        let (_, (send, frames)) = self.hello(connection).await?;
        connection.set_max_concurrent_bi_streams(VarInt::from_u32(CLIENT_STREAMS_MAX));
        connection.set_max_concurrent_uni_streams(VarInt::from_u32(0));
        self.host.metrics.connected("client", 1);
        let lane = self.spawn_client_lane(connection, &principal, send, frames);
        self.host.clients.add(&lane);
        while let Ok((send, recv)) = connection.accept_bi().await {
            self.spawn_client_lane(connection, &principal, send, Frames::new(recv));
        }
        self.host.metrics.connected("client", -1);
        Ok(())
    }

    fn spawn_client_lane(
        &self,
        connection: &Connection,
        principal: &Arc<Principal>,
        mut send: quinn::SendStream,
        mut requests: Frames,
    ) -> Arc<Lane> {
        let lane = Arc::new(Lane::new(ANSWER_BYTES_MAX));
        lane.open();
        let writer = lane.clone();
        let gone = connection.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                _ = writer.write_to(&mut send) => {}
                () = writer.given_up() => {
                    gone.close(code(close::PROTOCOL), b"answers are not read");
                }
                _ = gone.closed() => {}
            }
            writer.close();
        });
        let (host, answers) = (self.host.clone(), lane.clone());
        let principal = principal.clone();
        let connection = connection.clone();
        self.tasks.spawn(async move {
            let mut frames = Vec::new();
            let ended = loop {
                match requests.receive(&mut frames).await {
                    Ok(true) => host.requests(&mut frames, &answers, &principal),
                    Ok(false) => break None,
                    Err(error) => break Some(error),
                }
                if ANSWER_BYTES_PAUSE < answers.backlog() {
                    answers.drained(ANSWER_BYTES_PAUSE).await;
                }
            };
            close_if_garbage(&connection, ended);
        });
        lane
    }
}

/// A stream of something else than frames ends the whole connection.
fn close_if_garbage(connection: &Connection, ended: Option<ReceiveError>) {
    match ended {
        Some(error @ (ReceiveError::Frame(_) | ReceiveError::Torn)) => {
            let address = connection.remote_address();
            tracing::info!(%address, %error, "connection closed: not our protocol");
            connection.close(code(close::PROTOCOL), error.to_string().as_bytes());
        }
        Some(ReceiveError::Read(_)) | None => {}
    }
}
