//! From a configuration to everything a node is made of.
//!
//! Locks and opens the data directory, finds out who it is, and makes that durable before anything
//! is said to anybody. A directory of another cluster or of other members is refused untouched.
//! What the store lost is told loudly, once, here; the identity that follows from it is
//! `identity::start`'s business.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use quorate_client::{tls::Credentials, transport::EndpointKeys};
use quorate_ring::{BadRing, Member, NodeId, NodeUuid, Partitions, Ring};
use rustls::crypto::ring::default_provider;

use super::{ServeError, clock::Clock, token::TokenKey};
use crate::{
    causality::ContextKey,
    config::{NodeConfig, Problems},
    identity::{self, META_CATALOGUE_KEY, META_IDENTITY_KEY},
    limits::Limits,
    node::{Node, Options, StoredRing},
    store::{Durability, Engine, FjallEngine, FjallOptions, Opened, Persist, Table, Write},
};

/// Where the ring in force is kept in [`Table::Meta`].
const META_RING_KEY: &[u8] = b"ring";
/// Authenticates contexts; another purpose needs another string.
const CONTEXT_KEY_PURPOSE: &str = "quorate 2026 context mac";
const CLUSTER_KEY_BYTES: usize = 32;

/// A node that has not said anything yet, and what it needs to.
pub(super) struct Booted {
    pub(super) node: Node,
    pub(super) engine: FjallEngine,
    pub(super) credentials: Credentials,
    pub(super) ring: Arc<Ring>,
    /// Every node to keep a connection to.
    pub(super) members: Vec<Member>,
    pub(super) me: NodeId,
    pub(super) keys: EndpointKeys,
    pub(super) tokens: TokenKey,
}

/// Everything up to the first packet.
pub(super) fn boot(config: &NodeConfig, clock: Clock) -> Result<Booted, ServeError> {
    config.validate()?;
    let credentials = credentials(config)?;
    let cluster = credentials.identity().cluster;
    let secret = cluster_key(&config.tls.cluster_key)?;
    let ring = founding_ring(config, cluster)?;
    let (mut engine, opened) = FjallEngine::open(&config.data_dir, FjallOptions::default())?;
    report(&config.data_dir, &opened);
    let founders = ring.members().to_vec();
    let by_config = Arc::new(ring.clone());
    let (ring, stored_ring) = ring_in_force(config, &engine, ring)?;
    let changed = stored_ring.decree().is_some();
    let founding = if changed { by_config } else { ring.clone() };
    let catalogue = read(config, &engine, META_CATALOGUE_KEY)?;
    let lost = opened.amnesia.is_some() || opened.refused.is_some();
    // Unreadable is not absent: a new identity, as after any other loss.
    let stored = engine.get(Table::Meta, META_IDENTITY_KEY);
    let unreadable = stored.is_err();
    if let Err(error) = &stored {
        tracing::error!(%error, "the identity cannot be read; this directory gets a new one");
    }
    let (identity, mut writes) = identity::start(
        stored.ok().flatten().as_deref(),
        cluster,
        lost || unreadable,
        NodeUuid::new(u128::from_le_bytes(random()?)),
    )
    .map_err(|source| ServeError::Identity {
        dir: config.data_dir.clone(),
        source,
    })?;
    writes.extend(founding_write(&ring, &stored_ring));
    engine
        .commit(&writes, Persist::Now)
        .map_err(|error| ServeError::store(&config.data_dir, &error))?;
    tracing::info!(
        name = config.name,
        uuid = %identity.uuid,
        boot = identity.boot,
        rebuilding = identity.rebuilding,
        epoch = %ring.epoch(),
        "the data directory is open"
    );
    let me = NodeId::of_name(&config.name);
    let options = Options {
        me,
        ring: founding,
        stored_ring,
        cluster,
        cluster_name: config.cluster.name.clone(),
        context_key: ContextKey::new(blake3::derive_key(CONTEXT_KEY_PURPOSE, &secret)),
        identity,
        catalogue,
        durable_writes: config.store_durability() == Durability::Sync,
        limits: Limits::default(),
        gossip: pace(config),
        seed: u64::from_le_bytes(random()?),
    };
    let mut node = Node::new(options, clock.now())
        .map_err(|error| ServeError::store(&config.data_dir, &error))?;
    let members = acquaint(&mut node, founders);
    let keys = endpoint_keys(&config.data_dir.join("net.keys"))?;
    Ok(Booted {
        node,
        engine,
        credentials,
        ring,
        members,
        me,
        keys,
        tokens: TokenKey::of(&secret),
    })
}

/// On one machine there is no network to wait for.
fn pace(config: &NodeConfig) -> quorate_gossip::Config {
    let loopback = |address: &str| {
        let parsed = address.parse::<SocketAddr>();
        parsed.map_or_else(
            |_| address.starts_with("localhost:"),
            |address| address.ip().is_loopback(),
        )
    };
    if config
        .members
        .iter()
        .all(|member| loopback(&member.address))
    {
        quorate_gossip::Config::local()
    } else {
        quorate_gossip::Config::lan()
    }
}

fn credentials(config: &NodeConfig) -> Result<Credentials, ServeError> {
    let credentials = Credentials::load(&config.tls.ca, &config.tls.cert, &config.tls.key)?;
    let identity = credentials.identity();
    if identity.role != quorate_client::tls::Role::Node || identity.name != config.name {
        return Err(ServeError::WrongCertificate {
            path: config.tls.cert.clone(),
            role: identity.role,
            found: identity.name.clone(),
            name: config.name.clone(),
        });
    }
    Ok(credentials)
}

/// 64 hex digits in a file that nobody else may read.
pub(super) fn cluster_key(path: &Path) -> Result<[u8; CLUSTER_KEY_BYTES], ServeError> {
    let io = |source| ServeError::io(path, source);
    refuse_open(path)?;
    let text = fs::read_to_string(path).map_err(io)?;
    let text = text.trim();
    let mut key = [0; CLUSTER_KEY_BYTES];
    let digits = text.len() == 2 * CLUSTER_KEY_BYTES && text.is_ascii();
    let filled = digits
        && key.iter_mut().enumerate().all(|(at, byte)| {
            u8::from_str_radix(&text[2 * at..2 * at + 2], 16).is_ok_and(|value| {
                *byte = value;
                true
            })
        });
    if filled {
        Ok(key)
    } else {
        let error = io::Error::new(io::ErrorKind::InvalidData, "it does not hold 64 hex digits");
        Err(io(error))
    }
}

fn refuse_open(path: &Path) -> Result<(), ServeError> {
    let metadata = fs::metadata(path).map_err(|source| ServeError::io(path, source))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode.trailing_zeros() >= 6 {
        Ok(())
    } else {
        Err(ServeError::KeyIsOpen {
            path: path.to_owned(),
            mode,
        })
    }
}

fn founding_ring(config: &NodeConfig, cluster: u128) -> Result<Ring, ServeError> {
    let problem = |error: &dyn std::fmt::Display| Problems(vec![error.to_string()]);
    let members = config
        .members
        .iter()
        .map(|member| member.member().map_err(|error| problem(&error)));
    let members = members.collect::<Result<Vec<_>, _>>()?;
    let partitions = Partitions::new(config.cluster.partitions).expect("it is validated");
    #[expect(clippy::cast_possible_truncation, reason = "the low half is the seed")]
    let seed = cluster as u32;
    let ring = Ring::founding(members, partitions, seed, config.cluster.replicas_max);
    Ok(ring.map_err(|error| problem(&error))?)
}

fn founding_write(ring: &Ring, stored: &StoredRing) -> Option<Write> {
    stored.decree().is_none().then(|| Write::Put {
        table: Table::Meta,
        key: Bytes::from_static(META_RING_KEY),
        value: ring.to_bytes().into(),
    })
}

/// What node.toml says founded the cluster; since then the members may have agreed on more.
fn ring_in_force(
    config: &NodeConfig,
    engine: &FjallEngine,
    founders: Ring,
) -> Result<(Arc<Ring>, StoredRing), ServeError> {
    let stored = StoredRing::read(|key| read(config, engine, key).map_err(Unread::Store))
        .map_err(|unread| unread.error(config))?;
    let ring = match stored.decree() {
        Some(decree) => Arc::new(decree.reading()),
        None => founding(config, engine, founders)?,
    };
    Ok((ring, stored))
}

/// Every node of the cluster, in the ring or not.
fn acquaint(node: &mut Node, founders: Vec<Member>) -> Vec<Member> {
    let mut members = founders;
    for member in members.clone() {
        node.introduce(member);
    }
    let decree = node.decree();
    let agreed = decree.ring.members().iter();
    for member in agreed.chain(decree.old.iter().flat_map(Ring::members)) {
        if members.iter().all(|known| known.id != member.id) {
            members.push(member.clone());
        }
    }
    members
}

/// The ring in the directory, if there is one: it must be of the same members.
fn founding(
    config: &NodeConfig,
    engine: &FjallEngine,
    founding: Ring,
) -> Result<Arc<Ring>, ServeError> {
    let Some(bytes) = read(config, engine, META_RING_KEY)? else {
        return Ok(Arc::new(founding));
    };
    let ring =
        Ring::from_bytes(&bytes).map_err(|error| ServeError::store(&config.data_dir, &error))?;
    if ring.seed() != founding.seed() {
        // Only another cluster has another seed; the identity will say which.
        return Ok(Arc::new(founding));
    }
    let mut differences = Vec::new();
    if ring.partitions() != founding.partitions() {
        differences.push("cluster.partitions".to_owned());
    }
    if ring.replicas_max() != founding.replicas_max() {
        differences.push("cluster.replicas_max".to_owned());
    }
    for member in founding.members() {
        if ring.member(member.id) != Some(member) {
            differences.push(format!("member {}", member.name));
        }
    }
    for member in ring.members() {
        if founding.member(member.id).is_none() {
            differences.push(format!("member {}", member.name));
        }
    }
    if differences.is_empty() {
        Ok(Arc::new(ring))
    } else {
        Err(ServeError::OtherRing {
            dir: config.data_dir.clone(),
            differences,
        })
    }
}

/// Why what is stored about the ring cannot be used.
enum Unread {
    Store(ServeError),
    Bad(BadRing),
}

impl From<BadRing> for Unread {
    fn from(error: BadRing) -> Self {
        Self::Bad(error)
    }
}

impl Unread {
    fn error(self, config: &NodeConfig) -> ServeError {
        match self {
            Self::Store(error) => error,
            Self::Bad(error) => ServeError::store(&config.data_dir, &error),
        }
    }
}

fn read(
    config: &NodeConfig,
    engine: &FjallEngine,
    key: &[u8],
) -> Result<Option<Bytes>, ServeError> {
    engine
        .get(Table::Meta, key)
        .map_err(|error| ServeError::store(&config.data_dir, &error))
}

fn report(dir: &Path, opened: &Opened) {
    let dir = dir.display();
    if let Some(refused) = &opened.refused {
        tracing::error!(%dir, ?refused, "the store would not open: set aside, starting empty");
    }
    if let Some(amnesia) = &opened.amnesia {
        tracing::error!(%dir, reason = amnesia.reason, "the store has lost acknowledged writes: \
            this node counts towards no read until it has been refilled");
    }
    if let Some(trimmed) = &opened.trimmed {
        tracing::warn!(%dir, ?trimmed, "the torn end of the journal was cut off");
    }
}

/// Kept across restarts so that peers and clients notice a restart at once.
fn endpoint_keys(path: &PathBuf) -> Result<EndpointKeys, ServeError> {
    let io = |source| ServeError::io(path, source);
    match fs::read(path) {
        Ok(bytes) => {
            refuse_open(path)?;
            let bytes = bytes.try_into().map_err(|_| {
                let text = "it has the wrong length; remove it to get new keys";
                io(io::Error::new(io::ErrorKind::InvalidData, text))
            })?;
            Ok(EndpointKeys::from_bytes(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = EndpointKeys::random().map_err(io)?;
            let draft = path.with_extension("new");
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)
                .map_err(io)?;
            file.write_all(keys.as_bytes()).map_err(io)?;
            file.sync_all().map_err(io)?;
            fs::rename(&draft, path).map_err(io)?;
            Ok(keys)
        }
        Err(error) => Err(io(error)),
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], ServeError> {
    let mut bytes = [0; N];
    default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| ServeError::NoRandomness)?;
    Ok(bytes)
}
