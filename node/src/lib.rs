//! What does a node do?
//!
//! Every protocol here is a synchronous state machine: a [`node::Node`] is told requests,
//! messages, completions and the time, and hands out messages, replies, store commands and events.
//!
//! # Architecture invariants
//!
//! 1. `ring` and `gossip` know no IO, no time source, no async.
//! 2. Only the shell names tokio, quinn, files and threads, or reads a clock; the engine adapter in
//!    [`store`] may touch files, behind the same feature.
//! 3. Nothing outside `wire`, `store::format`, `bucket` and `config` is serialised.
//! 4. Every queue, map and retry has a configured maximum.
//! 5. An ack implies a completed sync on that replica (when durability = sync).
//! 6. Any message may be lost, doubled, delayed or reordered without harm.
//! 7. A machine's behaviour is a function of its inputs and its seed.
//! 8. No iteration order of a hash map reaches an output.
//! 9. The simulator runs product code, never a mock of it.
//! 10. Formats on wire and disk carry a version and have golden tests.

pub mod agreement;
pub mod api;
pub mod bucket;
pub mod causality;
#[cfg(feature = "shell")]
pub mod cli;
#[cfg(feature = "shell")]
pub mod config;
mod coordinator;
mod core;
pub mod docs;
pub mod event;
mod forwards;
pub mod healing;
pub mod hedging;
mod hybrid;
pub mod identity;
pub mod joining;
pub mod limits;
pub mod message;
pub mod node;
mod peers;
mod places;
pub mod register;
mod replica;
pub mod request;
pub mod ring_message;
#[cfg(feature = "shell")]
pub mod shell;
pub mod store;
pub mod wire;
