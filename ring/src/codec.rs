//! A ring's canonical bytes, for disk, wire and hash.
//!
//! Magic, format, then fixed-width little-endian numbers and length-prefixed text. The decoder
//! checks every count against its limit and what is left; it never panics.

use std::io::Cursor;

use crate::{
    ids::RingEpoch,
    member::{Member, MemberError},
    partition::Partitions,
    ring::{MEMBERS_MAX, Ring},
};

const MAGIC: &[u8; 4] = b"QRNG";
const FORMAT: u16 = 1;

/// Bytes that are not a ring this release can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRing {
    /// Damaged or cut off.
    #[error("not the bytes of a ring")]
    Damaged,
    /// Written by a newer release.
    #[error("ring format {0} is newer than this release")]
    NewerFormat(u16),
    /// A member that cannot be.
    #[error(transparent)]
    Member(#[from] MemberError),
}

impl Ring {
    /// This ring's bytes.
    ///
    /// # Panics
    ///
    /// Never: all parts were checked when the ring was made.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(FORMAT.to_le_bytes());
        out.extend(self.epoch.get().to_le_bytes());
        out.extend(self.seed.to_le_bytes());
        out.extend(self.partitions.count().to_le_bytes());
        out.push(self.replicas_max);
        out.extend(self.previous.to_le_bytes());
        let count = u16::try_from(self.members.len()).expect("at most a thousand members");
        out.extend(count.to_le_bytes());
        for member in &self.members {
            for text in [&member.name, &member.address, &member.zone] {
                out.push(u8::try_from(text.len()).expect("checked when the member was made"));
                out.extend(text.as_bytes());
            }
            out.extend(member.weight.to_le_bytes());
        }
        for node in &self.lists {
            let at = self.members.binary_search_by_key(node, |member| member.id);
            let at = at.expect("lists name members");
            out.extend(
                u16::try_from(at)
                    .expect("at most a thousand members")
                    .to_le_bytes(),
            );
        }
        out
    }

    /// Identifies this ring and all before it.
    ///
    /// # Panics
    ///
    /// Never: reading from memory cannot fail.
    #[must_use]
    pub fn hash(&self) -> u128 {
        murmur3::murmur3_x64_128(&mut Cursor::new(self.to_bytes()), 0)
            .expect("reading from memory cannot fail")
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
        let epoch = RingEpoch::new(u64::from_le_bytes(take(&mut rest)?));
        let seed = u32::from_le_bytes(take(&mut rest)?);
        let partitions = Partitions::new(u32::from_le_bytes(take(&mut rest)?));
        let partitions = partitions.ok_or(BadRing::Damaged)?;
        let [replicas_max] = take(&mut rest)?;
        let previous = u128::from_le_bytes(take(&mut rest)?);
        let members = take_members(&mut rest)?;
        let length = members.len().min(usize::from(replicas_max));
        if length == 0 || rest.len() != partitions.count() as usize * length * 2 {
            return Err(BadRing::Damaged);
        }
        let mut lists = Vec::with_capacity(rest.len() / 2);
        while !rest.is_empty() {
            let at = usize::from(u16::from_le_bytes(take(&mut rest)?));
            lists.push(members.get(at).ok_or(BadRing::Damaged)?.id);
        }
        Ok(Self {
            epoch,
            seed,
            partitions,
            replicas_max,
            previous,
            members,
            lists,
            length,
        })
    }
}

pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], BadRing> {
    let (head, tail) = bytes.split_first_chunk().ok_or(BadRing::Damaged)?;
    *bytes = tail;
    Ok(*head)
}

pub(crate) fn take_text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, BadRing> {
    let [length] = take(bytes)?;
    let (head, tail) = bytes
        .split_at_checked(usize::from(length))
        .ok_or(BadRing::Damaged)?;
    *bytes = tail;
    std::str::from_utf8(head).map_err(|_| BadRing::Damaged)
}

fn take_members(rest: &mut &[u8]) -> Result<Vec<Member>, BadRing> {
    let count = usize::from(u16::from_le_bytes(take(rest)?));
    if MEMBERS_MAX < count {
        return Err(BadRing::Damaged);
    }
    let mut members: Vec<Member> = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, address, zone) = (take_text(rest)?, take_text(rest)?, take_text(rest)?);
        let member = Member::new(name, address, zone, u32::from_le_bytes(take(rest)?))?;
        if members.last().is_some_and(|last| member.id <= last.id) {
            return Err(BadRing::Damaged);
        }
        members.push(member);
    }
    Ok(members)
}
