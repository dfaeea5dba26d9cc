//! From a configuration to everything a node is made of.
//!
//! Locks and opens the data directory, finds out who it is, and makes that durable before anything
//! is said to anybody. A directory of another cluster or of other members is refused untouched.
//! What the store lost is told loudly, once, here; the identity that follows from it is
//! `identity::start`'s business.

mod beginning;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quorate_client::{tls::Credentials, transport::EndpointKeys};
use quorate_ring::{BadRing, Member, NodeId, NodeUuid, Ring};
use rustls::crypto::ring::default_provider;

use super::{ServeError, clock::Clock, join::Asker, token::TokenKey};
use crate::{
    causality::ContextKey,
    config::{NodeConfig, Problems},
    identity::{self, Identity, META_CATALOGUE_KEY, META_IDENTITY_KEY},
    limits::Limits,
    node::{META_MEMBERS_KEY, Node, Options, StoredRing},
    register::META_REGISTER_KEY,
    store::{Durability, Engine, FjallEngine, FjallOptions, Opened, Persist, Table, Write},
};

/// Authenticates contexts; another purpose needs another string.
const CONTEXT_KEY_PURPOSE: &str = "quorate 2026 context mac";
const CLUSTER_KEY_BYTES: usize = 32;

/// A node that has not said anything yet, and what it needs to.
pub(super) struct Booted {
    pub(super) node: Node,
    pub(super) engine: FjallEngine,
    pub(super) credentials: Arc<Credentials>,
    pub(super) ring: Arc<Ring>,
    /// For a node that joins, or has joined.
    pub(super) asker: Option<Asker>,
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
    let me = config.own_member().map_err(|error| problem(&error))?;
    let credentials = Arc::new(credentials);
    let asker = Asker {
        credentials: credentials.clone(),
        me: me.clone(),
        through: config.join.clone(),
    };
    let (mut engine, opened) = FjallEngine::open(&config.data_dir, FjallOptions::default())?;
    report(&config.data_dir, &opened);
    let known = beginning::find(config, &mut engine, cluster, &asker)?;
    let whose = (cluster, me.id);
    let identity = identify(config, &mut engine, whose, (&opened, known.writes()))?;
    let stored_ring = StoredRing::read(|key| read(config, &engine, key).map_err(Unread::Store))
        .map_err(|unread| unread.error(config))?;
    let ring = match stored_ring.decree() {
        Some(decree) => Arc::new(decree.reading()),
        None => Arc::new(known.founding.clone()),
    };
    let catalogue = read(config, &engine, META_CATALOGUE_KEY)?;
    tracing::info!(
        name = config.name,
        uuid = %identity.uuid,
        boot = identity.boot,
        rebuilding = identity.rebuilding,
        epoch = %ring.epoch(),
        "the data directory is open"
    );
    let options = Options {
        me: me.id,
        ring: Arc::new(known.founding),
        stored_ring,
        cluster,
        cluster_name: known.cluster_name,
        context_key: ContextKey::new(blake3::derive_key(CONTEXT_KEY_PURPOSE, &secret)),
        identity,
        catalogue,
        durable_writes: config.store_durability() == Durability::Sync,
        limits: Limits {
            scrub_bytes_per_second: config.scrub_bytes_per_second,
            tombstone_age: Duration::from_secs(config.tombstone_age_seconds),
            hint_bytes_max: usize::try_from(config.hint_bytes_max).unwrap_or(usize::MAX),
            ..Limits::default()
        },
        gossip: pace(config),
        seed: u64::from_le_bytes(random()?),
    };
    let mut node = Node::new(options, clock.now())
        .map_err(|error| ServeError::store(&config.data_dir, &error))?;
    acquaint(config, &engine, &mut node, &me)?;
    let keys = endpoint_keys(&config.data_dir.join("net.keys"))?;
    Ok(Booted {
        node,
        engine,
        credentials,
        ring,
        asker: (!asker.through.is_empty()).then_some(asker),
        me: me.id,
        keys,
        tokens: TokenKey::of(&secret),
    })
}

/// Who this node is, durable from here on together with what else has to be.
fn identify(
    config: &NodeConfig,
    engine: &mut FjallEngine,
    (cluster, node): (u128, NodeId),
    (opened, more): (&Opened, Vec<Write>),
) -> Result<Identity, ServeError> {
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
        node,
        lost || unreadable,
        NodeUuid::new(u128::from_le_bytes(random()?)),
    )
    .map_err(|source| ServeError::Identity {
        dir: config.data_dir.clone(),
        source,
    })?;
    writes.extend(more);
    engine
        .commit(&writes, Persist::Now)
        .map_err(|error| ServeError::store(&config.data_dir, &error))?;
    Ok(identity)
}

/// Tells a node of everybody in the cluster, in the ring or not.
fn acquaint(
    config: &NodeConfig,
    engine: &FjallEngine,
    node: &mut Node,
    me: &Member,
) -> Result<(), ServeError> {
    for founder in &config.members {
        node.introduce(founder.member().map_err(|error| problem(&error))?);
    }
    if let Some(members) = read(config, engine, META_MEMBERS_KEY)? {
        node.remember(&members);
    }
    if let Some(register) = read(config, engine, META_REGISTER_KEY)? {
        node.recall(&register);
    }
    if config.members.is_empty() {
        node.introduce(me.clone());
    }
    node.reside(me.clone());
    Ok(())
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
    let own = config.advertise.as_ref().unwrap_or(&config.listen);
    let others = config.members.iter().map(|member| &member.address);
    let all = others.chain(&config.join).chain([own]);
    if all.into_iter().all(|address| loopback(address)) {
        quorate_gossip::Config::local()
    } else {
        quorate_gossip::Config::lan()
    }
}

/// Its files, if they are this node's.
pub(super) fn credentials(config: &NodeConfig) -> Result<Credentials, ServeError> {
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

fn problem(error: &dyn std::fmt::Display) -> ServeError {
    Problems(vec![error.to_string()]).into()
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
