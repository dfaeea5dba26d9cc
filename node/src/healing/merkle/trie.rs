//! A hash trie over the token space: sums of leaf hashes, by prefix of the token.
//!
//! A leaf is the part of the space that shares the first [`LEAF_BITS`] bits; it holds the wrapping
//! sum of the hashes of the records in it, and a prefix the sum of its leaves. So a sum says which
//! *set* of records lies below, whatever the order in which they came, and the sum of a partition
//! is the same for every number of partitions. The hashes are keyed: without the key nobody can
//! find two sets with one sum, as they could with a plain xor.
//!
//! Sparse: blocks of 256 leaves exist where there are records. Not decided here: what is hashed
//! (`hash`), and how the trie stays in step with the store (`forest`).

/// Bits of a token that name its leaf. A million leaves: about one key each for a million keys,
/// and a hundred each for a hundred million, which is what one exchange of clocks then carries.
pub const LEAF_BITS: u32 = 20;
/// Number of leaves.
pub const LEAVES: u32 = 1 << LEAF_BITS;

const BLOCK_BITS: u32 = 8;
const BLOCK_LEAVES: u32 = 1 << BLOCK_BITS;
const BLOCKS: usize = 1 << (LEAF_BITS - BLOCK_BITS);

/// The leaf of a token.
#[must_use]
pub const fn leaf_of(token: u64) -> u32 {
    (token >> (64 - LEAF_BITS)) as u32
}

/// The first token of a leaf; none for the one after the last.
#[must_use]
pub fn first_token(leaf: u32) -> Option<u64> {
    (leaf < LEAVES).then(|| u64::from(leaf) << (64 - LEAF_BITS))
}

/// Leaves from `first` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first leaf.
    pub first: u32,
    /// The leaf after the last.
    pub end: u32,
}

/// A part of the token space: the leaves whose numbers begin with `bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// How many bits are fixed, at most [`LEAF_BITS`].
    pub depth: u8,
    /// Their value.
    pub bits: u32,
}

impl Prefix {
    /// The whole token space.
    pub const ROOT: Self = Self { depth: 0, bits: 0 };

    /// A prefix, if there is one like that.
    #[must_use]
    pub const fn new(depth: u8, bits: u32) -> Option<Self> {
        if depth as u32 <= LEAF_BITS && (bits as u64) < 1 << depth {
            Some(Self { depth, bits })
        } else {
            None
        }
    }

    /// The leaves below.
    #[must_use]
    pub fn span(self) -> Span {
        let width = LEAF_BITS - u32::from(self.depth);
        Span {
            first: self.bits << width,
            end: (self.bits + 1) << width,
        }
    }

    /// True if there is nothing below but one leaf.
    #[must_use]
    pub const fn is_leaf(self) -> bool {
        self.depth as u32 == LEAF_BITS
    }

    /// The parts of this part that are compared next: 256 of the root, else 16; none of a leaf.
    pub fn children(self) -> impl ExactSizeIterator<Item = Self> + Clone {
        let step: u8 = match self.depth {
            0 => 8,
            _ if self.is_leaf() => 0,
            _ => 4,
        };
        let count = if self.is_leaf() { 0 } else { 1_u32 << step };
        (0..count).map(move |child| Self {
            depth: self.depth + step,
            bits: self.bits << step | child,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    sum: u64,
    /// A bit for each leaf: whether it is not zero.
    used: [u64; BLOCK_LEAVES as usize / 64],
    leaves: [u64; BLOCK_LEAVES as usize],
}

impl Block {
    const EMPTY: Self = Self {
        sum: 0,
        used: [0; BLOCK_LEAVES as usize / 64],
        leaves: [0; BLOCK_LEAVES as usize],
    };

    fn set(&mut self, within: usize, sum: u64) {
        let old = std::mem::replace(&mut self.leaves[within], sum);
        self.sum = self.sum.wrapping_sub(old).wrapping_add(sum);
        let bit = 1 << (within % 64);
        if sum == 0 {
            self.used[within / 64] &= !bit;
        } else {
            self.used[within / 64] |= bit;
        }
    }

    fn is_empty(&self) -> bool {
        self.used.iter().all(|bits| *bits == 0)
    }

    /// The leaves that are not zero, ascending; the others are not looked at.
    fn used(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let words = (0_u32..).step_by(64).zip(self.used);
        let used = words.flat_map(|(first, mut bits)| {
            std::iter::from_fn(move || {
                let next = bits.trailing_zeros();
                bits &= bits.wrapping_sub(1);
                (next < 64).then_some(first + next)
            })
        });
        used.map(|within| (within, self.leaves[within as usize]))
    }
}

/// Sums by prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trie {
    blocks: Vec<Option<Box<Block>>>,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            blocks: vec![None; BLOCKS],
        }
    }
}

fn place(leaf: u32) -> (usize, usize) {
    let block = leaf >> BLOCK_BITS;
    let within = leaf & (BLOCK_LEAVES - 1);
    (block as usize, within as usize)
}

impl Trie {
    /// A record came, went or changed: `delta` is its new hash less its old one.
    pub fn add(&mut self, leaf: u32, delta: u64) {
        self.set(leaf, self.leaf(leaf).wrapping_add(delta));
    }

    /// The sum of one leaf is now this.
    pub fn set(&mut self, leaf: u32, sum: u64) {
        let (at, within) = place(leaf);
        let slot = &mut self.blocks[at];
        if slot.is_none() && sum == 0 {
            return;
        }
        let block = slot.get_or_insert_with(|| Box::new(Block::EMPTY));
        block.set(within, sum);
        if block.is_empty() {
            *slot = None;
        }
    }

    /// The sum of one leaf.
    #[must_use]
    pub fn leaf(&self, leaf: u32) -> u64 {
        let (at, within) = place(leaf);
        self.blocks[at]
            .as_ref()
            .map_or(0, |block| block.leaves[within])
    }

    /// The sum of some leaves.
    #[must_use]
    pub fn sum(&self, span: Span) -> u64 {
        let mut sum = 0_u64;
        let mut leaf = span.first;
        while leaf < span.end {
            let (at, within) = place(leaf);
            let end = span.end.min((leaf | (BLOCK_LEAVES - 1)) + 1);
            let count = (end - leaf) as usize;
            if let Some(block) = &self.blocks[at] {
                let part = if count == BLOCK_LEAVES as usize {
                    block.sum
                } else {
                    let leaves = block.leaves[within..within + count].iter();
                    leaves.fold(0_u64, |sum, leaf| sum.wrapping_add(*leaf))
                };
                sum = sum.wrapping_add(part);
            }
            leaf = end;
        }
        sum
    }

    /// The sum of the part of `spans`, which ascend, that lies below a prefix.
    #[must_use]
    pub fn sum_within(&self, prefix: Prefix, spans: &[Span]) -> u64 {
        let all = prefix.span();
        let from = spans.partition_point(|span| span.end <= all.first);
        let below = spans[from..].iter().take_while(|span| span.first < all.end);
        below.fold(0_u64, |sum, span| {
            let part = Span {
                first: span.first.max(all.first),
                end: span.end.min(all.end),
            };
            sum.wrapping_add(self.sum(part))
        })
    }

    /// The leaves within a span that are not zero, ascending.
    pub fn used(&self, span: Span) -> impl Iterator<Item = (u32, u64)> + '_ {
        let end = span.end.saturating_sub(1) >> BLOCK_BITS;
        let blocks = (span.first >> BLOCK_BITS)..=end;
        let blocks = blocks.filter_map(|at| Some((at, self.blocks[at as usize].as_ref()?)));
        let leaves = blocks.flat_map(|(at, block)| {
            let used = block.used();
            used.map(move |(within, sum)| (at << BLOCK_BITS | within, sum))
        });
        leaves.filter(move |(leaf, _)| span.first <= *leaf && *leaf < span.end)
    }

    /// Bytes it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().flatten().count();
        size_of::<Self>()
            + self.blocks.len() * size_of::<Option<Box<Block>>>()
            + blocks * size_of::<Block>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const ALL: Span = Span {
        first: 0,
        end: LEAVES,
    };

    /// A token that often shares a leaf or block with another, and its record's hash.
    fn record() -> impl Strategy<Value = (u64, u64)> {
        let token = (0_u64..64, 0_u64..8).prop_map(|(high, low)| high << 58 | low << 44 | low);
        (token, 1..u64::MAX)
    }

    fn naive(records: &BTreeMap<u64, u64>, span: Span) -> u64 {
        let inside = records
            .iter()
            .filter(|(token, _)| (span.first..span.end).contains(&leaf_of(**token)));
        inside.fold(0, |sum: u64, (_, hash)| sum.wrapping_add(*hash))
    }

    fn built(records: &BTreeMap<u64, u64>) -> Trie {
        let mut trie = Trie::default();
        for (token, hash) in records {
            trie.add(leaf_of(*token), *hash);
        }
        trie
    }

    proptest! {
        #[test]
        fn kept_in_step_is_as_built_anew(
            writes in prop::collection::vec((record(), any::<bool>()), 0..60),
            depth in 0_u8..=20,
        ) {
            let mut records = BTreeMap::new();
            let mut trie = Trie::default();
            for ((token, hash), removes) in writes {
                let new = if removes { 0 } else { hash };
                let old = if removes { records.remove(&token) } else { records.insert(token, new) };
                trie.add(leaf_of(token), new.wrapping_sub(old.unwrap_or(0)));
            }
            prop_assert_eq!(&trie, &built(&records));
            let last = (1_u32 << depth) - 1;
            for bits in [0, last / 2, last] {
                let prefix = Prefix::new(depth, bits).unwrap();
                prop_assert_eq!(trie.sum(prefix.span()), naive(&records, prefix.span()));
                let children = prefix.children().map(|child| trie.sum(child.span()));
                if !prefix.is_leaf() && depth % 4 == 0 {
                    let sum = children.fold(0, u64::wrapping_add);
                    prop_assert_eq!(sum, trie.sum(prefix.span()));
                }
            }
        }

        #[test]
        fn the_order_of_updates_changes_nothing_and_other_sets_have_other_roots(
            first in prop::collection::btree_map(record().prop_map(|r| r.0), 1..u64::MAX, 0..20),
            second in prop::collection::btree_map(record().prop_map(|r| r.0), 1..u64::MAX, 0..20),
        ) {
            let backwards = first.iter().rev().fold(Trie::default(), |mut trie, (token, hash)| {
                trie.add(leaf_of(*token), *hash);
                trie
            });
            prop_assert_eq!(&backwards, &built(&first));
            let same = built(&first).sum(ALL) == built(&second).sum(ALL);
            prop_assert_eq!(same, first == second);
        }

        #[test]
        fn partitions_of_any_number_add_up_to_the_same(
            records in prop::collection::btree_map(record().prop_map(|r| r.0), 1..u64::MAX, 0..40),
            bits in 3_u32..=16,
        ) {
            let trie = built(&records);
            let width = LEAF_BITS - bits;
            let spans: Vec<Span> = (0..1_u32 << bits)
                .map(|p| Span { first: p << width, end: (p + 1) << width })
                .collect();
            prop_assert_eq!(trie.sum_within(Prefix::ROOT, &spans), trie.sum(ALL));
            let half: Vec<Span> = spans.iter().step_by(2).copied().collect();
            let expected = half.iter().fold(0, |sum: u64, span| {
                sum.wrapping_add(naive(&records, *span))
            });
            prop_assert_eq!(trie.sum_within(Prefix::ROOT, &half), expected);
            let parts = Prefix::ROOT.children().map(|child| trie.sum_within(child, &half));
            prop_assert_eq!(parts.fold(0, u64::wrapping_add), expected);
        }
    }

    #[test]
    fn a_million_keys_take_less_than_nine_bytes_each() {
        let mut trie = Trie::default();
        for (thousand, tokens) in [(1, 0..1_000), (1_000, 1_000..1_000_000_u64)] {
            for n in tokens {
                let token = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                trie.add(leaf_of(token ^ (token >> 29)), n + 1);
            }
            eprintln!("{thousand} thousand keys: {} KiB", trie.bytes() >> 10);
        }
        assert!(trie.bytes() < 9_000_000);
    }

    #[test]
    fn an_empty_trie_takes_no_blocks_and_an_emptied_one_gives_them_back() {
        let mut trie = Trie::default();
        let empty = trie.bytes();
        trie.add(7, 5);
        assert!(empty < trie.bytes());
        trie.add(7, 0_u64.wrapping_sub(5));
        assert_eq!(trie.bytes(), empty);
        assert_eq!(trie, Trie::default());
    }
}
