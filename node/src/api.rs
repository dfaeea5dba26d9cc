//! The four verbs' vocabulary: what goes into a node and what comes out.
//!
//! A [`Node`](crate::node::Node) is told requests, messages, completions and the time; it answers
//! with [`Output`]s and the next instant at which it wants to be woken. It never awaits.

use quorate_client::wire::Response;
use quorate_gossip::Instant;
use quorate_ring::{Member, NodeId};

use crate::{
    event::Event,
    message::{Class, Message},
    store::Command,
};

/// The time, as far as a machine may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Never goes back; measures waiting.
    pub mono: Instant,
    /// Unix milliseconds; may jump. Shown to people and compared with expiry instants, never used
    /// to order writes.
    pub wall_ms: u64,
}

/// Names one client request to this node; the reply carries it back. Unique per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something the node wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send a message; it may be lost, doubled, late or overtaken.
    Send {
        /// The receiver.
        to: NodeId,
        /// Which lane.
        class: Class,
        /// What to say.
        message: Message,
    },
    /// Answer a client; exactly one per request.
    Reply {
        /// The request.
        id: RequestId,
        /// Its answer.
        response: Response,
    },
    /// Keep a connection to this node from now on, instead of to where it was before.
    Meet(Member),
    /// Keep no connection to this node any more.
    Part(NodeId),
    /// Work for the store: exactly one completion comes back, or the process dies.
    Store(Command),
    /// For logs, metrics and oracles; never for logic.
    Event(Event),
}
