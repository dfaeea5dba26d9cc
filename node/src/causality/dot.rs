//! Names: of a history a node is sure of, of one write, and of one request.
//!
//! A dot is given out once and never again, whatever is lost or restored; see [`super::rules`].

use std::fmt;

use quorate_ring::NodeUuid;

/// One unbroken history of one key at one node. A node that can no longer prove that its history
/// of a key is unbroken goes on under a new epoch, which makes it another actor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor {
    /// The data directory that mints.
    pub uuid: NodeUuid,
    /// Taken from a durable lease of that directory; greater than zero.
    pub epoch: u64,
}

/// The unique name of one write to one key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who minted it.
    pub actor: Actor,
    /// Counts the actor's writes to this key, from one.
    pub n: u64,
}

/// The unique name of one request to write, however often it is retried and wherever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// Hash of the name in the client's certificate: ids of different clients never meet.
    pub principal: u64,
    /// The client's own 128 bits.
    pub id: u128,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uuid, self.epoch)
    }
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.uuid, self.epoch)
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Actor { uuid, epoch } = self.actor;
        write!(f, "{uuid}:{epoch}:{}", self.n)
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.actor, self.n)
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.id)
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}/{:x}", self.principal, self.id)
    }
}
