//! What clients asked for and what they may conclude: the yardstick of every oracle.
//!
//! Operations are numbered; the number is the low half of the operation id, so that whatever comes
//! back can be traced to the attempt that caused it. Each write remembers which writes its author
//! had *seen* through its context. Following that relation backwards from what is live says which
//! writes were rightly replaced. Nothing here is learnt from the product but answers and the
//! announcement of minted dots.

use std::{collections::BTreeMap, rc::Rc};

use bytes::Bytes;
use quorate_client::wire::Condition;
use quorate_node::causality::{Dot, Stamp};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::oracle::session::Established;

/// Number of an operation in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpIndex(pub u32);

impl OpIndex {
    /// As an index into [`History::ops`].
    #[must_use]
    pub fn at(self) -> usize {
        place(self.0)
    }
}

/// A key's or operation's number as an index.
#[must_use]
pub fn place(number: u32) -> usize {
    usize::try_from(number).expect("indexes have at least 32 bits")
}

/// A context together with the writes its holder had seen when it was handed out.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the node gave.
    pub context: Bytes,
    /// The writes whose versions the answer listed, and the deletes it stands for.
    pub ops: Rc<[OpIndex]>,
}

/// How far a write has got, as far as anybody outside can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No attempt has been answered, or one was answered with `unknown_outcome`.
    Unknown,
    /// Every attempt so far was refused for certain.
    NotApplied,
    /// Acknowledged.
    Acknowledged {
        /// When the first acknowledgement was sent.
        at: u64,
    },
}

/// What became of an operation's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It names one write.
    No,
    /// It was sent with another write as well.
    Tried,
    /// That other write may be what is found under it.
    Minted,
}

/// A put or delete.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a write is so in many ways")]
pub struct Op {
    /// Its key.
    pub key: u32,
    /// True for a delete.
    pub delete: bool,
    /// Size of its value.
    pub value_bytes: usize,
    /// Its value; none for a delete.
    pub value: Option<Bytes>,
    /// The context it carries; the same in every attempt.
    pub seen: Option<Seen>,
    /// How long its value is to be seen, in milliseconds; for ever if zero.
    pub ttl_ms: u64,
    /// Durable replicas it asks for.
    pub w: u8,
    /// Of them, those that must have it themselves.
    pub pw: u8,
    /// Whether others may stand in for replicas.
    pub sloppy: bool,
    /// Its precondition.
    pub condition: Condition,
    /// If it has one: what was established when it was first sent.
    pub front: Vec<Established>,
    /// The context it carries if nobody gave it out for this key: such a write must not happen.
    pub forged: Option<Bytes>,
    /// When it was first sent.
    pub started: u64,
    /// How often processes had died by then.
    pub deaths: u64,
    /// How many operation ids its key had been told of before its first dot.
    pub ids_before: usize,
    /// True if its first attempt was acknowledged by the replica it was sent to, before another.
    pub prompt: bool,
    /// True if its first acknowledgement counts fewer replicas than `w`: others stood in.
    pub lent: bool,
    /// Attempts sent.
    pub attempts: u32,
    /// Attempts that were refused for certain.
    pub refused: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether its id was used for another write.
    pub reuse: Reuse,
    /// The dots minted for it.
    pub dots: Vec<Dot>,
    /// Where the last write wins: their stamps.
    pub stamps: Vec<Stamp>,
    /// True once an acknowledged write is known to have replaced it.
    pub settled: bool,
    /// When the first acknowledged write whose author had seen it was acknowledged, and its `w`.
    pub replaced: Option<(u64, u8)>,
    /// Used by searches through the `seen` relation.
    pub visited: u32,
}

impl Op {
    /// Whether its version may not be listed although nothing has replaced it.
    #[must_use]
    pub const fn may_hide(&self) -> bool {
        self.delete || 0 < self.ttl_ms
    }
}

/// All operations of a run.
#[derive(Debug, Default)]
pub struct History {
    /// By number.
    pub ops: Vec<Op>,
    /// Per key, which operation each dot belongs to.
    pub dots: Vec<BTreeMap<Dot, OpIndex>>,
    /// Per key, how many operation ids it was told of: those of its writes, and those that their
    /// authors had seen.
    pub ids: Vec<usize>,
    search: u32,
}

/// First half of every operation id, to tell ours from anything else.
const ID_TAG: u128 = 0x5175_6f72_6174_6521 << 64;

impl History {
    /// For this many keys.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        Self {
            dots: vec![BTreeMap::new(); keys],
            ids: vec![0; keys],
            ..Self::default()
        }
    }

    /// Adds an operation.
    ///
    /// # Panics
    ///
    /// If a run has more than four thousand million of them.
    pub fn push(&mut self, mut op: Op) -> OpIndex {
        let index = u32::try_from(self.ops.len()).expect("a run has fewer operations");
        let index = OpIndex(index);
        op.value = (!op.delete).then(|| value(index, op.value_bytes));
        self.ops.push(op);
        index
    }

    /// An operation.
    #[must_use]
    pub fn op(&self, index: OpIndex) -> &Op {
        &self.ops[index.at()]
    }

    /// The operation that a wire id names, if it is one of ours.
    #[must_use]
    pub fn find(&self, op_id: &[u8]) -> Option<OpIndex> {
        self.find_number(u128::from_be_bytes(op_id.try_into().ok()?))
    }

    /// The operation whose wire id is this number, if it is one of ours.
    #[must_use]
    pub fn find_number(&self, op_id: u128) -> Option<OpIndex> {
        let index = u32::try_from(op_id.checked_sub(ID_TAG)?).ok()?;
        let known = usize::try_from(index).ok()? < self.ops.len();
        known.then_some(OpIndex(index))
    }

    /// Marks everything that the author of any of `from` had seen, through any number of steps,
    /// calling `visit` once for each; `visit` returns false to go no further on that path.
    pub fn ancestors(&mut self, from: &[OpIndex], mut visit: impl FnMut(&mut Op, OpIndex) -> bool) {
        self.search += 1;
        let search = self.search;
        let mut stack: Vec<OpIndex> = from.to_vec();
        for index in from {
            self.ops[index.at()].visited = search;
        }
        while let Some(index) = stack.pop() {
            let Some(seen) = self.ops[index.at()].seen.as_ref() else {
                continue;
            };
            let seen = Rc::clone(&seen.ops);
            for &parent in seen.iter() {
                let op = &mut self.ops[parent.at()];
                if op.visited != search {
                    op.visited = search;
                    if visit(op, parent) {
                        stack.push(parent);
                    }
                }
            }
        }
    }

    /// Whether the author of any write had seen it.
    #[must_use]
    pub fn was_seen(&self, index: OpIndex) -> bool {
        let key = self.op(index).key;
        let mut later = self.ops[index.at()..].iter().filter(|op| op.key == key);
        later.any(|op| {
            op.seen
                .as_ref()
                .is_some_and(|seen| seen.ops.contains(&index))
        })
    }

    /// Tells two histories apart: by the dots of every write, when it was acknowledged, if it was,
    /// and what its author had seen.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0;
        for op in &self.ops {
            let seen = op.seen.as_ref().map(|seen| &seen.ops);
            let text = format!("{:?} {:?} {seen:?}", op.dots, op.outcome);
            hash = xxh3_64_with_seed(text.as_bytes(), hash);
        }
        hash
    }

    /// Whether the latest search met this operation or began at it.
    #[must_use]
    pub fn met(&self, index: OpIndex) -> bool {
        self.op(index).visited == self.search
    }
}

/// The id that an operation carries on the wire.
#[must_use]
pub fn op_id(index: OpIndex) -> Bytes {
    Bytes::copy_from_slice(&(ID_TAG + u128::from(index.0)).to_be_bytes())
}

/// The value that an operation writes: its number, then bytes that follow from it.
#[must_use]
pub fn value(index: OpIndex, bytes: usize) -> Bytes {
    let mut value = Vec::with_capacity(bytes.max(4));
    value.extend_from_slice(&index.0.to_le_bytes());
    let mut word = index.0;
    while value.len() < bytes {
        word = word.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        value.extend_from_slice(&word.to_le_bytes());
    }
    value.truncate(bytes.max(4));
    Bytes::from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(seen: &[u32]) -> Op {
        let ops: Vec<OpIndex> = seen.iter().map(|&index| OpIndex(index)).collect();
        let op = Op::new(0, false, 0);
        if ops.is_empty() {
            op
        } else {
            op.having_seen(Bytes::new(), &ops)
        }
    }

    #[test]
    fn ancestors_are_found_through_several_steps() {
        let mut history = History::new(1);
        for seen in [&[][..], &[0], &[], &[1]] {
            history.push(op(seen));
        }
        let mut met = Vec::new();
        history.ancestors(&[OpIndex(3)], |_, index| {
            met.push(index);
            true
        });
        assert_eq!(met, [OpIndex(1), OpIndex(0)]);
        assert!(history.met(OpIndex(0)) && !history.met(OpIndex(2)));
    }

    #[test]
    fn ids_and_values_name_their_operation() {
        let mut history = History::new(1);
        history.push(op(&[]));
        assert_eq!(history.find(&op_id(OpIndex(0))), Some(OpIndex(0)));
        assert_eq!(history.find(&op_id(OpIndex(1))), None);
        assert_eq!(history.find(b"someone else's"), None);
        assert_eq!(value(OpIndex(9), 100).len(), 100);
        assert_eq!(value(OpIndex(9), 100)[..4], 9_u32.to_le_bytes());
    }
}
