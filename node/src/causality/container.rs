//! The dotted causal container: one replica's whole knowledge of one key.
//!
//! Live versions by dot, one clock over everything seen, and the ids of operations whose versions
//! were superseded lately. [`Container::sync`] is commutative, associative and idempotent while no
//! operation id is forgotten; forgetting one can bring back a duplicate, never lose a version.
//!
//! An operation id is a second causal context: the same request may have been coordinated twice,
//! under two dots, and whoever replaced one of them has replaced the other. An id belongs either
//! to a live version or to `recent`, never to both.
//!
//! Where the last write wins, versions bear stamps, and of several the one with the greatest
//! (stamp, dot) is left. A clock that covers a dot then belongs to a state whose stamp is at least
//! that dot's, since a write is stamped above all that it has seen: so here too the state with the
//! greater clock is the later one, and clocks never decide between concurrent writes.
//!
//! Not decided here: who mints dots, see [`super::coordinate`].

use std::{cmp::Ordering, mem};

use bytes::Bytes;

use super::{
    clock::Clock,
    context::Context,
    dot::{Actor, Dot, OpId},
    stamp::Stamp,
};

/// Ids of superseded operations kept per key. More in one window only means that a very late
/// retry can show up as a sibling.
pub const RECENT_MAX: usize = 64;

/// How long the id of a superseded operation is kept: retries later than this may duplicate.
pub const RECENT_WINDOW_MS: u64 = 15 * 60 * 1_000;

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The value; none is a tombstone.
    pub value: Option<Bytes>,
    /// The request that wrote it.
    pub op: OpId,
    /// Hash of that request, to tell a retry from a reused id.
    pub request_hash: u64,
    /// Unix milliseconds by the coordinator's clock. For people, never for ordering.
    pub written_at_ms: u64,
    /// Hidden from this unix millisecond on.
    pub expires_at_ms: Option<u64>,
    /// In buckets where the last write wins: which one is the last.
    pub stamp: Option<Stamp>,
}

impl Sibling {
    /// True if a reader at that time sees a value.
    #[must_use]
    pub fn is_live_value(&self, now_ms: u64) -> bool {
        self.value.is_some() && self.expires_at_ms.is_none_or(|at| now_ms < at)
    }

    /// True if this is what is left of a value whose time was over.
    const fn is_expired_form(&self) -> bool {
        self.value.is_none() && self.expires_at_ms.is_some()
    }

    /// True if both are one version, perhaps one of them after its time was over.
    fn is_same_version(&self, other: &Self) -> bool {
        if self.is_expired_form() == other.is_expired_form() {
            return self == other;
        }
        let rest = |sibling: &Self| {
            let Self {
                op,
                request_hash,
                written_at_ms,
                expires_at_ms,
                stamp,
                ..
            } = *sibling;
            (op, request_hash, written_at_ms, expires_at_ms, stamp)
        };
        rest(self) == rest(other)
    }
}

/// An operation whose version was superseded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentOp {
    /// The operation.
    pub op: OpId,
    /// Hash of its request; zero if only its id is known.
    pub request_hash: u64,
    /// When it was last of use, unix milliseconds; decides only when it is forgotten.
    pub at_ms: u64,
}

impl RecentOp {
    /// What two accounts of one operation add up to.
    fn merged(self, other: Self) -> Self {
        Self {
            op: self.op,
            request_hash: self.request_hash.max(other.request_hash),
            at_ms: self.at_ms.max(other.at_ms),
        }
    }
}

/// One dot names two different versions: something minted it twice, or corrupted it unseen. The
/// key must be set aside; neither version may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two different versions bear the dot {dot}")]
pub struct EqualDotsDiffer {
    /// The dot.
    pub dot: Dot,
}

/// All that one replica knows of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Strictly ascending by dot; every dot is covered by the clock.
    siblings: Vec<(Dot, Sibling)>,
    clock: Clock,
    /// Strictly ascending by operation; none of them has a live version.
    recent: Vec<RecentOp>,
}

impl Container {
    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            siblings: Vec::new(),
            clock: Clock::new(),
            recent: Vec::new(),
        }
    }

    /// From parts that obey the invariants above, else nothing.
    pub(crate) fn from_parts(
        siblings: Vec<(Dot, Sibling)>,
        clock: Clock,
        recent: Vec<RecentOp>,
    ) -> Option<Self> {
        let sorted = siblings.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && recent.windows(2).all(|pair| pair[0].op < pair[1].op);
        let covered = siblings
            .iter()
            .all(|(dot, sibling)| 0 < dot.n && clock.covers(*dot) && !holds(&recent, sibling.op));
        (sorted && covered).then_some(Self {
            siblings,
            clock,
            recent,
        })
    }

    /// A copy with room for what a write adds, so that it is not moved again.
    pub(super) fn copy_to_write(&self, seen: usize) -> Self {
        let mut recent = Vec::with_capacity(self.recent.len() + self.siblings.len() + seen);
        recent.extend_from_slice(&self.recent);
        Self {
            siblings: self.siblings.clone(),
            clock: self.clock.clone(),
            recent,
        }
    }

    /// The versions, in order of their dots: values, expired ones and tombstones.
    pub fn siblings(&self) -> impl ExactSizeIterator<Item = (Dot, &Sibling)> + Clone {
        self.siblings.iter().map(|(dot, sibling)| (*dot, sibling))
    }

    /// The versions a reader sees at that time.
    pub fn live_values(&self, now_ms: u64) -> impl Iterator<Item = (Dot, &Sibling)> + Clone {
        self.siblings()
            .filter(move |(_, sibling)| sibling.is_live_value(now_ms))
    }

    /// True if the key was written and a reader sees nothing: deleted, or expired.
    #[must_use]
    pub fn is_tombstone_only(&self, now_ms: u64) -> bool {
        !self.siblings.is_empty() && self.live_values(now_ms).next().is_none()
    }

    /// Everything seen: what is live here, and what was superseded.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Operations superseded lately.
    #[must_use]
    pub fn recent(&self) -> &[RecentOp] {
        &self.recent
    }

    /// If the operation was applied here, its request hash (zero if only the id is known).
    #[must_use]
    pub fn knows(&self, op: OpId) -> Option<u64> {
        let live = self.siblings.iter().find(|(_, sibling)| sibling.op == op);
        if let Some((_, sibling)) = live {
            return Some(sibling.request_hash);
        }
        let found = self.recent.binary_search_by(|known| known.op.cmp(&op));
        found.ok().map(|index| self.recent[index].request_hash)
    }

    /// The context to hand out with an answer that lists every version of this container.
    ///
    /// Its clock is the container's clock, which looks like more than the listed versions: it also
    /// covers every dot that was superseded before. That is safe for one reason. A version the
    /// clock covers and the list lacks was let go by this state, and it is let go only when a
    /// write, or the chain of writes after it, had seen it, or when it was a duplicate of a
    /// listed version's request; the end of every such chain is in the list. So whoever replaces
    /// the list replaces nothing that was not replaced already. A live version that this state
    /// never saw is not covered: its dot (a, n) is above the clock's entry for a, because an
    /// actor's dots are minted one after the other from a state that holds the earlier ones, and
    /// [`super::rules`] end the actor when that can no longer be proved.
    ///
    /// It follows that a context must be taken from the very container that is listed, whole:
    /// the clock of a later state with an earlier list covers versions nobody was shown, and so
    /// does the context of a request joined with the dot it was given. A hidden version (expired,
    /// or a tombstone beside values) counts as shown: its absence from the list is what it says.
    #[must_use]
    pub fn context(&self) -> Context {
        let seen = self.siblings.iter().map(|(_, sibling)| sibling.op);
        Context::new(self.clock.clone(), seen.collect()).with_stamp(self.stamp())
    }

    /// The greatest stamp of a version; none where versions bear none.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        let stamps = self.siblings.iter().map(|(_, sibling)| sibling.stamp);
        stamps.max().flatten()
    }

    /// The same knowledge with every value replaced by an empty one, for listings.
    #[must_use]
    pub fn without_values(&self) -> Self {
        let mut stripped = self.clone();
        for (_, sibling) in &mut stripped.siblings {
            sibling.value = sibling.value.as_ref().map(|_| Bytes::new());
        }
        stripped
    }

    /// What this state and another one are together, of which all but the values is known. None if
    /// a value may be needed that this state does not have: a version that it has not seen.
    ///
    /// # Errors
    ///
    /// If one dot names two different versions.
    pub fn with_brief(&self, brief: &Self) -> Result<Option<Self>, EqualDotsDiffer> {
        let mut other = brief.clone();
        for (dot, sibling) in &mut other.siblings {
            if sibling.value.is_none() {
                continue;
            }
            match self.siblings.iter().find(|(held, _)| held == dot) {
                // Without a value it is what is left of an expired one, here and so in both.
                Some((_, ours)) if ours.value.is_none() => {}
                Some((_, ours)) => sibling.value.clone_from(&ours.value),
                None if self.clock.covers(*dot) => {}
                None => return Ok(None),
            }
        }
        let mut merged = self.clone();
        merged.sync(&other)?;
        // Where the last write wins, it is not the clock that decides what is let go.
        let has = |dot: &Dot| self.siblings.iter().any(|(held, _)| held == dot);
        let whole = |(dot, sibling): &(Dot, Sibling)| sibling.value.is_none() || has(dot);
        Ok(merged.siblings.iter().all(whole).then_some(merged))
    }

    /// Learns everything the other replica knows. True if this container changed.
    ///
    /// A version survives if both sides have it, or if the side without it has neither seen its
    /// dot nor superseded its operation. Of several versions of one operation the one with the
    /// smallest dot survives.
    ///
    /// # Errors
    ///
    /// If one dot names two different versions; nothing has changed then.
    pub fn sync(&mut self, other: &Self) -> Result<bool, EqualDotsDiffer> {
        if let Some(dot) = self.conflict(other) {
            return Err(EqualDotsDiffer { dot });
        }
        let mut gone = Vec::new();
        let stamped = self.stamp().or_else(|| other.stamp()).is_some();
        let mut changed = if stamped {
            self.sync_latest(other, &mut gone)
        } else {
            self.sync_siblings(other, &mut gone)
        };
        changed |= self.clock.join(&other.clock);
        changed |= self.sync_recent(&other.recent, &gone);
        Ok(changed)
    }

    /// When the first of its values expires.
    #[must_use]
    pub fn expires_at_ms(&self) -> Option<u64> {
        let values = self.siblings.iter().map(|(_, sibling)| sibling);
        let mortal = values.filter(|sibling| sibling.value.is_some());
        mortal.filter_map(|sibling| sibling.expires_at_ms).min()
    }

    /// Entries of the clock that all owners of the key could agree to drop: of closed epochs, and
    /// no live version bears one. What such an entry covers is live nowhere, if they all hold this
    /// state and nothing older can reach them any more.
    #[must_use]
    pub fn closed_epochs(&self) -> Vec<Actor> {
        let live = |actor: &Actor| self.siblings.iter().any(|(dot, _)| dot.actor == *actor);
        let closed = self.clock.closed();
        closed.filter(|actor| !live(actor)).collect()
    }

    /// The same state without what [`closed_epochs`](Self::closed_epochs) lists.
    #[must_use]
    pub fn compacted(&self) -> Self {
        Self {
            clock: self.clock.without(&self.closed_epochs()),
            ..self.clone()
        }
    }

    /// When it was last written or an operation on it last of use, or its last value expired: unix
    /// milliseconds.
    #[must_use]
    pub fn touched_at_ms(&self) -> u64 {
        let written = self.siblings.iter().map(|(_, sibling)| {
            let expires = sibling.expires_at_ms.unwrap_or(0);
            sibling.written_at_ms.max(expires)
        });
        let recent = self.recent.iter().map(|known| known.at_ms);
        written.chain(recent).max().unwrap_or(0)
    }

    /// True if there are versions, and all are what deletes leave, or values that expired and are
    /// removed.
    #[must_use]
    pub fn is_all_tombstones(&self) -> bool {
        let gone = |(_, sibling): &(Dot, Sibling)| sibling.value.is_none();
        !self.siblings.is_empty() && self.siblings.iter().all(gone)
    }

    /// Turns every value whose time was over at that time into what a delete leaves. True if there
    /// was one.
    ///
    /// No dot is minted and nothing is covered: the version goes on under its own name, without its
    /// value. Each replica does so by itself and comes to the same state, and of a version that one
    /// has with its value and another without, the one without is the later.
    pub fn expire(&mut self, before_ms: u64) -> bool {
        let mut changed = false;
        for (_, sibling) in &mut self.siblings {
            if sibling.expires_at_ms.is_some_and(|at| at <= before_ms) {
                changed |= sibling.value.take().is_some();
            }
        }
        if changed {
            collapse(&mut self.siblings);
        }
        changed
    }

    /// Merges the versions where the last write wins; those that die are added to `gone`.
    fn sync_latest(&mut self, other: &Self, gone: &mut Vec<RecentOp>) -> bool {
        let before = self.siblings.clone();
        let held = |dot: &Dot| before.iter().any(|(held, _)| held == dot);
        let new = other.siblings.iter().filter(|(dot, _)| !held(dot));
        self.siblings.extend(new.cloned());
        for (dot, ours) in &mut self.siblings {
            let twin = other.siblings.iter().find(|(their, _)| their == dot);
            if twin.is_some_and(|(_, their)| their.is_expired_form()) {
                ours.value = None;
            }
        }
        gone.extend(self.keep_latest());
        self.siblings != before
    }

    /// Lets go of all versions but the last one; says which operations they were of.
    fn keep_latest(&mut self) -> Vec<RecentOp> {
        let order = |(dot, sibling): &(Dot, Sibling)| (sibling.stamp, *dot);
        let Some(last) = self.siblings.iter().map(order).max() else {
            return Vec::new();
        };
        let (kept, gone): (Vec<_>, Vec<_>) = mem::take(&mut self.siblings)
            .into_iter()
            .partition(|version| order(version) == last);
        self.siblings = kept;
        let gone = gone.iter();
        gone.map(|(_, sibling)| superseded(sibling, sibling.written_at_ms))
            .collect()
    }

    /// The first dot both hold with different content.
    fn conflict(&self, other: &Self) -> Option<Dot> {
        let mut theirs = other.siblings.iter().peekable();
        for (dot, ours) in &self.siblings {
            while theirs.next_if(|(their, _)| their < dot).is_some() {}
            if let Some((_, their)) = theirs.next_if(|(their, _)| their == dot)
                && !their.is_same_version(ours)
            {
                return Some(*dot);
            }
        }
        None
    }

    /// Merges the versions; those that die are added to `gone`.
    fn sync_siblings(&mut self, other: &Self, gone: &mut Vec<RecentOp>) -> bool {
        let ours = mem::take(&mut self.siblings);
        let before = ours.len();
        let mut merged = Vec::with_capacity(before + other.siblings.len());
        let (mut kept, mut added, mut expired) = (0, 0, false);
        let mut ours = ours.into_iter().peekable();
        let mut theirs = other.siblings.iter().peekable();
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(a), Some(b)) => a.0.cmp(&b.0),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            if order == Ordering::Greater {
                let (dot, sibling) = theirs.next().expect("it was peeked at");
                if self.let_go(*dot, sibling.op) {
                    gone.push(superseded(sibling, sibling.written_at_ms));
                } else {
                    added += 1;
                    merged.push((*dot, sibling.clone()));
                }
                continue;
            }
            let (dot, mut sibling) = ours.next().expect("it was peeked at");
            if order == Ordering::Equal
                && let Some((_, their)) = theirs.next()
                && their.is_expired_form()
            {
                expired |= sibling.value.take().is_some();
            }
            if order == Ordering::Less && other.let_go(dot, sibling.op) {
                gone.push(superseded(&sibling, sibling.written_at_ms));
            } else {
                kept += 1;
                merged.push((dot, sibling));
            }
        }
        let total = merged.len();
        if expired || (0 < added && 0 < kept) {
            collapse(&mut merged);
        }
        let collapsed = merged.len() < total;
        self.siblings = merged;
        kept < before || 0 < added || collapsed || expired
    }

    /// True if this state has seen the dot or superseded the operation, given that the dot is not
    /// live here.
    fn let_go(&self, dot: Dot, op: OpId) -> bool {
        self.clock.covers(dot) || holds(&self.recent, op)
    }

    fn sync_recent(&mut self, theirs: &[RecentOp], gone: &[RecentOp]) -> bool {
        let mut changed = self.merge_recent(theirs);
        for known in gone {
            // A duplicate of a live version was dropped, not superseded.
            if !self.siblings.iter().any(|(_, live)| live.op == known.op) {
                changed |= self.remember(*known);
            }
        }
        if self.stamp().is_some() {
            changed |= self.recall_live();
        }
        self.forget_oldest();
        changed
    }

    /// Forgets that an operation was superseded if its version is the last one after all: it was
    /// coordinated twice. True if there was one.
    fn recall_live(&mut self) -> bool {
        let before = self.recent.len();
        let live = &self.siblings;
        let superseded = |op: OpId| live.iter().all(|(_, sibling)| sibling.op != op);
        self.recent.retain(|known| superseded(known.op));
        self.recent.len() != before
    }

    fn merge_recent(&mut self, theirs: &[RecentOp]) -> bool {
        if includes(&self.recent, theirs) {
            return false;
        }
        let ours = mem::take(&mut self.recent);
        self.recent.reserve(ours.len() + theirs.len());
        let mut theirs = theirs.iter().peekable();
        let mut changed = false;
        for known in ours {
            while let Some(new) = theirs.next_if(|their| their.op < known.op) {
                changed = true;
                self.recent.push(*new);
            }
            let twin = theirs.next_if(|their| their.op == known.op);
            let merged = twin.map_or(known, |twin| known.merged(*twin));
            changed |= merged != known;
            self.recent.push(merged);
        }
        changed |= theirs.peek().is_some();
        self.recent.extend(theirs);
        changed
    }

    fn remember(&mut self, known: RecentOp) -> bool {
        match self.recent.binary_search_by(|held| held.op.cmp(&known.op)) {
            Ok(index) => {
                let held = &mut self.recent[index];
                let merged = held.merged(known);
                mem::replace(held, merged) != merged
            }
            Err(index) => {
                self.recent.insert(index, known);
                true
            }
        }
    }

    fn forget_oldest(&mut self) {
        let excess = self.recent.len().saturating_sub(RECENT_MAX);
        if excess == 0 {
            return;
        }
        // Mostly it is one.
        let oldest = (0..self.recent.len()).min_by_key(|at| age(&self.recent[*at]));
        if let Some(oldest) = oldest.filter(|_| excess == 1) {
            self.recent.remove(oldest);
            return;
        }
        let mut ages: Vec<_> = self.recent.iter().map(age).collect();
        let oldest_kept = *ages.select_nth_unstable(excess).1;
        self.recent.retain(|known| oldest_kept <= age(known));
    }

    /// Lets go of everything a writer has seen; the writer's own operation is left alone. An
    /// operation of which the writer has not seen another value, under a reused id, is not over.
    pub(super) fn discard(&mut self, context: &Context, now_ms: u64) {
        self.recent
            .retain(|known| known.at_ms.abs_diff(now_ms) <= RECENT_WINDOW_MS);
        let seen = |(dot, sibling): &mut (Dot, Sibling)| {
            context.clock.covers(*dot) || context.seen.contains(&sibling.op)
        };
        for (_, gone) in self.siblings.extract_if(.., seen).collect::<Vec<_>>() {
            if !self.siblings.iter().any(|(_, live)| live.op == gone.op) {
                self.remember(superseded(&gone, now_ms));
            }
        }
        for op in &context.seen {
            self.remember(RecentOp {
                op: *op,
                request_hash: 0,
                at_ms: now_ms,
            });
        }
        self.clock.join(&context.clock);
        self.forget_oldest();
    }

    /// Adds a version under a dot that was never used.
    pub(super) fn add(&mut self, dot: Dot, sibling: Sibling) {
        self.clock.insert(dot);
        let index = self.siblings.partition_point(|(held, _)| *held < dot);
        self.siblings.insert(index, (dot, sibling));
    }

    /// Adds a version under a dot that was never used and lets go of all others: its stamp is
    /// above theirs.
    pub(super) fn add_latest(&mut self, dot: Dot, sibling: Sibling, now_ms: u64) {
        self.add(dot, sibling);
        for mut known in self.keep_latest() {
            known.at_ms = now_ms;
            self.remember(known);
        }
        self.recall_live();
        self.forget_oldest();
    }

    /// Covers a dot that names no version.
    pub(super) fn cover(&mut self, dot: Dot) {
        self.clock.insert(dot);
    }
}

fn holds(recent: &[RecentOp], op: OpId) -> bool {
    recent.binary_search_by(|known| known.op.cmp(&op)).is_ok()
}

/// What decides who is forgotten first.
fn age(known: &RecentOp) -> (u64, OpId) {
    (known.at_ms, known.op)
}

/// True if merging the second list into the first, and forgetting the oldest of what is too much
/// then, would change nothing.
fn includes(all: &[RecentOp], some: &[RecentOp]) -> bool {
    let oldest = || all.iter().map(age).min();
    let is_full = RECENT_MAX <= all.len();
    let forgotten = is_full.then(oldest).flatten();
    let mut rest = all.iter().peekable();
    some.iter().all(|known| {
        while rest.next_if(|held| held.op < known.op).is_some() {}
        match rest.next_if(|held| held.op == known.op) {
            Some(held) => held.merged(*known) == *held,
            None => forgotten.is_some_and(|oldest| age(known) < oldest),
        }
    })
}

/// Whether two versions of one operation are of the same request.
fn is_twin(one: &Sibling, other: &Sibling) -> bool {
    let expired = one.is_expired_form() || other.is_expired_form();
    one.value == other.value || (expired && one.request_hash == other.request_hash)
}

fn superseded(sibling: &Sibling, at_ms: u64) -> RecentOp {
    RecentOp {
        op: sibling.op,
        request_hash: sibling.request_hash,
        at_ms,
    }
}

/// Of equal values of one operation keeps the one with the smallest dot. Different values under
/// one id are a client's mistake, and stay: no value is lost over a reused id. Of one that has
/// expired it is the request that has to be the same.
fn collapse(siblings: &mut Vec<(Dot, Sibling)>) {
    let mut index = 1;
    while index < siblings.len() {
        let (earlier, later) = siblings.split_at(index);
        let (_, this) = &later[0];
        let twin = earlier
            .iter()
            .any(|(_, other)| other.op == this.op && is_twin(other, this));
        if twin {
            siblings.remove(index);
        } else {
            index += 1;
        }
    }
}
