//! Clients with manners: they bring along what they have seen, and say when they do not want an
//! answer any more.
//!
//! Both are drawn from a stream of their own, so that what clients did before they had any stays
//! as it was. A request that is taken back is answered all the same, and judged like any other:
//! what a node says of it has to be true.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_client::wire::{GetReply, Request};
use quorate_node::{
    api::RequestId,
    causality::{Clock, ContextKey},
};

use crate::{
    oracle::{Ruling, covers},
    process::{CLUSTER, CONTEXT_SECRET, Input},
    workload::{Attempt, Call},
    world::{Event, World},
};

impl World {
    /// A client that will not wait for this takes it back after a while.
    pub(crate) fn plan_take_back(&mut self, attempt: &Attempt) {
        if let Some(pause) = self.workload.take_back_after(attempt) {
            let event = Event::TakeBack(attempt.target, attempt.serial);
            self.agenda.plan(self.now + pause, event);
        }
    }

    /// A node hears that a request is taken back.
    pub(crate) fn take_back(&mut self, node: usize, serial: u64) {
        self.trace.mix(self.now, node as u64, serial);
        self.feed(node, Input::TakeBack(serial));
    }

    /// The requests of a node that are an attempt of this number.
    pub(crate) fn requests_of(&self, node: usize, serial: u64) -> BTreeSet<RequestId> {
        let waiting = self.processes[node].waiting.iter();
        let same = waiting.filter(|(_, waiting)| waiting.attempt.serial == serial);
        same.map(|(id, _)| RequestId(*id)).collect()
    }

    /// What a reader has brought along has to be covered by its answer.
    pub(crate) fn judge_cover(&self, attempt: &Attempt, reply: &GetReply) -> Ruling {
        let (Request::Get(get), Call::Read(read)) = (&attempt.request, &attempt.call) else {
            return Ok(());
        };
        if get.seen.is_empty() {
            return Ok(());
        }
        let open = |sealed: &Bytes| {
            let secret = ContextKey::new(CONTEXT_SECRET);
            let opened = secret.open(CLUSTER, self.layout.bucket.0, &get.key, sealed);
            opened.map(|context| context.clock)
        };
        let mut seen = Clock::new();
        for sealed in &get.seen {
            // What clients bring was given to them by nodes.
            seen.join(&open(sealed).expect("a context that a node gave out"));
        }
        let shown = reply.context.as_ref().and_then(|sealed| open(sealed).ok());
        // While a ring grows its reads ask the old one, which may have shrunk below n.
        let newest = self.rings.newest();
        let rings = newest.old.iter().chain([&newest.ring]);
        let owners = rings.map(|ring| self.owners_in(ring, crate::history::place(read.key)).len());
        let owners = owners.min().unwrap_or_default();
        let answer = covers::Answer {
            key: read.key,
            seen: &seen,
            shown: shown.as_ref(),
            answered: reply.answered,
            replicas: u8::try_from(owners).unwrap_or(u8::MAX),
        };
        covers::answered(&answer, self.now)
    }
}
