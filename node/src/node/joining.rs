//! Nodes that have joined the cluster and are not in the ring: met, remembered, told of.
//!
//! Whoever is asked first makes a newcomer known to all; what is lost on the way comes with a later
//! beat, and the newcomer asks again for as long as it has no place.

use std::collections::BTreeMap;

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
    store::Write,
};

/// Where those who wait for a place are kept in [`Table::Meta`](crate::store::Table::Meta).
pub const META_MEMBERS_KEY: &[u8] = b"members";

impl Node {
    /// A node has joined the cluster: it is heard, and may be given a place in the ring.
    pub fn introduce(&mut self, member: Member) {
        self.meet(Outsider { member, version: 0 });
    }

    /// Those whom this node knew before it was started.
    pub fn remember(&mut self, members: &[u8]) {
        for newcomer in newcomers_from_bytes(members) {
            self.meet_newcomer(&newcomer);
        }
    }

    /// A node of this cluster asks to join through us.
    ///
    /// # Errors
    ///
    /// `unavailable` while this node itself does not know what there is; `conflict` if another
    /// address is known for a member of the ring.
    pub fn welcome(&mut self, now: Moment, member: &Member) -> Result<Welcome, ErrorBody> {
        self.core.now = now;
        if !self.is_ready() {
            let message = "this node is not ready itself; ask another one, or again";
            return Err(ErrorBody::new(ErrorCode::Unavailable, message));
        }
        match self.core.decree.member(member.id) {
            Some(known) if known.address != member.address => {
                let (name, is, says) = (&known.name, &known.address, &member.address);
                let message = format!(
                    "the ring has {name} at {is}, not at {says}: give it back its address \
                     (--advertise {is}), or let another node replace it"
                );
                return Err(ErrorBody::new(ErrorCode::Conflict, message));
            }
            Some(_) => {}
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
        let version = known.map_or(1, |known| known.version + 1);
        let member = member.clone();
        if self.meet(Outsider { member, version }) {
            self.store_members();
            let mut peers = self.core.decree.concerned();
            peers.extend(self.core.outsiders.keys().copied());
            for node in peers {
                self.tell_members(node);
            }
        }
        Ok(())
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
    }

    /// Tells a peer who waits for a place.
    pub(super) fn tell_members(&mut self, to: NodeId) {
        if to != self.core.me && !self.core.outsiders.is_empty() {
            let members = self.outsiders();
            let id = RpcId(0);
            self.core
                .send(to, Class::Control, Message::Members { id, members });
        }
    }

    /// Asks for a connection to everybody in the ring, or on the way into or out of it.
    pub(super) fn meet_members(&mut self) {
        let core = &mut self.core;
        let old = core.decree.old.iter().flat_map(Ring::members);
        let all = core.decree.ring.members().iter().chain(old);
        let others = all.filter(|member| member.id != core.me);
        core.outputs.extend(others.cloned().map(Output::Meet));
    }

    /// Who has left the ring is still in the cluster and may come back, unless it is gone for good.
    pub(super) fn keep_those_who_left(&mut self, before: &Decree) {
        for member in leavers(before) {
            self.introduce(member.clone());
        }
        for node in self.core.decree.concerned() {
            self.core.gossip.add(self.core.now.mono, node);
            self.core.outsiders.remove(&node);
        }
        self.meet_members();
    }

    /// Those to be remembered besides the members of `after`, which is about to be adopted. They
    /// are stored together with it: a node that stops in between would never again find who left.
    pub(super) fn members_after(&self, after: &Decree) -> Write {
        let leaving = leavers(&self.core.decree).map(Newcomer::from);
        let waiting = self.core.outsiders.values().map(Newcomer::from);
        let mut all: BTreeMap<NodeId, Newcomer> = BTreeMap::new();
        for newcomer in leaving.chain(waiting) {
            all.insert(NodeId::of_name(&newcomer.name), newcomer);
        }
        for node in after.concerned() {
            all.remove(&node);
        }
        let all: Vec<Newcomer> = all.into_values().collect();
        meta(META_MEMBERS_KEY, newcomers_to_bytes(&all))
    }

    fn outsiders(&self) -> Bytes {
        let outsiders = self.core.outsiders.values();
        newcomers_to_bytes(&outsiders.map(Newcomer::from).collect::<Vec<_>>())
    }

    fn meet_newcomer(&mut self, newcomer: &Newcomer) -> bool {
        newcomer.member().is_ok_and(|member| {
            let version = newcomer.version;
            self.meet(Outsider { member, version })
        })
    }

    /// True if that is news.
    fn meet(&mut self, outsider: Outsider) -> bool {
        let core = &mut self.core;
        let id = outsider.member.id;
        if core.decree.member(id).is_some() {
            return false;
        }
        match core.outsiders.get(&id) {
            Some(known) if !outsider.replaces(known) => return false,
            None if MEMBERS_MAX <= core.outsiders.len() => return false,
            Some(_) | None => {}
        }
        core.gossip.add(core.now.mono, id);
        if id != core.me {
            let meet = Output::Meet(outsider.member.clone());
            core.outputs.push_back(meet);
        }
        core.outsiders.insert(id, outsider);
        true
    }

    fn store_members(&mut self) {
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
