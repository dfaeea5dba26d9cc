//! Whether this process may speak for its node: introduced to the others, and accepted or refused.
//!
//! A process introduces itself before anything of it counts. Until a majority of the ring's members
//! has taken note of it, and everybody who seems to be up, its copies do not count for reads (of
//! others; alone it answers reads of one copy after a second), it does not vote, and it mints under
//! a name of its own that no disk knows. One refusal is enough: the directory was restored, rolled
//! back or copied. Then it gets a new name, which the ring does not know, and is rebuilt.
//!
//! Not decided here: whom to refuse (`register`), and how a member is rebuilt (`rebuilding`).

use std::{collections::BTreeSet, time::Duration};

use quorate_gossip::Instant;
use quorate_ring::{NodeId, NodeUuid, RingEpoch};
use rand::RngExt as _;

use super::{
    Node,
    ring::{Stored, meta},
};
use crate::{
    core::{Notice, Voice},
    event::Event,
    identity::Identity,
    message::{Class, Message, RpcId},
    register::{Introduction, META_REGISTER_KEY, Opinion, Register, Trace},
    ring_message::RingMessage,
    store::{Write, aside::Why},
};

/// How often those are greeted that have not answered.
const AGAIN: Duration = Duration::from_millis(150);
/// How often one random other is greeted at other times, and how long a life of a directory lasts
/// that is written to.
const LIFE: Duration = Duration::from_secs(2);
/// Most of what was heard of others that is told at one time.
const TRACES_MAX: usize = 64;

/// What this process is to the others.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) register: Register,
    /// Counts what was new in the register, and what of it is on disk.
    versions: (u64, u64),
    /// The identity as it is on disk.
    durable: Identity,
    /// Who has taken note of this process.
    pub(super) heard: BTreeSet<NodeId>,
    /// Whose copies count for reads of a quorum, as far as they have said.
    pub(super) counting: BTreeSet<NodeId>,
    /// Enough have.
    accepted: bool,
    /// Enough have to mint under the directory's name.
    mints: bool,
    /// A new name is on its way to the disk.
    renaming: bool,
    /// The newest ring that somebody answered with.
    newest: RingEpoch,
    left: Option<NodeUuid>,
    pub(super) began: Instant,
    next: Instant,
    next_life: Instant,
    written: u64,
    told: usize,
}

impl Standing {
    pub(super) fn new(identity: Identity, register: Register, now: Instant) -> Self {
        Self {
            register,
            versions: (0, 0),
            durable: identity,
            heard: BTreeSet::new(),
            counting: BTreeSet::new(),
            accepted: false,
            mints: false,
            renaming: false,
            newest: RingEpoch::FIRST,
            left: None,
            began: now,
            next: now,
            next_life: now + LIFE,
            written: 0,
            told: 0,
        }
    }

    pub(super) const fn wakes(&self) -> Instant {
        self.next
    }

    pub(super) const fn is_accepted(&self) -> bool {
        self.accepted && !self.renaming
    }

    /// The least number of others that always meets itself: who began the last life of a directory
    /// was known to so many.
    const fn most_of(others: usize) -> usize {
        others / 2 + 1
    }
}

impl Node {
    /// What is known of others from before this process.
    pub fn recall(&mut self, register: &[u8]) {
        self.standing.register = Register::from_bytes(register);
    }

    /// Greets who has to be greeted; says who this is anew now and then.
    pub(super) fn standing_timeout(&mut self) {
        let now = self.core.now.mono;
        if now < self.standing.next {
            return;
        }
        self.standing.next = now + AGAIN;
        self.weigh();
        let others = self.others();
        let missing = others.iter().filter(|node| {
            !self.standing.heard.contains(node) || self.is_asked_whether_it_counts(**node)
        });
        let missing: Vec<NodeId> = missing.copied().collect();
        let settled = self.standing.accepted && missing.iter().all(|node| !self.core.is_up(*node));
        if settled {
            self.standing.next = now + LIFE;
            if !others.is_empty() {
                let one = self.core.rng.random_range(0..others.len());
                self.greet(others[one]);
            }
        } else {
            for node in missing {
                self.greet(node);
            }
        }
        self.live_on();
        self.tend();
        if self.is_to_rebuild() || self.core.decree.directory(self.core.me) == Some(NodeUuid::ANY) {
            self.standing_soon();
        }
    }

    /// There may be something to do.
    pub(super) fn standing_soon(&mut self) {
        let soon = self.core.now.mono + AGAIN;
        self.standing.next = self.standing.next.min(soon);
    }

    /// A directory that has been written to begins another life, so that a copy of it that is a
    /// few seconds old is recognised.
    fn live_on(&mut self) {
        let now = self.core.now.mono;
        let written = self.core.replica.written();
        let standing = &mut self.standing;
        if now < standing.next_life || !standing.accepted || standing.renaming {
            return;
        }
        standing.next_life = now + LIFE;
        if standing.written != written {
            standing.written = written;
            let mark = self.core.rng.random();
            let identity = self.core.replica.live_on(mark);
            self.store_ring(vec![identity.to_write()], Stored::Identity(identity));
        }
    }

    /// Everybody else in the ring, or on the way into or out of it.
    fn others(&self) -> Vec<NodeId> {
        let mut others = self.core.decree.concerned();
        others.retain(|node| *node != self.core.me);
        others
    }

    pub(super) fn greet(&mut self, to: NodeId) {
        let standing = &mut self.standing;
        let all: Vec<Trace> = standing.register.traces().copied().collect();
        let first = if all.len() <= TRACES_MAX {
            0
        } else {
            standing.told % all.len()
        };
        standing.told = first + TRACES_MAX;
        let Identity {
            uuid, boot, lives, ..
        } = standing.durable;
        let heard = all
            .iter()
            .cycle()
            .skip(first)
            .take(all.len().min(TRACES_MAX));
        let message = Message::Greet {
            id: RpcId(0),
            who: Introduction { uuid, boot, lives },
            left: standing.left,
            heard: heard.copied().collect(),
        };
        self.core.send(to, Class::Control, message);
    }

    /// Somebody introduces itself. It is answered when what it told is on disk.
    pub(super) fn greeted_by(
        &mut self,
        from: NodeId,
        who: &Introduction,
        left: Option<NodeUuid>,
        heard: &[Trace],
    ) {
        let register = &mut self.standing.register;
        let (opinion, mut news) = register.hear(from, who);
        if let Some(left) = left {
            news |= register.burn(from, left);
        }
        let mut own = false;
        for trace in heard.iter().take(TRACES_MAX) {
            if trace.node == self.core.me {
                own |= self.lost(trace);
            } else if self.core.knows(trace.node) {
                news |= self.standing.register.take(trace);
            }
        }
        let (number, mark) = who.lives.newest();
        let answer = Message::Greeted {
            id: RpcId(0),
            uuid: who.uuid,
            number,
            mark,
            opinion,
            epoch: self.core.decree.epoch,
            counts: self.counts(),
        };
        let (version, durable) = &mut self.standing.versions;
        *version += u64::from(news);
        if durable < version {
            let (version, core) = (*version, &self.core);
            self.standing.register.retain(|node| core.knows(node));
            let write: Write = meta(META_REGISTER_KEY, self.standing.register.to_bytes());
            let then = Stored::Register(version, from, Box::new(answer));
            self.store_ring(vec![write], then);
        } else {
            self.core.send(from, Class::Control, answer);
        }
        if own {
            self.refused("another member knows of a later life of this data directory");
        }
    }

    /// What is known of others is on disk as of that version.
    pub(super) fn register_stored(&mut self, version: u64, to: NodeId, answer: Message) {
        let durable = &mut self.standing.versions.1;
        *durable = version.max(*durable);
        self.core.send(to, Class::Control, answer);
    }

    /// Whether that is a life of this directory that it does not remember.
    fn lost(&self, trace: &Trace) -> bool {
        let durable = &self.standing.durable;
        trace.uuid == durable.uuid
            && (trace.burnt || durable.lives.include(trace.number, trace.mark) == Some(false))
    }

    /// Somebody says what it makes of this process.
    pub(super) fn greeting_answered(&mut self, from: NodeId, message: &Message) {
        let Message::Greeted {
            uuid,
            number,
            mark,
            opinion,
            epoch,
            counts,
            ..
        } = *message
        else {
            return;
        };
        let durable = self.standing.durable;
        if uuid != durable.uuid {
            return;
        }
        match durable.lives.include(number, mark) {
            // It is about a process that is not this one, and none before it.
            Some(false) if durable.lives.newest().0 <= number => {
                return self.refused("another process uses a copy of this data directory");
            }
            Some(false) | None => return,
            Some(true) => {}
        }
        if self.core.decree.epoch < epoch {
            self.send_ring(from, RpcId(0), RingMessage::Want);
        }
        self.standing.newest = self.standing.newest.max(epoch);
        match opinion {
            // About a life that is over it says that there is a later one.
            Opinion::Refused if (number, mark) != durable.lives.newest() => return,
            Opinion::Refused => {
                return self.refused("another member knows of a later life of this data directory");
            }
            Opinion::Another => self.was_another(),
            Opinion::Welcome => {}
        }
        self.standing.heard.insert(from);
        if counts {
            self.standing.counting.insert(from);
        } else {
            self.standing.counting.remove(&from);
        }
        self.weigh();
    }

    /// The node had another directory before: if the ring names none, that could be the one.
    fn was_another(&mut self) {
        let named = self.core.decree.directory(self.core.me);
        if named == Some(NodeUuid::ANY) && !self.core.replica.identity().rebuilding {
            self.set_rebuilding(true);
        }
    }

    /// Whether enough others have taken note.
    pub(super) fn weigh(&mut self) {
        let others = self.others();
        let standing = &self.standing;
        let known = |node: &&NodeId| standing.heard.contains(node);
        let heard = others.iter().filter(known).count();
        let one = usize::from(self.core.decree.directory(self.core.me).is_some());
        let majority = others.len() + one < 2 * (heard + one);
        let now = self.core.now.mono;
        let waited = standing.began + self.core.limits.ready_wait <= now;
        let up = others.iter().filter(|node| self.core.is_up(**node));
        let all = up.clone().all(|node| standing.heard.contains(node));
        let current = standing.newest <= self.core.decree.epoch;
        let accepts = majority && current && (all || waited);
        let mints = others.is_empty() || Standing::most_of(others.len()) <= heard;
        let standing = &mut self.standing;
        if !standing.renaming {
            standing.accepted |= accepts;
            if standing.accepted && mints && !standing.mints {
                standing.mints = true;
                self.core.replica.mint_as_directory();
            }
        }
        self.stand();
    }

    /// Tells the replica whether what it holds counts.
    pub(super) fn stand(&mut self) {
        let aside = self.core.sets_aside;
        let rebuilding = self.is_to_rebuild() || self.standing.renaming || aside;
        let accepted = self.standing.is_accepted();
        // A directory that no decree names may be a new one in place of one that was lost, however
        // often it was opened.
        let core = &mut self.core;
        let uuid = core.replica.identity().uuid;
        let is_named = core.decree.directory(core.me) == Some(uuid);
        let waited = self.standing.began + core.limits.ready_wait <= core.now.mono;
        core.voice = if rebuilding && !accepted && !waited {
            // It may have been rebuilt since, and what it believes of itself may be old.
            Voice::Unheard
        } else if rebuilding {
            Voice::Rebuilding
        } else if accepted {
            Voice::Full
        } else if waited && is_named {
            Voice::Alone
        } else {
            Voice::Unheard
        };
        core.replica.set_counts(accepted && !rebuilding);
        if core.vouches() {
            let now_known = std::mem::take(&mut core.unvouched);
            let told = now_known.into_iter();
            core.notices
                .extend(told.map(|(key, done)| (key, Notice::Local(done))));
        }
    }

    /// Whether this directory may have lost what its node has acknowledged.
    pub(super) fn is_to_rebuild(&self) -> bool {
        let identity = self.core.replica.identity();
        let decree = &self.core.decree;
        match decree.directory(self.core.me) {
            // Nobody else has anything: what is here is all there is.
            Some(_) if decree.voters.len() == 1 => false,
            Some(named) if named != NodeUuid::ANY => named != identity.uuid,
            Some(_) | None => identity.rebuilding,
        }
    }

    /// This directory must not go on under its name.
    fn refused(&mut self, reason: &'static str) {
        if self.standing.renaming {
            return;
        }
        let before = *self.core.replica.identity();
        self.core.event(Event::Fenced {
            uuid: before.uuid,
            reason,
        });
        let random = |node: &mut Self| NodeUuid::new(node.core.rng.random());
        let (apart, uuid) = (random(self), random(self));
        self.core.replica.mint_apart(apart);
        let standing = &mut self.standing;
        standing.renaming = true;
        standing.accepted = false;
        standing.mints = false;
        standing.heard.clear();
        standing.left = Some(before.uuid);
        let identity = before.renamed(uuid);
        self.desk.moves.begin_anew();
        let mut writes = vec![identity.to_write()];
        writes.extend(self.begin_setting_aside(Why::Old));
        self.store_ring(writes, Stored::Identity(identity));
        self.stand();
    }

    /// An identity is on disk.
    pub(super) fn identity_stored(&mut self, identity: Identity) {
        let core = &mut self.core;
        let renamed = identity.uuid != self.standing.durable.uuid;
        self.standing.durable = identity;
        if renamed {
            core.replica.rename(identity);
            core.gossip.rename(identity.uuid, identity.boot);
            self.standing.renaming = false;
            self.standing.began = core.now.mono;
            self.asides.is_written();
        }
        self.standing.next = core.now.mono;
        for node in self.others() {
            self.greet(node);
        }
        self.stand();
    }

    /// There was no space for it: a new name is tried again, the rest can wait.
    pub(super) fn identity_not_stored(&mut self, identity: Identity) {
        if identity.uuid != self.standing.durable.uuid {
            let mut writes = vec![identity.to_write()];
            writes.extend(self.asides.beginning());
            self.store_ring(writes, Stored::Identity(identity));
        }
    }

    pub(super) fn set_rebuilding(&mut self, rebuilding: bool) {
        let identity = self.core.replica.set_rebuilding(rebuilding);
        self.store_ring(vec![identity.to_write()], Stored::Identity(identity));
        self.stand();
    }
}
