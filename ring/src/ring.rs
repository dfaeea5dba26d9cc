//! The ring: members, and an ordered preference list for every partition.
//!
//! A ring is a value: it never changes, its successor has the next epoch and names its hash. Two
//! nodes that compute a ring from the same arguments get the same bytes.
//!
//! Not decided here: which ring is in force, how nodes agree on the next one, how data moves.

use std::collections::BTreeMap;

use crate::{
    assign::{self, Candidate, Lists},
    ids::{NodeId, RingEpoch},
    member::Member,
    partition::{Partition, Partitions},
    token::Token,
};

/// Most members of a ring.
pub const MEMBERS_MAX: usize = 1_000;

/// Why a ring cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// No members.
    #[error("a ring needs at least one member")]
    Empty,
    /// Too many members.
    #[error("a ring has at most {MEMBERS_MAX} members, not {0}")]
    TooMany(usize),
    /// Two members with one id: the same name twice, or names whose hashes collide.
    #[error("two members cannot be told apart: {0:?} and {1:?}")]
    SameId(String, String),
}

/// Who holds what, as of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    pub(crate) epoch: RingEpoch,
    pub(crate) seed: u32,
    pub(crate) partitions: Partitions,
    pub(crate) replicas_max: u8,
    /// Hash of the ring before; zero for the first.
    pub(crate) previous: u128,
    /// In order of id.
    pub(crate) members: Vec<Member>,
    /// `length` nodes for each partition, one after the other.
    pub(crate) lists: Vec<NodeId>,
    pub(crate) length: usize,
}

/// A key's nodes, best first.
#[derive(Clone, Copy, Debug)]
pub struct Preference<'a> {
    /// The key's partition.
    pub partition: Partition,
    list: &'a [NodeId],
}

impl<'a> Preference<'a> {
    /// The first `n` nodes, or all if there are fewer: the replicas of a bucket with that n.
    #[must_use]
    pub fn owners(&self, n: usize) -> &'a [NodeId] {
        &self.list[..n.min(self.list.len())]
    }
}

impl Ring {
    /// The first ring of a cluster. Lists hold `replicas_max` nodes, or all where there are fewer.
    ///
    /// # Errors
    ///
    /// If there are no members, too many, or two of the same id.
    pub fn founding(
        members: Vec<Member>,
        partitions: Partitions,
        seed: u32,
        replicas_max: u8,
    ) -> Result<Self, RingError> {
        let members = sorted(members)?;
        let length = members.len().min(usize::from(replicas_max.max(1)));
        let nodes = candidates(&members);
        let lists = assign::found(&nodes, partitions.count() as usize, length);
        Ok(Self {
            epoch: RingEpoch::FIRST,
            seed,
            partitions,
            replicas_max,
            previous: 0,
            lists: flatten(&members, &lists),
            members,
            length,
        })
    }

    /// The next ring, for other members, with as few moves as balance and zones allow.
    ///
    /// # Errors
    ///
    /// As [`founding`](Self::founding).
    pub fn successor(&self, members: Vec<Member>) -> Result<Self, RingError> {
        self.successor_with(members, &BTreeMap::new())
    }

    /// As [`successor`](Self::successor), where some members have taken the places of others.
    pub(crate) fn successor_with(
        &self,
        members: Vec<Member>,
        stand_ins: &BTreeMap<NodeId, NodeId>,
    ) -> Result<Self, RingError> {
        let members = sorted(members)?;
        let length = members.len().min(usize::from(self.replicas_max.max(1)));
        let index: BTreeMap<NodeId, usize> = members
            .iter()
            .enumerate()
            .map(|(at, member)| (member.id, at))
            .collect();
        let place = |id: &NodeId| index.get(stand_ins.get(id).unwrap_or(id)).copied();
        let old = self.lists.chunks(self.length);
        let old: Vec<Vec<Option<usize>>> =
            old.map(|list| list.iter().map(place).collect()).collect();
        let nodes = candidates(&members);
        let lists = if self.places_stay(&members, stand_ins) {
            // Nobody's share changes, so nothing else may.
            let list = |list: Vec<Option<usize>>| list.into_iter().flatten().collect();
            Vec::into_iter(old).map(list).collect()
        } else {
            assign::adapt(&nodes, old, length)
        };
        Ok(Self {
            epoch: RingEpoch::new(self.epoch.get() + 1),
            seed: self.seed,
            partitions: self.partitions,
            replicas_max: self.replicas_max,
            previous: self.hash(),
            lists: flatten(&members, &lists),
            members,
            length,
        })
    }

    /// True if every member, or who takes its places, has the same zone and weight.
    fn places_stay(&self, members: &[Member], stand_ins: &BTreeMap<NodeId, NodeId>) -> bool {
        let same = |old: &Member| {
            let id = stand_ins.get(&old.id).unwrap_or(&old.id);
            let found = members.iter().find(|member| member.id == *id);
            found.is_some_and(|new| new.zone == old.zone && new.weight == old.weight)
        };
        members.len() == self.members.len() && self.members.iter().all(same)
    }

    /// The same places under twice or half as many partitions; none for other numbers. Where two
    /// partitions become one, it is where the first of them was.
    pub(crate) fn resized(&self, partitions: Partitions) -> Option<Self> {
        let (before, after) = (self.partitions.count(), partitions.count());
        let lists = self.lists.chunks(self.length);
        let lists: Vec<NodeId> = if after == 2 * before {
            lists.flat_map(|list| [list, list].concat()).collect()
        } else if before == 2 * after {
            lists.step_by(2).flatten().copied().collect()
        } else if before == after {
            self.lists.clone()
        } else {
            return None;
        };
        Some(Self {
            partitions,
            lists,
            ..self.clone()
        })
    }

    /// The same ring under another epoch.
    #[must_use]
    pub fn at_epoch(&self, epoch: RingEpoch) -> Self {
        Self {
            epoch,
            ..self.clone()
        }
    }

    /// The same ring, with members where they are now; `None` leaves a member where it was.
    #[must_use]
    pub fn relocated<'a>(&self, place: impl Fn(NodeId) -> Option<&'a str>) -> Self {
        let mut ring = self.clone();
        for member in &mut ring.members {
            if let Some(address) = place(member.id) {
                address.clone_into(&mut member.address);
            }
        }
        ring
    }

    /// The number of this ring.
    #[must_use]
    pub const fn epoch(&self) -> RingEpoch {
        self.epoch
    }

    /// The seed of the cluster's tokens.
    #[must_use]
    pub const fn seed(&self) -> u32 {
        self.seed
    }

    /// How the token space is cut.
    #[must_use]
    pub const fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// Most replicas a key of this cluster may have at present.
    #[must_use]
    pub fn replicas_max(&self) -> u8 {
        u8::try_from(self.length).unwrap_or(u8::MAX)
    }

    /// Most replicas a key of this cluster may ever have, however many members there are.
    #[must_use]
    pub const fn replicas_limit(&self) -> u8 {
        self.replicas_max
    }

    /// All members, in order of id.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// One member.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        let at = self
            .members
            .binary_search_by_key(&id, |member| member.id)
            .ok()?;
        Some(&self.members[at])
    }

    /// The nodes of a token, best first.
    #[must_use]
    pub fn preference(&self, token: Token) -> Preference<'_> {
        self.list(self.partitions.of(token))
    }

    /// The nodes of a partition, best first.
    ///
    /// # Panics
    ///
    /// If there is no such partition.
    #[must_use]
    pub fn list(&self, partition: Partition) -> Preference<'_> {
        let start = partition.0 as usize * self.length;
        let list = &self.lists[start..start + self.length];
        Preference { partition, list }
    }

    /// Nodes that may stand in for the first `n`: the rest of the list, then the remaining members
    /// as they come up along the ring.
    pub fn fallbacks(&self, partition: Partition, n: usize) -> impl Iterator<Item = NodeId> + '_ {
        let list = self.list(partition).list;
        let mut seen = list.to_vec();
        let along = self
            .lists
            .iter()
            .cycle()
            .skip((partition.0 as usize + 1) * self.length);
        let along = along.take(self.lists.len()).copied();
        let idle = self.members.iter().map(|member| member.id);
        let rest = along.chain(idle).filter(move |node| {
            let new = !seen.contains(node);
            if new {
                seen.push(*node);
            }
            new
        });
        list.iter().skip(n).copied().chain(rest)
    }
}

fn sorted(mut members: Vec<Member>) -> Result<Vec<Member>, RingError> {
    if members.is_empty() {
        return Err(RingError::Empty);
    }
    if MEMBERS_MAX < members.len() {
        return Err(RingError::TooMany(members.len()));
    }
    members.sort_by(|a, b| (a.id, &a.name).cmp(&(b.id, &b.name)));
    if let Some([a, b]) = members.array_windows().find(|[a, b]| a.id == b.id) {
        return Err(RingError::SameId(a.name.clone(), b.name.clone()));
    }
    Ok(members)
}

fn candidates(members: &[Member]) -> Vec<Candidate> {
    let mut zones: Vec<&str> = members.iter().map(|member| member.zone.as_str()).collect();
    zones.sort_unstable();
    zones.dedup();
    let zone = |name: &str| {
        zones
            .binary_search(&name)
            .expect("collected from the same members")
    };
    let candidate = |member: &Member| Candidate {
        zone: zone(&member.zone),
        weight: u64::from(member.weight),
    };
    members.iter().map(candidate).collect()
}

fn flatten(members: &[Member], lists: &Lists) -> Vec<NodeId> {
    lists.iter().flatten().map(|at| members[*at].id).collect()
}
