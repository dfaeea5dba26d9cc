//! How replicas become equal without anybody reading or writing.
//!
//! A `Mechanism` finds out where two replicas of a key differ and brings them together. It is
//! told every change of a stored record, what peers say, what its own store and replica have done,
//! and the time. Whatever it finds it may only *merge*, through the replica's own path: it never
//! decides which copy is right, causality does. `anti_entropy` with its Merkle trees is one; a
//! log of recent dots would be another, and nothing outside of this trait would change.
//!
//! Not decided here: hints, read repair, and what becomes of records that cannot be read.

pub(crate) mod anti_entropy;
pub mod care;
pub(crate) mod expiry;
pub(crate) mod governor;
pub mod hints;
pub(crate) mod inspect;
pub mod merkle;
pub mod message;
pub mod reap;
pub(crate) mod scrub;

use std::fmt;

use bytes::Bytes;
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use crate::{
    core::Core,
    healing::{
        care::ScrubProgress,
        message::{PairReport, TreeMessage},
    },
    message::RpcId,
    replica::{Address, Change, Done},
    store::{Ticket, Unreadable},
};

/// What a scan found.
pub(crate) type Found<'a> = &'a Result<Vec<(Bytes, Bytes)>, Unreadable>;

/// How full a mechanism's tables are: (name, now, most).
pub(crate) type Load = Vec<(&'static str, usize, usize)>;

/// One way to bring replicas together in the background.
pub(crate) trait Mechanism: fmt::Debug + Send {
    /// A record has changed, durably as far as this node's writes are durable.
    fn changed(&mut self, core: &Core, change: Change);

    /// A record of this token cannot be read, or does not speak for its key.
    fn doubted(&mut self, token: u64);

    /// A peer asks or answers.
    fn message(&mut self, core: &mut Core, from: NodeId, id: RpcId, message: TreeMessage);

    /// A job it gave to the replica is done.
    fn done(&mut self, core: &mut Core, task: u64, address: &Address, done: Done);

    /// A scan is complete. False if it did not ask for it.
    fn scanned(&mut self, core: &mut Core, ticket: Ticket, items: Found<'_>, more: bool) -> bool;

    /// A peer is back, and may have missed something.
    fn peer_up(&mut self, core: &mut Core, peer: NodeId);

    /// Time has passed; early calls change nothing.
    fn timeout(&mut self, core: &mut Core);

    /// When it wants to be called.
    fn poll_timeout(&self) -> Instant;

    /// How it stands with each peer.
    fn pairs(&self, me: NodeId, now: Instant) -> Vec<PairReport>;

    /// How far the scrub is, which begins a pass now if somebody wishes for one.
    fn scrub(&mut self, core: &Core, begin: bool) -> ScrubProgress;

    /// How full its tables are.
    fn load(&self) -> Load;

    /// Compares its own books with what a store holds; says what differs. None also while it is
    /// not ready to be compared.
    fn audit(&self, core: &Core, objects: &[(Bytes, Bytes)]) -> Option<String>;

    /// True if its books cover everything stored.
    fn is_ready(&self) -> bool;
}
