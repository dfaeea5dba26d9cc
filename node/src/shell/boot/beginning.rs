//! The cluster a node belongs to: what it was founded with, and how the node knows.
//!
//! Its own directory knows best. If that is empty the configuration lists the founders, or the
//! operator has the node found a cluster alone, or a member tells. Founding is the same however
//! often it is done: a founder whose directory was lost founds the very ring it founded before,
//! and learns from the others what has been agreed on since.

use bytes::Bytes;
use quorate_ring::{Decree, Member, Partitions, Ring};

use super::{ServeError, problem, read};
use crate::{
    config::{MemberConfig, NodeConfig},
    identity::META_CATALOGUE_KEY,
    joining::Welcome,
    node::{META_DECREE_KEY, META_MEMBERS_KEY},
    shell::join::Asker,
    store::{Engine as _, FjallEngine, Persist, Table, Write},
};

/// Where the ring that founded the cluster is kept in [`Table::Meta`].
const META_RING_KEY: &[u8] = b"ring";
/// Where the cluster's name is kept, if it is not in the configuration.
const META_NAME_KEY: &[u8] = b"cluster-name";

/// What a node has to know before its first word.
pub(super) struct Beginning {
    pub(super) founding: Ring,
    pub(super) cluster_name: String,
    /// It is on disk already.
    stored: bool,
}

impl Beginning {
    /// What makes it durable, if it is not.
    pub(super) fn writes(&self) -> Vec<Write> {
        if self.stored {
            return Vec::new();
        }
        vec![
            put(META_RING_KEY, self.founding.to_bytes().into()),
            put(META_NAME_KEY, self.cluster_name.clone().into()),
        ]
    }
}

fn put(key: &'static [u8], value: Bytes) -> Write {
    Write::Put {
        table: Table::Meta,
        key: Bytes::from_static(key),
        value,
    }
}

/// Finds out; what only a member could tell is made durable at once.
pub(super) fn find(
    config: &NodeConfig,
    engine: &mut FjallEngine,
    cluster: u128,
    asker: &Asker,
) -> Result<Beginning, ServeError> {
    if !config.members.is_empty() {
        return listed(config, engine, cluster);
    }
    if let Some(ring) = stored_ring(config, engine)? {
        if ring.seed() != seed(cluster) {
            // The identity will say which cluster's it is; nothing is written before.
            tracing::warn!("the data directory is of another cluster");
        }
        let name = read(config, engine, META_NAME_KEY)?;
        let name = name.map(|name| String::from_utf8_lossy(&name).into_owned());
        return Ok(Beginning {
            founding: ring,
            cluster_name: name.unwrap_or_else(|| config.cluster.name.clone()),
            stored: true,
        });
    }
    if config.bootstrap {
        tracing::info!(cluster = config.cluster.name, "founding a cluster");
        return Ok(Beginning {
            founding: founding_ring(config, cluster)?,
            cluster_name: config.cluster.name.clone(),
            stored: false,
        });
    }
    if config.join.is_empty() {
        let dir = config.data_dir.clone();
        return Err(ServeError::NoCluster { dir });
    }
    let welcome = asker.ask_all()?;
    tracing::info!(cluster = welcome.cluster_name, "joined");
    joined(config, engine, welcome)
}

fn joined(
    config: &NodeConfig,
    engine: &mut FjallEngine,
    welcome: Welcome,
) -> Result<Beginning, ServeError> {
    let strange = |error: &dyn std::fmt::Display| ServeError::NotJoined {
        problems: vec![format!("the answer makes no sense: {error}")],
    };
    let founding = Ring::from_bytes(&welcome.ring).map_err(|error| strange(&error))?;
    let decree = Decree::from_bytes(&welcome.decree).map_err(|error| strange(&error))?;
    let beginning = Beginning {
        founding,
        cluster_name: welcome.cluster_name,
        stored: false,
    };
    let mut writes = beginning.writes();
    writes.push(put(META_CATALOGUE_KEY, welcome.catalogue));
    writes.push(put(META_MEMBERS_KEY, welcome.members));
    if decree.epoch != beginning.founding.epoch() {
        writes.push(put(META_DECREE_KEY, welcome.decree));
    }
    engine
        .commit(&writes, Persist::Now)
        .map_err(|error| ServeError::store(&config.data_dir, &error))?;
    Ok(Beginning {
        stored: true,
        ..beginning
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is the seed")]
const fn seed(cluster: u128) -> u32 {
    cluster as u32
}

fn founding_ring(config: &NodeConfig, cluster: u128) -> Result<Ring, ServeError> {
    let members = config.members.iter().map(MemberConfig::member);
    let mut members = members
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| problem(&error))?;
    if members.is_empty() {
        members.push(config.own_member().map_err(|error| problem(&error))?);
    }
    let partitions = Partitions::new(config.cluster.partitions).expect("it is validated");
    let ring = Ring::founding(
        members,
        partitions,
        seed(cluster),
        config.cluster.replicas_max,
    );
    ring.map_err(|error| problem(&error))
}

fn stored_ring(config: &NodeConfig, engine: &FjallEngine) -> Result<Option<Ring>, ServeError> {
    let bytes = read(config, engine, META_RING_KEY)?;
    let ring = bytes.map(|bytes| Ring::from_bytes(&bytes)).transpose();
    ring.map_err(|error| ServeError::store(&config.data_dir, &error))
}

/// By the configuration; a ring in the directory must be of the same founders.
fn listed(
    config: &NodeConfig,
    engine: &FjallEngine,
    cluster: u128,
) -> Result<Beginning, ServeError> {
    let founding = founding_ring(config, cluster)?;
    let beginning = |founding, stored| Beginning {
        founding,
        cluster_name: config.cluster.name.clone(),
        stored,
    };
    // Once there has been a change the files say only how it began.
    let changed = read(config, engine, META_DECREE_KEY)?.is_some();
    let Some(ring) = stored_ring(config, engine)?.filter(|_| !changed) else {
        return Ok(beginning(founding, changed));
    };
    if ring.seed() != founding.seed() {
        // Only another cluster has another seed; the identity will say which.
        return Ok(beginning(founding, true));
    }
    let mut differences = Vec::new();
    if ring.partitions() != founding.partitions() {
        differences.push("cluster.partitions".to_owned());
    }
    if ring.replicas_max() != founding.replicas_max() {
        differences.push("cluster.replicas_max".to_owned());
    }
    for member in founding.members() {
        // Where a member is may change.
        let same = |known: &Member| (&known.zone, known.weight) == (&member.zone, member.weight);
        if !ring.member(member.id).is_some_and(same) {
            differences.push(format!("member {}", member.name));
        }
    }
    for member in ring.members() {
        if founding.member(member.id).is_none() {
            differences.push(format!("member {}", member.name));
        }
    }
    if differences.is_empty() {
        Ok(beginning(ring, true))
    } else {
        Err(ServeError::OtherRing {
            dir: config.data_dir.clone(),
            differences,
        })
    }
}
