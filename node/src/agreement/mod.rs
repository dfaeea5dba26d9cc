//! One decision per epoch: single-decree Paxos (the Synod of Lamport, 1998).
//!
//! For every epoch its voters choose one value, whoever proposes and however often proposers fail.
//! An `Acceptor` remembers what it has promised and accepted; what it says may be sent only once
//! that memory is durable. A `Proposer` asks a majority what was accepted before it says what it
//! wants, and wants that instead if there is anything. Values are bytes here.
//!
//! Not decided here: what a value means, who votes, when to propose, how a decision spreads.

mod acceptor;
mod proposer;
#[cfg(test)]
mod tests;

pub(crate) use acceptor::Acceptor;
pub use acceptor::Vote;
pub(crate) use proposer::{Proposer, Turn};

/// Names one attempt to get a value chosen; no two attempts have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Higher ones end lower ones.
    pub round: u64,
    /// The directory of the proposer.
    pub uuid: u128,
    /// Its process: a directory that is opened again uses other ballots.
    pub boot: u64,
}
