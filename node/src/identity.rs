//! Who this data directory is.
//!
//! A directory's uuid, its boot counter and its lease of key epochs live in one record, in the
//! same transaction domain as the objects: losing the objects means losing the identity, and a
//! new identity cannot mint a dot twice (CAUSALITY, section 4). At every start the boot counter
//! rises and the lease moves past everything an earlier process may have used; the caller commits
//! that durably before the node exists.
//!
//! A directory also remembers its last *lives*: each start, and each few seconds of writing, is
//! one, with a random mark. Who knows a later life of it than the directory itself has seen it in
//! a state that it has lost: it was restored, rolled back or copied.
//!
//! Not decided here: whether the store lost data (the caller says so by `amnesia`), and what is
//! done about lives that were lost (`register`, `node::standing`).

mod lives;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_ring::{NodeId, NodeUuid};

pub use self::lives::{LIVES_MAX, Lives};
use crate::{
    causality::EPOCH_LEASE,
    store::{
        Table, Write,
        aside::{self, Why},
        engine::AMNESIA_KEY,
    },
};

/// Key of the identity in [`Table::Meta`].
pub const META_IDENTITY_KEY: &[u8] = b"identity";
/// Key of the bucket catalogue in [`Table::Meta`].
pub const META_CATALOGUE_KEY: &[u8] = b"catalogue";

const MAGIC: &[u8; 4] = b"QIDN";
const VERSION: u16 = 2;
/// Up to where both versions are the same.
const COMMON_BYTES: usize = 4 + 2 + 16 + 16 + 8 + 8 + 1;
const FIRST_VERSION_BYTES: usize = COMMON_BYTES + 4;

/// A data directory's name, and what it may use until the next durable write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster this directory belongs to.
    pub cluster: u128,
    /// The member whose directory it is.
    pub node: NodeId,
    /// Name of the directory; versions are minted under it.
    pub uuid: NodeUuid,
    /// How many times it has been opened.
    pub boot: u64,
    /// First key epoch this process may use; everything below belongs to earlier processes.
    pub lease_start: u64,
    /// First key epoch this process may not use.
    pub lease_end: u64,
    /// True if its copies must not count towards read quorums, because data was lost; until the
    /// members have agreed that this directory speaks for its node.
    pub rebuilding: bool,
    /// What it remembers of itself.
    pub lives: Lives,
}

/// Why a directory cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The directory was made by a node of another cluster.
    #[error("this data directory belongs to cluster {found:032x}, not to {expected:032x}")]
    ForeignCluster {
        /// The cluster in the directory.
        found: u128,
        /// The cluster of the certificates.
        expected: u128,
    },
    /// The record is damaged.
    #[error("the identity record of this data directory is damaged")]
    Damaged,
    /// The record was written by a newer release.
    #[error("this data directory has identity format {0}; this release knows {VERSION}")]
    NewerFormat(u16),
}

/// Begins a process on a directory.
///
/// `stored` is the value under [`META_IDENTITY_KEY`], if any; `node` is who starts on it. With
/// `amnesia`, and if it is a copy of another member's directory, it gets `fresh_uuid` and counts as
/// rebuilding. `fresh_uuid` has to be random at every start. The returned writes must be durable,
/// as one batch, before a node is made with the identity.
///
/// # Errors
///
/// If the record is damaged, newer than this release, or of another cluster.
pub fn start(
    stored: Option<&[u8]>,
    cluster: u128,
    node: NodeId,
    amnesia: bool,
    fresh_uuid: NodeUuid,
) -> Result<(Identity, Vec<Write>), IdentityError> {
    let before = stored.map(decode).transpose()?;
    if let Some(before) = before
        && before.cluster != cluster
    {
        return Err(IdentityError::ForeignCluster {
            found: before.cluster,
            expected: cluster,
        });
    }
    let copied = before.is_some_and(|before| before.node != node && before.node != UNKNOWN);
    let mark = mark_of(fresh_uuid);
    let identity = match before {
        Some(before) if !amnesia && !copied => Identity {
            node,
            boot: before.boot + 1,
            lease_start: before.lease_end,
            lease_end: before.lease_end + EPOCH_LEASE,
            lives: before.lives.and(mark),
            ..before
        },
        _ => Identity {
            rebuilding: amnesia || copied,
            ..Identity::first(cluster, node, fresh_uuid)
        },
    };
    let mut writes = vec![identity.to_write()];
    if amnesia || copied {
        // What it holds is too old, or another's: the node sets it aside before it does anything.
        writes.push(aside::begin(if copied { Why::Old } else { Why::Lossy }));
    }
    if amnesia {
        // The new uuid is the answer to the loss: from here on it is known by `rebuilding`.
        writes.push(Write::Delete {
            table: Table::Meta,
            key: Bytes::from_static(AMNESIA_KEY),
        });
    }
    Ok((identity, writes))
}

/// What an identity of the first format says of the member: nothing.
const UNKNOWN: NodeId = NodeId::new(0);

fn mark_of(random: NodeUuid) -> u64 {
    (random.get() >> 64) as u64
}

impl Identity {
    fn first(cluster: u128, node: NodeId, uuid: NodeUuid) -> Self {
        Self {
            cluster,
            node,
            uuid,
            boot: 1,
            lease_start: 1,
            lease_end: 1 + EPOCH_LEASE,
            rebuilding: false,
            lives: Lives::default().and(mark_of(uuid)),
        }
    }

    /// The identity that is stored in a directory, as the process that stored it left it.
    ///
    /// # Errors
    ///
    /// If the record is damaged or newer than this release.
    pub fn stored(bytes: &[u8]) -> Result<Self, IdentityError> {
        decode(bytes)
    }

    /// The same directory under a new name, because the old one is not its own any more.
    #[must_use]
    pub fn renamed(&self, uuid: NodeUuid) -> Self {
        Self {
            rebuilding: true,
            ..Self::first(self.cluster, self.node, uuid)
        }
    }

    /// The write that makes this identity durable.
    #[must_use]
    pub fn to_write(&self) -> Write {
        Write::Put {
            table: Table::Meta,
            key: Bytes::from_static(META_IDENTITY_KEY),
            value: encode(self),
        }
    }
}

fn encode(identity: &Identity) -> Bytes {
    let mut out = BytesMut::with_capacity(FIRST_VERSION_BYTES + 17 + 8 * LIVES_MAX);
    out.put_slice(MAGIC);
    out.put_u16_le(VERSION);
    out.put_u128_le(identity.cluster);
    out.put_u128_le(identity.uuid.get());
    out.put_u64_le(identity.boot);
    out.put_u64_le(identity.lease_end);
    out.put_u8(u8::from(identity.rebuilding));
    out.put_u64_le(identity.node.get());
    identity.lives.put(&mut out);
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out.freeze()
}

fn decode(bytes: &[u8]) -> Result<Identity, IdentityError> {
    let mut rest = bytes;
    if &take::<4>(&mut rest)? != MAGIC {
        return Err(IdentityError::Damaged);
    }
    let version = u16::from_le_bytes(take(&mut rest)?);
    if VERSION < version {
        return Err(IdentityError::NewerFormat(version));
    }
    let (body, crc) = bytes.split_at(bytes.len().saturating_sub(4));
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(IdentityError::Damaged);
    }
    let cluster = u128::from_le_bytes(take(&mut rest)?);
    let uuid = NodeUuid::new(u128::from_le_bytes(take(&mut rest)?));
    let boot = u64::from_le_bytes(take(&mut rest)?);
    let lease_end = u64::from_le_bytes(take(&mut rest)?);
    let [rebuilding] = take::<1>(&mut rest)?;
    let mut identity = Identity {
        cluster,
        node: UNKNOWN,
        uuid,
        boot,
        lease_start: lease_end,
        lease_end,
        rebuilding: rebuilding != 0,
        lives: Lives::default(),
    };
    if version == VERSION {
        identity.node = NodeId::new(u64::from_le_bytes(take(&mut rest)?));
        identity.lives = Lives::take(&mut rest).ok_or(IdentityError::Damaged)?;
    }
    if rest.len() == 4 {
        Ok(identity)
    } else {
        Err(IdentityError::Damaged)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], IdentityError> {
    let (head, tail) = bytes.split_first_chunk().ok_or(IdentityError::Damaged)?;
    *bytes = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const ME: NodeId = NodeId::new(3);
    const UUID: NodeUuid = NodeUuid::new(7);
    const OTHER: NodeUuid = NodeUuid::new(8);

    fn stored(writes: &[Write]) -> Bytes {
        match &writes[0] {
            Write::Put { value, .. } => value.clone(),
            Write::Delete { .. } => unreachable!("an identity is never deleted"),
        }
    }

    #[test]
    fn every_start_moves_the_lease_past_the_last_one() {
        let (first, write) = start(None, 1, ME, false, UUID).unwrap();
        let (second, _) = start(Some(&stored(&write)), 1, ME, false, OTHER).unwrap();
        assert_eq!(second.uuid, UUID);
        assert_eq!(second.boot, first.boot + 1);
        assert_eq!(second.lease_start, first.lease_end);
        assert!(second.lease_start < second.lease_end);
    }

    #[test]
    fn amnesia_takes_a_new_uuid_and_rebuilds() {
        let (_, write) = start(None, 1, ME, false, UUID).unwrap();
        let (identity, write) = start(Some(&stored(&write)), 1, ME, true, OTHER).unwrap();
        assert_eq!(identity.uuid, OTHER);
        assert!(identity.rebuilding);
        let (later, _) = start(Some(&stored(&write)), 1, ME, false, UUID).unwrap();
        assert!(later.rebuilding, "rebuilding survives a restart");
    }

    #[test]
    fn a_copy_of_another_members_directory_takes_a_new_uuid_and_rebuilds() {
        let (_, write) = start(None, 1, ME, false, UUID).unwrap();
        let (copy, _) = start(Some(&stored(&write)), 1, NodeId::new(4), false, OTHER).unwrap();
        assert_eq!((copy.uuid, copy.rebuilding), (OTHER, true));
    }

    #[test]
    fn an_identity_of_the_first_format_is_still_read() {
        let mut bytes = BytesMut::from(&b"QIDN\x01\0"[..]);
        bytes.put_u128_le(1);
        bytes.put_u128_le(UUID.get());
        bytes.put_u64_le(4);
        bytes.put_u64_le(20_001);
        bytes.put_u8(0);
        let crc = crc32c::crc32c(&bytes);
        bytes.put_u32_le(crc);
        let (identity, _) = start(Some(&bytes), 1, ME, false, OTHER).unwrap();
        assert_eq!((identity.uuid, identity.boot, identity.node), (UUID, 5, ME));
        assert_eq!(
            (identity.lease_start, identity.lives.newest().0),
            (20_001, 1)
        );
    }

    #[test]
    fn an_identity_has_these_bytes() {
        let (identity, write) = start(None, 1, ME, false, UUID).unwrap();
        let later = Identity {
            lives: identity.lives.and(0x0102),
            ..identity
        };
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut out, byte| {
                write!(out, "{byte:02x}").unwrap();
                out
            })
        };
        assert_eq!(hex(&stored(&write)), GOLDEN[0]);
        assert_eq!(hex(&stored(&[later.to_write()])), GOLDEN[1]);
    }

    const GOLDEN: [&str; 2] = [
        "5149444e0200010000000000000000000000000000000700000000000000000000000000000001000000\
         00000000112700000000000000030000000000000001000000000000000000000000000000d5e5460f",
        "5149444e0200010000000000000000000000000000000700000000000000000000000000000001000000\
         000000001127000000000000000300000000000000020000000000000002010000000000000000000000\
         000000ed123576",
    ];

    #[test]
    fn a_directory_of_another_cluster_is_refused() {
        let (_, write) = start(None, 1, ME, false, UUID).unwrap();
        assert!(matches!(
            start(Some(&stored(&write)), 2, ME, false, OTHER),
            Err(IdentityError::ForeignCluster {
                found: 1,
                expected: 2
            })
        ));
    }

    #[test]
    fn any_damage_is_noticed() {
        let (_, write) = start(None, 1, ME, false, UUID).unwrap();
        let good = stored(&write);
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            assert!(start(Some(&bad), 1, ME, false, OTHER).is_err(), "byte {at}");
            assert!(start(Some(&good[..at]), 1, ME, false, OTHER).is_err());
        }
    }
}
