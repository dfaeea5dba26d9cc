//! P1 where the last write wins: an acknowledged write is replaced only by one with a greater
//! stamp, and in the end every key holds a write whose stamp is at least that of every write
//! acknowledged for it. P3: with R + W > N a read shows no write with a smaller stamp than one that
//! was established before it began.
//!
//! What is known of stamps is what nodes say when they mint. A write that was minted twice counts
//! by its smaller stamp.

use quorate_node::causality::Stamp;

use super::{
    Broken, Listing, Ruling,
    session::{Established, Read, Session},
};
use crate::history::{History, OpIndex, Outcome, place};

const PROMISE: &str = "last write wins (P1, P3)";

/// What each key's reads have to reach.
#[derive(Debug)]
pub struct Latest {
    fronts: Vec<Vec<(Stamp, Established)>>,
    /// The greatest stamp of a delete that all owners agreed to forget.
    reaped: Vec<Option<Stamp>>,
}

impl Latest {
    /// For this many keys.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self {
            fronts: vec![Vec::new(); keys],
            reaped: vec![None; keys],
        }
    }

    /// A delete is forgotten, and with it all that it had replaced.
    pub fn reaped(&mut self, key: u32, stamp: Stamp) {
        let reaped = &mut self.reaped[place(key)];
        *reaped = Some(stamp).max(*reaped);
    }

    /// The greatest stamp of a delete of that key that is forgotten.
    #[must_use]
    pub fn forgotten(&self, key: u32) -> Option<Stamp> {
        self.reaped[place(key)]
    }

    /// What a read that starts now has to reach.
    #[must_use]
    pub fn front(&self, key: u32) -> Vec<(Stamp, Established)> {
        self.fronts[place(key)].clone()
    }

    /// A write was acknowledged, or shown by a read that establishes it.
    pub fn established(&mut self, history: &History, index: OpIndex, w: u8, at: u64) {
        let op = history.op(index);
        let Some(stamp) = op.stamps.iter().min().copied() else {
            return;
        };
        let front = &mut self.fronts[place(op.key)];
        front.retain(|(old, known)| stamp < *old || w < known.w || at < known.at);
        front.push((stamp, Established { op: index, w, at }));
    }

    /// A read that began with this front was answered; `shown` is what it stands for.
    pub fn answered(
        history: &History,
        session: &Session,
        read: &Read,
        listing: &Listing,
        shown: &[OpIndex],
    ) -> Ruling {
        if session.is_moot(read) {
            return Ok(());
        }
        let stamps = shown.iter().flat_map(|&index| &history.op(index).stamps);
        let forgotten = session.latest.as_ref();
        let forgotten = forgotten.and_then(|latest| latest.forgotten(read.key));
        let reached = stamps.max().copied().max(forgotten);
        for (stamp, known) in &read.latest {
            if session.reaches(read.key, read.r, known) && reached < Some(*stamp) {
                let detail = format!(
                    "a read of key {} with r = {} started at {} shows {shown:?} with stamp \
                     {reached:?}, below that of {known:?}, {stamp}",
                    read.key, read.r, read.started
                );
                return Err(Broken::new(PROMISE, listing.at, detail));
            }
        }
        Ok(())
    }
}

/// Checks at the end that what each key holds is stamped at least as late as everything
/// acknowledged for it; `held` says the stamp by key.
pub fn at_the_end(history: &History, held: impl Fn(u32) -> Option<Stamp>, at: u64) -> Ruling {
    for (number, op) in (0_u32..).zip(&history.ops) {
        let held = held(op.key);
        if matches!(op.outcome, Outcome::Acknowledged { .. })
            && held < op.stamps.iter().min().copied()
        {
            let detail = format!(
                "{:?} of key {} was acknowledged with stamps {:?}, and {held:?} is left",
                OpIndex(number),
                op.key,
                op.stamps
            );
            return Err(Broken::new(PROMISE, at, detail));
        }
    }
    Ok(())
}
