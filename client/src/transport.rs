//! QUIC settings, the same for every program of ours.
//!
//! Decides windows, timeouts, keys and socket buffers. The defaults of the library are for the
//! open internet and for one process life: they would let one connection pin unbounded memory,
//! and would let a peer talk to a killed and restarted node for half a minute without noticing.

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::{
    HashedConnectionIdGenerator,
    crypto::{CryptoError, HmacKey},
};
use rustls::crypto::{SecureRandom, ring};
use socket2::{Domain, Protocol, Socket, Type};

/// Most bytes a connection may have in flight towards us.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Most bytes one stream may have in flight towards us. A lane is one stream: it gets half.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Most bytes a connection may hold of ours, sent and not yet acknowledged.
const SEND_WINDOW_BYTES: u64 = 16 << 20;
/// Lanes are few and live long; this is room for them and for mistakes.
const STREAMS_MAX: u32 = 64;
/// Round trips within a data centre, until measured.
const INITIAL_RTT: Duration = Duration::from_millis(50);
const CLIENT_IDLE: Duration = Duration::from_secs(30);
const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(10);
const PEER_IDLE: Duration = Duration::from_secs(5);
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Room for datagrams that nobody reads; the oldest are dropped first.
const DATAGRAM_BUFFER_BYTES: usize = 256 << 10;
/// Bursts of many connections must fit; the kernel may grant less.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// Why a connection was closed, as a number the other side can read.
pub mod close {
    /// The process is ending in good order.
    pub const SHUTDOWN: u32 = 1;
    /// The certificate's role does not fit.
    pub const ROLE: u32 = 2;
    /// Hello did not lead to an agreement.
    pub const HELLO: u32 = 3;
    /// What came was no frame, or no frame that may come here.
    pub const PROTOCOL: u32 = 4;
    /// A newer connection of the same peer replaces it, or it has gone silent.
    pub const REPLACED: u32 = 5;
}

fn common(idle: Duration) -> TransportConfig {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(idle).expect("a few seconds are a valid timeout");
    config
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        .max_idle_timeout(Some(idle))
        .initial_rtt(INITIAL_RTT)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
        // Without it each packet is a system call: two to three times the processor time.
        .enable_segmentation_offload(true);
    config
}

/// For a client's connection to a node.
#[must_use]
pub fn client() -> TransportConfig {
    let mut config = common(CLIENT_IDLE);
    config.keep_alive_interval(Some(CLIENT_KEEP_ALIVE));
    config
}

/// For a node's connection to a node.
#[must_use]
pub fn peer() -> TransportConfig {
    let mut config = common(PEER_IDLE);
    config.keep_alive_interval(Some(PEER_KEEP_ALIVE));
    config
}

/// For accepted connections. The dialling side keeps them alive, and if it wants to hear of silence
/// sooner than this side does, its shorter limit holds for both.
#[must_use]
pub fn server() -> TransportConfig {
    common(CLIENT_IDLE)
}

/// What an endpoint must remember across restarts: a process that starts again under the same
/// keys can tell peers at once that their connections are gone. Secret.
#[derive(Clone)]
pub struct EndpointKeys([u8; Self::BYTES]);

impl EndpointKeys {
    /// Bytes to keep.
    pub const BYTES: usize = 40;

    /// Keys read from where they were kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// New keys.
    ///
    /// # Errors
    ///
    /// If the system has no randomness to give.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; Self::BYTES];
        fill_random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes to keep.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Settings of an endpoint that uses these keys.
    #[must_use]
    pub fn endpoint_config(&self) -> EndpointConfig {
        let [reset @ .., c0, c1, c2, c3, c4, c5, c6, c7] = self.0;
        let ids = u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]);
        let mut config = EndpointConfig::new(Arc::new(ResetKey(reset)));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        config
    }
}

impl fmt::Debug for EndpointKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointKeys(..)")
    }
}

/// Makes the tokens by which a peer recognises a stateless reset.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature = blake3::Hash::from_slice(signature).map_err(|_| CryptoError)?;
        // This comparison takes the same time wherever the first difference lies.
        if blake3::keyed_hash(&self.0, data) == signature {
            Ok(())
        } else {
            Err(CryptoError)
        }
    }
}

/// Fills `bytes` with randomness of the system.
pub(crate) fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let source: &dyn SecureRandom = ring::default_provider().secure_random;
    source
        .fill(bytes)
        .map_err(|_| io::Error::other("the system has no randomness to give"))
}

/// Opens a UDP socket with large buffers; the kernel may grant less than is asked for.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Smaller buffers cost speed under bursts, nothing else.
    for result in [
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES),
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES),
    ] {
        if let Err(error) = result {
            tracing::debug!(%error, "the socket keeps its default buffers");
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_keys_sign_alike_and_others_do_not() {
        let (one, same, other) = (ResetKey([1; 32]), ResetKey([1; 32]), ResetKey([2; 32]));
        let mut signature = [0; 32];
        one.sign(b"connection", &mut signature);
        assert!(same.verify(b"connection", &signature).is_ok());
        assert!(other.verify(b"connection", &signature).is_err());
        assert!(one.verify(b"another", &signature).is_err());
        assert!(one.verify(b"connection", &signature[..16]).is_err());
    }

    #[test]
    fn keys_do_not_show_in_logs() {
        let keys = EndpointKeys::random().unwrap();
        assert_eq!(format!("{keys:?}"), "EndpointKeys(..)");
        assert_ne!(keys.as_bytes(), EndpointKeys::random().unwrap().as_bytes());
    }
}
