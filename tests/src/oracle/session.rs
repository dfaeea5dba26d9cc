//! P3: with R + W > N, a read that starts after a write was acknowledged sees that write or
//! something newer; a value once returned by a quorum read is returned by later ones until it is
//! replaced; and what an acknowledged write replaced (a delete, too: P4) does not come back.
//!
//! A replica that loses a record and does not know it can answer for the key nevertheless; what
//! was established before that has one holder less, and the oracle asks for no more.
//!
//! For every key the oracle keeps its *front*: the established writes that no acknowledged write is
//! known to have replaced. A read takes a copy along when it starts.

use quorate_node::causality::Stamp;

use super::{Broken, Listing, Ruling, latest::Latest};
use crate::history::{History, OpIndex, place};

const PROMISE: &str = "session (P3, P4)";

/// A write that every later quorum read has to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// The write.
    pub op: OpIndex,
    /// Replicas that hold it for certain.
    pub w: u8,
    /// Since when.
    pub at: u64,
}

/// What each key's reads have to see.
#[derive(Debug)]
pub struct Session {
    n: u8,
    fronts: Vec<Vec<Established>>,
    /// Per key: when one of its replicas last lost it without knowing.
    lost_at: Vec<Option<u64>>,
    /// Per key: when the directory of one of its replicas was last put back to an earlier state.
    put_back_at: Vec<Option<u64>>,
    /// The other yardstick, where the last write wins.
    pub latest: Option<Latest>,
}

/// A read on its way.
#[derive(Clone, Debug)]
pub struct Read {
    /// The key.
    pub key: u32,
    /// Replicas asked to answer.
    pub r: u8,
    /// When the client sent it.
    pub started: u64,
    /// The front at that time.
    pub front: Vec<Established>,
    /// Where the last write wins: what has to be reached.
    pub latest: Vec<(Stamp, Established)>,
}

impl Session {
    /// For this many keys with `n` replicas each.
    #[must_use]
    pub fn new(keys: usize, n: u8, lww: bool) -> Self {
        Self {
            n,
            fronts: vec![Vec::new(); keys],
            lost_at: vec![None; keys],
            put_back_at: vec![None; keys],
            latest: lww.then(|| Latest::new(keys)),
        }
    }

    /// A client starts to read.
    #[must_use]
    pub fn read(&self, key: u32, r: u8, started: u64) -> Read {
        Read {
            key,
            r,
            started,
            front: self.fronts[place(key)].clone(),
            latest: self
                .latest
                .as_ref()
                .map_or_else(Vec::new, |latest| latest.front(key)),
        }
    }

    /// One replica of a key, always the same, has lost it and does not know: what was established
    /// before has one holder less.
    pub fn weakened(&mut self, key: u32, at: u64) {
        self.lost_at[place(key)] = Some(at);
    }

    /// A replica's directory was put back to an earlier state. The other members tell it so; but
    /// while it hears of nobody it answers reads of one copy.
    pub fn put_back(&mut self, key: u32, at: u64) {
        self.put_back_at[place(key)] = Some(at);
    }

    /// Whether among `r` replicas there must be one that holds this, if none forgot it since.
    #[must_use]
    pub(super) fn reaches(&self, key: u32, r: u8, known: &Established) -> bool {
        self.n < r + self.left(key, r, known.w, known.at)
    }

    /// Replicas of every key.
    #[must_use]
    pub(super) const fn n(&self) -> u8 {
        self.n
    }

    /// How many of those that a read of `r` may ask still hold what `w` replicas held at that time.
    fn left(&self, key: u32, r: u8, w: u8, at: u64) -> u8 {
        let lost = self.lost_at[place(key)].is_some_and(|lost| at <= lost);
        let put_back = self.put_back_at[place(key)].is_some_and(|back| at <= back);
        w.saturating_sub(u8::from(lost) + u8::from(r == 1 && put_back))
    }

    /// A write was acknowledged, or returned by a read that establishes it.
    pub fn established(&mut self, history: &mut History, index: OpIndex, w: u8, at: u64) {
        if 0 < history.op(index).ttl_ms && self.latest.is_none() {
            // It may expire at any time.
            return;
        }
        if let Some(latest) = &mut self.latest {
            return latest.established(history, index, w, at);
        }
        let key = history.op(index).key;
        let lost_at = self.lost_at[place(key)];
        let front = &mut self.fronts[place(key)];
        if let Some(known) = front.iter_mut().find(|known| known.op == index) {
            let lost = lost_at.is_some_and(|lost| known.at <= lost);
            if known.w.saturating_sub(u8::from(lost)) < w {
                (known.w, known.at) = (w, at);
            }
            return;
        }
        if !history.op(index).settled {
            front.push(Established { op: index, w, at });
        }
    }

    /// Whether a replica forgot the key while a read was on its way, which then proves nothing.
    #[must_use]
    pub fn is_moot(&self, read: &Read) -> bool {
        self.forgot_since(read.key, read.started)
    }

    /// Whether a replica has forgotten a key since then.
    #[must_use]
    pub(super) fn forgot_since(&self, key: u32, at: u64) -> bool {
        self.lost_at[place(key)].is_some_and(|lost| at <= lost)
    }

    /// An acknowledged write replaces all that its author had seen.
    pub fn replaces(&mut self, history: &mut History, index: OpIndex, w: u8, now: u64) {
        let Some(seen) = history.op(index).seen.clone() else {
            return;
        };
        for parent in seen.ops.iter() {
            let parent = &mut history.ops[parent.at()];
            parent.replaced.get_or_insert((now, w));
        }
        let front = &mut self.fronts[place(history.op(index).key)];
        history.ancestors(&[index], |op, parent| {
            let first = !op.settled;
            op.settled = true;
            front.retain(|known| known.op != parent);
            first
        });
    }

    /// All owners have agreed that a delete may be forgotten, and so have what its author had seen.
    pub fn reaped(&mut self, history: &mut History, index: OpIndex, stamp: Option<Stamp>) {
        let key = history.op(index).key;
        history.ops[index.at()].settled = true;
        let front = &mut self.fronts[place(key)];
        front.retain(|known| known.op != index);
        history.ancestors(&[index], |op, parent| {
            let first = !op.settled;
            op.settled = true;
            front.retain(|known| known.op != parent);
            first
        });
        if let (Some(latest), Some(stamp)) = (&mut self.latest, stamp) {
            latest.reaped(key, stamp);
        }
    }

    /// A read was answered: `listing` has what is live, `shown` also the deletes behind it.
    pub fn answered(
        &mut self,
        history: &mut History,
        read: &Read,
        listing: &Listing,
        shown: &[OpIndex],
    ) -> Ruling {
        if self.latest.is_some() {
            return Latest::answered(history, self, read, listing, shown);
        }
        if self.is_moot(read) {
            return Ok(());
        }
        let reaches = |w: u8, at: u64| self.n < read.r + self.left(read.key, read.r, w, at);
        let broken = |detail: String| Err(Broken::new(PROMISE, listing.at, detail));
        for &index in &listing.ops {
            let op = history.op(index);
            if let Some((at, w)) = op.replaced
                && at < read.started
                && reaches(w, at)
                && op.dots.len() < 2
            {
                let key = read.key;
                return broken(format!(
                    "{index:?} of key {key} is back after it was replaced"
                ));
            }
        }
        history.ancestors(shown, |op, _| !op.settled);
        for known in &read.front {
            let settled = history.op(known.op).settled;
            if reaches(known.w, known.at) && !settled && !history.met(known.op) {
                let detail = format!(
                    "a read of key {} with r = {} started at {} and did not see {:?} (w = {}); \
                     it lists {:?}",
                    read.key, read.r, read.started, known.op, known.w, shown
                );
                return broken(detail);
            }
        }
        Ok(())
    }
}
