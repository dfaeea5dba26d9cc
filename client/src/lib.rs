//! How do I talk to it?
//!
//! The wire protocol, shared with the nodes, and (feature `quic`) the client with the certificates
//! and QUIC settings that nodes use too. Nothing here decides what a request means.

#[cfg(feature = "quic")]
pub mod tls;
#[cfg(feature = "quic")]
pub mod transport;
pub mod wire;
