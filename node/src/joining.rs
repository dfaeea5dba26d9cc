//! How a node becomes known to a cluster that runs: what it says of itself, and what it is told.
//!
//! A newcomer asks any member. It is told everything that a node has to know before its first
//! word: the ring the cluster began with, what has been agreed on since, what buckets there are,
//! and who else is waiting for a place. It owns nothing until a ring that names it is agreed on.
//!
//! Not decided here: who may ask (its certificate says so), and how the answer travels.

use bytes::Bytes;
use quorate_ring::{Member, MemberError};
use serde::{Deserialize, Serialize};

use crate::places::Heard;

/// A node that has joined and is not in the ring. The record of a later joining counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outsider {
    pub(crate) member: Member,
    pub(crate) version: u64,
    /// When anybody last heard of it.
    pub(crate) heard: Heard,
}

impl Outsider {
    /// True if this record replaces the other one. Of two joinings that knew nothing of each other
    /// any may win, as long as it is the same one everywhere.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        let rank = |outsider: &Self| {
            let Member {
                address,
                zone,
                weight,
                ..
            } = &outsider.member;
            (outsider.version, address.clone(), zone.clone(), *weight)
        };
        rank(other) < rank(self)
    }
}

/// A node in the words of the wire and of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newcomer {
    /// The name in its certificate.
    pub name: String,
    /// Where others reach it: host:port.
    pub address: String,
    /// Where it stands.
    pub zone: String,
    /// Its share relative to the others.
    pub weight: u32,
    /// How often it has joined under another description, or moved. Of two records the one with
    /// the greater version counts.
    #[serde(default)]
    pub version: u64,
    /// For so many seconds nobody has heard of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub away_s: u64,
    /// It was forgotten at an operator's word, so many seconds ago.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gone: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Newcomer {
    /// The ring's form of it.
    ///
    /// # Errors
    ///
    /// If name, address, zone or weight is none.
    pub fn member(&self) -> Result<Member, MemberError> {
        Member::new(&self.name, &self.address, &self.zone, self.weight)
    }
}

impl From<&Member> for Newcomer {
    fn from(member: &Member) -> Self {
        Self {
            name: member.name.clone(),
            address: member.address.clone(),
            zone: member.zone.clone(),
            weight: member.weight,
            version: 0,
            away_s: 0,
            gone: false,
        }
    }
}

/// What a newcomer is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Name of the cluster, for people.
    pub cluster_name: String,
    /// The ring with which the cluster was founded, in its own format.
    pub ring: Bytes,
    /// The decree in force, in its own format.
    pub decree: Bytes,
    /// The buckets, in the format of `bucket::Catalogue`.
    pub catalogue: Bytes,
    /// Those who wait for a place in the ring, in the format of [`newcomers_to_bytes`].
    pub members: Bytes,
}

/// Newcomers as bytes, for disk and wire.
///
/// # Panics
///
/// Never: writing to memory cannot fail.
#[must_use]
pub fn newcomers_to_bytes(newcomers: &[Newcomer]) -> Bytes {
    rmp_serde::to_vec_named(newcomers)
        .expect("writing to memory cannot fail")
        .into()
}

/// The reverse of [`newcomers_to_bytes`]; nobody, if the bytes are damaged: who is forgotten so
/// is told of again.
#[must_use]
pub fn newcomers_from_bytes(bytes: &[u8]) -> Vec<Newcomer> {
    rmp_serde::from_slice(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use quorate_gossip::Instant;

    use super::*;

    fn outsider(address: &str, version: u64) -> Outsider {
        let member = Member::new("n4", address, "z1", 1).unwrap();
        let heard = Heard::now(Instant::START);
        Outsider {
            member,
            version,
            heard,
        }
    }

    #[test]
    fn newcomers_survive_their_bytes_and_damage_is_nobody() {
        let newcomers = [Newcomer::from(&outsider("h:1", 3).member)];
        let bytes = newcomers_to_bytes(&newcomers);
        assert_eq!(newcomers_from_bytes(&bytes), newcomers);
        assert_eq!(newcomers_from_bytes(&bytes[1..]), []);
    }

    #[test]
    fn one_of_two_records_replaces_the_other_whichever_comes_first() {
        let records = [outsider("h:1", 1), outsider("h:2", 1), outsider("h:1", 2)];
        for (at, a) in records.iter().enumerate() {
            assert!(!a.replaces(a));
            for b in &records[at + 1..] {
                assert!(b.replaces(a) && !a.replaces(b));
            }
        }
    }
}
