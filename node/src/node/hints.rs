//! How a node keeps hints for others, takes what was kept for it, and tells what it keeps.

use std::collections::BTreeMap;

use quorate_ring::{NodeId, Partition};

use super::Node;
use crate::{
    causality::Container,
    coordinator::{Answer, Operation, hand::HandOp},
    event::Event,
    healing::{
        hints::message::{HintMessage, Kept},
        message::Place,
    },
    message::{Class, Message, RpcId, Verdict},
    replica::{Address, Caller, Done, Held, Job, Merge, Refusal},
    store::format,
};

/// Questions about hints in progress.
const INQUIRIES_MAX: usize = 1_024;
/// An answer with hints is closed at about this size.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Somebody wants all hints of a key.
#[derive(Debug)]
struct Inquiry {
    to: NodeId,
    id: RpcId,
    left: usize,
    bytes: usize,
    complete: bool,
    hints: Vec<(NodeId, bytes::Bytes)>,
    generation: u64,
}

/// The inquiries in progress.
#[derive(Debug, Default)]
pub(super) struct Inquiries {
    open: BTreeMap<u64, Inquiry>,
    next: u64,
}

impl Inquiries {
    /// (in progress, most).
    pub(super) fn load(&self) -> (usize, usize) {
        (self.open.len(), INQUIRIES_MAX)
    }
}

impl Node {
    pub(super) fn hint_message(&mut self, from: NodeId, id: RpcId, body: HintMessage) {
        match body {
            HintMessage::Keep {
                place,
                owner,
                record,
                generation,
                ..
            } => {
                let address = Address::from(&place).hint(owner);
                self.keep((from, id), &address, &record, generation);
            }
            HintMessage::Hand {
                place,
                record,
                generation,
                ..
            } => {
                self.take_hint((from, id), &Address::from(&place), &record, generation);
            }
            HintMessage::Ask { place } => self.inquire(from, id, &place),
            HintMessage::Count => {
                let body = HintMessage::Counted {
                    complete: self.core.replica.hints().is_complete(),
                    kept: self.hints.kept(&self.core),
                };
                let message = Message::Hint { id, body };
                self.core.send(from, Class::Control, message);
            }
            HintMessage::Handed { .. } | HintMessage::Held { .. } | HintMessage::Counted { .. } => {
                let message = Message::Hint { id, body };
                self.answer(from, id, Answer::Other(Box::new(message)));
            }
        }
    }

    /// Somebody has us stand in for a replica that is down.
    fn keep(
        &mut self,
        (from, id): (NodeId, RpcId),
        address: &Address,
        record: &bytes::Bytes,
        generation: u64,
    ) {
        let refused = match format::decode(address.bucket.0, &address.key, record) {
            Err(_) => {
                self.core.event(Event::DamagedMessage { from });
                Verdict::Failed("the record arrived damaged".to_owned())
            }
            Ok(_) if address.hint_for == Some(self.core.me) => {
                Verdict::Failed("a node keeps no hints for itself".to_owned())
            }
            Ok(decoded) if self.core.disk_low && !is_deleted(&decoded.container) => {
                let limit = "disk_full";
                self.core.event(Event::Refused { limit });
                Verdict::Overloaded(limit.to_owned())
            }
            Ok(decoded) => {
                let job = Job::Apply(Merge {
                    incoming: decoded.container,
                    bytes: (!decoded.suspect).then(|| record.clone()),
                    heals: None,
                    generation,
                });
                self.core.submit_for(Caller::Peer(from, id), address, job);
                return;
            }
        };
        let verdict = refused;
        self.core
            .send(from, Class::Data, Message::Replicated { id, verdict });
    }

    /// Somebody hands us what was kept for us.
    fn take_hint(
        &mut self,
        (from, id): (NodeId, RpcId),
        address: &Address,
        record: &bytes::Bytes,
        generation: u64,
    ) {
        let verdict = match format::decode(address.bucket.0, &address.key, record) {
            Err(_) => {
                self.core.event(Event::DamagedMessage { from });
                Verdict::Failed("the record arrived damaged".to_owned())
            }
            Ok(_) if !self.core.belongs_here(address) => {
                Verdict::Failed("this node does not own the key".to_owned())
            }
            Ok(decoded) => {
                let job = Job::Settle(Merge {
                    incoming: decoded.container,
                    bytes: (!decoded.suspect).then(|| record.clone()),
                    heals: None,
                    generation,
                });
                self.core.submit_for(Caller::Holder(from, id), address, job);
                return;
            }
        };
        self.receipt(from, id, verdict, None);
    }

    fn receipt(&mut self, to: NodeId, id: RpcId, verdict: Verdict, record: Option<&Container>) {
        let clock = record.map(|record| record.clock().clone());
        let clock = clock.unwrap_or_default();
        let body = HintMessage::Handed { verdict, clock };
        self.core.send(to, Class::Data, Message::Hint { id, body });
    }

    /// What was handed to us is merged, or not.
    pub(super) fn deliver_to_holder(
        &mut self,
        (node, id): (NodeId, RpcId),
        address: &Address,
        done: Done,
    ) {
        let verdict = match done {
            Done::Stored { .. } if self.is_fenced(node, id, address) => {
                return self.refuse_stale(node, id);
            }
            Done::Stored { .. } if !self.core.vouches() => {
                Verdict::Overloaded(super::UNHEARD.to_owned())
            }
            Done::Stored { durable: true } => {
                // The receipt says what is on disk, not what was sent.
                let caller = Caller::Receipt(node, id);
                return self.core.submit_for(caller, address, Job::Read);
            }
            Done::Stored { durable: false } => Verdict::Stored,
            Done::Read(Held::Present(stored)) => {
                let record = &stored.record.container;
                return self.receipt(node, id, Verdict::Durable, Some(record));
            }
            Done::Read(Held::Absent | Held::Unreadable) => {
                Verdict::Failed("the record cannot be read back".to_owned())
            }
            Done::Refused(Refusal::OldGeneration) => {
                // To be read again and handed over then.
                self.core.tell_behind(node, address.token);
                Verdict::Overloaded("write_generation".to_owned())
            }
            Done::Refused(Refusal::Limit(limit)) => {
                self.core.event(Event::Refused { limit });
                Verdict::Overloaded(limit.to_owned())
            }
            Done::Refused(refusal) => {
                if refusal == Refusal::EqualDotsDiffer {
                    self.core.event(Event::EqualDotsDiffer {
                        bucket: address.bucket,
                        key: address.key.clone(),
                        from: node,
                    });
                }
                Verdict::Failed(format!("{refusal:?}"))
            }
            Done::Coordinated { .. } | Done::Reaping(_) => return,
        };
        self.receipt(node, id, verdict, None);
    }

    fn inquire(&mut self, from: NodeId, id: RpcId, place: &Place) {
        let address = Address::from(place);
        let index = self.core.replica.hints();
        let owners = index.of_key(&address);
        let crowded = INQUIRIES_MAX <= self.inquiries.open.len();
        let inquiry = Inquiry {
            to: from,
            id,
            left: owners.len(),
            bytes: 0,
            complete: index.is_complete() && !crowded,
            hints: Vec::new(),
            generation: self.core.generation(address.token),
        };
        if owners.is_empty() || crowded {
            return self.inform(inquiry);
        }
        self.inquiries.next += 1;
        let number = self.inquiries.next;
        self.inquiries.open.insert(number, inquiry);
        for owner in owners {
            let caller = Caller::Inquiry(number);
            self.core
                .submit_for(caller, &address.hint(owner), Job::Read);
        }
    }

    pub(super) fn inquired(&mut self, number: u64, address: &Address, done: Done) {
        let Some(inquiry) = self.inquiries.open.get_mut(&number) else {
            return;
        };
        inquiry.left -= 1;
        match (done, address.hint_for) {
            (Done::Read(Held::Present(stored)), Some(owner)) => {
                inquiry.bytes += stored.bytes.len();
                if inquiry.bytes <= ANSWER_BYTES_MAX {
                    inquiry.hints.push((owner, stored.bytes.clone()));
                } else {
                    inquiry.complete = false;
                }
            }
            (Done::Read(Held::Absent), _) => {}
            (..) => inquiry.complete = false,
        }
        if inquiry.left == 0
            && let Some(inquiry) = self.inquiries.open.remove(&number)
        {
            self.inform(inquiry);
        }
    }

    fn inform(&mut self, inquiry: Inquiry) {
        let body = HintMessage::Held {
            complete: inquiry.complete,
            hints: inquiry.hints,
            generation: inquiry.generation,
        };
        let id = inquiry.id;
        self.core
            .send(inquiry.to, Class::Data, Message::Hint { id, body });
    }

    /// Starts what is due.
    pub(super) fn hand_over(&mut self) {
        for (owner, address) in self.hints.due(&mut self.core) {
            let key = self.core.op_key();
            let op = HandOp::start(&mut self.core, key, owner, address);
            self.hints.began(key, owner);
            self.run(key, Operation::Hand(Box::new(op)));
        }
    }

    /// Hints kept for others, and what they count as; none while that is not known.
    #[must_use]
    pub fn hints_held(&self) -> Option<(usize, usize)> {
        let index = self.core.replica.hints();
        index.is_complete().then(|| (index.count(), index.load().0))
    }

    /// What this node keeps for whom, and what all of it may count as.
    #[must_use]
    pub fn hints_by_owner(&self) -> (Vec<(NodeId, Kept)>, usize) {
        let most = self.core.replica.hints().load().1;
        (self.hints.kept(&self.core), most)
    }

    /// Whether this node keeps, or is about to keep, a hint of this key; also true while that is
    /// not known yet.
    #[must_use]
    pub fn holds_hint_of(&self, place: &Place) -> bool {
        self.core.replica.holds_hint_of(&Address::from(place))
    }

    /// Whether this node keeps, or is about to keep, any hint in a partition of the ring that is
    /// read; also true while that is not known yet.
    #[must_use]
    pub fn holds_hint_in(&self, partition: Partition) -> bool {
        let tokens = self.core.ring.partitions().tokens(partition);
        self.core.replica.holds_hint_in(&tokens)
    }
}

/// Nothing in it can be read by anybody.
fn is_deleted(container: &Container) -> bool {
    container
        .siblings()
        .all(|(_, version)| version.value.is_none())
}
