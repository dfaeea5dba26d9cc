//! Large values cross the wire once.
//!
//! One of those who are asked, the best, is asked for its whole record; the others leave out values
//! that are large and say all the rest: which versions they hold, and what they have seen. Such an
//! answer counts as any other, since a quorum is about what replicas know; and if the whole records
//! have the values, what all hold together is found as if nothing had been left out. Only if one
//! holds a version that no whole record has seen is it asked again, for the whole, and counts when
//! it has said that. A value of one version is the same everywhere: the hash of its request is
//! compared, which is not left out.
//!
//! Damaged records are healed from whole ones only.

use std::sync::Arc;

use quorate_ring::NodeId;

use super::{Asked, ReadOp};
use crate::{
    causality::{Clock, Container, EqualDotsDiffer},
    core::Core,
    replica::Stored,
    store::format::Record,
};

/// What one who answered holds.
#[derive(Debug)]
pub(super) enum Known {
    Nothing,
    Whole(Arc<Stored>),
    /// Its values are left out.
    Brief(Box<Record>),
}

impl Known {
    /// Versions and clock; of values only that they are there.
    pub(super) fn outline(&self) -> Option<&Container> {
        match self {
            Self::Nothing => None,
            Self::Whole(stored) => Some(&stored.record.container),
            Self::Brief(record) => Some(&record.container),
        }
    }
}

impl ReadOp {
    /// The whole records that are known.
    pub(super) fn whole(&self) -> impl Iterator<Item = &Arc<Stored>> {
        let known = self.asked.values().filter_map(Asked::known);
        known.filter_map(|known| match known {
            Known::Whole(stored) => Some(stored),
            Known::Nothing | Known::Brief(_) => None,
        })
    }

    pub(super) fn has_whole(&self) -> bool {
        self.whole().next().is_some()
    }

    /// What all who answered hold, if it is the same to the byte and nobody doubts it.
    pub(super) fn agreed(&self) -> Option<Arc<Stored>> {
        let first = self.whole().next().filter(|_| !self.own_suspect)?;
        let mut outline = None;
        let mut same = |known: &Known| match known {
            Known::Nothing => false,
            Known::Whole(stored) => stored.bytes == first.bytes,
            Known::Brief(record) => {
                let outline = outline.get_or_insert_with(|| Record {
                    container: first.record.container.without_values(),
                    suspect: first.record.suspect,
                });
                **record == *outline
            }
        };
        let mut known = self.asked.values().filter_map(Asked::known);
        known.all(&mut same).then(|| Arc::clone(first))
    }

    /// What all who answered hold together. None if values are missing: they are asked for.
    pub(super) fn gather(&mut self, core: &mut Core) -> Result<Option<Container>, EqualDotsDiffer> {
        let mut merged = Container::new();
        for stored in self.whole() {
            merged.sync(&stored.record.container)?;
        }
        let mut missing = Vec::new();
        for (node, asked) in &self.asked {
            if let Some(Known::Brief(record)) = asked.known() {
                match merged.with_brief(&record.container)? {
                    Some(more) => merged = more,
                    None => missing.push((*node, record.container.clock())),
                }
            }
        }
        if missing.is_empty() {
            return Ok(Some(merged));
        }
        missing.sort_by_key(|(node, _)| (!core.is_up(*node), core.peers.expected(*node)));
        for node in enough(&missing) {
            self.ask(core, node, true);
        }
        Ok(None)
    }
}

/// Of several who hold more, so many that none of the others has seen anything else.
fn enough(missing: &[(NodeId, &Clock)]) -> Vec<NodeId> {
    let mut chosen: Vec<(NodeId, &Clock)> = Vec::new();
    for (node, clock) in missing {
        if !chosen.iter().any(|(_, other)| other.dominates(clock)) {
            chosen.retain(|(_, other)| !clock.dominates(other));
            chosen.push((*node, clock));
        }
    }
    chosen.into_iter().map(|(node, _)| node).collect()
}
