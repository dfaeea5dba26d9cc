//! How findings get around: on board of every message, and by pages of all rows.
//!
//! News ride on messages that are sent anyhow, the freshest first, and are let go after as many
//! rides as the logarithm of the cluster's size asks for. What got lost nevertheless is found by
//! comparing pages: one bounded page per interval with one random member, so that what it costs a
//! node does not grow with the cluster; the pages go round all members.

use std::collections::BTreeMap;

use quorate_ring::NodeId;
use rand::RngExt as _;

use super::{Event, Gossip, Output, RETRY_PROBES};
use crate::{
    member::{State, Update},
    message::{Kind, Message, PAGE_MAX, UPDATES_MAX},
    time::Instant,
};

const LAST: NodeId = NodeId::new(u64::MAX);

impl Gossip {
    /// Takes over news that beats what is known, and passes it on.
    pub(super) fn learn(&mut self, now: Instant, update: Update) {
        if update.node == self.me.node {
            return self.outbid(update);
        }
        let suspicion = self.suspicion();
        let Some(row) = self.rows.get_mut(&update.node) else {
            return;
        };
        if !update.beats(&row.update) {
            return;
        }
        let before = row.update;
        row.update = update;
        if update.state == State::Suspect {
            row.refute_until = now + suspicion;
        }
        self.news.insert(update.node, 0);
        if (before.state, before.uuid, before.boot) != (update.state, update.uuid, update.boot) {
            row.since = now;
            self.outputs
                .push_back(Output::Event(Event::Changed(update)));
        }
    }

    /// Somebody thinks ill of us, or remembers an earlier process.
    fn outbid(&mut self, update: Update) {
        let other = (update.uuid, update.boot) != (self.me.uuid, self.me.boot);
        let above = self.me.incarnation < update.incarnation;
        if update.state == State::Up && !above && (!other || update.incarnation == 0) {
            return;
        }
        if !other && self.me.incarnation <= update.incarnation {
            // We were missed, and are not gone: we were slow to answer.
            self.health.worse(1);
        }
        self.me.incarnation = self
            .me
            .incarnation
            .max(update.incarnation)
            .saturating_add(1);
        self.news.insert(self.me.node, 0);
    }

    pub(super) fn send(&mut self, to: NodeId, kind: Kind) {
        let mut updates = Vec::with_capacity(UPDATES_MAX);
        // News about the receiver first: it is the one who can refute it.
        if let Some(row) = self.rows.get(&to)
            && (row.update.state != State::Up || row.process != (row.update.uuid, row.update.boot))
        {
            updates.push(row.update);
        }
        let often = 3 * (usize::BITS - self.rows.len().leading_zeros()) + 3;
        let mut fresh: Vec<(u32, NodeId)> = self.news.iter().map(|(n, sent)| (*sent, *n)).collect();
        fresh.sort_unstable();
        for (sent, node) in fresh {
            if UPDATES_MAX <= updates.len() {
                break;
            }
            if let Some(row) = self.rows.get(&node)
                && node != to
            {
                updates.push(row.update);
            }
            if often <= sent + 1 {
                self.news.remove(&node);
            } else {
                self.news.insert(node, sent + 1);
            }
        }
        self.say(to, kind, updates);
    }

    fn say(&mut self, to: NodeId, kind: Kind, updates: Vec<Update>) {
        let me = self.me;
        let message = Message { kind, me, updates };
        self.outputs.push_back(Output::Send { to, message });
    }

    /// Exchanges the next page with a member that is not thought down.
    pub(super) fn push_page(&mut self, now: Instant) {
        let pause = if self.synced {
            self.config.sync_interval
        } else {
            self.config.probe_interval * RETRY_PROBES
        };
        self.next_sync = now + self.health.scale(pause);
        let rows = self.rows.iter();
        let live = rows.filter(|(_, row)| row.update.state != State::Down);
        let live: Vec<NodeId> = live.map(|(node, _)| *node).collect();
        if live.is_empty() {
            return;
        }
        let to = live[self.pages.random_range(0..live.len())];
        let first = self.sync_from;
        let (last, next) = self.page_end(first);
        self.sync_from = next;
        self.synced = false;
        let page = self.rows.range(first..=last);
        let known = page.filter(|(_, row)| row.update.incarnation != 0);
        let updates = known.map(|(_, row)| row.update).collect();
        self.say(to, Kind::Push { first, last }, updates);
    }

    /// Where the page ends that begins there, and where the next one begins.
    fn page_end(&self, first: NodeId) -> (NodeId, NodeId) {
        let mut rest = self.rows.range(first..).skip(PAGE_MAX - 1);
        let last = rest.next().map(|(node, _)| *node);
        match (last, rest.next()) {
            (Some(last), Some((next, _))) => (last, *next),
            _ => (LAST, NodeId::new(0)),
        }
    }

    /// Somebody says what it knows of some members: tell it what we know better.
    pub(super) fn pushed(&mut self, from: NodeId, page: (NodeId, NodeId), updates: &[Update]) {
        let told: BTreeMap<NodeId, &Update> = updates.iter().map(|u| (u.node, u)).collect();
        let (first, last) = page;
        let mut better = Vec::new();
        if first <= last {
            let rows = self.rows.range(first..=last).map(|(_, row)| row.update);
            let news = rows.filter(|row| match told.get(&row.node) {
                Some(told) => row.beats(told),
                None => row.incarnation != 0 && row.node != from,
            });
            better.extend(news.take(PAGE_MAX));
        }
        self.say(from, Kind::Pull, better);
    }

    /// A page was answered.
    pub(super) fn pulled(&mut self, now: Instant) {
        if !self.synced {
            self.synced = true;
            self.next_sync = now + self.health.scale(self.config.sync_interval);
        }
    }
}
