//! Looks at what new owners have when a ring is switched to.

use std::collections::BTreeMap;

use quorate_node::causality::Clock;
use quorate_ring::{Decree, Phase};

use crate::{
    history::{OpIndex, Outcome, place},
    oracle::{Ruling, moved},
    world::World,
};

impl World {
    /// A ring that nobody had before is there: if it is to be read, its new owners have everything.
    pub(crate) fn judge_moved(&mut self, before: &Decree, decree: &Decree) {
        // Where directories are lost, nobody knows who had what when it was asked for.
        let sound = self.words.lost_at.is_empty();
        if sound && before.phase == Phase::Moving && decree.phase == Phase::Switched {
            let ruling = self.moved(decree);
            self.rule(ruling);
        }
    }

    fn moved(&self, decree: &Decree) -> Ruling {
        let Some(old) = &decree.old else {
            return Ok(());
        };
        let began = self.rings.moving_since();
        let keys = 0..self.layout.owners.len();
        let owners: Vec<_> = keys
            .map(|key| (self.owners_in(old, key), self.owners_in(&decree.ring, key)))
            .collect();
        let mut held: BTreeMap<(usize, u32), Option<Clock>> = BTreeMap::new();
        for (number, op) in (0_u32..).zip(&self.history.ops) {
            let early = matches!(op.outcome, Outcome::Acknowledged { at } if at < began);
            let index = OpIndex(number);
            let (before, after) = &owners[place(op.key)];
            // What others stood in for may reach an old owner only after that was read.
            if !early || op.lent {
                continue;
            }
            for &node in after.iter().filter(|node| !before.contains(node)) {
                let clock = held.entry((node, op.key)).or_insert_with(|| {
                    let record = self.record(node, op.key)?;
                    Some(record.container.clock().clone())
                });
                let covers = |clock: &Clock| op.dots.iter().any(|&dot| clock.covers(dot));
                if clock.as_ref().is_some_and(covers) || self.covers(node, index) {
                    continue;
                }
                let harmed = |node: &usize| self.rotted.contains(&(*node, op.key));
                if harmed(&node) || before.iter().any(harmed) {
                    continue;
                }
                if let Some(other) = before.iter().find(|other| self.covers(**other, index)) {
                    let (name, other) = (&self.processes[node].name, &self.processes[*other].name);
                    return Err(moved::lacks(name, op.key, index, other, self.now));
                }
            }
        }
        Ok(())
    }
}
