//! Versions: which writes a replica knows of, which of them are live, and who may name a new one.
//!
//! A key's state is one [`Container`]: live versions by [`Dot`], and one [`Clock`] over everything
//! seen. Merging two containers ([`Container::sync`]) keeps a version unless the other side has
//! seen it and let it go. All of it rests on one sentence: *if a clock covers (a, n), then every
//! (a, m) with m < n was seen by the same state*, live in it or superseded. [`rules`] says when a
//! node must stop using an actor because it can no longer prove that sentence; [`coordinate`] and
//! [`receive`] are the only two places where a container changes on a replica.
//!
//! After "Dotted Version Vectors" (Preguiça, Baquero, Almeida, Fonte, Gonçalves), and the epoch
//! actors that Riak came to.
//!
//! Not decided here: where copies live, when they are durable, what the time is, who may write.
//! Time enters only to be shown to people, to hide expired values and to forget old operation
//! ids; it never orders versions, except in buckets whose owner chose that the last write wins
//! ([`Stamp`]).

mod clock;
pub(crate) mod codec;
mod container;
mod context;
mod dot;
mod mint;
pub mod rules;
mod stamp;
#[cfg(test)]
pub(crate) mod tests;

pub use clock::Clock;
pub use container::{Container, EqualDotsDiffer, RECENT_MAX, RECENT_WINDOW_MS, RecentOp, Sibling};
pub use context::{BadContext, Context, ContextKey, SEEN_MAX};
pub use dot::{Actor, Dot, OpId};
pub use mint::{
    Coordinated, EPOCH_LEASE, LeaseExhausted, Minter, ReceiveError, Received, Write, coordinate,
    coordinate_under, receive, receive_under,
};
pub use rules::Rule;
pub use stamp::Stamp;
