//! What the replica's findings are called outside: to a peer that asked what is held, and when a
//! state was not merged.

use bytes::Bytes;

use super::{Address, Held, Refusal, Replica, Stored};
use crate::{
    causality::ReceiveError,
    message::{Message, ReplicaState, RpcId},
    store::format::{self, Record},
};

/// What a peer that asked is told; if the values have more bytes than it wants, without them. What
/// this node doubts itself is told whole: it does not count, but a reader who has seen it needs it.
pub(crate) fn fetched(
    id: RpcId,
    (address, held): (&Address, &Held),
    replica: &Replica,
    generation: u64,
    whole_max: Option<u32>,
) -> Message {
    let doubtful = !replica.counts;
    let mut brief = false;
    let (state, suspect) = match held {
        Held::Absent => (ReplicaState::Absent, doubtful),
        Held::Unreadable => (ReplicaState::Unreadable, true),
        Held::Present(stored) => {
            let suspect = doubtful || stored.record.suspect;
            brief = !suspect && whole_max.is_some_and(|max| is_larger(stored, max));
            let bytes = if brief {
                without_values(address, &stored.record)
            } else {
                stored.bytes.clone()
            };
            (ReplicaState::Present(bytes), suspect)
        }
    };
    Message::Fetched {
        id,
        state,
        suspect,
        brief,
        generation,
    }
}

/// True if the values have more bytes than that.
fn is_larger(stored: &Stored, max: u32) -> bool {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let values = || {
        let siblings = stored.record.container.siblings();
        let values = siblings.filter_map(|(_, sibling)| sibling.value.as_ref());
        values.map(Bytes::len).sum::<usize>()
    };
    max < stored.bytes.len() && max < values()
}

fn without_values(address: &Address, record: &Record) -> Bytes {
    let record = Record {
        container: record.container.without_values(),
        suspect: record.suspect,
    };
    format::encode(address.bucket.0, &address.key, &record)
}

pub(super) fn refusal(error: &ReceiveError) -> Refusal {
    match error {
        ReceiveError::EqualDotsDiffer(_) => Refusal::EqualDotsDiffer,
        ReceiveError::LeaseExhausted(_) => Refusal::Limit("epoch_lease"),
    }
}
