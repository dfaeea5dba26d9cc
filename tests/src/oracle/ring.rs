//! One history of rings: no two nodes ever adopt different decrees for one epoch (W8), every ring
//! covers every partition with distinct nodes, and when all is over nobody holds what it does not
//! own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quorate_ring::{Decree, NodeId, Partition, Phase};

use super::{Broken, Ruling};

const PROMISE: &str = "single ring history (W8)";

/// Every decree that any node has adopted.
#[derive(Debug)]
pub struct Rings {
    hashes: BTreeMap<u64, u128>,
    newest: Arc<Decree>,
    changes: u64,
    moving_since: u64,
    lost: BTreeMap<NodeId, Lost>,
}

/// Members have agreed that a directory of one of them is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// In which epoch.
    pub epoch: u64,
    /// When the first of them adopted it.
    pub at: u64,
    /// The ring then.
    pub ring: u128,
    /// Whether that is so still.
    pub now: bool,
}

impl Rings {
    /// The history that begins with that decree.
    #[must_use]
    pub fn new(founding: Decree) -> Self {
        Self {
            hashes: BTreeMap::from([(founding.epoch.get(), founding.hash())]),
            newest: Arc::new(founding),
            changes: 0,
            moving_since: 0,
            lost: BTreeMap::new(),
        }
    }

    /// The newest decree that any node has adopted.
    #[must_use]
    pub const fn newest(&self) -> &Arc<Decree> {
        &self.newest
    }

    /// True while no change is under way that any node knows of.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        self.newest.phase == Phase::Stable
    }

    /// Changes that have come to their end, or were aborted.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// When the first node heard that data moves, the last time that it began to.
    #[must_use]
    pub const fn moving_since(&self) -> u64 {
        self.moving_since
    }

    /// Since when it is agreed that a member's directory is lost, if it is.
    #[must_use]
    pub fn lost(&self, node: NodeId) -> Option<&Lost> {
        self.lost.get(&node).filter(|lost| lost.now)
    }

    /// The same, also if another is named by now.
    #[must_use]
    pub fn lost_before(&self, node: NodeId) -> Option<&Lost> {
        self.lost.get(&node)
    }

    /// A node has adopted a decree. True if it is newer than all before.
    ///
    /// # Errors
    ///
    /// If another node has another decree of that epoch, or it places a partition badly.
    pub fn adopted(&mut self, decree: &Arc<Decree>, at: u64) -> Result<bool, Broken> {
        let (epoch, hash) = (decree.epoch.get(), decree.hash());
        let known = *self.hashes.entry(epoch).or_insert(hash);
        if known != hash {
            let detail = format!("two decrees for epoch {epoch}, one is {:?}", decree.note);
            return Err(Broken::new(PROMISE, at, detail));
        }
        let before = self.hashes.get(&(epoch - 1));
        if before.is_some_and(|before| *before != decree.previous) {
            let detail = format!("the decree of epoch {epoch} follows another than that before it");
            return Err(Broken::new(PROMISE, at, detail));
        }
        if epoch <= self.newest.epoch.get() {
            return Ok(false);
        }
        covered(decree, at)?;
        self.changes += u64::from(decree.phase == Phase::Stable);
        if decree.phase == Phase::Moving && self.newest.phase != Phase::Moving {
            self.moving_since = at;
        }
        for voter in &decree.voters {
            let before = self.newest.suspends(voter.node);
            let now = decree.suspends(voter.node);
            if now && !before {
                let ring = decree.ring.hash();
                let lost = Lost {
                    epoch,
                    at,
                    ring,
                    now,
                };
                self.lost.insert(voter.node, lost);
            } else if let Some(lost) = self.lost.get_mut(&voter.node) {
                lost.now = now;
            }
        }
        self.newest = Arc::clone(decree);
        Ok(true)
    }
}

fn covered(decree: &Decree, at: u64) -> Ruling {
    let ring = &decree.ring;
    let want = usize::from(ring.replicas_max());
    for partition in (0..ring.partitions().count()).map(Partition) {
        let owners = ring.list(partition).owners(usize::MAX);
        let distinct: BTreeSet<_> = owners.iter().collect();
        let strange = owners.iter().any(|node| ring.member(*node).is_none());
        if distinct.len() != want || owners.len() != want || strange {
            let detail = format!("{partition:?} of epoch {} has {owners:?}", decree.epoch);
            return Err(Broken::new(PROMISE, at, detail));
        }
    }
    Ok(())
}

/// A node holds a record that it does not own when every change is over.
#[must_use]
pub fn stray(node: &str, key: u32, at: u64) -> Broken {
    let detail = format!("{node} still holds key {key}, which it does not own");
    Broken::new(PROMISE, at, detail)
}
