//! The way to one peer: dialled again and again, with a lane per class of messages.
//!
//! Messages flow one way per link; the peer has a link of its own back to us. While there is no
//! connection messages are dropped: any message may be lost, and stale ones would only be in the
//! way of fresh ones. Whether the peer is alive is not decided here.

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{Connection, Endpoint};
use quorate_client::{
    tls::{SERVER_NAME, TlsError},
    transport::close,
    wire::Hello,
};
use quorate_ring::Member;
use tokio::{
    net::lookup_host,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    HANDSHAKE_TIMEOUT,
    accept::code,
    frames::{Frames, GreetError},
    lane::{Lane, Refused},
    metrics::Metrics,
};
use crate::{
    message::{Class, Message},
    wire,
};

/// Control messages are small and few.
const CONTROL_BYTES_MAX: usize = 4 << 20;
/// What a slow peer may cost us; beyond it requests find other replicas.
const DATA_BYTES_MAX: usize = 32 << 20;
/// Background copies wait elsewhere.
const BULK_BYTES_MAX: usize = 16 << 20;
/// A message of such a size goes by the bulk lane, so that small ones need not wait behind it.
const LARGE_BYTES: usize = 128 << 10;
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// One peer, as seen by those who send.
#[derive(Debug)]
pub(super) struct Link {
    name: String,
    address: String,
    config: Mutex<quinn::ClientConfig>,
    hello: Hello,
    cluster: u128,
    control: Lane,
    data: Lane,
    bulk: Lane,
    connection: Mutex<Option<Connection>>,
    back: Notify,
    /// Another link leads there now.
    replaced: CancellationToken,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("cannot resolve {0}: {1}")]
    Resolve(String, io::Error),
    #[error("{0} has no address")]
    NoAddress(String),
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Greet(#[from] GreetError),
    #[error("no handshake within {HANDSHAKE_TIMEOUT:?}")]
    Silent,
}

impl Link {
    pub(super) fn new(
        name: String,
        address: String,
        config: quinn::ClientConfig,
        hello: Hello,
        cluster: u128,
    ) -> Self {
        Self {
            name,
            address,
            config: Mutex::new(config),
            hello,
            cluster,
            control: Lane::new(CONTROL_BYTES_MAX),
            data: Lane::new(DATA_BYTES_MAX),
            bulk: Lane::new(BULK_BYTES_MAX),
            connection: Mutex::new(None),
            back: Notify::new(),
            replaced: CancellationToken::new(),
        }
    }

    /// True if it leads to that node where it is now.
    pub(super) fn leads_to_member(&self, member: &Member) -> bool {
        self.name == member.name && self.address == member.address
    }

    /// Dials with other certificates from now on; a connection that exists stays.
    pub(super) fn renew(
        &self,
        config: impl FnOnce(&str) -> Result<quinn::ClientConfig, TlsError>,
    ) -> Result<(), TlsError> {
        let config = config(&self.name)?;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    fn config(&self) -> quinn::ClientConfig {
        let config = self.config.lock();
        config.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it for good.
    pub(super) fn replace(&self) {
        self.replaced.cancel();
    }

    /// Resolves once it is ended for good.
    pub(super) async fn is_replaced(&self) {
        self.replaced.cancelled().await;
    }

    /// True if it is the way to the node of that name.
    pub(super) fn leads_to(&self, name: &str) -> bool {
        self.name == name
    }

    /// Sends a message, or drops it and counts that.
    pub(super) fn send(&self, class: Class, message: &Message, metrics: &Metrics) {
        let (lane, name) = match class {
            Class::Gossip => return self.send_gossip(message, metrics),
            Class::Control => (&self.control, "control"),
            Class::Data => (&self.data, "data"),
            Class::Bulk => (&self.bulk, "bulk"),
        };
        let mut large = None;
        let pushed = lane.push(|buffer| {
            let start = buffer.len();
            wire::append(message, buffer)?;
            if class == Class::Data && LARGE_BYTES < buffer.len() - start {
                large = Some(buffer.split_off(start));
            }
            Ok(())
        });
        let pushed = match large {
            Some(frame) => self.bulk.push(|buffer| {
                buffer.unsplit(frame);
                Ok(())
            }),
            None => pushed,
        };
        match pushed {
            Ok(()) => {}
            Err(Refused::Closed | Refused::Full) => metrics.dropped(name),
            Err(Refused::Encode(error)) => {
                metrics.dropped(name);
                tracing::error!(to = self.name, %error, "a message cannot be sent");
            }
        }
    }

    /// As a datagram; the oldest are dropped first. One that is too large goes by the control lane.
    fn send_gossip(&self, message: &Message, metrics: &Metrics) {
        if let Message::Gossip(gossip) = message {
            metrics.gossip.sent(&gossip.kind);
        }
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(connection) = connection.as_ref() else {
            return metrics.dropped("gossip");
        };
        let Ok(frame) = wire::encode(message) else {
            return metrics.dropped("gossip");
        };
        let fits = connection
            .max_datagram_size()
            .is_some_and(|size| frame.len() <= size);
        if fits && connection.send_datagram(frame.clone()).is_ok() {
            return;
        }
        self.send_control(&frame, metrics);
    }

    fn send_control(&self, frame: &Bytes, metrics: &Metrics) {
        let pushed = self.control.push(|buffer| {
            buffer.extend_from_slice(frame);
            Ok(())
        });
        if pushed.is_err() {
            metrics.dropped("gossip");
        }
    }

    /// Where it leads, and how long a message takes there and back; none while it is not up.
    pub(super) fn round_trip(&self) -> Option<(String, Duration)> {
        let connection = self.connection.lock();
        let connection = connection.unwrap_or_else(PoisonError::into_inner);
        let rtt = connection.as_ref().map(Connection::rtt)?;
        Some((self.name.clone(), rtt))
    }

    /// The peer has just been heard of: dial now.
    pub(super) fn note_back(&self) {
        self.back.notify_one();
    }

    /// Keeps the link up for ever; to be dropped when the node stops.
    pub(super) async fn run(&self, endpoint: Endpoint) {
        let mut backoff = BACKOFF_FIRST;
        let mut told = false;
        loop {
            match self.dial(&endpoint).await {
                Ok((connection, control)) => {
                    tracing::info!(peer = self.name, address = self.address, "connected");
                    let since = Instant::now();
                    let reason = self.serve(connection, control).await;
                    tracing::info!(peer = self.name, %reason, "disconnected");
                    told = false;
                    if BACKOFF_MAX < since.elapsed() {
                        backoff = BACKOFF_FIRST;
                    }
                }
                // Once; what follows is the same until it changes.
                Err(error) if !told => {
                    told = true;
                    tracing::info!(peer = self.name, address = self.address, %error, "no link");
                }
                Err(error) => tracing::debug!(peer = self.name, %error, "no link"),
            }
            let jitter = backoff.mul_f64(spread(Instant::now()));
            // Whichever comes first; being told is cancel-safe.
            tokio::select! {
                biased;
                () = self.back.notified() => {}
                () = sleep(jitter) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn dial(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(Connection, (quinn::SendStream, Frames)), DialError> {
        let address = self.resolve().await?;
        let dialled = async {
            let connecting = endpoint.connect_with(self.config(), address, SERVER_NAME)?;
            let connection = connecting.await?;
            let (mut send, recv) = connection.open_bi().await?;
            let mut frames = Frames::new(recv);
            frames.greet(&mut send, &self.hello, self.cluster).await?;
            Ok((connection, (send, frames)))
        };
        timeout(HANDSHAKE_TIMEOUT, dialled)
            .await
            .unwrap_or(Err(DialError::Silent))
    }

    async fn resolve(&self) -> Result<SocketAddr, DialError> {
        if let Ok(address) = self.address.parse() {
            return Ok(address);
        }
        let found = lookup_host(&self.address).await;
        let mut found = found.map_err(|error| DialError::Resolve(self.address.clone(), error))?;
        found
            .next()
            .ok_or_else(|| DialError::NoAddress(self.address.clone()))
    }

    /// Writes lanes until the connection is gone; says why it is.
    async fn serve(
        &self,
        connection: Connection,
        (mut control, mut frames): (quinn::SendStream, Frames),
    ) -> String {
        let (Ok(mut data), Ok(mut bulk)) =
            (connection.open_uni().await, connection.open_uni().await)
        else {
            return "no streams".to_owned();
        };
        // Probes first, then requests, then what can wait.
        let _ = control.set_priority(2);
        let _ = data.set_priority(1);
        self.set_connection(Some(connection.clone()));
        let nothing = async {
            let mut unexpected = Vec::new();
            match frames.receive(&mut unexpected).await {
                Ok(_) => "the peer spoke on our link".to_owned(),
                Err(error) => error.to_string(),
            }
        };
        let reason = tokio::select! {
            biased;
            error = self.control.write_to(&mut control) => error.to_string(),
            error = self.data.write_to(&mut data) => error.to_string(),
            error = self.bulk.write_to(&mut bulk) => error.to_string(),
            reason = nothing => reason,
            reason = connection.closed() => reason.to_string(),
        };
        self.set_connection(None);
        for lane in [&self.control, &self.data, &self.bulk] {
            lane.close();
        }
        connection.close(code(close::REPLACED), b"another connection follows");
        reason
    }

    fn set_connection(&self, connection: Option<Connection>) {
        *self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

/// A factor from 0.5 to 1.5, so that nodes that lost each other do not dial in step.
fn spread(now: Instant) -> f64 {
    let noise = xxhash_rust::xxh3::xxh3_64(format!("{now:?}").as_bytes()) % 1_000;
    #[expect(clippy::cast_precision_loss, reason = "below a thousand")]
    let fraction = noise as f64 / 1_000.0;
    0.5 + fraction
}
