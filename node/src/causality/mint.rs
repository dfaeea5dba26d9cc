//! The two ways in which a container changes on a replica: a write it coordinates, and a state it
//! receives.
//!
//! Both end an actor when [`rules`] say so, with an epoch from a lease that was made durable
//! beforehand. Nothing here is durable by itself: the caller acknowledges only after the returned
//! container is on disk, and may send it to other replicas at the same time, which is what rule 0
//! is for.

use bytes::Bytes;
use quorate_ring::NodeUuid;

use super::{
    clock::Clock,
    container::{Container, EqualDotsDiffer, Sibling},
    context::Context,
    dot::{Actor, Dot, OpId},
    rules::{self, Rule},
    stamp::Stamp,
};

/// Epochs leased at once; one durable write for so many new keys.
pub const EPOCH_LEASE: u64 = 10_000;

/// More are asked for when less than this is left.
const EPOCHS_LOW: u64 = EPOCH_LEASE / 5;

/// Gives out key epochs, each once, from a durable lease.
#[derive(Debug)]
pub struct Minter {
    uuid: NodeUuid,
    boot_epoch: u64,
    next: u64,
    lease_end: u64,
}

/// All leased epochs are used; the extension is not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all leased key epochs are used and the next lease is not durable yet")]
pub struct LeaseExhausted;

impl Minter {
    /// For a process that may use the epochs from `lease_start` up to, not including,
    /// `lease_end`. No earlier process of this directory may have been allowed any of them.
    ///
    /// # Panics
    ///
    /// If the lease begins with zero, which means *no epoch* in a clock.
    #[must_use]
    pub fn new(uuid: NodeUuid, lease_start: u64, lease_end: u64) -> Self {
        assert!(0 < lease_start, "epoch zero means none");
        Self {
            uuid,
            boot_epoch: lease_start,
            next: lease_start,
            lease_end,
        }
    }

    /// The directory epochs belong to.
    #[must_use]
    pub const fn uuid(&self) -> NodeUuid {
        self.uuid
    }

    /// The first epoch of this process; smaller ones belong to earlier processes.
    #[must_use]
    pub const fn boot_epoch(&self) -> u64 {
        self.boot_epoch
    }

    /// The first epoch that may not be used.
    #[must_use]
    pub const fn lease_end(&self) -> u64 {
        self.lease_end
    }

    /// Takes a fresh epoch.
    ///
    /// # Errors
    ///
    /// If the durable lease is used up.
    pub const fn take(&mut self) -> Result<u64, LeaseExhausted> {
        if self.lease_end <= self.next {
            return Err(LeaseExhausted);
        }
        let epoch = self.next;
        self.next += 1;
        Ok(epoch)
    }

    /// The end of a longer lease, once four fifths of this one are used. To be made durable, then
    /// passed to [`extended`](Self::extended).
    #[must_use]
    pub const fn wants_extension(&self) -> Option<u64> {
        if self.lease_end - self.next <= EPOCHS_LOW {
            Some(self.lease_end + EPOCH_LEASE)
        } else {
            None
        }
    }

    /// A longer lease is durable.
    ///
    /// # Panics
    ///
    /// If it is shorter than the one in use.
    pub fn extended(&mut self, lease_end: u64) {
        assert!(self.lease_end <= lease_end, "a lease never shrinks");
        self.lease_end = lease_end;
    }

    fn fresh(&mut self) -> Result<Dot, LeaseExhausted> {
        let epoch = self.take()?;
        let actor = Actor {
            uuid: self.uuid,
            epoch,
        };
        Ok(Dot { actor, n: 1 })
    }
}

/// One write, as its coordinator sees it.
#[derive(Clone, Debug)]
pub struct Write {
    /// The request's id.
    pub op: OpId,
    /// Hash of the request, to tell a retry from a reused id. Not zero.
    pub request_hash: u64,
    /// What the writer had seen; empty for a blind write.
    pub context: Context,
    /// The value; none deletes.
    pub value: Option<Bytes>,
    /// Unix milliseconds to show to people.
    pub written_at_ms: u64,
    /// When the value ceases to be visible.
    pub expires_at_ms: Option<u64>,
    /// Where the last write wins: the least stamp it may get.
    pub stamp: Option<Stamp>,
    /// Unix milliseconds now; decides only which operation ids are forgotten.
    pub now_ms: u64,
}

/// What became of a write at its coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coordinated {
    /// It has a dot.
    Minted {
        /// Its name.
        dot: Dot,
        /// The key's state with it, to be stored and sent whole.
        container: Container,
        /// The rule that demanded a new epoch.
        rule: Option<Rule>,
    },
    /// The same request was applied before; it may have been superseded since.
    AlreadyApplied,
    /// The id belongs to another request.
    OpIdReused,
    /// A new epoch was needed and none is left; nothing was done.
    LeaseExhausted,
}

/// Applies a write to what this node holds of its key; `local` is none if the key is absent or
/// unreadable.
#[must_use]
pub fn coordinate(local: Option<&Container>, minter: &mut Minter, write: Write) -> Coordinated {
    let clock = local.map(Container::clock);
    let rule = rules::coordinating(minter.uuid, minter.boot_epoch, clock, &write.context.clock);
    coordinate_under(rule, local, minter, write)
}

/// [`coordinate`] after the rules have spoken: a new epoch if there is a `rule`.
#[must_use]
pub fn coordinate_under(
    rule: Option<Rule>,
    local: Option<&Container>,
    minter: &mut Minter,
    write: Write,
) -> Coordinated {
    if let Some(hash) = local.and_then(|local| local.knows(write.op)) {
        return if hash == 0 || hash == write.request_hash {
            Coordinated::AlreadyApplied
        } else {
            Coordinated::OpIdReused
        };
    }
    if write.context.seen.contains(&write.op) {
        // The writer has read what this id wrote, so this is not a retry of it.
        return Coordinated::OpIdReused;
    }
    let fresh = match rule.map(|_| minter.fresh()).transpose() {
        Ok(fresh) => fresh,
        Err(LeaseExhausted) => return Coordinated::LeaseExhausted,
    };
    let seen = write.context.seen.len();
    let mut container = local.map_or_else(Container::new, |local| local.copy_to_write(seen));
    // Above everything that this state and the writer have seen.
    let before = container.stamp().max(write.context.stamp);
    let least = before.map(Stamp::next);
    let stamp = write
        .stamp
        .map(|stamp| least.map_or(stamp, |least| least.max(stamp)));
    container.discard(&write.context, write.now_ms);
    let dot = fresh.unwrap_or_else(|| next(container.clock(), minter.uuid));
    let sibling = Sibling {
        value: write.value,
        op: write.op,
        request_hash: write.request_hash,
        written_at_ms: write.written_at_ms,
        expires_at_ms: write.expires_at_ms,
        stamp,
    };
    if stamp.is_some() {
        container.add_latest(dot, sibling, write.now_ms);
    } else {
        container.add(dot, sibling);
    }
    Coordinated::Minted {
        dot,
        container,
        rule,
    }
}

/// The next dot of a node whose history of the key is unbroken.
fn next(clock: &Clock, uuid: NodeUuid) -> Dot {
    let (epoch, n) = clock.highest(uuid);
    let actor = Actor { uuid, epoch };
    Dot { actor, n: n + 1 }
}

/// A state merged into what this node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The key's state now.
    pub container: Container,
    /// True if it differs from what was held, and must be stored.
    pub changed: bool,
    /// True if it is what came in and nothing else.
    pub as_sent: bool,
    /// True if the sender knew more of this node than the node itself.
    pub rule3: bool,
}

/// Why a state was not merged. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The key must be set aside.
    #[error(transparent)]
    EqualDotsDiffer(#[from] EqualDotsDiffer),
    /// To be tried again when the lease is longer.
    #[error(transparent)]
    LeaseExhausted(#[from] LeaseExhausted),
}

/// Merges a state from elsewhere (a replica's write, a repair, a hint, a transfer) into what this
/// node holds; `local` is none if the key is absent or unreadable.
///
/// # Errors
///
/// If one dot names two versions, or a new epoch is needed and none is left.
pub fn receive(
    local: Option<&Container>,
    incoming: Container,
    minter: &mut Minter,
) -> Result<Received, ReceiveError> {
    let clock = local.map(Container::clock);
    let rule = rules::receiving(minter.uuid, clock, incoming.clock());
    receive_under(rule, local, incoming, minter)
}

/// [`receive`] after rule 3 has spoken.
///
/// # Errors
///
/// As [`receive`].
pub fn receive_under(
    rule: Option<Rule>,
    local: Option<&Container>,
    incoming: Container,
    minter: &mut Minter,
) -> Result<Received, ReceiveError> {
    // Ours into theirs, since theirs is mostly the newer one and then nothing is to be done.
    let mut container = incoming;
    let as_sent = match local {
        Some(local) => !container.sync(local)?,
        None => true,
    };
    let mut changed = match local {
        Some(local) => container != *local,
        None => !container.clock().is_empty(),
    };
    if rule.is_some() {
        // An entry that names no version: the next write here counts on from it.
        container.cover(minter.fresh()?);
        changed = true;
    }
    Ok(Received {
        container,
        changed,
        as_sent: as_sent && rule.is_none(),
        rule3: rule.is_some(),
    })
}
