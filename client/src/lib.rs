//! How do I talk to it?
//!
//! The wire protocol, shared with the nodes, and (feature `quic`) the client with the certificates
//! and QUIC settings that nodes use too. The client knows the ring and asks the replica of a key
//! that will answer soonest; it asks a second one where the first is slow, tries again where that
//! is safe, and takes back what nobody waits for. Nothing here decides what a request means.
//!
#![cfg_attr(
    feature = "quic",
    doc = r#"
```no_run
# async fn example() -> Result<(), Box<dyn std::error::Error>> {
use quorate_client::{Client, Profile};

let client = Client::connect(&Profile::find()?).await?;
client.put("default", "k", "v").send().await?;
let got = client.get("default", "k").send().await?;
assert_eq!(got.value().map(|value| &value[..]), Some(&b"v"[..]));
# Ok(())
# }
```
"#
)]

#[cfg(feature = "quic")]
pub mod blocking;
#[cfg(feature = "quic")]
mod call;
#[cfg(feature = "quic")]
mod client;
#[cfg(feature = "quic")]
mod dial;
#[cfg(feature = "quic")]
mod error;
#[cfg(feature = "quic")]
mod lane;
#[cfg(feature = "quic")]
mod latency;
#[cfg(feature = "quic")]
mod link;
#[cfg(feature = "quic")]
mod ops;
#[cfg(feature = "quic")]
mod pending;
#[cfg(feature = "quic")]
mod pool;
#[cfg(feature = "quic")]
mod profile;
#[cfg(feature = "quic")]
mod retry;
#[cfg(feature = "quic")]
mod routing;
#[cfg(feature = "quic")]
mod session;
#[cfg(feature = "quic")]
mod table;
#[cfg(feature = "quic")]
pub mod tls;
#[cfg(feature = "quic")]
pub mod transport;
#[cfg(feature = "quic")]
mod value;
pub mod wire;

#[cfg(feature = "quic")]
pub use crate::{
    client::{Client, Options, RingInfo, TIMEOUT},
    error::{ConnectError, Outcome, ReadError, Retry, UpdateError, WriteError},
    ops::{Delete, Explain, Get, GetMany, Got, Keys, Put, PutItem, PutMany, PutOutcome, Written},
    pool::Routing,
    profile::{Profile, ProfileError},
    session::Session,
    value::{Context, OpId, TextError},
};
