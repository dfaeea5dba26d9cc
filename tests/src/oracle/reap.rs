//! W11, P4: a tombstone is reaped only when no replica and no message that could still be taken in
//! holds, live, anything that its clock covers. W3 and P4 beyond that are other judges' business:
//! what comes back after it was replaced is seen by whoever reads it.
//!
//! The same holds for clocks that are compacted: nothing is live anywhere that only the dropped
//! entries cover.

use std::collections::BTreeSet;

use quorate_node::causality::{Clock, Container, Dot};

use super::{Broken, Ruling};

const PROMISE: &str = "reaping (P4, W11)";

/// What is being reaped.
#[derive(Debug)]
pub struct Reaped<'a> {
    /// The key.
    pub key: u32,
    /// What all owners agreed about.
    pub state: &'a Container,
    /// True if the record goes, false if its clock is compacted.
    pub gone: bool,
    /// When.
    pub at: u64,
}

impl Reaped<'_> {
    /// Only what deletes left may go.
    pub fn is_dead(&self) -> Ruling {
        let live = self.state.siblings().find(|(_, s)| s.value.is_some());
        match live {
            Some((dot, _)) if self.gone => {
                let detail = format!("{dot:?} of key {} is reaped with its value", self.key);
                Err(Broken::new(PROMISE, self.at, detail))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// No other state may hold what this one let go of.
    pub fn is_nowhere(&self, held: &Container, place: &str) -> Ruling {
        let kept: BTreeSet<Dot> = self.state.siblings().map(|(dot, _)| dot).collect();
        let clock = self.state.clock();
        let live = held.siblings().find(|(dot, version)| {
            let let_go = self.gone || !kept.contains(dot);
            version.value.is_some() && clock.covers(*dot) && let_go
        });
        let Some((dot, _)) = live else {
            return Ok(());
        };
        let what = if self.gone {
            "reaped"
        } else {
            "compacted in its clock"
        };
        let detail = format!("key {} is {what}, and {place} holds {dot:?} live", self.key);
        Err(Broken::new(PROMISE, self.at, detail))
    }
}

/// What a node holds of a key must have nothing live that was reaped.
pub fn is_not_back(key: u32, dead: &Clock, held: &Container, place: &str, at: u64) -> Ruling {
    let mut live = held.siblings().filter(|(_, s)| s.value.is_some());
    match live.find(|(dot, _)| dead.covers(*dot)) {
        None => Ok(()),
        Some((dot, _)) => {
            let detail = format!("{dot:?} of key {key} was reaped, and {place} holds it live");
            Err(Broken::new(PROMISE, at, detail))
        }
    }
}
