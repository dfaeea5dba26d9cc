//! One page of a bucket's keys, in token order.
//!
//! Runs of neighbouring partitions with the same replicas are asked at once. Each key's states are
//! merged as a read would merge them, so a key shows if a read of that quorum would find it. An
//! answer that was cut off is trusted only up to its last key.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quorate_client::wire::{ErrorBody, ErrorCode, KeyItem, KeysReply, Response};
use quorate_gossip::Instant;
use quorate_ring::{NodeId, Partition, Token};

use super::{Answer, Flow};
use crate::{
    bucket::Bucket,
    causality::Container,
    core::{Core, Origin},
    message::{Class, Message, RpcId, ScannedKey},
    replica::OpKey,
    store::format,
};

type Place = (u64, Bytes);

#[derive(Debug)]
struct Answered {
    items: Vec<ScannedKey>,
    more: bool,
}

#[derive(Debug)]
pub(crate) struct ScanOp {
    key: OpKey,
    origin: Origin,
    bucket: Bucket,
    prefix: Bytes,
    limit: usize,
    after: Option<Place>,
    first: u64,
    last: u64,
    answers: BTreeMap<NodeId, Answered>,
    failed: BTreeSet<NodeId>,
    asked: Vec<NodeId>,
    found: Vec<KeyItem>,
    again: Instant,
    deadline: Instant,
}

/// What a client wants listed.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) bucket: Bucket,
    pub(crate) prefix: Bytes,
    pub(crate) limit: usize,
    pub(crate) after: Option<Place>,
}

/// Where a page ended: the token, big-endian, then the key.
pub(crate) fn cursor(place: &Place) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + place.1.len());
    out.put_u64(place.0);
    out.put_slice(&place.1);
    out.freeze()
}

/// The reverse of [`cursor`].
pub(crate) fn parse_cursor(mut bytes: Bytes) -> Option<Place> {
    (8 <= bytes.len()).then(|| (bytes.get_u64(), bytes))
}

impl ScanOp {
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        wanted: Wanted,
        deadline: Instant,
    ) -> Self {
        let Wanted {
            bucket,
            prefix,
            limit,
            after,
        } = wanted;
        let first = after.as_ref().map_or(0, |(token, _)| *token);
        let mut op = Self {
            key,
            origin,
            bucket,
            prefix,
            limit,
            after,
            first,
            last: first,
            answers: BTreeMap::new(),
            failed: BTreeSet::new(),
            asked: Vec::new(),
            found: Vec::new(),
            again: deadline,
            deadline,
        };
        op.ask(core);
        op
    }

    /// Asks for the longest run from `first` on whose partitions have the same replicas.
    fn ask(&mut self, core: &mut Core) {
        let partitions = core.ring.partitions();
        let n = usize::from(self.bucket.info.n);
        let replicas = |partition: Partition| -> BTreeSet<NodeId> {
            core.ring
                .list(partition)
                .owners(n)
                .iter()
                .copied()
                .collect()
        };
        let mut partition = partitions.of(Token::new(self.first));
        let here = replicas(partition);
        while partition.0 + 1 < partitions.count() && replicas(Partition(partition.0 + 1)) == here {
            partition.0 += 1;
        }
        self.last = *partitions.tokens(partition).end();
        self.answers.clear();
        self.failed.clear();
        self.asked = here.into_iter().collect();
        self.send(core);
    }

    fn send(&mut self, core: &mut Core) {
        for node in self.asked.clone() {
            if self.answers.contains_key(&node) {
                continue;
            }
            let message = Message::Scan {
                id: RpcId(self.key.0),
                epoch: core.ring.epoch(),
                bucket: self.bucket.id,
                first: self.first,
                last: self.last,
                after: self.after.clone(),
                prefix: self.prefix.clone(),
                limit: u32::try_from(self.limit).unwrap_or(u32::MAX),
            };
            // Our own share takes the same way, through the store, as everybody else's.
            core.send(node, Class::Data, message);
        }
        self.again = core.now.mono + core.limits.replica_limit_max;
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.again.min(self.deadline))
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        if matches!(answer, Answer::Stale) {
            self.again = core.now.mono;
            return self.wait();
        }
        let Answer::Other(message) = answer else {
            return self.wait();
        };
        if let Message::Scanned {
            items, more, error, ..
        } = *message
            && self.asked.contains(&from)
            && self.belongs(&items)
        {
            if error.is_some() {
                self.failed.insert(from);
            } else {
                self.answers.insert(from, Answered { items, more });
            }
        }
        let needed = usize::from(self.bucket.info.r).min(self.asked.len());
        if self.answers.len() < needed {
            return self.wait();
        }
        self.merge(core)
    }

    /// False for an answer to an earlier step of this scan.
    fn belongs(&self, items: &[ScannedKey]) -> bool {
        let after = self.after.as_ref();
        items.iter().all(|item| {
            let behind = after.is_none_or(|(token, key)| (*token, key) < (item.token, &item.key));
            (self.first..=self.last).contains(&item.token) && behind
        })
    }

    fn merge(&mut self, core: &mut Core) -> Flow {
        let cut = |answered: &Answered| {
            let last = answered
                .items
                .last()
                .map(|item| (item.token, item.key.clone()));
            last.filter(|_| answered.more)
        };
        let end = self.answers.values().filter_map(cut).min();
        let mut merged: BTreeMap<Place, Container> = BTreeMap::new();
        for answered in self.answers.values() {
            for item in &answered.items {
                let place = (item.token, item.key.clone());
                if end.as_ref().is_some_and(|end| *end < place) {
                    break;
                }
                if let Ok(record) = format::decode(self.bucket.id.0, &item.key, &item.record) {
                    // Values are left out, so equal dots cannot differ.
                    let _ = merged.entry(place).or_default().sync(&record.container);
                }
            }
        }
        let now = core.time_ms();
        let mut last = end;
        let done = last.is_none();
        for (place, container) in merged {
            if self.limit <= self.found.len() {
                let end = self.after.clone();
                return self.end(core, end);
            }
            if container.live_values(now).next().is_some() {
                self.found.push(KeyItem {
                    key: place.1.clone(),
                });
            }
            self.after = Some(place);
        }
        if self.limit <= self.found.len() {
            let end = self.after.clone();
            return self.end(core, end);
        }
        if done && self.last == u64::MAX {
            return self.end(core, None);
        }
        if done {
            self.first = self.last + 1;
            self.after = None;
        } else if let Some(place) = last.take() {
            self.first = place.0;
            self.after = Some(place);
        }
        self.ask(core);
        self.wait()
    }

    /// The ring has changed: this step's nodes are asked anew.
    pub(crate) fn replan(&mut self, core: &mut Core) -> Flow {
        self.ask(core);
        self.wait()
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        if self.deadline <= core.now.mono {
            let silent = self
                .asked
                .iter()
                .filter(|node| !self.answers.contains_key(node));
            let silent = core.names(silent.copied()).join(", ");
            let message = format!(
                "too few replicas of bucket {:?} answered in time, r={} needed (silent: {silent})",
                self.bucket.info.name, self.bucket.info.r,
            );
            let error = ErrorBody::new(ErrorCode::Unavailable, message);
            core.reply(self.origin, Response::Error(error));
            return Flow::Over;
        }
        if self.again <= core.now.mono {
            self.send(core);
        }
        self.wait()
    }

    fn end(&mut self, core: &mut Core, place: Option<Place>) -> Flow {
        let reply = KeysReply {
            items: std::mem::take(&mut self.found),
            cursor: place.as_ref().map(cursor),
        };
        core.reply(self.origin, Response::Keys(reply));
        Flow::Over
    }
}
