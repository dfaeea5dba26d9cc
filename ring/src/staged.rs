//! Staged changes: what operators want the next ring to be, kept by every node.
//!
//! One entry for each node concerned (a second for its zone, and one for the number of partitions),
//! each with a stamp; merging takes the entry with the higher stamp, so copies become equal however
//! they meet. Staged changes belong to one epoch: those of an older epoch are worth nothing.
//!
//! Not decided here: what ring follows from them.

use std::collections::BTreeMap;

use crate::{
    codec::{BadRing, take, take_text},
    ids::{NodeId, RingEpoch},
    member::Member,
    ring::MEMBERS_MAX,
};

const MAGIC: &[u8; 4] = b"QSTG";
const FORMAT: u16 = 1;
/// The entry of a change of the number of partitions; no node can have this name.
const RESIZE: &str = "*";

/// One thing an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node gets its share.
    Join(Member),
    /// A node hands its share over.
    Leave(String),
    /// A node is gone for good; nothing waits for it.
    Remove(String),
    /// Another node takes a node's places.
    Replace(String, Member),
    /// A node's share changes.
    Weight(String, u32),
    /// A node is in another zone.
    Zone(String, String),
    /// The token space is cut otherwise.
    Resize(u32),
}

impl Change {
    /// What the change is about. A node's zone is a matter of its own: it may change beside the
    /// weight. No node's name has a space in it.
    fn subject(&self) -> String {
        let name = match self {
            Self::Zone(name, _) => return format!("{name} zone"),
            Self::Join(member) => &member.name,
            Self::Leave(name)
            | Self::Remove(name)
            | Self::Replace(name, _)
            | Self::Weight(name, _) => name,
            Self::Resize(_) => RESIZE,
        };
        name.to_owned()
    }

    /// As the command that stages it.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Join(m) => format!("join {} zone {} weight {}", m.name, m.zone, m.weight),
            Self::Leave(name) => format!("leave {name}"),
            Self::Remove(name) => format!("remove {name} --dead"),
            Self::Replace(old, new) => format!("replace {old} {}", new.name),
            Self::Weight(name, weight) => format!("weight {name} {weight}"),
            Self::Zone(name, zone) => format!("zone {name} {zone}"),
            Self::Resize(count) => format!("resize {count}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    stamp: (u64, NodeId),
    /// None if it was taken back.
    change: Option<Change>,
}

/// All staged changes of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    base: RingEpoch,
    entries: BTreeMap<String, Entry>,
}

impl Staged {
    /// Nothing, for changes of that epoch's ring.
    #[must_use]
    pub const fn new(base: RingEpoch) -> Self {
        Self {
            base,
            entries: BTreeMap::new(),
        }
    }

    /// The epoch whose ring is to change.
    #[must_use]
    pub const fn base(&self) -> RingEpoch {
        self.base
    }

    /// The same for a later epoch that has the same ring.
    #[must_use]
    pub fn rebased(self, base: RingEpoch) -> Self {
        Self { base, ..self }
    }

    /// What is wanted, in a fixed order.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.entries.values().filter_map(|e| e.change.as_ref())
    }

    /// Adds a change, or replaces the one for the same node. False if there are too many.
    pub fn stage(&mut self, by: NodeId, change: Change) -> bool {
        let subject = change.subject();
        if MEMBERS_MAX <= self.entries.len() && !self.entries.contains_key(&subject) {
            return false;
        }
        let stamp = (self.latest() + 1, by);
        let change = Some(change);
        self.entries.insert(subject, Entry { stamp, change });
        true
    }

    /// Takes everything back.
    pub fn clear(&mut self, by: NodeId) {
        let stamp = (self.latest() + 1, by);
        for entry in self.entries.values_mut() {
            *entry = Entry {
                stamp,
                change: None,
            };
        }
    }

    fn latest(&self) -> u64 {
        let stamps = self.entries.values().map(|entry| entry.stamp.0);
        stamps.max().unwrap_or(0)
    }

    /// Takes in another copy; true if anything changed.
    pub fn merge(&mut self, other: &Self) -> bool {
        if other.base < self.base {
            return false;
        }
        if self.base < other.base {
            *self = other.clone();
            return true;
        }
        let mut changed = false;
        for (subject, theirs) in &other.entries {
            let newer = |ours: &Entry| ours.stamp < theirs.stamp;
            if self.entries.get(subject).is_none_or(newer) {
                self.entries.insert(subject.clone(), theirs.clone());
                changed = true;
            }
        }
        changed
    }

    /// These changes' bytes.
    ///
    /// # Panics
    ///
    /// Never: all parts were checked when they were staged.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(FORMAT.to_le_bytes());
        out.extend(self.base.get().to_le_bytes());
        let count = u16::try_from(self.entries.len()).expect("at most a thousand entries");
        out.extend(count.to_le_bytes());
        for (subject, entry) in &self.entries {
            put_text(&mut out, subject);
            out.extend(entry.stamp.0.to_le_bytes());
            out.extend(entry.stamp.1.get().to_le_bytes());
            put_change(&mut out, entry.change.as_ref());
        }
        out
    }

    /// The reverse of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    ///
    /// If the bytes are damaged or of a newer format.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadRing> {
        let mut rest = bytes;
        if &take::<4>(&mut rest)? != MAGIC {
            return Err(BadRing::Damaged);
        }
        let format = u16::from_le_bytes(take(&mut rest)?);
        if FORMAT < format {
            return Err(BadRing::NewerFormat(format));
        }
        let mut staged = Self::new(RingEpoch::new(u64::from_le_bytes(take(&mut rest)?)));
        let count = usize::from(u16::from_le_bytes(take(&mut rest)?));
        if MEMBERS_MAX < count {
            return Err(BadRing::Damaged);
        }
        for _ in 0..count {
            let subject = take_text(&mut rest)?.to_owned();
            let counter = u64::from_le_bytes(take(&mut rest)?);
            let node = NodeId::new(u64::from_le_bytes(take(&mut rest)?));
            let change = take_change(&mut rest)?;
            let stamp = (counter, node);
            staged.entries.insert(subject, Entry { stamp, change });
        }
        if rest.is_empty() {
            Ok(staged)
        } else {
            Err(BadRing::Damaged)
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("checked when the change was made"));
    out.extend(text.as_bytes());
}

fn put_member(out: &mut Vec<u8>, member: &Member) {
    for text in [&member.name, &member.address, &member.zone] {
        put_text(out, text);
    }
    out.extend(member.weight.to_le_bytes());
}

fn put_change(out: &mut Vec<u8>, change: Option<&Change>) {
    match change {
        None => out.push(0),
        Some(Change::Join(member)) => {
            out.push(1);
            put_member(out, member);
        }
        Some(Change::Leave(name)) => {
            out.push(2);
            put_text(out, name);
        }
        Some(Change::Remove(name)) => {
            out.push(3);
            put_text(out, name);
        }
        Some(Change::Replace(name, member)) => {
            out.push(4);
            put_text(out, name);
            put_member(out, member);
        }
        Some(Change::Weight(name, weight)) => {
            out.push(5);
            put_text(out, name);
            out.extend(weight.to_le_bytes());
        }
        Some(Change::Resize(count)) => {
            out.push(6);
            out.extend(count.to_le_bytes());
        }
        Some(Change::Zone(name, zone)) => {
            out.push(7);
            put_text(out, name);
            put_text(out, zone);
        }
    }
}

fn take_member(rest: &mut &[u8]) -> Result<Member, BadRing> {
    let (name, address, zone) = (take_text(rest)?, take_text(rest)?, take_text(rest)?);
    let weight = u32::from_le_bytes(take(rest)?);
    Ok(Member::new(name, address, zone, weight)?)
}

fn take_change(rest: &mut &[u8]) -> Result<Option<Change>, BadRing> {
    let [code] = take::<1>(rest)?;
    Ok(match code {
        0 => None,
        1 => Some(Change::Join(take_member(rest)?)),
        2 => Some(Change::Leave(take_text(rest)?.to_owned())),
        3 => Some(Change::Remove(take_text(rest)?.to_owned())),
        4 => {
            let name = take_text(rest)?.to_owned();
            Some(Change::Replace(name, take_member(rest)?))
        }
        5 => {
            let name = take_text(rest)?.to_owned();
            Some(Change::Weight(name, u32::from_le_bytes(take(rest)?)))
        }
        6 => Some(Change::Resize(u32::from_le_bytes(take(rest)?))),
        7 => {
            let name = take_text(rest)?.to_owned();
            Some(Change::Zone(name, take_text(rest)?.to_owned()))
        }
        _ => return Err(BadRing::Damaged),
    })
}
