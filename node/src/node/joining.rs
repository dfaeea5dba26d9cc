//! Nodes that have joined the cluster and are not in the ring: met, remembered, told of.
//!
//! Whoever is asked first makes a newcomer known to all; what is lost on the way comes with a later
//! beat, and the newcomer asks again for as long as it has no place. Where members are who have
//! moved (`places`) travels with it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use quorate_client::wire::{ErrorBody, ErrorCode};
use quorate_ring::{Decree, MEMBERS_MAX, Member, NodeId, Ring};

use super::{
    Node,
    ring::{Stored, meta},
};
use crate::{
    api::{Moment, Output},
    joining::{Newcomer, Outsider, Welcome, newcomers_from_bytes, newcomers_to_bytes},
    message::{Class, Message, RpcId},
    places::Heard,
    store::Write,
};

/// Where those who wait for a place are kept in [`Table::Meta`](crate::store::Table::Meta).
pub const META_MEMBERS_KEY: &[u8] = b"members";

impl Node {
    /// A node has joined the cluster: it is heard, and may be given a place in the ring.
    pub fn introduce(&mut self, member: Member) {
        let heard = Heard::now(self.core.now.mono);
        let id = member.id;
        if self.core.decree.member(id).is_some() {
            self.expect_at(id, &member.address);
            return;
        }
        self.meet(Outsider {
            member,
            version: 0,
            heard,
        });
    }

    /// Those whom this node knew before it was started. When they were last heard of it does not
    /// know: if nobody else does either, soon enough will be long ago.
    pub fn remember(&mut self, members: &[u8]) {
        let long = self.core.limits.forget_after.as_secs();
        for mut newcomer in newcomers_from_bytes(members) {
            newcomer.away_s = newcomer.away_s.max(long - long / 8);
            self.meet_newcomer(&newcomer);
        }
        self.pump();
    }

    /// Another member has been asked who is there.
    pub fn handle_members(&mut self, now: Moment, members: &[u8]) {
        self.core.now = now;
        self.take_members(members);
        self.pump();
    }

    /// A node of this cluster asks to join through us.
    ///
    /// # Errors
    ///
    /// `unavailable` while this node itself does not know what there is; `conflict` if a member of
    /// the ring is up at another address.
    pub fn welcome(&mut self, now: Moment, member: &Member) -> Result<Welcome, ErrorBody> {
        self.core.now = now;
        if !self.is_ready() {
            let message = "this node is not ready itself; ask another one, or again";
            return Err(ErrorBody::new(ErrorCode::Unavailable, message));
        }
        match self.core.decree.member(member.id) {
            Some(known) => self.readmit(&known.clone(), member)?,
            None => self.admit_newcomer(member)?,
        }
        let core = &self.core;
        let welcome = Welcome {
            cluster_name: core.cluster_name.clone(),
            ring: self.founding.to_bytes().into(),
            decree: core.decree.to_bytes().into(),
            catalogue: core.catalogue.to_bytes(),
            members: self.outsiders(),
        };
        self.pump();
        Ok(welcome)
    }

    fn admit_newcomer(&mut self, member: &Member) -> Result<(), ErrorBody> {
        let known = self.core.outsiders.get(&member.id);
        if known.is_some_and(|known| known.member == *member) {
            return Ok(());
        }
        if known.is_none() && MEMBERS_MAX <= self.core.outsiders.len() {
            let message = format!("{MEMBERS_MAX} nodes wait for a place in the ring already");
            return Err(ErrorBody::overloaded("members", message));
        }
        let known = known.map_or(0, |known| known.version);
        let version = known.max(self.core.places.version(member.id));
        let outsider = Outsider {
            member: member.clone(),
            version: version.saturating_add(1),
            heard: Heard::now(self.core.now.mono),
        };
        if self.meet(outsider) {
            self.spread_members();
        }
        Ok(())
    }

    /// Makes what is known of nodes durable, and known to all others.
    pub(super) fn spread_members(&mut self) {
        self.store_members();
        self.tell_members(&self.everybody_else());
    }

    /// Members of the ring, and those who wait for a place.
    pub(super) fn everybody_else(&self) -> Vec<NodeId> {
        let mut peers = self.core.decree.concerned();
        peers.extend(self.core.outsiders.keys().copied());
        peers.retain(|node| *node != self.core.me);
        peers
    }

    /// Another node knows these newcomers.
    pub(super) fn take_members(&mut self, members: &[u8]) {
        let mut changed = false;
        for newcomer in newcomers_from_bytes(members) {
            changed |= self.meet_newcomer(&newcomer);
        }
        if changed {
            self.store_members();
        }
        self.hold_place();
    }

    /// Tells peers who waits for a place.
    pub(super) fn tell_members(&mut self, peers: &[NodeId]) {
        let known = self.records(&self.core.decree);
        if known.is_empty() {
            return;
        }
        let (id, members) = (RpcId(0), newcomers_to_bytes(&known));
        let me = self.core.me;
        for to in peers.iter().filter(|to| **to != me) {
            let members = members.clone();
            self.core
                .send(*to, Class::Control, Message::Members { id, members });
        }
    }

    /// Asks for a connection to everybody in the ring, or on the way into or out of it.
    pub(super) fn meet_members(&mut self) {
        let core = &mut self.core;
        let old = core.decree.old.iter().flat_map(Ring::members);
        let all = core.decree.ring.members().iter().chain(old);
        let others = all.filter(|member| member.id != core.me);
        let others: Vec<_> = others.map(|member| core.located(member)).collect();
        core.outputs.extend(others.into_iter().map(Output::Meet));
    }

    /// Who has left the ring is still in the cluster and may come back, unless it is gone for good.
    pub(super) fn keep_those_who_left(&mut self, before: &Decree) {
        let heard = Heard::now(self.core.now.mono);
        for member in leavers(before) {
            if self.core.decree.member(member.id).is_none() {
                let (member, version) = (
                    self.core.located(member),
                    self.core.places.version(member.id),
                );
                self.core.places.leave(member.id);
                self.meet(Outsider {
                    member,
                    version,
                    heard,
                });
            }
        }
        let core = &mut self.core;
        for node in core.decree.concerned() {
            core.gossip.add(core.now.mono, node);
            let place = core.outsiders.remove(&node);
            let ringed = core.decree.member(node);
            if let (Some(place), Some(ringed)) = (place, ringed)
                && place.member.address != ringed.address
            {
                core.places
                    .moves(node, &place.member.address, place.version);
            }
        }
        self.meet_members();
    }

    /// Those to be remembered besides the members of `after`, which is about to be adopted. They
    /// are stored together with it: a node that stops in between would never again find who left.
    pub(super) fn members_after(&self, after: &Decree) -> Write {
        meta(META_MEMBERS_KEY, newcomers_to_bytes(&self.records(after)))
    }

    /// What is known of nodes besides that decree: who waits for a place in it, who has moved, and
    /// who was forgotten.
    fn records(&self, after: &Decree) -> Vec<Newcomer> {
        let core = &self.core;
        let now = core.now.mono;
        let mut all: BTreeMap<NodeId, Newcomer> = BTreeMap::new();
        for gone in core.places.gone() {
            let record = Newcomer {
                version: gone.version,
                away_s: gone.since.away(now).as_secs(),
                gone: true,
                ..Newcomer::from(&gone.member)
            };
            all.insert(gone.member.id, record);
        }
        for member in leavers(&core.decree) {
            all.insert(member.id, Newcomer::from(&core.located(member)));
        }
        for (id, outsider) in &core.outsiders {
            let record = Newcomer {
                version: outsider.version,
                away_s: outsider.heard.away(now).as_secs(),
                ..Newcomer::from(&outsider.member)
            };
            all.insert(*id, record);
        }
        for node in after.concerned() {
            all.remove(&node);
        }
        for (node, address, version) in core.places.moved() {
            if let Some(member) = after.member(node).or_else(|| core.decree.member(node)) {
                let record = Newcomer {
                    address: address.to_owned(),
                    version,
                    ..Newcomer::from(member)
                };
                all.insert(node, record);
            }
        }
        all.into_values().collect()
    }

    fn outsiders(&self) -> Bytes {
        newcomers_to_bytes(&self.records(&self.core.decree))
    }

    fn meet_newcomer(&mut self, newcomer: &Newcomer) -> bool {
        let Ok(member) = newcomer.member() else {
            return false;
        };
        let version = newcomer.version;
        let away = Duration::from_secs(newcomer.away_s);
        let heard = Heard::ago(self.core.now.mono, away);
        if newcomer.gone {
            return self.take_leave(member, version, heard);
        }
        if self.core.decree.member(member.id).is_some() {
            return version != 0 && self.relocate(member.id, &member.address, version);
        }
        self.meet(Outsider {
            member,
            version,
            heard,
        })
    }

    /// True if that is news.
    fn meet(&mut self, outsider: Outsider) -> bool {
        let core = &mut self.core;
        let (id, now) = (outsider.member.id, core.now.mono);
        if core.decree.member(id).is_some() || core.places.is_gone(id, outsider.version) {
            return false;
        }
        let full = MEMBERS_MAX <= core.outsiders.len();
        match core.outsiders.get_mut(&id) {
            Some(known) if !outsider.replaces(known) => {
                known.heard = known.heard.latest(outsider.heard, now);
                return false;
            }
            None if full => return false,
            None if core.limits.forget_after <= outsider.heard.away(now) => return false,
            Some(_) | None => {}
        }
        core.gossip.add(now, id);
        if id != core.me {
            let meet = Output::Meet(outsider.member.clone());
            core.outputs.push_back(meet);
        }
        core.outsiders.insert(id, outsider);
        true
    }

    pub(super) fn store_members(&mut self) {
        let after = self.desk.adopting.as_ref().unwrap_or(&self.core.decree);
        let members = self.members_after(after);
        self.store_ring(vec![members], Stored::Progress);
    }
}

/// Who is in the ring, or on its way out of it, and not gone for good.
fn leavers(decree: &Decree) -> impl Iterator<Item = &Member> {
    let old = decree.old.iter().flat_map(Ring::members);
    let all = decree.ring.members().iter().chain(old);
    all.filter(|member| !decree.dead.contains(&member.id))
}
