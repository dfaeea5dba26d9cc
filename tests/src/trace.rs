//! The fingerprint of a run, and its story.
//!
//! Every event of the world is folded into one running hash, so that two runs of a seed can be
//! compared by a number; with tracing on, each is also printed with its simulated time. The hash
//! depends on what messages say and not on their encoding: a run with encoding and one without
//! must agree.

use std::{fmt, io::Write as _};

use bytes::Bytes;
use quorate_node::{
    message::{Message, ReplicaState, RpcId},
    ring_message::RingMessage,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The running hash.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    print: bool,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(print: bool) -> Self {
        Self {
            hash: 0x9e37_79b9_7f4a_7c15,
            events: 0,
            print,
        }
    }

    /// Whether lines are printed; making them is not free.
    #[must_use]
    pub const fn prints(&self) -> bool {
        self.print
    }

    /// Folds one event in.
    pub fn mix(&mut self, time: u64, place: u64, what: u64) {
        self.events += 1;
        let mut hash = self.hash ^ time;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29) ^ place;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53).rotate_left(31) ^ what;
        self.hash = hash.wrapping_mul(0x9fb2_1c65_1e98_df25);
    }

    /// Prints a line if lines are printed.
    pub fn line(&self, time: u64, line: fmt::Arguments<'_>) {
        if self.print {
            let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
            // A reader that has gone away is no reason to stop.
            let _ = writeln!(std::io::stdout(), "{seconds:4}.{nanos:09} {line}");
        }
    }

    /// The hash so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// Events so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }
}

/// What a message says, in a number that does not depend on its encoding.
#[must_use]
pub fn fingerprint(message: &Message) -> u64 {
    match message {
        Message::Forward { id, write, .. } => name(1, *id, &write.op_id),
        Message::Forwarded { id, .. } => name(2, *id, &[]),
        Message::Replicate { id, record, .. } => name(3, *id, record),
        Message::Replicated { id, .. } => name(4, *id, &[]),
        Message::Fetch { id, key, .. } => name(5, *id, key),
        Message::Fetched { id, state, .. } => match state {
            ReplicaState::Absent => name(6, *id, &[]),
            ReplicaState::Present(record) => name(7, *id, record),
            ReplicaState::Unreadable => name(8, *id, &[]),
        },
        Message::Scan { id, .. } => name(9, *id, &[]),
        Message::Scanned { id, .. } => name(10, *id, &[]),
        Message::Catalogue { id, catalogue } => name(11, *id, catalogue),
        Message::CatalogueStored { id, .. } => name(12, *id, &[]),
        Message::Status { id, .. } => name(13, *id, &[]),
        Message::StatusReport { id, .. } => name(14, *id, &[]),
        Message::Tree { id, body } => {
            let weight = body.weight() as u64;
            name(25, *id, &weight.to_le_bytes())
        }
        Message::Hint { id, body } => {
            let weight = body.weight() as u64;
            name(27, *id, &weight.to_le_bytes())
        }
        Message::Care { id, body } => {
            let weight = body.weight() as u64;
            name(28, *id, &weight.to_le_bytes())
        }
        Message::Reap { id, body } => name(29, *id, format!("{body:?}").as_bytes()),
        Message::Members { id, members } => name(26, *id, members),
        Message::Greet { id, who, .. } => name(27, *id, &who.lives.newest().1.to_le_bytes()),
        Message::Greeted { id, mark, .. } => name(28, *id, &mark.to_le_bytes()),
        Message::Gossip(_) => 15,
        Message::Ring { id, .. } => name(16, *id, &[]),
    }
}

/// The first bytes of a record hold the checksum of all of it.
fn name(kind: u64, id: RpcId, bytes: &[u8]) -> u64 {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    xxh3_64_with_seed(
        head,
        id.0.rotate_left(8) ^ kind ^ (bytes.len() as u64) << 32,
    )
}

const HEAD_BYTES: usize = 64;

/// About how many bytes a message takes on a link; as the fingerprint, without encoding it.
#[must_use]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all that carries no record is about equally small"
)]
pub fn weight(message: &Message) -> usize {
    HEAD_BYTES
        + match message {
            Message::Replicate { key, record, .. } => key.len() + record.len(),
            Message::Fetched {
                state: ReplicaState::Present(record),
                ..
            } => record.len(),
            Message::Forward { write, .. } => {
                let parts = [&write.value, &write.context];
                parts.into_iter().flatten().map(Bytes::len).sum()
            }
            Message::Tree { body, .. } => body.weight(),
            Message::Hint { body, .. } => body.weight(),
            Message::Care { body, .. } => body.weight(),
            Message::Ring {
                message: RingMessage::Page { items, .. },
                ..
            } => items.iter().map(|item| item.record.len()).sum(),
            _ => HEAD_BYTES,
        }
}
