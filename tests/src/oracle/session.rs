//! P3: with R + W > N, a read that starts after a write was acknowledged sees that write or
//! something newer; a value once returned by a quorum read is returned by later ones until it is
//! replaced; and what an acknowledged write replaced (a delete, too: P4) does not come back.
//!
//! For every key the oracle keeps its *front*: the established writes that no acknowledged write is
//! known to have replaced. A read takes a copy along when it starts.

use super::{Broken, Listing, Ruling};
use crate::history::{History, OpIndex, place};

const PROMISE: &str = "session (P3, P4)";

/// A write that every later quorum read has to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established {
    /// The write.
    pub op: OpIndex,
    /// Replicas that hold it for certain.
    pub w: u8,
}

/// What each key's reads have to see.
#[derive(Debug)]
pub struct Session {
    n: u8,
    fronts: Vec<Vec<Established>>,
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
}

impl Session {
    /// For this many keys with `n` replicas each.
    #[must_use]
    pub fn new(keys: usize, n: u8) -> Self {
        Self {
            n,
            fronts: vec![Vec::new(); keys],
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
        }
    }

    /// A write was acknowledged, or returned by a read that establishes it.
    pub fn established(&mut self, history: &mut History, index: OpIndex, w: u8) {
        let key = place(history.op(index).key);
        let front = &mut self.fronts[key];
        if let Some(known) = front.iter_mut().find(|known| known.op == index) {
            known.w = known.w.max(w);
            return;
        }
        if !history.op(index).settled {
            front.push(Established { op: index, w });
        }
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

    /// A read was answered: `listing` has what is live, `shown` also the deletes behind it.
    pub fn answered(
        &mut self,
        history: &mut History,
        read: &Read,
        listing: &Listing,
        shown: &[OpIndex],
    ) -> Ruling {
        let reaches = |w: u8| self.n < read.r + w;
        let broken = |detail: String| Err(Broken::new(PROMISE, listing.at, detail));
        for &index in &listing.ops {
            let op = history.op(index);
            if let Some((at, w)) = op.replaced
                && at < read.started
                && reaches(w)
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
            if reaches(known.w) && !settled && !history.met(known.op) {
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
