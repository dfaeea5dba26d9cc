//! What members know of each other's data directories: which there were, and the last life of each.
//!
//! Every process says who it is before it counts for anything. Who has seen a later life of that
//! directory than the directory remembers, or the directory under another member's name, or knows
//! that a directory of that name was copied, refuses it: then it was restored, rolled back or
//! copied, and must not go on under its name. What is known is durable before it is answered, and
//! passed on, so that those who were away learn it too.
//!
//! Not decided here: what a refused directory does, and how many have to have heard of one.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use quorate_ring::{MEMBERS_MAX, NodeId, NodeUuid};

use crate::identity::{Identity, Lives};

/// Where it is kept in [`Table::Meta`](crate::store::Table::Meta).
pub const META_REGISTER_KEY: &[u8] = b"register";
/// Directories that are remembered of one member. Of one that has had more, who was away may take a
/// new one for an old one that is forgotten.
pub const DIRECTORIES_MAX: usize = 16;
const MAGIC: &[u8; 4] = b"QREG";
const FORMAT: u16 = 1;

/// How a process introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its data directory.
    pub uuid: NodeUuid,
    /// How many times that was opened.
    pub boot: u64,
    /// What the directory remembers of itself.
    pub lives: Lives,
}

/// The last that was heard of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Whose it is.
    pub node: NodeId,
    /// The directory.
    pub uuid: NodeUuid,
    /// Number of its last life.
    pub number: u64,
    /// Mark of that life.
    pub mark: u64,
    /// True if it was there twice: nobody may go on under this name.
    pub burnt: bool,
}

/// What a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It goes on from the last life that is known, or nothing is known of the member.
    Welcome = 1,
    /// The same, but the member has had another directory before.
    Another = 2,
    /// It must not go on under its name.
    Refused = 3,
}

/// All that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Register {
    /// Of each member the directories that were heard of, the last one last.
    traces: BTreeMap<NodeId, Vec<Trace>>,
}

impl Register {
    /// A member's process introduces itself. Says also whether that is news.
    pub(crate) fn hear(&mut self, node: NodeId, who: &Introduction) -> (Opinion, bool) {
        if self.is_of_another(node, who.uuid) || !self.has_room(node) {
            return (Opinion::Refused, false);
        }
        let traces = self.traces.entry(node).or_default();
        let (number, mark) = who.lives.newest();
        let Some(at) = traces.iter().position(|known| known.uuid == who.uuid) else {
            if traces.len() == DIRECTORIES_MAX {
                // One that has been opened before may be an old one that is forgotten here.
                // Without any that were forgotten it is one that was new while nobody told us.
                if who.boot != 1 {
                    return (Opinion::Refused, false);
                }
                traces.remove(0);
            }
            let uuid = who.uuid;
            let burnt = false;
            traces.push(Trace {
                node,
                uuid,
                number,
                mark,
                burnt,
            });
            return (welcome(traces), true);
        };
        let known = &mut traces[at];
        if known.burnt {
            return (Opinion::Refused, false);
        }
        if who.lives.include(known.number, known.mark) == Some(false) {
            // Two that begin a life of the same number are two.
            known.burnt = known.number <= number;
            return (Opinion::Refused, known.burnt);
        }
        let news = (known.number, known.mark) != (number, mark);
        (known.number, known.mark) = (number, mark);
        (welcome(traces), news)
    }

    /// Another member tells what it has heard. True if that is news.
    pub(crate) fn take(&mut self, told: &Trace) -> bool {
        if self.is_of_another(told.node, told.uuid) || !self.has_room(told.node) {
            return false;
        }
        let traces = self.traces.entry(told.node).or_default();
        match traces.iter().position(|known| known.uuid == told.uuid) {
            Some(at) => {
                let known = &mut traces[at];
                let before = *known;
                if known.number < told.number {
                    (known.number, known.mark) = (told.number, told.mark);
                }
                known.burnt |= told.burnt;
                *known != before
            }
            None if traces.len() < DIRECTORIES_MAX => {
                // What is told may be old: who introduced itself is the last one.
                traces.insert(0, *told);
                true
            }
            None => false,
        }
    }

    /// A process has noticed that its directory was there twice. True if that is news.
    pub(crate) fn burn(&mut self, node: NodeId, uuid: NodeUuid) -> bool {
        let traces = self.traces.get_mut(&node).into_iter().flatten();
        let mut found = traces.filter(|known| known.uuid == uuid && !known.burnt);
        found.next().is_some_and(|known| {
            known.burnt = true;
            true
        })
    }

    /// The directory that a member was last heard of with.
    pub(crate) fn last(&self, node: NodeId) -> Option<NodeUuid> {
        let traces = self.traces.get(&node)?;
        traces.last().map(|known| known.uuid)
    }

    /// The only directory that a member was ever heard of with.
    pub(crate) fn only(&self, node: NodeId) -> Option<NodeUuid> {
        match self.traces.get(&node).map(Vec::as_slice) {
            Some([one]) if !one.burnt => Some(one.uuid),
            Some(_) | None => None,
        }
    }

    /// The last that is known of everybody.
    pub(crate) fn traces(&self) -> impl Iterator<Item = &Trace> {
        self.traces.values().flatten()
    }

    /// Forgets those who are in the cluster no more.
    pub(crate) fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.traces.retain(|node, _| keep(*node));
    }

    fn has_room(&self, node: NodeId) -> bool {
        self.traces.len() < 2 * MEMBERS_MAX || self.traces.contains_key(&node)
    }

    fn is_of_another(&self, node: NodeId, uuid: NodeUuid) -> bool {
        let mut traces = self.traces();
        traces.any(|known| known.node != node && known.uuid == uuid)
    }

    /// For the disk.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::from(&MAGIC[..]);
        out.put_u16_le(FORMAT);
        for known in self.traces() {
            out.put_u64_le(known.node.get());
            out.put_u128_le(known.uuid.get());
            out.put_u64_le(known.number);
            out.put_u64_le(known.mark);
            out.put_u8(u8::from(known.burnt));
        }
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.freeze()
    }

    /// The reverse of [`to_bytes`](Self::to_bytes); empty if the bytes are damaged: the others
    /// know as well.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut register = Self::default();
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
            return register;
        };
        let Some(traces) = body.strip_prefix(MAGIC) else {
            return register;
        };
        let Some(traces) = traces.strip_prefix(&FORMAT.to_le_bytes()) else {
            return register;
        };
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return register;
        }
        for trace in traces.as_chunks::<TRACE_BYTES>().0 {
            let word = |at: usize| {
                let bytes: [u8; 8] = std::array::from_fn(|byte| trace[at + byte]);
                u64::from_le_bytes(bytes)
            };
            let node = NodeId::new(word(0));
            let trace = Trace {
                node,
                uuid: NodeUuid::new(u128::from(word(16)) << 64 | u128::from(word(8))),
                number: word(24),
                mark: word(32),
                burnt: trace[40] != 0,
            };
            register.traces.entry(node).or_default().push(trace);
        }
        register
    }
}

/// True if who has that register knows a later life of the directory with that identity, both as
/// they are stored: then the directory is a copy, or an old one.
#[must_use]
pub fn knows_better(register: &[u8], identity: &[u8]) -> bool {
    let register = Register::from_bytes(register);
    let Ok(identity) = Identity::stored(identity) else {
        return false;
    };
    let later = |trace: &Trace| {
        trace.uuid == identity.uuid
            && identity.lives.include(trace.number, trace.mark) == Some(false)
    };
    register.traces().any(later)
}

const TRACE_BYTES: usize = 8 + 16 + 8 + 8 + 1;

fn welcome(traces: &[Trace]) -> Opinion {
    if traces.len() == 1 {
        Opinion::Welcome
    } else {
        Opinion::Another
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const NODE: NodeId = NodeId::new(2);
    const UUID: NodeUuid = NodeUuid::new(7);

    fn who(uuid: NodeUuid, boot: u64, marks: &[u64]) -> Introduction {
        let lives = marks.iter().copied().fold(Lives::default(), Lives::and);
        Introduction { uuid, boot, lives }
    }

    #[test]
    fn a_directory_that_goes_on_is_welcome() {
        let mut register = Register::default();
        assert_eq!(
            register.hear(NODE, &who(UUID, 1, &[1])),
            (Opinion::Welcome, true)
        );
        assert_eq!(
            register.hear(NODE, &who(UUID, 1, &[1])),
            (Opinion::Welcome, false)
        );
        assert_eq!(
            register.hear(NODE, &who(UUID, 2, &[1, 2])),
            (Opinion::Welcome, true)
        );
        let later: Vec<u64> = (1..40).collect();
        assert_eq!(
            register.hear(NODE, &who(UUID, 9, &later)),
            (Opinion::Welcome, true)
        );
        assert_eq!(register.only(NODE), Some(UUID));
    }

    #[test]
    fn a_directory_that_forgot_a_life_is_refused() {
        let mut register = Register::default();
        register.hear(NODE, &who(UUID, 2, &[1, 2, 3]));
        // Put back to the second life and started once, then twice.
        assert_eq!(
            register.hear(NODE, &who(UUID, 2, &[1, 2])).0,
            Opinion::Refused
        );
        assert_eq!(
            register.hear(NODE, &who(UUID, 3, &[1, 2, 9])),
            (Opinion::Refused, true)
        );
        assert_eq!(
            register.hear(NODE, &who(UUID, 4, &[1, 2, 9, 10])).0,
            Opinion::Refused
        );
        // Then nobody may use it any more.
        assert_eq!(
            register.hear(NODE, &who(UUID, 3, &[1, 2, 3, 4])).0,
            Opinion::Refused
        );
        assert_eq!(register.only(NODE), None);
    }

    #[test]
    fn a_new_directory_is_another_and_the_old_one_does_not_return() {
        let mut register = Register::default();
        register.hear(NODE, &who(UUID, 1, &[1]));
        let other = NodeUuid::new(8);
        assert_eq!(
            register.hear(NODE, &who(other, 1, &[5])),
            (Opinion::Another, true)
        );
        assert_eq!(
            (register.last(NODE), register.only(NODE)),
            (Some(other), None)
        );
        assert_eq!(
            register.hear(NodeId::new(3), &who(UUID, 1, &[1])).0,
            Opinion::Refused
        );
    }

    #[test]
    fn a_directory_that_was_opened_twice_before_it_was_heard_of_is_another() {
        let mut register = Register::default();
        let hear = |register: &mut Register, uuid, boot| {
            let marks: Vec<u64> = (1..=boot).collect();
            register
                .hear(NODE, &who(NodeUuid::new(uuid), boot, &marks))
                .0
        };
        assert_eq!(hear(&mut register, 1, 1), Opinion::Welcome);
        let many = DIRECTORIES_MAX as u128;
        for uuid in 2..=many {
            assert_eq!(hear(&mut register, uuid, 2), Opinion::Another);
        }
        // From now on some are forgotten, and this may be one of those.
        assert_eq!(hear(&mut register, many + 1, 1), Opinion::Another);
        assert_eq!(hear(&mut register, 1, 2), Opinion::Refused);
        assert_eq!(hear(&mut register, many + 1, 2), Opinion::Another);
    }

    #[test]
    fn what_others_tell_counts_too() {
        let (mut one, mut two) = (Register::default(), Register::default());
        one.hear(NODE, &who(UUID, 1, &[1, 2, 3]));
        two.hear(NODE, &who(UUID, 1, &[1, 2]));
        for trace in one.traces() {
            assert!(two.take(trace));
            assert!(!two.take(trace));
        }
        assert_eq!(two, one);
        assert_eq!(
            two.hear(NODE, &who(UUID, 2, &[1, 2, 9])).0,
            Opinion::Refused
        );
    }

    #[test]
    fn a_register_survives_its_bytes_and_damage_is_nothing() {
        let mut register = Register::default();
        register.hear(NODE, &who(UUID, 1, &[1, 2, 3]));
        register.hear(NODE, &who(NodeUuid::new(u128::MAX - 5), 1, &[4]));
        register.hear(NodeId::new(1), &who(NodeUuid::new(1), 1, &[4]));
        register.burn(NODE, UUID);
        let bytes = register.to_bytes();
        assert_eq!(Register::from_bytes(&bytes), register);
        for at in 0..bytes.len() {
            let mut bad = bytes.to_vec();
            bad[at] ^= 4;
            assert_eq!(Register::from_bytes(&bad), Register::default());
            assert_eq!(Register::from_bytes(&bytes[..at]), Register::default());
        }
    }

    #[test]
    fn a_register_has_these_bytes() {
        let mut register = Register::default();
        register.hear(NODE, &who(UUID, 1, &[1, 2]));
        let bytes = register.to_bytes();
        let hex = bytes.iter().fold(String::new(), |mut out, byte| {
            write!(out, "{byte:02x}").unwrap();
            out
        });
        let golden = concat!(
            "515245470100",
            "0200000000000000",
            "07000000000000000000000000000000",
            "0200000000000000",
            "0200000000000000",
            "00",
        );
        assert_eq!(hex[..golden.len()], *golden);
    }
}
