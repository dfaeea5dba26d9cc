//! Faults aimed at moments that chance rarely meets: the steps of a change of the ring, and the
//! first words of a directory that was put back.
//!
//! A ring begins to change: an owner whose disk is too slow to learn of it takes writes with the
//! old one in mind, and loses power; or one who is about to leave keeps what it stood in for,
//! since it alone does not reach whom that is for. A ring has changed: who has left is cut off
//! before it has handed anything over. Everything here is drawn from a stream of its own, and
//! there is only in runs that ask for it.

use std::sync::Arc;

use quorate_node::store::format;
use quorate_ring::{Decree, NodeId, Partition, Phase, Ring, Token};

use crate::{
    nemesis::Fault,
    world::{Event, World},
};

const MS: u64 = 1_000_000;
/// Requests for the key that changes hands, before the power goes and after.
const WANTED: u64 = 60;
const WANTED_AFTER: u64 = 3_000 * MS;
/// How long nobody hears of the one for whom others shall stand in.
const AWAY: u64 = 2_500 * MS;
/// How long disks are slow when a directory was put back.
const LATE: u64 = 900 * MS;
/// Requests for each key that only this directory has, and the time between two.
const HAUNTED: u64 = 12;
const HAUNTED_PACE: u64 = 15 * MS;

impl World {
    /// A ring that nobody had before is there.
    pub(crate) fn turn(&mut self, decree: &Arc<Decree>) {
        if !self.options.classes.turning || !self.faulty {
            return;
        }
        let Some(old) = &decree.old else {
            return;
        };
        let left = old.members().iter().map(|member| member.id);
        let left = left.filter(|id| decree.ring.member(*id).is_none());
        let left: Vec<usize> = left.filter_map(|id| self.number(id)).collect();
        let kind = self.turns.below(3);
        match decree.phase {
            Phase::Moving if kind == 0 => self.overtake(old, &decree.ring),
            Phase::Moving if !left.is_empty() => self.keep_apart(left[0], old, &decree.ring),
            Phase::Stable if kind != 0 && !left.is_empty() => {
                let lasts = self.turns.between(3_000, 12_000) * MS;
                self.cut_off(left[0], 0, lasts);
            }
            Phase::Moving | Phase::Switched | Phase::Stable => {}
        }
    }

    fn number(&self, id: NodeId) -> Option<usize> {
        self.processes.iter().position(|process| process.id == id)
    }

    /// The owners of a key in some ring.
    pub(crate) fn owners_in(&self, ring: &Ring, key: usize) -> Vec<usize> {
        let stored = &self.layout.store_keys[key];
        let (token, ..) = format::parse_object_key(stored).expect("made by the layout");
        let preference = ring.preference(Token::new(token));
        let owners = preference.owners(usize::from(self.options.replicas));
        owners.iter().filter_map(|id| self.number(*id)).collect()
    }

    /// A key goes from owners to others, and one of those that keep it hears of that late, and
    /// loses power with what it has taken in meanwhile.
    fn overtake(&mut self, old: &Ring, new: &Ring) {
        let first = self.turns.index(self.options.workload.keys);
        for at in 0..self.options.workload.keys {
            let key = (first + at) % self.options.workload.keys;
            let (before, after) = (self.owners_in(old, key), self.owners_in(new, key));
            let stays: Vec<usize> = before
                .iter()
                .copied()
                .filter(|o| after.contains(o))
                .collect();
            if stays.is_empty() || stays.len() == before.len() {
                continue;
            }
            let node = *self.turns.pick(&stays);
            let lasts = self.turns.between(10, 150) * MS;
            let down = self.turns.between(10, 300) * MS;
            let number = u32::try_from(key).expect("a run has few keys");
            self.inflict(Fault::SlowDisk(node, lasts));
            let crash = Fault::Crash(vec![(node, down)]);
            self.agenda.plan(self.now + lasts, Event::Fault(crash));
            for request in 0..WANTED {
                let early = self.now + request * (lasts / WANTED);
                let late = self.now + lasts + request * (WANTED_AFTER / WANTED);
                for when in [early, late] {
                    let wanted = Event::Fault(Fault::Wanted(number));
                    self.agenda.plan(when, wanted);
                }
            }
            return;
        }
    }

    /// Nobody hears of some node for a while, so that others stand in for it; and then one of them
    /// does not reach it for long.
    fn keep_apart(&mut self, leaver: usize, old: &Ring, new: &Ring) {
        let mut others: Vec<usize> = (0..self.processes.len()).collect();
        others.retain(|other| *other != leaver && self.takes_nothing(*other, old, new));
        if others.is_empty() {
            return;
        }
        let owner = *self.turns.pick(&others);
        let lasts = self.turns.between(9_000, 18_000) * MS;
        self.cut_off(owner, 0, AWAY);
        let links = vec![(leaver, owner), (owner, leaver)];
        let apart = Event::Fault(Fault::Cut(links, lasts));
        self.agenda.plan(self.now + AWAY + 1, apart);
    }

    /// Whether a member waits for nobody before the new ring is read.
    fn takes_nothing(&self, node: usize, old: &Ring, new: &Ring) -> bool {
        let id = self.processes[node].id;
        let place = |ring: &Ring, partition| {
            let owners = ring.list(partition).owners(usize::MAX);
            owners.iter().position(|owner| *owner == id)
        };
        let count = old.partitions().count();
        count == new.partitions().count()
            && old.member(id).is_some()
            && (0..count).map(Partition).all(|partition| {
                let after = place(new, partition);
                after.is_none_or(|after| place(old, partition).is_some_and(|old| old <= after))
            })
    }

    /// A directory was put back, and what the others say of it has to wait for their disks. Clients
    /// ask for what only this directory has: it was reaped.
    pub(crate) fn say_it_late(&mut self, node: usize, after: u64) {
        for other in (0..self.processes.len()).filter(|other| *other != node) {
            let slow = Event::Fault(Fault::SlowDisk(other, LATE));
            self.agenda.plan(self.now + after, slow);
        }
        for key in 0..u32::try_from(self.options.workload.keys).expect("a run has few keys") {
            let mut others = (0..self.processes.len()).filter(|other| *other != node);
            if self.bytes(node, key).is_none() || others.any(|o| self.bytes(o, key).is_some()) {
                continue;
            }
            for request in 0..HAUNTED {
                let when = self.now + after + request * HAUNTED_PACE;
                self.agenda.plan(when, Event::Fault(Fault::Wanted(key)));
            }
        }
    }
}
