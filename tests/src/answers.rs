//! How much replicas answer to those who read.

use quorate_node::message::{Message, ReplicaState};

use crate::trace::weight;

/// Answers that were sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    /// With whole records.
    pub whole: u64,
    /// With records whose values are left out.
    pub brief: u64,
    /// Bytes of all of them, about.
    pub bytes: u64,
}

impl Answers {
    /// A node sends something.
    pub fn note(&mut self, message: &Message) {
        if let Message::Fetched { state, brief, .. } = message {
            let present = matches!(state, ReplicaState::Present(_));
            self.whole += u64::from(present && !brief);
            self.brief += u64::from(*brief);
            self.bytes += u64::try_from(weight(message)).expect("lengths fit 64 bits");
        }
    }
}
