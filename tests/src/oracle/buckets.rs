//! One history of buckets: what nodes answer about changes of buckets fits to one order of them,
//! which is that of the decrees (P6, W8), and in the end every node knows the same buckets.
//!
//! Every change that is asked for sets a mark that no other sets, so that it is known again.

use std::collections::{BTreeMap, BTreeSet};

use quorate_client::wire::{BucketInfo, ErrorCode};
use quorate_node::bucket::Catalogue;
use quorate_ring::Decree;

use super::{Broken, Ruling};

const PROMISE: &str = "buckets (P6, W8)";

/// A change that somebody has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What sets it apart.
    pub mark: u32,
    /// `create`, `set` or `drop`.
    pub verb: &'static str,
    /// The bucket.
    pub name: String,
    /// The newest change that had been confirmed when it was asked for.
    pub after: u64,
}

/// What has been agreed on, and what nodes have said of it.
#[derive(Debug, Default)]
pub struct Buckets {
    known: BTreeMap<String, BucketInfo>,
    /// Epochs of changes by their marks; of drops, which leave none, by name.
    changed: BTreeMap<u32, u64>,
    dropped: BTreeMap<String, BTreeSet<u64>>,
    wishes: BTreeMap<u32, Wish>,
    refused: BTreeSet<u32>,
    confirmed: u64,
    epoch: u64,
}

impl Buckets {
    /// The newest epoch by which a change that was confirmed was agreed on.
    #[must_use]
    pub const fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// How many changes were agreed on.
    #[must_use]
    pub fn changes(&self) -> u64 {
        let dropped = self.dropped.values().map(BTreeSet::len).sum::<usize>();
        (self.changed.len() + dropped) as u64
    }

    /// Somebody asks for a change.
    pub fn asked(&mut self, wish: Wish) {
        self.wishes.insert(wish.mark, wish);
    }

    /// The first node has adopted a decree.
    ///
    /// # Errors
    ///
    /// If it changes what nobody asked for, or what was refused, or what is fixed.
    pub fn adopted(&mut self, decree: &Decree, at: u64) -> Ruling {
        self.epoch = decree.epoch.get();
        let Ok(catalogue) = Catalogue::from_bytes(&decree.buckets) else {
            return Ok(());
        };
        let list = catalogue.list().into_iter();
        let now: BTreeMap<String, BucketInfo> =
            list.map(|info| (info.name.clone(), info)).collect();
        let names: BTreeSet<String> = now.keys().chain(self.known.keys()).cloned().collect();
        let before = std::mem::replace(&mut self.known, now);
        let changed: Vec<String> = names
            .into_iter()
            .filter(|name| before.get(name) != self.known.get(name))
            .filter(|name| self.wishes.values().any(|wish| wish.name == *name))
            .collect();
        let fail = |detail: String| Err(Broken::new(PROMISE, at, detail));
        let name = match &changed[..] {
            [] => return Ok(()),
            [name] => name,
            _ => return fail(format!("one decree changes {changed:?}")),
        };
        let (old, new) = (before.get(name), self.known.get(name));
        let Some(new) = new else {
            let epochs = self.dropped.entry(name.clone()).or_default();
            epochs.insert(self.epoch);
            return Ok(());
        };
        let wish = self.wishes.get(&new.value_bytes_max);
        let verb = if old.is_some() { "set" } else { "create" };
        if wish.is_none_or(|wish| wish.name != *name || wish.verb != verb) {
            return fail(format!(
                "{old:?} became {new:?}, which was wanted by {wish:?}"
            ));
        }
        let mark = new.value_bytes_max;
        if self.refused.contains(&mark) {
            return fail(format!("{new:?} is what a node said would not be"));
        }
        if old.is_some_and(|old| old.n != new.n || old.mode != new.mode) {
            return fail(format!("{old:?} became {new:?}: n and mode are fixed"));
        }
        if let Some(epoch) = self.changed.insert(mark, self.epoch) {
            return fail(format!("{new:?} was agreed on in epoch {epoch} as well"));
        }
        Ok(())
    }

    /// A node says that a change was made.
    ///
    /// # Errors
    ///
    /// If it was not, or before one that had been confirmed when it was asked for.
    pub fn made(&mut self, mark: u32, at: u64) -> Ruling {
        let Some(wish) = self.wishes.get(&mark) else {
            return Ok(());
        };
        let epoch = if wish.verb == "drop" {
            let epochs = self.dropped.get(&wish.name);
            epochs.and_then(|epochs| epochs.range(wish.after + 1..).next_back())
        } else {
            self.changed.get(&mark)
        };
        match epoch {
            Some(epoch) if wish.after < *epoch => {
                self.confirmed = self.confirmed.max(*epoch);
                Ok(())
            }
            _ => {
                let detail = format!("{wish:?} was confirmed and agreed on in {epoch:?}");
                Err(Broken::new(PROMISE, at, detail))
            }
        }
    }

    /// A node says that a change was not made.
    ///
    /// # Errors
    ///
    /// If it was.
    pub fn not_made(&mut self, mark: u32, code: ErrorCode, at: u64) -> Ruling {
        if code == ErrorCode::UnknownOutcome {
            return Ok(());
        }
        self.refused.insert(mark);
        match self.changed.get(&mark) {
            None => Ok(()),
            Some(epoch) => {
                let wish = self.wishes.get(&mark);
                let detail = format!("{wish:?} was refused ({code:?}) and made in epoch {epoch}");
                Err(Broken::new(PROMISE, at, detail))
            }
        }
    }

    /// What a node knows when everything has come to rest.
    ///
    /// # Errors
    ///
    /// If it is not what was agreed on last.
    pub fn at_the_end(&self, node: &str, listed: &[BucketInfo], at: u64) -> Ruling {
        if self.known.is_empty() || self.known.values().eq(listed) {
            return Ok(());
        }
        let detail = format!("{node} knows {listed:?}, and agreed on is {:?}", self.known);
        Err(Broken::new(PROMISE, at, detail))
    }
}
