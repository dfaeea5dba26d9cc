//! What nodes say to each other, shown to the oracles that need no client to see a promise break.
//!
//! Each of them looks at what a node says against what it was told before, or against what lies on
//! its disk, long before somebody misses a value. Kept here is what they need to know of the past.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quorate_client::wire::Response;
use quorate_node::{
    event::Event as NodeEvent,
    healing::reap::{ReapMessage, Standing},
    message::{Message, ReplicaState, RpcId, Verdict},
    node::Node,
    ring_message::{Progress, RingMessage},
    store::{Table, aside::META_ASIDE_KEY, format},
};
use quorate_ring::{Decree, NodeId, Phase, Ring, RingEpoch, Token};

use crate::{
    history::{OpIndex, Outcome, place},
    options::Extras,
    oracle::{Ruling, age, handover, outside, rebuilt, receipts, votes::Votes},
    rng::nanos,
    workload::{Attempt, Call},
    world::World,
};

/// What a node was asked to take in by one question, which may come several times.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// The newest ring that it or the sender knew then.
    known: RingEpoch,
    token: u64,
    /// Its directory was being rebuilt, and takes in nothing older than this, as this was.
    too_old: Option<u64>,
    /// How often it came otherwise, and no receipt was given yet.
    sound: u32,
}

/// One life of a node's process.
#[derive(Debug, Default)]
struct Life {
    began: u64,
    /// Another has answered its introduction.
    heard: bool,
    /// It began on a directory of which something is still to be set aside.
    sets_aside: bool,
    taken: BTreeMap<(NodeId, RpcId), Taken>,
    /// Under which generation it first sent what.
    sent: BTreeMap<RpcId, u64>,
}

/// What was said, as far as it matters later.
#[derive(Debug, Default)]
pub struct Words {
    lives: BTreeMap<usize, Life>,
    votes: Votes,
    /// Who minted what, if one alone did.
    minters: BTreeMap<OpIndex, Option<usize>>,
    /// When a node last lost its directory, or the name that was in it.
    pub(crate) lost_at: BTreeMap<usize, u64>,
}

impl Words {
    fn life(&mut self, node: usize) -> &mut Life {
        self.lives.entry(node).or_default()
    }

    /// What a node's disk held until now, or will from now on, counts for nothing.
    pub fn lost(&mut self, node: usize, at: u64) {
        self.lost_at.insert(node, at);
    }

    /// A node mints a version for an operation.
    pub fn minted(&mut self, node: usize, index: OpIndex) {
        let minter = self.minters.entry(index).or_insert(Some(node));
        *minter = minter.filter(|known| *known == node);
    }

    /// An epoch is decided.
    pub fn decided(&mut self, epoch: u64) {
        self.votes.decided(epoch);
    }

    /// A node says something about its directory.
    pub fn note(&mut self, node: usize, event: &NodeEvent, at: u64) {
        if let NodeEvent::SetAside { .. } = event {
            self.life(node).sets_aside = false;
        }
        if let NodeEvent::Fenced { .. } = event {
            self.lost(node, at);
        }
    }
}

impl World {
    /// A process begins.
    pub(crate) fn begin_life(&mut self, node: usize) {
        let disk = &self.processes[node].disk;
        let life = Life {
            began: self.now,
            sets_aside: disk.synced(Table::Meta, META_ASIDE_KEY).is_some(),
            ..Life::default()
        };
        self.words.lives.insert(node, life);
    }

    /// A node is told something.
    pub(crate) fn note_told(&mut self, node: usize, from: NodeId, message: &Message) {
        if let Message::Greeted { .. } = message {
            self.words.life(node).heard = true;
        }
        let Message::Replicate {
            id,
            epoch,
            token,
            generation,
            ..
        } = message
        else {
            return;
        };
        let process = &self.processes[node];
        let Some(decree) = process.machine.as_ref().map(|machine| machine.decree()) else {
            return;
        };
        if *epoch < decree.epoch && !decree.admits(*epoch, Token::new(*token)) {
            return;
        }
        // A copy of another's directory may be of one that has agreed to nothing of the kind.
        let lost = self
            .rings
            .lost(process.id)
            .filter(|_| !self.options.extras.clone);
        let least = lost.map(|lost| lost.epoch << 32);
        let least = least.filter(|least| decree.suspends(process.id) && generation < least);
        let known = decree.epoch.max(*epoch);
        let new = Taken {
            known,
            token: *token,
            too_old: None,
            sound: 0,
        };
        let taken = self
            .words
            .life(node)
            .taken
            .entry((from, *id))
            .or_insert(new);
        taken.known = taken.known.max(known);
        taken.too_old = taken.too_old.or(least);
        taken.sound += u32::from(least.is_none());
    }

    /// A node has adopted a decree.
    pub(crate) fn adopted(&mut self, node: usize, decree: &Arc<Decree>) {
        self.judge_ring(decree);
        self.break_off(node, decree);
    }

    /// A node sends something to another.
    pub(crate) fn say(&mut self, from: usize, machine: &Node, to: NodeId, message: Message) {
        self.judge_said(from, machine, to, &message);
        self.send(from, to, message);
    }

    /// A node says something to another.
    fn judge_said(&mut self, node: usize, machine: &Node, to: NodeId, what: &Message) {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the rest is nothing that a node has to stand by"
        )]
        let ruling = match what {
            Message::Replicated {
                id,
                verdict: Verdict::Durable | Verdict::Stored,
            } => self.receipt(node, machine.decree(), (to, *id)),
            Message::Replicate { .. } => self.sends(node, machine.decree(), what),
            Message::Fetched {
                state: ReplicaState::Present(_),
                ..
            } => self.has_set_aside(node, machine.decree(), "shows a record"),
            Message::Reap {
                body:
                    ReapMessage::Voted {
                        standing: Standing::Good,
                        ..
                    },
                ..
            } => self.speaks(node, machine.decree(), "agrees to reap"),
            Message::Ring {
                message:
                    RingMessage::Voted {
                        epoch,
                        ballot,
                        vote,
                    },
                ..
            } => {
                let name = &self.processes[node].name;
                let (voter, about) = ((node, &name[..]), (epoch.get(), *ballot));
                self.words.votes.voted(voter, about, vote, self.now)
            }
            Message::Ring {
                message: RingMessage::Beat(progress),
                ..
            } => self.says_how_far(node, machine.decree(), progress),
            _ => Ok(()),
        };
        self.rule(ruling);
    }

    fn receipt(&mut self, node: usize, decree: &Decree, asked: (NodeId, RpcId)) -> Ruling {
        self.speaks(node, decree, "gives a receipt")?;
        let known = &mut self.words.life(node).taken;
        let Some(taken) = known.get(&asked).copied() else {
            return Ok(());
        };
        if taken.sound <= 1 {
            known.remove(&asked);
        } else if let Some(taken) = known.get_mut(&asked) {
            taken.sound -= 1;
        }
        let name = &self.processes[node].name;
        if taken.known < decree.epoch && decree.fences(Token::new(taken.token)) {
            return Err(receipts::across(
                name,
                (taken.known, decree.epoch),
                self.now,
            ));
        }
        match taken.too_old.filter(|_| taken.sound == 0) {
            Some(least) => Err(age::too_old(name, least, self.now)),
            None => Ok(()),
        }
    }

    /// Whether this process may vouch for anything.
    fn speaks(&mut self, node: usize, decree: &Decree, what: &str) -> Ruling {
        let me = self.processes[node].id;
        let life = self.words.life(node);
        // After a while a process that is alone is one of those that are.
        let patience = nanos(self.options.limits.ready_wait) / 10 * 9;
        let is_new = self.now < life.began + patience;
        let unheard = is_new && !life.heard && decree.concerned().iter().any(|other| *other != me);
        if unheard {
            let name = &self.processes[node].name;
            return Err(receipts::unheard(name, what, self.now));
        }
        self.has_set_aside(node, decree, what)
    }

    fn has_set_aside(&mut self, node: usize, decree: &Decree, what: &str) -> Ruling {
        if self.words.life(node).sets_aside && decree.voters.len() != 1 {
            let name = &self.processes[node].name;
            return Err(age::half_aside(name, what, self.now));
        }
        Ok(())
    }

    /// A node sends a state: the same once more, or one that it has read again.
    fn sends(&mut self, node: usize, decree: &Decree, message: &Message) -> Ruling {
        let Message::Replicate {
            id,
            token,
            key,
            record,
            generation,
            ..
        } = message
        else {
            return Ok(());
        };
        let first = *self.words.life(node).sent.entry(*id).or_insert(*generation);
        if *generation <= first {
            return Ok(());
        }
        self.words.life(node).sent.insert(*id, *generation);
        let number = self.workload.keys().iter().position(|known| known == key);
        let number = number.and_then(|number| u32::try_from(number).ok());
        let ring = decree.reading();
        let owners = ring
            .preference(Token::new(*token))
            .owners(usize::from(self.options.replicas));
        let (Some(number), true) = (number, owners.contains(&self.processes[node].id)) else {
            return Ok(());
        };
        if self.rotted.contains(&(node, number)) {
            return Ok(());
        }
        let Ok(sent) = format::decode(self.layout.bucket.0, key, record) else {
            return Ok(());
        };
        let clock = sent.container.clock();
        let is_current = match self.record(node, number) {
            Some(held) => clock.dominates(held.container.clock()),
            // It may not have reached the disk yet, or it was reaped.
            None => {
                let reaped = self.reaped_clocks.get(&number);
                reaped.is_none_or(|reaped| !reaped.dominates(clock))
            }
        };
        if is_current {
            return Ok(());
        }
        let name = &self.processes[node].name;
        Err(age::renewed(name, number, (first, *generation), self.now))
    }

    fn says_how_far(&self, node: usize, decree: &Decree, progress: &Progress) -> Ruling {
        let process = &self.processes[node];
        let is_in = match decree.phase {
            Phase::Stable => decree.ring.member(process.id).is_some(),
            Phase::Moving | Phase::Switched => decree.member(process.id).is_some(),
        };
        if is_in || !progress.clean || progress.epoch != decree.epoch.get() {
            return Ok(());
        }
        let hints = process.disk.hints().len();
        let records = process.disk.objects().map_or(0, |objects| objects.len());
        if hints == 0 && records == 0 {
            return Ok(());
        }
        let held = (records, hints);
        Err(outside::holds(
            &process.name,
            progress.epoch,
            held,
            self.now,
        ))
    }

    /// Looks at the records that a node has deleted.
    pub(crate) fn judge_handed(&mut self, node: usize) {
        let gone = self.processes[node].disk.take_objects_gone();
        if gone.is_empty() || !self.processes[node].is_up() {
            return;
        }
        for (stored, value) in gone {
            let key = self.layout.store_keys.iter().position(|key| *key == stored);
            if let Some(key) = key {
                let ruling = self.handed(node, key, &value);
                self.rule(ruling);
            }
        }
    }

    fn handed(&self, node: usize, key: usize, value: &bytes::Bytes) -> Ruling {
        let number = u32::try_from(key).expect("a run has few keys");
        let Some(machine) = self.processes[node].machine.as_ref() else {
            return Ok(());
        };
        let name = &self.workload.keys()[key];
        let Ok(gone) = format::decode(self.layout.bucket.0, name, value) else {
            return Ok(());
        };
        let clock = gone.container.clock();
        let reaped = self.reaped_clocks.get(&number);
        if reaped.is_some_and(|reaped| reaped.dominates(clock)) {
            return Ok(());
        }
        let has = |other: usize| {
            self.rotted.contains(&(other, number))
                || other != node
                    && self
                        .record(other, number)
                        .is_some_and(|record| record.container.clock().dominates(clock))
        };
        let (known, newest) = (machine.decree(), self.rings.newest());
        let rings = [known, newest].into_iter();
        let rings = rings.flat_map(|decree| [Some(&decree.ring), decree.old.as_ref()]);
        let lacking = |ring: &Ring| -> Vec<usize> {
            let owners = self.owners_in(ring, key).into_iter();
            owners.filter(|owner| !has(*owner)).collect()
        };
        let mut lacks: Vec<Vec<usize>> = rings.flatten().map(lacking).collect();
        if lacks.iter().any(Vec::is_empty) {
            return Ok(());
        }
        let lacking = lacks.swap_remove(0);
        let names = lacking.iter().map(|other| &self.processes[*other].name[..]);
        let names: Vec<&str> = names.collect();
        let holder = &self.processes[node].name;
        Err(handover::early(holder, number, &names, self.now))
    }

    /// Looks at the copies that an acknowledgement counts, of those whose directory is known to be
    /// lost: only what is in the new one counts.
    pub(crate) fn judge_counted(
        &mut self,
        node: usize,
        decree: &Decree,
        attempt: &Attempt,
        response: &Response,
    ) {
        if let (Call::Write(index), Response::Written(reply)) = (&attempt.call, response) {
            let ruling = self.counted(node, decree, *index, &reply.durable_on);
            self.rule(ruling);
        }
    }

    fn counted(&self, node: usize, decree: &Decree, index: OpIndex, named: &[String]) -> Ruling {
        let no_loss = self.options.extras == Extras::NONE || self.options.extras.lying_disk;
        if no_loss || self.words.minters.get(&index) != Some(&Some(node)) {
            return Ok(());
        }
        for name in named {
            let holder = self.layout.names.iter().position(|known| known == name);
            let Some(holder) = holder.filter(|holder| !self.covers(*holder, index)) else {
                continue;
            };
            if holder != node && !self.is_lost(decree, holder) {
                continue;
            }
            let (key, w) = (self.history.op(index).key, self.history.op(index).w);
            // Who stood in may have handed it on, and who owns it no more; then others have it.
            if holder == node || !self.layout.owners[place(key)].contains(&holder) {
                let all = 0..self.processes.len();
                if usize::from(w) <= all.filter(|node| self.covers(*node, index)).count() {
                    continue;
                }
            }
            let coordinator = &self.processes[node].name;
            return Err(receipts::lost(coordinator, key, name, self.now));
        }
        Ok(())
    }

    /// Whether a decree says that a directory is lost, and it was not lost once more since.
    fn is_lost(&self, decree: &Decree, node: usize) -> bool {
        let id = self.processes[node].id;
        let again = self.words.lost_at.get(&node);
        let lost = self.rings.lost(id);
        let once = lost.is_some_and(|lost| again.is_none_or(|again| *again < lost.at));
        once && decree.suspends(id)
    }

    /// Whether a node has an operation on its synced disk, as a record or a hint, or it was reaped.
    pub(crate) fn covers(&self, node: usize, index: OpIndex) -> bool {
        let op = self.history.op(index);
        let record = self.record(node, op.key);
        let covers = record.is_some_and(|record| {
            let clock = record.container.clock();
            op.dots.iter().any(|&dot| clock.covers(dot))
        });
        covers || self.is_kept(node, index) || self.was_reaped(index)
    }

    /// A ring names directories in place of some that were lost.
    pub(crate) fn judge_named(&mut self, before: &Decree, decree: &Decree) {
        for node in 0..self.processes.len() {
            let id = self.processes[node].id;
            if before.suspends(id) && !decree.suspends(id) && decree.directory(id).is_some() {
                let ruling = self.named(node, before);
                self.rule(ruling);
            }
        }
    }

    fn named(&self, node: usize, before: &Decree) -> Ruling {
        let id = self.processes[node].id;
        let Some(lost) = self.rings.lost_before(id) else {
            return Ok(());
        };
        let again = self.words.lost_at.get(&node);
        let again = again.is_some_and(|again| lost.at <= *again);
        if again || lost.ring != before.ring.hash() {
            return Ok(());
        }
        let owned = |key: u32| self.layout.owners[place(key)].contains(&node);
        let mut owned_by: BTreeSet<u32> = (0..)
            .take(self.layout.owners.len())
            .filter(|key| owned(*key))
            .collect();
        for (number, op) in (0_u32..).zip(&self.history.ops) {
            let early = matches!(op.outcome, Outcome::Acknowledged { at } if at < lost.at);
            let index = OpIndex(number);
            // What others stood in for may reach an owner only after that was read.
            if !early || op.lent || !owned_by.contains(&op.key) || self.covers(node, index) {
                continue;
            }
            owned_by.remove(&op.key);
            let others = self.layout.owners[place(op.key)].iter();
            let sound = |other: &&usize| {
                let again = self.words.lost_at.get(other);
                **other != node && again.is_none_or(|again| *again < lost.at)
            };
            let mut others = others.filter(sound);
            if let Some(other) = others.find(|other| self.covers(**other, index)) {
                let (name, other) = (&self.processes[node].name, &self.processes[*other].name);
                return Err(rebuilt::lacks(name, op.key, index, other, self.now));
            }
        }
        Ok(())
    }
}
