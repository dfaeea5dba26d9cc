//! This node's tries, and how they stay in step with its store.
//!
//! They live in memory. Each completed write of a record changes its leaf by (new hash less old
//! hash); what a scan finds replaces whole leaves. After a start nothing is known; a scan in the
//! background builds leaf after leaf, and until it is through nobody is told a sum. The
//! alternative, leaf hashes in the same batch as the record, would add a table entry to every put
//! (about a tenth of the bytes of a small one) to save reading five million records for about half
//! a minute in the background of a start; and it would vouch for records it has not seen, when
//! what a tree is needed for is a store that lost some. So the same scan goes on for ever, as the
//! audit of the tries against what is stored.
//!
//! A scan is exact although writes go on: of a key that was written since the scan began, or is in
//! work now, what counts is its last completed state and not what the scan saw.
//!
//! A record that cannot be read adds what no other node can add; a leaf whose old sum is in doubt
//! is scanned again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_ring::NodeId;

use super::{
    hash::Hasher,
    trie::{LEAVES, Span, Trie, first_token, leaf_of},
};
use crate::{
    bucket::Catalogue,
    causality::{Container, ContextKey},
    healing::{Found, reap::Lapsed},
    message::BucketId,
    replica::{Address, Change, Held, Replica},
    store::{Command, Table, Ticket, format},
};

/// Records read at once.
const PAGE_ITEMS: usize = 256;
/// Bytes read at once.
const PAGE_BYTES: usize = 256 << 10;
/// Leaves that wait to be scanned again; beyond it, the whole is built anew.
pub(crate) const DOUBTS_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// Nothing is known of it yet.
    First,
    /// Its sum may be wrong.
    Doubt,
    /// To see whether it is right.
    Audit,
}

#[derive(Debug)]
struct Scan {
    ticket: Ticket,
    reason: Reason,
    /// Complete leaves of this span are taken over.
    span: Span,
    /// Where the page begins that has been asked for.
    start: Bytes,
    /// Leaves of which the first that has records cannot be listed.
    search: Option<Span>,
    found: Vec<(Address, u64)>,
    /// Keys written since the scan began, and what their last state adds.
    touched: BTreeMap<Address, u64>,
}

/// How far a scan has come.
enum Reach {
    /// Not through the first of its leaves; the next page.
    Further(Command),
    /// Through all leaves below `end`, of which `blind` could not be listed.
    Through { end: u32, blind: Option<u32> },
}

impl Scan {
    fn reach(&mut self, items: Found<'_>, more: bool) -> Reach {
        let last = items.as_ref().ok().and_then(|items| items.last());
        let search = match (last, self.search) {
            (Some((last, _)), search) if more || search.is_some() => {
                self.search = None;
                let leaf = format::parse_object_key(last).map_or(LEAVES, |key| leaf_of(key.0));
                if leaf != self.span.first {
                    let (end, blind) = (leaf, None);
                    return Reach::Through { end, blind };
                }
                self.start = successor(last);
                return Reach::Further(page(self.ticket, self.start.clone(), self.span));
            }
            (None, Some(search)) if items.is_ok() => Span {
                first: middle(search),
                ..search
            },
            (Some(_) | None, None) if items.is_ok() && !more => {
                let (end, blind) = (self.span.end, None);
                return Reach::Through { end, blind };
            }
            // Damage, and nobody says where. Its leaf is searched for by halves: all before the
            // middle can be listed, or it cannot.
            (_, Some(search)) => Span {
                end: middle(search),
                ..search
            },
            (_, None) => Span {
                first: format::parse_object_key(&self.start).map_or(0, |key| leaf_of(key.0)),
                end: self.span.end,
            },
        };
        self.search = Some(search);
        if search.end - search.first == 1 {
            let (end, blind) = (search.end, Some(search.first));
            return Reach::Through { end, blind };
        }
        let before = Span {
            end: middle(search),
            ..search
        };
        Reach::Further(page(self.ticket, self.start.clone(), before))
    }
}

/// Between the ends of a span of at least two leaves.
const fn middle(span: Span) -> u32 {
    span.first + (span.end - span.first) / 2
}

/// What came of a page.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// More to read for the same leaves.
    pub(crate) next: Option<Command>,
    /// Leaves that were not what they should have been.
    pub(crate) corrected: u64,
    /// Records that do not speak for their keys.
    pub(crate) damaged: Vec<Address>,
    /// Records with values that expire, and when the first of them does.
    pub(crate) mortal: Vec<(Address, u64)>,
    /// Records of buckets that are no more.
    pub(crate) dropped: Vec<Address>,
    /// Records that could be reaped, or have their clocks compacted.
    pub(crate) lapsed: Vec<Lapsed>,
    /// The end of the token space was reached.
    pub(crate) round: bool,
}

/// Tries by n.
#[derive(Debug)]
pub(crate) struct Forest {
    hasher: Hasher,
    tries: BTreeMap<u8, Trie>,
    /// n of buckets; fixed for ever once a bucket has its id.
    replicas: BTreeMap<BucketId, u8>,
    /// There are records of buckets that the catalogue did not know when it had this hash.
    strange: Option<u64>,
    /// Leaves below are in step.
    frontier: u32,
    doubts: BTreeSet<u32>,
    /// Where the audit goes on.
    cursor: u32,
    scan: Option<Scan>,
}

impl Forest {
    pub(crate) fn new(secret: &ContextKey, me: NodeId) -> Self {
        Self {
            hasher: Hasher::new(secret, me),
            tries: BTreeMap::new(),
            replicas: BTreeMap::new(),
            strange: None,
            frontier: 0,
            doubts: BTreeSet::new(),
            cursor: 0,
            scan: None,
        }
    }

    pub(crate) fn trie(&self, n: u8) -> Option<&Trie> {
        self.tries.get(&n)
    }

    pub(crate) fn hasher(&mut self) -> &mut Hasher {
        &mut self.hasher
    }

    /// True once every leaf has been scanned.
    pub(crate) const fn is_built(&self) -> bool {
        self.frontier == LEAVES
    }

    /// True if every sum is known to be right, as far as this node's own writes are concerned.
    pub(crate) fn is_sure(&self) -> bool {
        self.is_built() && self.doubts.is_empty() && self.strange.is_none()
    }

    /// True if that ticket is of the scan under way.
    pub(crate) fn is_waiting_for(&self, ticket: Ticket) -> bool {
        let scan = self.scan.as_ref();
        scan.is_some_and(|scan| scan.ticket == ticket)
    }

    /// True while a scan is under way.
    pub(crate) const fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    /// True if leaves wait to be scanned.
    pub(crate) fn has_work(&self) -> bool {
        !self.is_built() || !self.doubts.is_empty()
    }

    pub(crate) fn doubts(&self) -> usize {
        self.doubts.len()
    }

    /// A leaf is scanned again.
    pub(crate) fn doubt(&mut self, leaf: u32) {
        if self.frontier <= leaf {
            return;
        }
        self.doubts.insert(leaf);
        if DOUBTS_MAX <= self.doubts.len() {
            self.forget();
        }
    }

    /// The audit begins anew; a page of it that is under way counts no more.
    pub(crate) fn rewind(&mut self) {
        self.cursor = 0;
        self.scan.take_if(|scan| scan.reason == Reason::Audit);
    }

    /// How much of the token space the audit has been through, in millionths.
    pub(crate) fn reached_millionths(&self) -> u32 {
        let leaves = u64::from(if self.is_built() {
            self.cursor
        } else {
            self.frontier
        });
        u32::try_from(leaves * 1_000_000 / u64::from(LEAVES)).unwrap_or(1_000_000)
    }

    fn forget(&mut self) {
        self.tries.clear();
        self.doubts.clear();
        self.frontier = 0;
        self.cursor = 0;
        self.scan = None;
    }

    /// Builds anew if buckets have become known of which there are records, or were dropped.
    pub(crate) fn learn(&mut self, catalogue: &Catalogue) {
        let before = self.replicas.len();
        self.replicas.retain(|id, _| !catalogue.is_dropped(*id));
        if self.replicas.len() < before {
            self.forget();
        }
        if let Some(seen) = self.strange
            && seen != catalogue.hash()
        {
            self.strange = None;
            self.forget();
        }
    }

    fn n(&mut self, bucket: BucketId, catalogue: &Catalogue) -> Option<u8> {
        if catalogue.is_dropped(bucket) {
            return None;
        }
        if let Some(n) = self.replicas.get(&bucket) {
            return Some(*n);
        }
        let Some(n) = catalogue.replicas(bucket) else {
            self.strange.get_or_insert_with(|| catalogue.hash());
            return None;
        };
        self.replicas.insert(bucket, n);
        Some(n)
    }

    /// A record has changed.
    pub(crate) fn changed(&mut self, change: &Change, catalogue: &Catalogue) {
        let Change { address, old, new } = change;
        let (bucket, key) = (address.bucket.0, &address.key);
        let leaf = leaf_of(address.token);
        let new = self.hasher.held(bucket, key, new);
        if let Some(scan) = &mut self.scan
            && scan.span.first <= leaf
            && leaf < scan.span.end
        {
            scan.touched.insert(address.clone(), new);
        }
        if self.frontier <= leaf {
            return;
        }
        if matches!(old, Held::Unreadable) {
            // What it added when it could be read is not known any more.
            self.doubt(leaf);
        }
        let old = self.hasher.held(bucket, key, old);
        if let Some(n) = self.n(address.bucket, catalogue) {
            let trie = self.tries.entry(n).or_default();
            trie.add(leaf, new.wrapping_sub(old));
        }
    }

    /// Begins the next scan: of a leaf in doubt, of what has never been scanned, or, if that is
    /// wanted, of what the audit comes to next.
    pub(crate) fn begin(&mut self, ticket: Ticket, audit: bool) -> Option<Command> {
        if self.scan.is_some() {
            return None;
        }
        let all = |first| Span { first, end: LEAVES };
        let (reason, span) = match self.doubts.first() {
            Some(&first) => {
                let end = first + 1;
                (Reason::Doubt, Span { first, end })
            }
            None if !self.is_built() => (Reason::First, all(self.frontier)),
            None if audit => (Reason::Audit, all(self.cursor)),
            None => return None,
        };
        let start = edge(span.first);
        let command = page(ticket, start.clone(), span);
        self.scan = Some(Scan {
            ticket,
            reason,
            span,
            start,
            search: None,
            found: Vec::new(),
            touched: BTreeMap::new(),
        });
        Some(command)
    }

    /// A page has come.
    pub(crate) fn scanned(
        &mut self,
        ticket: Ticket,
        items: Found<'_>,
        more: bool,
        replica: &Replica,
        catalogue: &Catalogue,
    ) -> Progress {
        let mut progress = Progress::default();
        let Some(mut open) = self.scan.take_if(|scan| scan.ticket == ticket) else {
            return progress;
        };
        if let Ok(items) = items {
            for (store_key, value) in items {
                self.take(
                    &mut open,
                    store_key,
                    value,
                    replica,
                    catalogue,
                    &mut progress,
                );
            }
        }
        let (end, blind) = match open.reach(items, more) {
            Reach::Further(command) => {
                progress.next = Some(command);
                self.scan = Some(open);
                return progress;
            }
            Reach::Through { end, blind } => (end, blind),
        };
        let span = Span {
            first: open.span.first,
            end,
        };
        let reason = open.reason;
        let corrected = self.take_over(open, span, blind, replica, catalogue);
        if reason != Reason::First {
            progress.corrected = corrected;
        }
        match reason {
            Reason::First => self.frontier = end,
            Reason::Doubt => {}
            Reason::Audit => self.cursor = end % LEAVES,
        }
        progress.round = end == LEAVES && reason != Reason::Doubt;
        self.doubts.retain(|leaf| !(span.first..end).contains(leaf));
        progress
    }

    fn take(
        &mut self,
        scan: &mut Scan,
        store_key: &Bytes,
        value: &Bytes,
        replica: &Replica,
        catalogue: &Catalogue,
        told: &mut Progress,
    ) {
        let Some((token, bucket, key)) = format::parse_object_key(store_key) else {
            return;
        };
        if catalogue.is_dropped(BucketId(bucket)) {
            told.dropped.push(Address {
                token,
                bucket: BucketId(bucket),
                key: store_key.slice_ref(key),
                hint_for: None,
            });
            return;
        }
        let address = Address {
            token,
            bucket: BucketId(bucket),
            key: store_key.slice_ref(key),
            hint_for: None,
        };
        let held = replica.decoded(&address, value);
        let hash = self.hasher.held(bucket, key, &held);
        if let Some(at_ms) = held.container().and_then(Container::expires_at_ms) {
            told.mortal.push((address.clone(), at_ms));
        }
        if scan.reason != Reason::Doubt
            && let Some(container) = held.container()
        {
            told.lapsed.extend(Lapsed::of(&address, container));
        }
        if scan.reason != Reason::Doubt && held.is_suspect() {
            told.damaged.push(address.clone());
        }
        scan.found.push((address, hash));
    }

    /// Replaces the leaves of a span by what is stored. Says how many were wrong.
    fn take_over(
        &mut self,
        open: Scan,
        span: Span,
        blind: Option<u32>,
        replica: &Replica,
        catalogue: &Catalogue,
    ) -> u64 {
        let inside = |token| (span.first..span.end).contains(&leaf_of(token));
        let mut states: BTreeMap<Address, u64> = BTreeMap::new();
        for (address, hash) in open.found.into_iter().chain(open.touched) {
            if inside(address.token) {
                states.insert(address, hash);
            }
        }
        let first = first_token(span.first).unwrap_or(u64::MAX);
        let last = first_token(span.end).map_or(u64::MAX, |end| end - 1);
        for (address, held) in replica.durable(first..=last) {
            let hash = self.hasher.held(address.bucket.0, &address.key, held);
            states.insert(address.clone(), hash);
        }
        let mut sums: BTreeMap<u8, BTreeMap<u32, u64>> = BTreeMap::new();
        for (address, hash) in states {
            if hash != 0
                && let Some(n) = self.n(address.bucket, catalogue)
            {
                let leaves = sums.entry(n).or_default();
                let sum = leaves.entry(leaf_of(address.token)).or_default();
                *sum = sum.wrapping_add(hash);
            }
        }
        for n in sums.keys() {
            self.tries.entry(*n).or_default();
        }
        if let Some(leaf) = blind {
            let hash = self.hasher.doubt_of_leaf(leaf);
            for n in self.tries.keys() {
                let leaves = sums.entry(*n).or_default();
                let sum = leaves.entry(leaf).or_default();
                *sum = sum.wrapping_add(hash);
            }
        }
        let none = BTreeMap::new();
        let mut wrong = 0;
        for (n, trie) in &mut self.tries {
            let right = sums.get(n).unwrap_or(&none);
            let gone: Vec<u32> = trie
                .used(span)
                .map(|(leaf, _)| leaf)
                .filter(|leaf| !right.contains_key(leaf))
                .collect();
            let gone = gone.into_iter().map(|leaf| (leaf, 0));
            for (leaf, sum) in right.iter().map(|(leaf, sum)| (*leaf, *sum)).chain(gone) {
                if trie.leaf(leaf) != sum {
                    wrong += 1;
                    trie.set(leaf, sum);
                }
            }
        }
        wrong
    }

    /// What differs between the tries and these records, which must be all there are.
    pub(crate) fn differs(
        &self,
        secret: (&ContextKey, NodeId),
        objects: &[(Bytes, Bytes)],
        catalogue: &Catalogue,
    ) -> Option<String> {
        let mut hasher = Hasher::new(secret.0, secret.1);
        let mut right: BTreeMap<u8, Trie> = BTreeMap::new();
        for (store_key, value) in objects {
            let (token, bucket, key) = format::parse_object_key(store_key)?;
            if catalogue.is_dropped(BucketId(bucket)) {
                continue;
            }
            let n = catalogue.replicas(BucketId(bucket))?;
            let hash = hasher.held(bucket, key, &Held::decode(bucket, key, value));
            right.entry(n).or_default().add(leaf_of(token), hash);
        }
        let empty = Trie::default();
        let all = Span {
            first: 0,
            end: LEAVES,
        };
        let ns: BTreeSet<&u8> = self.tries.keys().chain(right.keys()).collect();
        ns.into_iter().find_map(|n| {
            let ours = self.tries.get(n).unwrap_or(&empty);
            let right = right.get(n).unwrap_or(&empty);
            let mut leaves = ours.used(all).chain(right.used(all));
            let (leaf, _) = leaves.find(|(leaf, _)| ours.leaf(*leaf) != right.leaf(*leaf))?;
            let (is, should) = (ours.leaf(leaf), right.leaf(leaf));
            Some(format!(
                "leaf {leaf} of n={n} is {is:x}, stored is {should:x}"
            ))
        })
    }
}

/// The least store key of a leaf; empty for the one after the last.
pub(crate) fn edge(leaf: u32) -> Bytes {
    first_token(leaf).map_or_else(Bytes::new, |token| format::object_key(token, 0, b""))
}

/// The smallest key above `key`.
pub(crate) fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

fn page(ticket: Ticket, start: Bytes, span: Span) -> Command {
    Command::Scan {
        ticket,
        table: Table::Objects,
        start,
        end: edge(span.end),
        items_max: PAGE_ITEMS,
        bytes_max: PAGE_BYTES,
    }
}

#[cfg(test)]
mod tests;
