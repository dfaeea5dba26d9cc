//! What replicas, and those who stand in for some, answer to a read.
//!
//! An answer that was read before something was reaped is none; what arrives damaged, or bears a
//! stamp that nobody believes, does not count.

use std::sync::Arc;

use bytes::Bytes;
use quorate_ring::NodeId;

use super::{Asked, ReadOp, brief::Known};
use crate::{
    causality::Container,
    coordinator::{Answer, Flow},
    core::Core,
    event::Event,
    healing::hints::message::HintMessage,
    message::{Message, ReplicaState},
    replica::Stored,
    store::format::{self, Record},
};

impl ReadOp {
    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        let Some(&Asked::Waiting { whole, .. }) = self.asked.get(&from) else {
            return self.wait();
        };
        let (state, suspect, brief) = match answer {
            Answer::Fetched { generation, .. }
                if generation < core.generation(self.address.token) =>
            {
                // As good as none: it may be what has been reaped since.
                core.tell_behind(from, self.address.token);
                return self.wait();
            }
            Answer::Fetched {
                state,
                suspect,
                brief,
                ..
            } => (state, suspect, brief),
            Answer::Stale => {
                self.ask(core, from, whole);
                return self.wait();
            }
            Answer::Other(message) => return self.answer_of_stand_in(core, from, *message),
            Answer::Replicated(_) | Answer::Forwarded(_) => return self.wait(),
        };
        if brief && whole {
            // It was asked again since, for what this leaves out.
            return self.wait();
        }
        self.answered(core, from);
        if brief && suspect {
            // What does not count is of use only as a whole, and nobody sends it otherwise.
            return self.failed(core, from);
        }
        let counts = !suspect || self.heals_by(core, &state);
        match state {
            ReplicaState::Absent => self.took(core, from, Known::Nothing, counts),
            ReplicaState::Present(bytes) => {
                if let Some(stored) = self.has_same(&bytes) {
                    return self.took(core, from, Known::Whole(stored), counts);
                }
                match format::decode(self.address.bucket.0, &self.address.key, &bytes) {
                    Ok(record) if is_too_far_ahead(core, &record) => self.failed(core, from),
                    Ok(record) => {
                        let known = if brief {
                            Known::Brief(Box::new(record))
                        } else {
                            Known::Whole(Arc::new(Stored::new(record, bytes)))
                        };
                        self.took(core, from, known, counts)
                    }
                    Err(_) => {
                        core.event(Event::DamagedMessage { from });
                        self.failed(core, from)
                    }
                }
            }
            ReplicaState::Unreadable => self.failed(core, from),
        }
    }

    /// Whether a state that its own node doubts is enough for healing a damaged record. What it
    /// lacks was lost there as well, and is with one of the others, who are all asked, or nowhere.
    /// Only while the ring changes it may be with those who are to own the key and are not asked.
    /// A record that cannot be read says nothing: it may be read another time.
    fn heals_by(&self, core: &Core, state: &ReplicaState) -> bool {
        let n = u8::try_from(self.replicas.len()).unwrap_or(u8::MAX);
        self.is_recovery()
            && matches!(state, ReplicaState::Present(_))
            && core.others(&self.address, n).is_empty()
    }

    /// Somebody who may stand in says what it keeps of the key.
    fn answer_of_stand_in(&mut self, core: &mut Core, from: NodeId, message: Message) -> Flow {
        let Message::Hint {
            body:
                HintMessage::Held {
                    complete,
                    hints,
                    generation,
                },
            ..
        } = message
        else {
            return self.wait();
        };
        if generation < core.generation(self.address.token) {
            core.tell_behind(from, self.address.token);
            return self.wait();
        }
        let mut merged = Container::new();
        for (_, bytes) in &hints {
            let decoded = format::decode(self.address.bucket.0, &self.address.key, bytes);
            match decoded {
                Ok(record) if is_too_far_ahead(core, &record) => return self.failed(core, from),
                Ok(record) if merged.sync(&record.container).is_ok() => {}
                Ok(_) | Err(_) => {
                    core.event(Event::DamagedMessage { from });
                    return self.failed(core, from);
                }
            }
        }
        if merged.clock().is_empty() {
            return self.took(core, from, Known::Nothing, complete);
        }
        let record = Record {
            container: merged,
            suspect: false,
        };
        let bytes = format::encode(self.address.bucket.0, &self.address.key, &record);
        let stored = Arc::new(Stored::new(record, bytes));
        self.took(core, from, Known::Whole(stored), complete)
    }

    /// What another replica has answered, if it is the same to the byte.
    fn has_same(&self, bytes: &Bytes) -> Option<Arc<Stored>> {
        let whole = self.whole();
        whole
            .into_iter()
            .find(|stored| stored.bytes == *bytes)
            .cloned()
    }
}

/// True if the record bears a stamp that nobody believes, so that it must not win.
pub(super) fn is_too_far_ahead(core: &mut Core, record: &Record) -> bool {
    let stamp = record.container.stamp();
    let refused = stamp.is_some_and(|stamp| core.hybrid.refuses(stamp, core.now));
    if refused {
        core.event(Event::Refused {
            limit: "clock_skew",
        });
    }
    refused
}
