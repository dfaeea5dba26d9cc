//! How do I talk to it?
//!
//! The wire protocol, shared with the nodes, and (feature `quic`) the client.

pub mod wire;
