//! What the replica's findings are called outside: to a peer that asked what is held, and when a
//! state was not merged.

use super::{Held, Refusal, Replica};
use crate::{
    causality::ReceiveError,
    message::{Message, ReplicaState, RpcId},
};

/// What a peer that asked is told.
pub(crate) fn fetched(id: RpcId, held: &Held, replica: &Replica, generation: u64) -> Message {
    let doubtful = !replica.counts;
    let (state, suspect) = match held {
        Held::Absent => (ReplicaState::Absent, doubtful),
        Held::Unreadable => (ReplicaState::Unreadable, true),
        Held::Present(stored) => (
            ReplicaState::Present(stored.bytes.clone()),
            doubtful || stored.record.suspect,
        ),
    };
    Message::Fetched {
        id,
        state,
        suspect,
        generation,
    }
}

pub(super) fn refusal(error: &ReceiveError) -> Refusal {
    match error {
        ReceiveError::EqualDotsDiffer(_) => Refusal::EqualDotsDiffer,
        ReceiveError::LeaseExhausted(_) => Refusal::Limit("epoch_lease"),
    }
}
