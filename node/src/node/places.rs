//! Members that move to another address, and nodes that are forgotten.
//!
//! A node that starts somewhere else says so itself, to each peer until that peer has reached it.
//! Who has no place in the ring is forgotten when nobody has heard of it for long, or when it is
//! down and an operator says so; members of the ring only ever leave by agreement.

use std::sync::Arc;

use quorate_client::wire::{ErrorBody, ErrorCode, Response, RingAnswer};
use quorate_gossip::State;
use quorate_ring::{Member, NodeId};

use super::Node;
use crate::{
    api::Output,
    core::Origin,
    event::Event,
    joining::Outsider,
    places::{Gone, Heard},
};

impl Node {
    /// This node is there; who knows it elsewhere is told. Comes after everything that the node
    /// remembers.
    pub fn reside(&mut self, own: Member) {
        self.core.places.reside(own);
        self.hold_place();
        self.pump();
    }

    /// Outbids whatever says that this node is elsewhere.
    pub(super) fn hold_place(&mut self) {
        let core = &mut self.core;
        let Some(own) = core.places.own().cloned() else {
            return;
        };
        let version = core.places.version(own.id);
        if let Some(member) = core.decree.member(own.id) {
            if core.located(member).address == own.address {
                return;
            }
            core.places
                .moves(own.id, &own.address, version.saturating_add(1));
        } else if let Some(known) = core.outsiders.get(&own.id) {
            if known.member.address == own.address {
                return;
            }
            let outsider = Outsider {
                version: known.version.max(version).saturating_add(1),
                heard: Heard::now(core.now.mono),
                member: own,
            };
            core.outsiders.insert(outsider.member.id, outsider);
        } else {
            return;
        }
        let peers = self.everybody_else();
        self.core.places.tell(peers);
        self.spread_members();
    }

    /// A member of the ring is said to be elsewhere; true if that is news.
    pub(super) fn relocate(&mut self, node: NodeId, address: &str, version: u64) -> bool {
        let core = &mut self.core;
        let Some(member) = core.decree.member(node).cloned() else {
            return false;
        };
        let before = core.located(&member);
        if !core.places.moves(node, address, version) {
            return false;
        }
        let after = core.located(&member);
        if node != core.me && after != before {
            core.event(Event::MemberMoved {
                name: after.name.clone(),
                address: after.address.clone(),
            });
            core.outputs.push_back(Output::Meet(after));
        }
        true
    }

    /// The configuration has a member of the founding ring elsewhere: worth a try until the
    /// member says something itself.
    pub(super) fn expect_at(&mut self, node: NodeId, address: &str) {
        let decree = Arc::clone(&self.core.decree);
        let listed = decree.member(node);
        let moved = listed.is_some_and(|member| member.address != address);
        if moved && decree.previous == 0 && node != self.core.me {
            self.relocate(node, address, 0);
        }
    }

    /// A member of the ring asks to join: it may have moved, but not to two places.
    pub(super) fn readmit(&mut self, known: &Member, asks: &Member) -> Result<(), ErrorBody> {
        let at = self.core.located(known).address;
        if at == asks.address {
            return Ok(());
        }
        if known.id == self.core.me || self.has_heard(known.id) {
            let (name, says) = (&known.name, &asks.address);
            let message = format!(
                "{name} is up at {at}: stop it there before it starts at {says}, or give this node \
                 another name"
            );
            return Err(ErrorBody::new(ErrorCode::Conflict, message));
        }
        let version = self.core.places.version(known.id).saturating_add(1);
        if self.relocate(known.id, &asks.address, version) {
            self.spread_members();
        }
        Ok(())
    }

    /// Whether a node is thought up, and not only because nothing is known of it.
    fn has_heard(&self, node: NodeId) -> bool {
        let row = self.core.gossip.row(node);
        row.is_some_and(|(row, _)| row.state != State::Down && row.incarnation != 0)
    }

    /// Forgets those without a place of whom nobody has heard for long.
    pub(super) fn forget_the_lost(&mut self) {
        let now = self.core.now.mono;
        let after = self.core.limits.forget_after;
        self.core.places.expire(now, after);
        let all: Vec<NodeId> = self.core.outsiders.keys().copied().collect();
        let mut lost = Vec::new();
        for node in all {
            let heard = self.has_heard(node) || node == self.core.me;
            if let Some(outsider) = self.core.outsiders.get_mut(&node) {
                if heard {
                    outsider.heard = Heard::now(now);
                } else if after <= outsider.heard.away(now) {
                    lost.push(node);
                }
            }
        }
        for node in &lost {
            self.part(*node);
        }
        if !lost.is_empty() {
            self.store_members();
        }
    }

    fn part(&mut self, node: NodeId) -> Option<Outsider> {
        let core = &mut self.core;
        let outsider = core.outsiders.remove(&node)?;
        core.gossip.remove(node);
        core.places.reached(node);
        core.outputs.push_back(Output::Part(node));
        core.event(Event::MemberForgotten {
            name: outsider.member.name.clone(),
        });
        Some(outsider)
    }

    /// Somebody was forgotten at an operator's word; true if that is news.
    pub(super) fn take_leave(&mut self, member: Member, version: u64, since: Heard) -> bool {
        let id = member.id;
        let known = self.core.outsiders.get(&id);
        let stands = known.is_some_and(|known| version < known.version);
        if stands || id == self.core.me || self.core.decree.member(id).is_some() {
            return false;
        }
        let gone = Gone {
            member,
            version,
            since,
        };
        let news = self.core.places.forget(gone);
        if news {
            self.part(id);
        }
        news
    }

    /// An operator says that a node without a place in the ring will not come back.
    pub(super) fn forget_outsider(&mut self, origin: Origin, name: &str) -> Result<(), ErrorBody> {
        let id = NodeId::of_name(name);
        if self.has_heard(id) || id == self.core.me {
            let message = format!(
                "{name} has no place in the ring, and is up: stop it, and say so again once \
                 cluster status shows it down"
            );
            return Err(ErrorBody::new(ErrorCode::Conflict, message));
        }
        if let Some(outsider) = self.core.outsiders.get(&id).cloned() {
            let since = Heard::now(self.core.now.mono);
            let version = outsider.version.saturating_add(1);
            if !self.take_leave(outsider.member, version, since) {
                let message = "too many nodes were forgotten lately";
                return Err(ErrorBody::overloaded("members", message));
            }
            self.spread_members();
        }
        let answer = RingAnswer {
            note: format!("{name} had no place in the ring and is forgotten"),
            ..self.ring_answer()
        };
        self.core
            .reply(origin, Response::RingChange(Box::new(answer)));
        Ok(())
    }
}
