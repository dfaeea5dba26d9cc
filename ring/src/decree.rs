//! Decrees: what the members have agreed on, one for each epoch.
//!
//! A decree names the ring in force, or the two rings between which data is moving, and who votes
//! on the next epoch. It carries the hash of the decree before it, so that two histories cannot be
//! taken for one. Everything else about an epoch (who reads where, which tokens change hands) is a
//! function of its decree.
//!
//! Not decided here: how a decree is chosen, and when the next one may be.

use std::io::Cursor;

use crate::{
    codec::{BadRing, take},
    ids::{NodeId, NodeUuid, RingEpoch},
    member::Member,
    ring::{MEMBERS_MAX, Ring},
    token::Token,
};

const MAGIC: &[u8; 4] = b"QDCR";
const FORMAT: u16 = 2;
/// Longest note in bytes.
pub const NOTE_BYTES_MAX: usize = 1_000;
/// Most bytes that say which buckets there are.
pub const BUCKETS_BYTES_MAX: usize = 1 << 20;

/// The step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// One ring is in force.
    Stable = 1,
    /// New owners take in data; reads ask the old ring, writes need both.
    Moving = 2,
    /// Reads ask the new ring, writes need both.
    Switched = 3,
}

impl Phase {
    /// The word people and programs see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Moving => "moving",
            Self::Switched => "switched",
        }
    }
}

/// Who votes on the next epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voter {
    /// The member.
    pub node: NodeId,
    /// Its data directory: [`NodeUuid::ANY`] while no decree has named one, [`NodeUuid::NONE`]
    /// while the member is rebuilt.
    pub uuid: NodeUuid,
}

/// What one epoch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decree {
    /// Its number.
    pub epoch: RingEpoch,
    /// Hash of the decree before; zero for the first.
    pub previous: u128,
    /// The step.
    pub phase: Phase,
    /// Requests planned under an older epoch are carried out nowhere: the epoch of the stable
    /// decree from which the last change began, or that from which a member had to be rebuilt.
    pub base: RingEpoch,
    /// The ring in force; while a change is under way, the one it leads to.
    pub ring: Ring,
    /// The ring that is left; in a stable decree the one that was left last, if any.
    pub old: Option<Ring>,
    /// In order of node.
    pub voters: Vec<Voter>,
    /// Members that are gone for good, by the operator's word: nothing waits for them.
    pub dead: Vec<NodeId>,
    /// For people: what was agreed on, and if it was forced, by whom.
    pub note: String,
    /// Which buckets there are, in the form that those know who use them; empty until the first
    /// change.
    pub buckets: Vec<u8>,
}

impl Decree {
    /// The decree with which a cluster begins. Nobody's directory is named yet.
    #[must_use]
    pub fn founding(ring: Ring) -> Self {
        Self {
            epoch: ring.epoch(),
            previous: 0,
            phase: Phase::Stable,
            base: ring.epoch(),
            voters: voters(&ring, &[], |_| NodeUuid::ANY),
            ring,
            old: None,
            dead: Vec::new(),
            note: "founded".to_owned(),
            buckets: Vec::new(),
        }
    }

    /// The first step of a change to `ring`.
    #[must_use]
    pub fn moving(
        &self,
        ring: Ring,
        dead: Vec<NodeId>,
        note: String,
        uuid: impl Fn(NodeId) -> NodeUuid,
    ) -> Self {
        let old = self.ring.clone();
        Self {
            base: self.epoch,
            voters: voters(&old, &dead, |node| self.kept(node, &uuid)),
            ring,
            old: Some(old),
            dead,
            ..self.next(Phase::Moving, note)
        }
    }

    /// The step after all data has moved.
    #[must_use]
    pub fn switched(&self, uuid: impl Fn(NodeId) -> NodeUuid) -> Self {
        let next = self.next(Phase::Switched, self.note.clone());
        let voters = voters(&next.ring, &next.dead, |node| self.kept(node, &uuid));
        Self { voters, ..next }
    }

    /// The end of a change.
    #[must_use]
    pub fn settled(&self, uuid: impl Fn(NodeId) -> NodeUuid) -> Self {
        let next = self.next(Phase::Stable, self.note.clone());
        let voters = voters(&next.ring, &[], |node| self.kept(node, &uuid));
        Self { voters, ..next }
    }

    /// The way back from the first step: the old ring stays in force.
    #[must_use]
    pub fn aborted(&self, uuid: impl Fn(NodeId) -> NodeUuid) -> Option<Self> {
        let old = self.old.clone().filter(|_| self.phase == Phase::Moving)?;
        let next = self.next(Phase::Stable, format!("{}; aborted", self.note));
        Some(Self {
            voters: voters(&old, &[], |node| self.kept(node, &uuid)),
            old: Some(next.ring.clone()),
            ring: old,
            dead: Vec::new(),
            ..next
        })
    }

    /// The same ring, in which what these members held counts for nothing: they are rebuilt. What
    /// was asked under an older epoch is asked again, since they may have acknowledged it before.
    #[must_use]
    pub fn suspending(&self, nodes: &[NodeId], note: String) -> Self {
        let mut next = self.next(self.phase, note);
        next.base = next.epoch;
        for voter in &mut next.voters {
            if nodes.contains(&voter.node) {
                voter.uuid = NodeUuid::NONE;
            }
        }
        next
    }

    /// The same ring, in which these directories speak for their members.
    #[must_use]
    pub fn naming(&self, directories: &[Voter], note: String) -> Self {
        let mut next = self.next(self.phase, note);
        for voter in &mut next.voters {
            if let Some(named) = directories.iter().find(|named| named.node == voter.node) {
                voter.uuid = named.uuid;
            }
        }
        next
    }

    /// The same ring, with these buckets.
    #[must_use]
    pub fn defining(&self, buckets: Vec<u8>, note: String) -> Self {
        Self {
            buckets,
            ..self.next(self.phase, note)
        }
    }

    /// The directory that speaks for a member; none if it does not vote.
    #[must_use]
    pub fn directory(&self, node: NodeId) -> Option<NodeUuid> {
        let voter = self.voters.iter().find(|voter| voter.node == node);
        voter.map(|voter| voter.uuid)
    }

    /// True if what the member held before this decree counts for nothing.
    #[must_use]
    pub fn suspends(&self, node: NodeId) -> bool {
        self.directory(node) == Some(NodeUuid::NONE)
    }

    /// Only being rebuilt changes who speaks for a member; the others are named when they begin to
    /// vote.
    fn kept(&self, node: NodeId, uuid: &impl Fn(NodeId) -> NodeUuid) -> NodeUuid {
        self.directory(node).unwrap_or_else(|| uuid(node))
    }

    fn next(&self, phase: Phase, mut note: String) -> Self {
        while NOTE_BYTES_MAX < note.len() {
            note.pop();
        }
        Self {
            epoch: RingEpoch::new(self.epoch.get() + 1),
            previous: self.hash(),
            phase,
            note,
            ..self.clone()
        }
    }

    /// The ring that reads ask, under this decree's epoch.
    #[must_use]
    pub fn reading(&self) -> Ring {
        match (self.phase, &self.old) {
            (Phase::Moving, Some(old)) => old.at_epoch(self.epoch),
            _ => self.ring.at_epoch(self.epoch),
        }
    }

    /// The other ring that writes need, while a change is under way.
    #[must_use]
    pub fn other(&self) -> Option<Ring> {
        let old = self.old.as_ref()?;
        match self.phase {
            Phase::Stable => None,
            Phase::Moving => Some(self.ring.at_epoch(self.epoch)),
            Phase::Switched => Some(old.at_epoch(self.epoch)),
        }
    }

    /// True if the nodes of a token differ between the two rings of the last change.
    #[must_use]
    pub fn moved(&self, token: Token) -> bool {
        let Some(old) = &self.old else { return false };
        let (before, after) = (old.preference(token), self.ring.preference(token));
        before.owners(usize::MAX) != after.owners(usize::MAX)
    }

    /// True if a request that was planned under `epoch` may be carried out for that token: the
    /// epochs of one change are compatible wherever it moves nothing.
    #[must_use]
    pub fn admits(&self, epoch: RingEpoch, token: Token) -> bool {
        self.epoch <= epoch || self.base <= epoch && !self.moved(token)
    }

    /// True if what was taken in under an older epoch and is not acknowledged yet must not be.
    #[must_use]
    pub fn fences(&self, token: Token) -> bool {
        self.base == self.epoch || self.moved(token)
    }

    /// A member of either ring.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        let old = self.old.as_ref().and_then(|old| old.member(id));
        self.ring.member(id).or(old)
    }

    /// The members whose part in a change under way nothing can do without.
    #[must_use]
    pub fn concerned(&self) -> Vec<NodeId> {
        let old = self.old.iter().flat_map(Ring::members);
        let all = self.ring.members().iter().chain(old);
        let mut all: Vec<NodeId> = all.map(|member| member.id).collect();
        all.retain(|id| !self.dead.contains(id));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether the directory `uuid` of `node` votes on the next epoch.
    #[must_use]
    pub fn may_vote(&self, node: NodeId, uuid: NodeUuid) -> bool {
        let named = self.directory(node);
        named.is_some_and(|named| named == uuid || named == NodeUuid::ANY)
    }

    /// Identifies this decree and all before it.
    ///
    /// # Panics
    ///
    /// Never: reading from memory cannot fail.
    #[must_use]
    pub fn hash(&self) -> u128 {
        murmur3::murmur3_x64_128(&mut Cursor::new(self.to_bytes()), 0)
            .expect("reading from memory cannot fail")
    }

    /// This decree's bytes, for disk, wire and hash.
    ///
    /// # Panics
    ///
    /// Never: rings and member lists are bounded.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(FORMAT.to_le_bytes());
        out.extend(self.epoch.get().to_le_bytes());
        out.extend(self.previous.to_le_bytes());
        out.push(self.phase as u8);
        out.extend(self.base.get().to_le_bytes());
        let old = self.old.as_ref().map(Ring::to_bytes).unwrap_or_default();
        let count = |length: usize| u32::try_from(length).expect("rings and lists are bounded");
        let ring = self.ring.to_bytes();
        for bytes in [&ring, &old, self.note.as_bytes(), &self.buckets] {
            out.extend(count(bytes.len()).to_le_bytes());
            out.extend(bytes);
        }
        out.extend(count(self.voters.len()).to_le_bytes());
        for voter in &self.voters {
            out.extend(voter.node.get().to_le_bytes());
            out.extend(voter.uuid.get().to_le_bytes());
        }
        out.extend(count(self.dead.len()).to_le_bytes());
        for node in &self.dead {
            out.extend(node.get().to_le_bytes());
        }
        out
    }

    /// The reverse of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    ///
    /// If the bytes are damaged or of a newer format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadRing> {
        let mut rest = bytes;
        if &take::<4>(&mut rest)? != MAGIC {
            return Err(BadRing::Damaged);
        }
        let format = u16::from_le_bytes(take(&mut rest)?);
        if FORMAT < format {
            return Err(BadRing::NewerFormat(format));
        }
        let epoch = RingEpoch::new(u64::from_le_bytes(take(&mut rest)?));
        let previous = u128::from_le_bytes(take(&mut rest)?);
        let [phase] = take::<1>(&mut rest)?;
        let phase = [Phase::Stable, Phase::Moving, Phase::Switched]
            .into_iter()
            .find(|known| *known as u8 == phase)
            .ok_or(BadRing::Damaged)?;
        let base = RingEpoch::new(u64::from_le_bytes(take(&mut rest)?));
        let ring = Ring::from_bytes(take_block(&mut rest)?)?;
        let old = take_block(&mut rest)?;
        let old = (!old.is_empty())
            .then(|| Ring::from_bytes(old))
            .transpose()?;
        let text = std::str::from_utf8(take_block(&mut rest)?).map_err(|_| BadRing::Damaged)?;
        let buckets = if format < 2 {
            &[]
        } else {
            take_block(&mut rest)?
        };
        let mut voters = Vec::new();
        for _ in 0..take_count(&mut rest)? {
            let node = NodeId::new(u64::from_le_bytes(take(&mut rest)?));
            let uuid = NodeUuid::new(u128::from_le_bytes(take(&mut rest)?));
            voters.push(Voter { node, uuid });
        }
        let mut dead = Vec::new();
        for _ in 0..take_count(&mut rest)? {
            dead.push(NodeId::new(u64::from_le_bytes(take(&mut rest)?)));
        }
        let lacks = phase != Phase::Stable && old.is_none();
        let foreign = old.as_ref().is_some_and(|old| old.seed() != ring.seed());
        let long = NOTE_BYTES_MAX < text.len() || BUCKETS_BYTES_MAX < buckets.len();
        if !rest.is_empty() || lacks || foreign || long {
            return Err(BadRing::Damaged);
        }
        Ok(Self {
            epoch,
            previous,
            phase,
            base,
            ring,
            old,
            voters,
            dead,
            note: text.to_owned(),
            buckets: buckets.to_vec(),
        })
    }
}

fn voters(ring: &Ring, dead: &[NodeId], uuid: impl Fn(NodeId) -> NodeUuid) -> Vec<Voter> {
    let alive = ring.members().iter().map(|member| member.id);
    let alive = alive.filter(|node| !dead.contains(node));
    alive
        .map(|node| Voter {
            node,
            uuid: uuid(node),
        })
        .collect()
}

fn take_count(rest: &mut &[u8]) -> Result<usize, BadRing> {
    let count = u32::from_le_bytes(take(rest)?) as usize;
    if MEMBERS_MAX < count {
        return Err(BadRing::Damaged);
    }
    Ok(count)
}

fn take_block<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadRing> {
    let length = u32::from_le_bytes(take(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(length).ok_or(BadRing::Damaged)?;
    *rest = tail;
    Ok(head)
}
