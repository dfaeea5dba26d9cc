//! The judges: one file per promise.
//!
//! An oracle learns what clients learn, which dots nodes say they minted, what nodes say to each
//! other, and, where a promise speaks of disks, what lies synced on them. It never asks a machine
//! what it thinks, but for the ring that it has adopted. Each is
//! incremental: the cost of an event does not grow with the length of the run.

pub mod age;
pub mod bounds;
pub mod buckets;
pub mod care;
pub mod causality;
pub mod conditional;
pub mod contexts;
pub mod convergence;
pub mod covers;
pub mod durability;
pub mod expiry;
pub mod handover;
pub mod hints;
pub mod idempotence;
pub mod identity;
pub mod latest;
pub mod merkle;
pub mod moved;
pub mod outcome;
pub mod outside;
pub mod phantom;
pub mod reap;
pub mod rebuilt;
pub mod receipts;
pub mod ring;
pub mod session;
pub mod votes;

use std::fmt;

use crate::history::OpIndex;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The oracle that saw it and the promise it guards, for example `durability (P1)`.
    pub promise: &'static str,
    /// Simulated nanoseconds.
    pub at: u64,
    /// What happened.
    pub detail: String,
}

impl Broken {
    pub(crate) fn new(promise: &'static str, at: u64, detail: String) -> Self {
        Self {
            promise,
            at,
            detail,
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.at / 1_000_000_000, self.at % 1_000_000_000);
        let Self {
            promise, detail, ..
        } = self;
        write!(f, "{promise} broken at {seconds}.{nanos:09}: {detail}")
    }
}

/// What an oracle has to say.
pub type Ruling = Result<(), Broken>;

/// The versions that an answer lists, by operation.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The key.
    pub key: u32,
    /// When the answer was sent.
    pub at: u64,
    /// One entry per sibling.
    pub ops: Vec<OpIndex>,
}
