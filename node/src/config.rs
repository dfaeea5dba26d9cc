//! What an operator decides about one node: `node.toml`.
//!
//! Unknown keys are refused, paths are relative to the file, and [`NodeConfig::validate`] tells
//! all problems at once. What all nodes must agree on (cluster, members) is repeated in every
//! node's file for now; the ring stored in the data directory is compared with it at every start.
//!
//! Reading the file is the caller's: nothing here touches the outside world.

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use quorate_ring::{Member, MemberError, NodeId, PARTITIONS_MAX, PARTITIONS_MIN, Partitions};
use serde::{Deserialize, Serialize};

use crate::{causality::RECENT_WINDOW_MS, store::Durability};

/// One node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's name: the one in its certificate and in `members`.
    pub name: String,
    /// Where to listen for QUIC. Loopback unless told otherwise.
    #[serde(default = "default_listen")]
    pub listen: String,
    /// The address that others dial, if it is not `listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Where to serve health and metrics, unencrypted: loopback unless told otherwise.
    #[serde(default = "default_http")]
    pub http: String,
    /// Everything the node must not forget.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// The node's zone; must be what `members` says, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The node's weight; must be what `members` says, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// When a write is acknowledged.
    #[serde(default)]
    pub durability: DurabilityMode,
    /// Milliseconds between syncs with durability `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// Bytes that have to be free on the disk for the node to take new data; deletes and what
    /// replicas tell each other go on below it, down to the store's own reserve of 512 MiB.
    #[serde(default = "disk_free_min")]
    pub disk_free_min: u64,
    /// At most so many bytes a second are read to look for damage.
    #[serde(default = "scrub_bytes_per_second")]
    pub scrub_bytes_per_second: u64,
    /// What a delete left is forgotten so many seconds after the key was last touched, at the
    /// earliest: only a pace, since all owners have to agree. At least the quarter of an hour for
    /// which operation ids are remembered.
    #[serde(default = "tombstone_age_seconds")]
    pub tombstone_age_seconds: u64,
    /// Bytes of hints kept for other nodes, 256 more counted for each; beyond that others have to
    /// stand in.
    #[serde(default = "hint_bytes_max")]
    pub hint_bytes_max: u64,
    /// Certificates and keys.
    pub tls: TlsFiles,
    /// What the cluster was founded with. Who joins is told it.
    #[serde(default)]
    pub cluster: ClusterConfig,
    /// The nodes that founded the cluster together, this one included; none for a node that joins
    /// one, or that founds one alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberConfig>,
    /// Members to join the cluster through, `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<String>,
    /// Ids of bearer tokens that are not accepted any more, as `quorate tls token` told them. Read
    /// again at SIGHUP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked_tokens: Vec<String>,
    /// Where this was read from, and is read from again at SIGHUP.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Found a cluster if the data directory knows none. Only ever said on the command line: a file
    /// that says so would do it again for a directory that was lost.
    #[serde(skip)]
    pub bootstrap: bool,
}

/// Twice the store's own reserve, so that there is something left for deletes and repair.
const fn disk_free_min() -> u64 {
    1 << 30
}

/// A terabyte in a day and a half, and next to nothing for a disk.
const fn scrub_bytes_per_second() -> u64 {
    8 << 20
}

/// Soon enough for the disk, late enough for whoever looks for what was deleted.
const fn tombstone_age_seconds() -> u64 {
    3_600
}

/// As much as a node may well miss in a night, and no danger to a disk.
const fn hint_bytes_max() -> u64 {
    1 << 30
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DurabilityMode {
    /// After it is synced. The default: anything else can lose acknowledged writes.
    #[default]
    Sync,
    /// At once; synced every `interval_ms`.
    Interval,
    /// At once; synced only at a clean stop.
    Memory,
}

/// Files that `quorate tls node` makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The cluster's authority.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The secret that all nodes of the cluster share.
    pub cluster_key: PathBuf,
}

/// What all members agree on, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// For people.
    #[serde(default = "default_cluster_name")]
    pub name: String,
    /// Parts of the token space; a power of two. 256: fine-grained enough for tens of nodes.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// Length of preference lists, and so the largest n a bucket may have.
    #[serde(default = "default_replicas_max")]
    pub replicas_max: u8,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            name: default_cluster_name(),
            partitions: default_partitions(),
            replicas_max: default_replicas_max(),
        }
    }
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberConfig {
    /// Its name.
    pub name: String,
    /// `HOST:PORT` for QUIC.
    pub address: String,
    /// Where it stands; replicas go to different zones as far as possible.
    #[serde(default = "default_zone")]
    pub zone: String,
    /// Its share, relative to the others.
    #[serde(default = "default_weight")]
    pub weight: u32,
}

fn default_listen() -> String {
    "127.0.0.1:7400".to_owned()
}

fn default_http() -> String {
    "127.0.0.1:8400".to_owned()
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("data")
}

fn default_cluster_name() -> String {
    "quorate".to_owned()
}

const fn default_partitions() -> u32 {
    256
}

const fn default_replicas_max() -> u8 {
    5
}

fn default_zone() -> String {
    "default".to_owned()
}

const fn default_weight() -> u32 {
    1
}

/// Why a text is no configuration; the parser's message shows the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Problems {}

impl NodeConfig {
    /// Reads the text of a file in directory `dir`. Not validated yet: flags may still change it.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, ParseError> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| ParseError(error.to_string()))?;
        let tls = &mut config.tls;
        for path in [
            &mut config.data_dir,
            &mut tls.ca,
            &mut tls.cert,
            &mut tls.key,
            &mut tls.cluster_key,
        ] {
            *path = dir.join(&*path);
        }
        Ok(config)
    }

    /// Looks for everything that is wrong.
    pub fn validate(&self) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for (field, address) in [("listen", &self.listen), ("http", &self.http)] {
            if address.parse::<SocketAddr>().is_err() {
                problems.push(format!("{field} = {address:?} is not IP:PORT"));
            }
        }
        match (self.durability, self.interval_ms) {
            (DurabilityMode::Interval, None | Some(0)) => {
                problems.push("durability = \"interval\" needs interval_ms above 0".to_owned());
            }
            (DurabilityMode::Sync | DurabilityMode::Memory, Some(_)) => {
                problems.push("interval_ms means nothing without durability = \"interval\"".into());
            }
            (DurabilityMode::Interval, Some(_))
            | (DurabilityMode::Sync | DurabilityMode::Memory, None) => {}
        }
        if Partitions::new(self.cluster.partitions).is_none() {
            problems.push(format!(
                "cluster.partitions = {} is not a power of two from {PARTITIONS_MIN} to \
                 {PARTITIONS_MAX}",
                self.cluster.partitions
            ));
        }
        if self.tombstone_age_seconds < RECENT_WINDOW_MS / 1_000 {
            problems.push(format!(
                "tombstone_age_seconds = {} is less than {}, for which retries are recognised",
                self.tombstone_age_seconds,
                RECENT_WINDOW_MS / 1_000
            ));
        }
        if self.cluster.replicas_max == 0 {
            problems.push("cluster.replicas_max must be at least 1".to_owned());
        }
        for id in &self.revoked_tokens {
            if id.len() != 16 || !id.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                problems.push(format!("revoked_tokens: {id:?} is not 16 hex digits"));
            }
        }
        self.check_members(&mut problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problems(problems))
        }
    }

    /// This node, as the others are to know it.
    pub fn own_member(&self) -> Result<Member, MemberError> {
        if let Some(me) = self.members.iter().find(|member| member.name == self.name) {
            let mut me = me.clone();
            me.address = self.address_of(&me);
            return me.member();
        }
        let address = self.advertise.as_ref().unwrap_or(&self.listen);
        let default = default_zone();
        let zone = self.zone.as_ref().unwrap_or(&default);
        Member::new(&self.name, address, zone, self.weight.unwrap_or(1))
    }

    /// Where a listed node is now: where it says, else where it is listed, unless it listens on
    /// the same IP address at another port.
    fn address_of(&self, listed: &MemberConfig) -> String {
        let parse = |address: &str| address.parse::<SocketAddr>().ok();
        let (own, list) = (parse(&self.listen), parse(&listed.address));
        let moved = own
            .zip(list)
            .is_some_and(|(own, list)| own.ip() == list.ip());
        let other = if moved { &self.listen } else { &listed.address };
        self.advertise.as_ref().unwrap_or(other).clone()
    }

    /// A node alone: nobody has said where the others reach it.
    fn check_alone(&self, problems: &mut Vec<String>) {
        let listen = self.listen.parse::<SocketAddr>();
        let everywhere = listen.is_ok_and(|address| address.ip().is_unspecified());
        if everywhere && self.advertise.is_none() {
            problems.push(format!(
                "listen = {:?} is every address: say with advertise (HOST:PORT) at which one the \
                 others reach this node",
                self.listen
            ));
        } else if let Err(error) = self.own_member() {
            problems.push(format!("this node, {:?}: {error}", self.name));
        }
        if self.bootstrap && !self.join.is_empty() {
            let text = "a node founds a cluster (--bootstrap) or joins one (join), not both";
            problems.push(text.to_owned());
        }
    }

    fn check_members(&self, problems: &mut Vec<String>) {
        if self.members.is_empty() {
            return self.check_alone(problems);
        }
        if self.bootstrap || !self.join.is_empty() {
            let text = "[[members]] says who founded the cluster: leave out --bootstrap and join, \
                        or [[members]]";
            problems.push(text.to_owned());
        }
        let mut ids = BTreeSet::new();
        for member in &self.members {
            if let Err(error) = member.member() {
                problems.push(format!("member {:?}: {error}", member.name));
            }
            if !ids.insert(NodeId::of_name(&member.name)) {
                problems.push(format!("member {:?} is listed twice", member.name));
            }
        }
        let Some(me) = self.members.iter().find(|member| member.name == self.name) else {
            problems.push(format!(
                "this node, {:?}, is not among [[members]]",
                self.name
            ));
            return;
        };
        if let Some(zone) = &self.zone
            && *zone != me.zone
        {
            let listed = &me.zone;
            problems.push(format!("zone = {zone:?}, but [[members]] says {listed:?}"));
        }
        if let Some(weight) = self.weight
            && weight != me.weight
        {
            let listed = me.weight;
            problems.push(format!("weight = {weight}, but [[members]] says {listed}"));
        }
        if let Err(error) = self.own_member() {
            problems.push(format!("this node, {:?}: {error}", self.name));
        }
    }

    /// The store's word for when a write is acknowledged.
    #[must_use]
    pub const fn store_durability(&self) -> Durability {
        match (self.durability, self.interval_ms) {
            (DurabilityMode::Interval, Some(ms)) => Durability::Interval { ms },
            (DurabilityMode::Sync | DurabilityMode::Interval, _) => Durability::Sync,
            (DurabilityMode::Memory, _) => Durability::Memory,
        }
    }
}

impl MemberConfig {
    /// The ring's form of a member.
    pub fn member(&self) -> Result<Member, MemberError> {
        Member::new(&self.name, &self.address, &self.zone, self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        name = "n1"
        listen = "127.0.0.1:7400"
        [tls]
        ca = "tls/ca.pem"
        cert = "tls/node.pem"
        key = "tls/node.key"
        cluster_key = "tls/cluster.key"
        [cluster]
        name = "dev"
        [[members]]
        name = "n1"
        address = "127.0.0.1:7400"
        [[members]]
        name = "n2"
        address = "localhost:7401"
        zone = "b"
        weight = 3
    "#;

    fn config() -> NodeConfig {
        NodeConfig::parse(TEXT, Path::new("/etc/quorate")).unwrap()
    }

    #[test]
    fn paths_are_relative_to_the_file_and_defaults_are_filled_in() {
        let config = config();
        config.validate().unwrap();
        assert_eq!(config.data_dir, Path::new("/etc/quorate/data"));
        assert_eq!(config.tls.ca, Path::new("/etc/quorate/tls/ca.pem"));
        assert_eq!(config.cluster.partitions, 256);
        assert_eq!(config.disk_free_min, 1 << 30);
        assert_eq!(config.scrub_bytes_per_second, 8 << 20);
        assert_eq!(config.store_durability(), Durability::Sync);
    }

    #[test]
    fn a_key_nobody_knows_is_refused_by_name() {
        for text in [
            format!("datadir = \"x\"\n{TEXT}"),
            TEXT.replace("weight = 3", "wieght = 3"),
        ] {
            let error = NodeConfig::parse(&text, Path::new("")).unwrap_err();
            assert!(error.to_string().contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let mut config = config();
        config.listen = "nowhere".to_owned();
        config.durability = DurabilityMode::Interval;
        config.cluster.partitions = 100;
        config.name = "n9".to_owned();
        config.members[1].address = "localhost".to_owned();
        let Problems(problems) = config.validate().unwrap_err();
        assert_eq!(problems.len(), 5, "{problems:?}");
    }

    #[test]
    fn what_flags_say_must_agree_with_the_members() {
        let mut config = config();
        config.zone = Some("b".to_owned());
        config.weight = Some(2);
        let Problems(problems) = config.validate().unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn a_listed_node_may_be_elsewhere() {
        let mut config = config();
        let address = |config: &NodeConfig| config.own_member().unwrap().address;
        assert_eq!(address(&config), "127.0.0.1:7400");
        config.listen = "0.0.0.0:7500".to_owned();
        assert_eq!(
            address(&config),
            "127.0.0.1:7400",
            "behind an address of its own"
        );
        config.listen = "127.0.0.1:7500".to_owned();
        assert_eq!(address(&config), "127.0.0.1:7500");
        config.advertise = Some("10.0.0.1:7400".to_owned());
        assert_eq!(address(&config), "10.0.0.1:7400");
        config.validate().unwrap();
    }

    #[test]
    fn a_configuration_survives_its_text() {
        let config = config();
        let text = toml::to_string(&config).unwrap();
        assert_eq!(NodeConfig::parse(&text, Path::new("")).unwrap(), config);
    }
}
