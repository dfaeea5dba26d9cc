//! Plans: the ring that follows from staged changes, and what it costs.
//!
//! A function of (ring, staged changes), the same on every node; its digest names the outcome, so
//! that what is committed is what was shown.
//!
//! Not decided here: whether the change is made, and how data follows.

use std::{collections::BTreeMap, io::Cursor};

use crate::{
    decree::Decree,
    ids::NodeId,
    member::Member,
    partition::{Partition, Partitions},
    ring::{Ring, RingError},
    staged::{Change, Staged},
};

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing is staged.
    #[error("nothing is staged; see quorate ring stage --help")]
    Nothing,
    /// A node that is to change is no member.
    #[error("{0:?} is not a member of the ring")]
    NoMember(String),
    /// A node that is to join is one already.
    #[error("{0:?} is a member of the ring already")]
    Member(String),
    /// Not a number of partitions.
    #[error("{0} partitions are not possible: a power of two from 8 to 65,536, twice or half")]
    Partitions(u32),
    /// The ring cannot be made.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A weight or a zone that cannot be.
    #[error("{0}")]
    Setting(String),
}

/// One replica that changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Move {
    /// The partition, as the new ring numbers it.
    pub partition: Partition,
    /// Who gives its place up, or holds a copy if nobody does.
    pub from: NodeId,
    /// Who gets it.
    pub to: NodeId,
}

/// What staged changes lead to.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The ring to come.
    pub ring: Ring,
    /// Members given up by the operator.
    pub dead: Vec<NodeId>,
    /// What changes hands among the first n places.
    pub moves: Vec<Move>,
    /// Replicas among the first n places now and then, per node.
    pub held: BTreeMap<NodeId, (u64, u64)>,
    /// Fullest node over the mean, per weight, before and after.
    pub balance: (f64, f64),
    /// Replicas that move, as a fraction of all.
    pub moved_share: f64,
    /// The least that any plan with this outcome for the nodes would move.
    pub minimum_share: f64,
    /// What the operator should know first.
    pub warnings: Vec<String>,
    /// Names this plan.
    pub digest: String,
}

impl Plan {
    /// Plans the staged changes of a decree's ring for buckets of up to `n` replicas.
    ///
    /// # Errors
    ///
    /// If nothing is staged, or it makes no ring.
    ///
    /// # Panics
    ///
    /// Never: reading from memory cannot fail.
    pub fn new(decree: &Decree, staged: &Staged, n: usize) -> Result<Self, PlanError> {
        let old = &decree.ring;
        if staged.base() != decree.epoch || staged.changes().next().is_none() {
            return Err(PlanError::Nothing);
        }
        let (ring, dead) = outcome(old, staged)?;
        let mut bytes = ring.to_bytes();
        bytes.extend(old.hash().to_le_bytes());
        for node in &dead {
            bytes.extend(node.get().to_le_bytes());
        }
        let hash = murmur3::murmur3_x64_128(&mut Cursor::new(bytes), 0)
            .expect("reading from memory cannot fail");
        let moves = moves(old, &ring, n);
        let held = held(old, &ring, n);
        let places = places(&ring, n);
        Ok(Self {
            balance: (balance(old, n), balance(&ring, n)),
            moved_share: ratio(moves.len() as u64, places),
            minimum_share: minimum(old, &ring, n),
            warnings: warnings(old, &ring, &dead, n),
            digest: format!("{:012x}", hash & 0xffff_ffff_ffff),
            ring,
            dead,
            moves,
            held,
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of places are far below 2^52"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn places(ring: &Ring, n: usize) -> u64 {
    let list = n.min(usize::from(ring.replicas_max())) as u64;
    u64::from(ring.partitions().count()) * list
}

fn outcome(old: &Ring, staged: &Staged) -> Result<(Ring, Vec<NodeId>), PlanError> {
    let mut members = old.members().to_vec();
    let mut stand_ins = BTreeMap::new();
    let mut dead = Vec::new();
    let mut base = old.clone();
    let find = |members: &[Member], name: &str| {
        let at = members.iter().position(|member| member.name == name);
        at.ok_or_else(|| PlanError::NoMember(name.to_owned()))
    };
    let fresh = |members: &[Member], member: &Member| {
        if members.iter().any(|known| known.name == member.name) {
            return Err(PlanError::Member(member.name.clone()));
        }
        Ok(member.clone())
    };
    for change in staged.changes() {
        match change {
            Change::Join(member) => members.push(fresh(&members, member)?),
            Change::Leave(name) => {
                members.remove(find(&members, name)?);
            }
            Change::Remove(name) => dead.push(members.remove(find(&members, name)?).id),
            Change::Replace(name, member) => {
                let member = fresh(&members, member)?;
                let at = find(&members, name)?;
                stand_ins.insert(members[at].id, member.id);
                members[at] = member;
            }
            Change::Weight(name, weight) => {
                let at = find(&members, name)?;
                let Member {
                    name,
                    address,
                    zone,
                    ..
                } = &members[at];
                let changed = Member::new(name, address, zone, *weight);
                members[at] = changed.map_err(|error| PlanError::Setting(error.to_string()))?;
            }
            Change::Zone(name, zone) => {
                let at = find(&members, name)?;
                let Member {
                    name,
                    address,
                    weight,
                    ..
                } = &members[at];
                let changed = Member::new(name, address, zone, *weight);
                members[at] = changed.map_err(|error| PlanError::Setting(error.to_string()))?;
            }
            Change::Resize(count) => {
                base = Partitions::new(*count)
                    .and_then(|partitions| base.resized(partitions))
                    .ok_or(PlanError::Partitions(*count))?;
            }
        }
    }
    Ok((base.successor_with(members, &stand_ins)?, dead))
}

/// The nodes of a partition of `ring` in `old`, among the first n places.
fn before<'a>(old: &'a Ring, ring: &Ring, partition: Partition, n: usize) -> &'a [NodeId] {
    let token = crate::token::Token::new(*ring.partitions().tokens(partition).start());
    old.preference(token).owners(n)
}

fn moves(old: &Ring, ring: &Ring, n: usize) -> Vec<Move> {
    let mut moves = Vec::new();
    for partition in (0..ring.partitions().count()).map(Partition) {
        let after = ring.list(partition).owners(n);
        let before = before(old, ring, partition, n);
        let mut gone = before.iter().filter(|node| !after.contains(node));
        for to in after.iter().filter(|node| !before.contains(node)) {
            let from = *gone.next().unwrap_or(&before[0]);
            let to = *to;
            moves.push(Move {
                partition,
                from,
                to,
            });
        }
    }
    moves
}

fn held(old: &Ring, ring: &Ring, n: usize) -> BTreeMap<NodeId, (u64, u64)> {
    let mut held: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
    for member in old.members().iter().chain(ring.members()) {
        held.entry(member.id).or_default();
    }
    for partition in (0..ring.partitions().count()).map(Partition) {
        for node in before(old, ring, partition, n) {
            held.entry(*node).or_default().0 += 1;
        }
        for node in ring.list(partition).owners(n) {
            held.entry(*node).or_default().1 += 1;
        }
    }
    held
}

fn balance(ring: &Ring, n: usize) -> f64 {
    let mut load: BTreeMap<NodeId, u64> = BTreeMap::new();
    for partition in (0..ring.partitions().count()).map(Partition) {
        for node in ring.list(partition).owners(n) {
            *load.entry(*node).or_default() += 1;
        }
    }
    let weights: u64 = ring.members().iter().map(|m| u64::from(m.weight)).sum();
    let mean = ratio(places(ring, n), weights);
    let full = ring.members().iter().map(|member| {
        let held = load.get(&member.id).copied().unwrap_or(0);
        ratio(held, u64::from(member.weight)) / mean
    });
    full.fold(0.0, f64::max)
}

/// What the nodes whose fair share grows lack of it, as a fraction of all places.
fn minimum(old: &Ring, ring: &Ring, n: usize) -> f64 {
    let held = held(old, ring, n);
    let all = places(ring, n);
    let most = u64::from(ring.partitions().count());
    let shares = zone_shares(ring, n);
    let lacks = ring.members().iter().map(|member| {
        let (share, weights) = shares.get(member.zone.as_str()).copied().unwrap_or((0, 1));
        let fair = (share * u64::from(member.weight) / weights).min(most);
        let (before, after) = held.get(&member.id).copied().unwrap_or_default();
        // Where weights ask for more than one replica of everything, what is placed is fair.
        fair.min(after).saturating_sub(before)
    });
    let lacks: u64 = lacks.sum();
    ratio(lacks.max(crowded(old, ring, n)), all)
}

/// What each zone has to hold, by weight, and its weight. Where there are as many zones as
/// replicas or more, none can hold two of one partition: what that takes from a heavy one goes to
/// the others.
fn zone_shares(ring: &Ring, n: usize) -> BTreeMap<&str, (u64, u64)> {
    let mut open: BTreeMap<&str, u64> = BTreeMap::new();
    for member in ring.members() {
        *open.entry(&member.zone).or_default() += u64::from(member.weight);
    }
    let most = u64::from(ring.partitions().count());
    let capped = n.min(usize::from(ring.replicas_max())) <= open.len();
    let (mut shares, mut left) = (BTreeMap::new(), places(ring, n));
    loop {
        let weights: u64 = open.values().sum();
        let full = |(_, weight): &(&&str, &u64)| capped && most * weights < left * **weight;
        let Some((zone, weight)) = open.iter().find(full).map(|(zone, w)| (*zone, *w)) else {
            let rest = open.into_iter();
            shares.extend(rest.map(|(zone, weight)| (zone, (left * weight / weights, weight))));
            return shares;
        };
        open.remove(zone);
        shares.insert(zone, (most, weight));
        left -= most;
    }
}

/// Replicas that must move because they share a zone, as zones will be, and need not.
fn crowded(old: &Ring, ring: &Ring, n: usize) -> u64 {
    let zones = zones(ring).len().min(n).min(ring.members().len());
    let partitions = (0..ring.partitions().count()).map(Partition);
    let lacks = partitions.map(|partition| {
        let before = before(old, ring, partition, n).iter();
        let mut here: Vec<&str> = before
            .filter_map(|node| ring.member(*node))
            .map(|member| member.zone.as_str())
            .collect();
        let kept = here.len();
        here.sort_unstable();
        here.dedup();
        // Places of those who leave are filled anyway.
        (kept - here.len()).min(zones.saturating_sub(here.len())) as u64
    });
    lacks.sum()
}

fn zones(ring: &Ring) -> Vec<&str> {
    let mut zones: Vec<&str> = ring.members().iter().map(|m| m.zone.as_str()).collect();
    zones.sort_unstable();
    zones.dedup();
    zones
}

fn warnings(old: &Ring, ring: &Ring, dead: &[NodeId], n: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    let count = ring.members().len();
    if count < n {
        warnings.push(format!(
            "{count} nodes are fewer than the {n} replicas that a bucket asks for"
        ));
    }
    let zones = zones(ring);
    if 1 < zones.len() && zones.len() < n.min(count) {
        warnings.push(format!(
            "{} zones are fewer than {n} replicas: some zone holds two of a key",
            zones.len()
        ));
    }
    for node in dead {
        let name = old.member(*node).map_or("", |member| member.name.as_str());
        warnings.push(format!(
            "what only {name} holds is lost: writes it alone acknowledged, and those that its \
             replicas have lost since"
        ));
    }
    if 2 * dead.len() >= old.members().len() {
        warnings.push("a majority is given up: this needs commit --force".to_owned());
    }
    warnings
}
