//! One transfer: everything that one old owner holds of one range, page by page.
//!
//! A page is merged record by record, and the next is asked for when all of it is durable here.
//! A page that is lost or refused is asked for again. Between pages it rests as the governors of
//! both ends say: the slower clients are served, the longer. A new owner may have no clients yet,
//! so its own governor alone would let it pull as fast as it can.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use quorate_gossip::Instant;
use quorate_ring::{NodeId, Token};

use super::{Answer, Flow};
use crate::{
    core::{Core, Notice},
    event::Event,
    healing::governor::{SHARE_ALL, Work},
    message::{Class, Message, RpcId},
    node::RingNews,
    replica::{Address, Caller, Done, Job, Merge, OpKey, Refusal},
    ring_message::{Item, RingMessage},
    store::format,
};

/// A page counts for no more than this when its rest is worked out.
const REST_MAX: Duration = Duration::from_millis(100);
/// Records of a page that are merged at one time.
const MERGES_MAX: usize = 8;

/// What to transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) source: NodeId,
    /// This node owned the range before, and has lost what it held of it.
    pub(crate) again: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A page is on its way.
    Asking,
    /// A page is being merged; where it ends.
    Merging(Bytes),
    /// The next page is asked for after a rest.
    Resting,
    /// All is here; the next transfer may begin after a rest.
    Ending,
}

#[derive(Debug)]
pub(crate) struct PullOp {
    key: OpKey,
    range: Range,
    after: Bytes,
    step: Step,
    /// Of the page, what is still to be merged.
    items: VecDeque<Item>,
    outstanding: usize,
    refused: bool,
    /// There was nothing on the page.
    empty: bool,
    /// What the source has lent for this, in thousandths of the time.
    lent: u32,
    sent: Instant,
    again: Instant,
}

impl PullOp {
    pub(crate) fn start(core: &mut Core, key: OpKey, range: Range) -> Self {
        let now = core.now.mono;
        let mut op = Self {
            key,
            range,
            after: Bytes::new(),
            step: Step::Asking,
            items: VecDeque::new(),
            outstanding: 0,
            refused: false,
            empty: true,
            lent: SHARE_ALL,
            sent: now,
            again: now,
        };
        op.ask(core);
        op
    }

    fn ask(&mut self, core: &mut Core) {
        let message = RingMessage::Pull {
            epoch: core.ring.epoch(),
            first: self.range.first,
            last: self.range.last,
            after: self.after.clone(),
        };
        let id = RpcId(self.key.0);
        core.send(
            self.range.source,
            Class::Bulk,
            Message::Ring { id, message },
        );
        self.step = Step::Asking;
        self.sent = core.now.mono;
        self.again = core.now.mono + core.limits.replica_limit_max * 2;
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.again)
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        let Answer::Other(message) = answer else {
            return self.wait();
        };
        let Message::Ring {
            message:
                RingMessage::Page {
                    after,
                    items,
                    next,
                    error,
                    share,
                },
            ..
        } = *message
        else {
            return self.wait();
        };
        if from != self.range.source || after != self.after || self.step != Step::Asking {
            return self.wait();
        }
        if error.is_some() {
            self.rest(core, REST_MAX * 5);
            return self.wait();
        }
        self.step = Step::Merging(next);
        self.refused = false;
        // One of an earlier release does not say.
        self.lent = if share == 0 { SHARE_ALL } else { share };
        self.again = core.now.mono + core.limits.timeout_max;
        let mut bytes = 0;
        for item in &items {
            bytes += item.record.len() as u64;
        }
        self.empty = items.is_empty();
        self.items = items.into();
        core.ring_news.push_back(RingNews::Received(bytes));
        self.merge_some(core);
        self.check(core)
    }

    /// A page may hold more keys than may be in work at one time.
    fn merge_some(&mut self, core: &mut Core) {
        while self.outstanding < MERGES_MAX
            && let Some(item) = self.items.pop_front()
        {
            self.merge(core, item);
        }
    }

    fn merge(&mut self, core: &mut Core, item: Item) {
        let known = core.catalogue.replicas(item.bucket);
        let dropped = core.catalogue.is_dropped(item.bucket);
        if dropped || known.is_some_and(|n| !gains(core, item.token, n, self.range.again)) {
            return;
        }
        let Ok(decoded) = format::decode(item.bucket.0, &item.key, &item.record) else {
            let from = self.range.source;
            core.event(Event::DamagedMessage { from });
            self.refused = true;
            return;
        };
        if item.generation < core.generation(item.token) {
            core.tell_behind(self.range.source, item.token);
        }
        let address = Address {
            token: item.token,
            bucket: item.bucket,
            key: item.key,
            hint_for: None,
        };
        let job = Job::Apply(Merge {
            incoming: decoded.container,
            bytes: (!decoded.suspect).then_some(item.record),
            heals: None,
            generation: item.generation,
        });
        self.outstanding += 1;
        core.submit_for(Caller::Op(self.key), &address, job);
    }

    pub(crate) fn notice(&mut self, core: &mut Core, notice: &Notice) -> Flow {
        match notice {
            Notice::Local(Done::Stored { .. }) => {}
            // What cannot be merged has been reported; asking again would not help.
            Notice::Local(Done::Refused(refusal)) => {
                let again = matches!(refusal, Refusal::Limit(_) | Refusal::OldGeneration);
                self.refused |= again;
            }
            Notice::Local(_) | Notice::Read(_) | Notice::Repaired(_) => return self.wait(),
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        self.merge_some(core);
        self.check(core)
    }

    fn check(&mut self, core: &mut Core) -> Flow {
        let Step::Merging(next) = &self.step else {
            return self.wait();
        };
        if 0 < self.outstanding {
            return self.wait();
        }
        if self.refused {
            self.rest(core, REST_MAX * 5);
            return self.wait();
        }
        let next = next.clone();
        let took = core.now.mono.since(self.sent).min(REST_MAX);
        let rest = if self.empty {
            Duration::ZERO
        } else {
            core.governor.rest_with(Work::Transfer, took, self.lent)
        };
        if !next.is_empty() {
            self.after = next;
            self.rest(core, rest);
            return self.wait();
        }
        if rest.is_zero() {
            return self.end(core);
        }
        self.rest(core, rest);
        self.step = Step::Ending;
        self.wait()
    }

    fn end(&self, core: &mut Core) -> Flow {
        core.ring_news.push_back(RingNews::Pulled(self.key));
        Flow::Over
    }

    fn rest(&mut self, core: &Core, pause: Duration) {
        self.step = Step::Resting;
        self.again = core.now.mono + pause;
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        if self.again <= core.now.mono {
            match self.step {
                Step::Ending => return self.end(core),
                Step::Asking | Step::Resting => self.ask(core),
                Step::Merging(_) => {}
            }
        }
        self.wait()
    }
}

/// True if this node becomes an owner of the token that it was not, or is one `again`, for a bucket
/// of `n`.
fn gains(core: &Core, token: u64, n: u8, again: bool) -> bool {
    let token = Token::new(token);
    let owns = |ring: &quorate_ring::Ring| {
        let owners = ring.preference(token).owners(usize::from(n));
        owners.contains(&core.me)
    };
    let old = core.decree.old.as_ref();
    owns(&core.decree.ring) && (again || !old.is_some_and(owns))
}
