//! `bucket`, `cluster status` and `ring show`.

use std::time::Duration;

use quorate_client::{
    Client,
    wire::{BucketInfo, BucketOptions, NodeStatus, StatusReply},
};
use quorate_ring::{NodeId, Partition, Ring, Token};
use serde_json::{Value, json};

use super::{
    input::{self, duration},
    output::{Failure, Out, ago, size},
    watch::{self, Look},
};

/// Create, change and show buckets.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bucket {
    /// Make a bucket; n and mode are fixed from then on.
    Create {
        /// Its name: 1 to 64 letters, digits, '.', '_' or '-'.
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Change settings.
    Set {
        /// Its name.
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Show one bucket.
    Show {
        /// Its name.
        name: String,
    },
    /// Show all buckets.
    List,
    /// Drop a bucket with everything in it.
    Drop {
        /// Its name.
        name: String,
        /// Really.
        #[arg(long)]
        yes: bool,
    },
}

/// A bucket's settings.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Replicas of each key.
    #[arg(long)]
    n: Option<u8>,
    /// Replicas a read waits for.
    #[arg(long)]
    r: Option<u8>,
    /// Durable replicas a write waits for.
    #[arg(long)]
    w: Option<u8>,
    /// Primaries among the answers of a read.
    #[arg(long)]
    pr: Option<u8>,
    /// Primaries among the acks of a write.
    #[arg(long)]
    pw: Option<u8>,
    /// Whether fallbacks may stand in for primaries.
    #[arg(long)]
    sloppy: Option<bool>,
    /// siblings, or lww: the last write wins, and concurrent ones are lost.
    #[arg(long)]
    mode: Option<String>,
    /// Default time to live; 0s means for ever.
    #[arg(long, value_parser = duration)]
    ttl: Option<Duration>,
    /// Largest value, for example 1MiB.
    #[arg(long, value_parser = input::size)]
    value_bytes_max: Option<u32>,
    /// Siblings from which a warning is raised.
    #[arg(long)]
    siblings_warn: Option<u32>,
    /// Siblings from which blind writes are refused.
    #[arg(long)]
    siblings_max: Option<u32>,
}

impl From<&Settings> for BucketOptions {
    fn from(settings: &Settings) -> Self {
        let ttl = settings
            .ttl
            .map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        Self {
            n: settings.n,
            r: settings.r,
            w: settings.w,
            pr: settings.pr,
            pw: settings.pw,
            sloppy: settings.sloppy,
            mode: settings.mode.clone(),
            ttl_ms: ttl,
            value_bytes_max: settings.value_bytes_max,
            siblings_warn: settings.siblings_warn,
            siblings_max: settings.siblings_max,
        }
    }
}

/// A bucket as JSON.
pub(crate) fn bucket_json(info: &BucketInfo) -> Value {
    json!({
        "name": info.name, "n": info.n, "r": info.r, "w": info.w, "pr": info.pr, "pw": info.pw,
        "sloppy": info.sloppy, "mode": info.mode, "ttl_ms": info.ttl_ms,
        "value_bytes_max": info.value_bytes_max, "siblings_warn": info.siblings_warn,
        "siblings_max": info.siblings_max,
    })
}

fn bucket_line(bucket: &Value) -> String {
    let number = |field: &str| bucket[field].as_u64().unwrap_or_default();
    let text = |field: &str| bucket[field].as_str().unwrap_or_default();
    let ttl = match number("ttl_ms") {
        0 => "none".to_owned(),
        ms if ms < 1_000 => format!("{ms}ms"),
        ms => ago(ms / 1_000),
    };
    format!(
        "{:<20} n={} r={} w={} pr={} pw={} sloppy={} mode={} ttl={ttl} value-max={} siblings={}/{}",
        text("name"),
        number("n"),
        number("r"),
        number("w"),
        number("pr"),
        number("pw"),
        bucket["sloppy"],
        text("mode"),
        size(number("value_bytes_max")).replace(' ', ""),
        number("siblings_warn"),
        number("siblings_max")
    )
}

impl Bucket {
    async fn json(&self, client: &Client) -> Result<Value, Failure> {
        let info = match self {
            Self::Create { name, settings } => {
                let made = client.create_bucket(name, settings.into()).await;
                made.map_err(|error| Failure::from(error.body().clone()))?
            }
            Self::Set { name, settings } => {
                let made = client.set_bucket(name, settings.into()).await;
                made.map_err(|error| Failure::from(error.body().clone()))?
            }
            Self::Show { name } => {
                let found = client.bucket(name).await;
                found.map_err(|error| Failure::from(error.body().clone()))?
            }
            Self::List => {
                let list = client.buckets().await;
                let list = list.map_err(|error| Failure::from(error.body().clone()))?;
                let list: Vec<Value> = list.iter().map(bucket_json).collect();
                return Ok(json!({ "buckets": list }));
            }
            Self::Drop { yes: false, name } => {
                let message = format!("dropping bucket {name:?} loses its data; add --yes");
                return Err(Failure::usage(message));
            }
            Self::Drop { name, yes: true } => {
                let dropped = client.drop_bucket(name).await;
                dropped.map_err(|error| Failure::from(error.body().clone()))?;
                return Ok(json!({ "name": name, "dropped": true }));
            }
        };
        Ok(bucket_json(&info))
    }

    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        out.answer(self.json(client).await?, |json| {
            if json["dropped"] == true {
                let name = json["name"].as_str().unwrap_or_default();
                return vec![format!("dropped {name}")];
            }
            match json["buckets"].as_array() {
                Some(list) => list.iter().map(bucket_line).collect(),
                None => vec![bucket_line(json)],
            }
        })
    }
}

/// See every node's state.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// Show it again whenever it changes, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let look = async || {
            let status = client.status().await;
            let status = status.map_err(|error| Failure::from(error.body().clone()))?;
            Ok(Look {
                json: status_json(&status),
                lines: status_lines(&status),
            })
        };
        if self.watch {
            return watch::watch(out, look).await;
        }
        let Look { json, lines } = look().await?;
        out.answer(json, |_| lines)
    }
}

/// The whole status as JSON.
pub(crate) fn status_json(status: &StatusReply) -> Value {
    let hints: u64 = status.nodes.iter().map(|node| node.hints_held).sum();
    let corrupt: u64 = status.nodes.iter().map(|node| node.corrupt).sum();
    let nodes: Vec<Value> = status.nodes.iter().map(node_json).collect();
    json!({
        "cluster": {
            "name": status.cluster_name, "id": status.cluster_id, "epoch": status.epoch,
            "ring_state": status.ring_state, "hints": hints, "corrupt": corrupt,
        },
        "nodes": nodes,
    })
}

/// True if the node itself has been heard.
fn is_up(node: &NodeStatus) -> bool {
    matches!(node.state.as_str(), "up" | "joining" | "leaving")
}

fn status_lines(status: &StatusReply) -> Vec<String> {
    let nodes = &status.nodes;
    let up = nodes.iter().filter(|node| is_up(node)).count();
    let mut lines = vec![
        format!(
            "cluster {}   ring {} {}   {up} of {} up",
            status.cluster_name,
            status.epoch,
            status.ring_state,
            nodes.len()
        ),
        format!(
            "{:<9} {:<21} {:<6} {:<8} {:>6} {:>10} {:>6} {:>6} {:>8} {:>7} {:>7}",
            "NODE",
            "ADDRESS",
            "ZONE",
            "STATE",
            "SHARE",
            "DISK",
            "HINTS",
            "OWED",
            "CORRUPT",
            "BEHIND",
            "UPTIME"
        ),
    ];
    for node in nodes {
        // What a silent node holds is not known; what the others hold for it is.
        let own = |text: String| if is_up(node) { text } else { "-".to_owned() };
        lines.push(format!(
            "{:<9} {:<21} {:<6} {:<8} {:>5.1}% {:>10} {:>6} {:>6} {:>8} {:>7} {:>7}",
            node.name,
            node.address,
            node.zone,
            node.state,
            f64::from(node.owned_millionths) / 10_000.0,
            own(size(node.disk_bytes)),
            own(node.hints_held.to_string()),
            node.hints_owed,
            own(node.corrupt.to_string()),
            own(node.behind_keys.to_string()),
            own(ago(node.uptime_seconds)),
        ));
    }
    lines.extend(
        nodes
            .iter()
            .flat_map(remarks)
            .map(|text| format!("! {text}")),
    );
    lines
}

/// What about a node deserves a sentence.
fn remarks(node: &NodeStatus) -> Vec<String> {
    let name = &node.name;
    let mut remarks = Vec::new();
    match node.state.as_str() {
        "suspect" => remarks.push(format!("{name} does not answer; it may be down")),
        "down" => remarks.push(format!(
            "{name} is down. If it will not come back: quorate ring stage remove {name} --dead"
        )),
        _ => {}
    }
    if node.rebuilding {
        remarks.push(format!(
            "{name} is rebuilding: its copies do not count for reads"
        ));
    }
    if 0 < node.set_aside {
        let count = node.set_aside;
        remarks.push(format!(
            "{name} has set aside {count} records that may have been deleted since: quorate \
             salvage {name}"
        ));
    }
    if node.draining {
        remarks.push(format!(
            "{name} takes no requests of clients. To take it back: quorate drain {name} --undo"
        ));
    }
    if 0 < node.corrupt {
        let (count, mended) = (node.corrupt, node.mended);
        remarks.push(format!(
            "{name} has found {count} damaged records and mended {mended}; its disk may be failing"
        ));
    }
    remarks
}

fn node_json(node: &NodeStatus) -> Value {
    json!({
        "name": node.name, "id": node.id, "address": node.address, "state": node.state,
        "zone": node.zone, "weight": node.weight,
        "owned": f64::from(node.owned_millionths) / 1e6,
        "epoch": node.epoch, "hints_held": node.hints_held, "hints_owed": node.hints_owed,
        "hints_for": node.hints_for.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "corrupt": node.corrupt, "behind_keys": node.behind_keys, "disk_bytes": node.disk_bytes,
        "version": node.version, "uptime_seconds": node.uptime_seconds,
        "rebuilding": node.rebuilding, "draining": node.draining, "mended": node.mended,
        "set_aside": node.set_aside,
        "scrubbed_seconds_ago": node.scrubbed_seconds_ago,
        "oldest_pair": node.oldest_pair.as_ref().map(|(peer, seconds)| {
            json!({ "peer": peer, "seconds": seconds })
        }),
    })
}

/// Show the ring, one partition, or the nodes of one key.
#[derive(Debug, clap::Args)]
pub(crate) struct RingShow {
    /// Only this partition.
    #[arg(long)]
    partition: Option<u32>,
    /// The partition and nodes of a key.
    #[arg(long, num_args = 2, value_names = ["BUCKET", "KEY"], conflicts_with = "partition")]
    key: Option<Vec<String>>,
}

impl RingShow {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let info = client
            .ring()
            .await
            .map_err(|error| Failure::from(error.body().clone()))?;
        let ring = &info.ring;
        let json = if let Some([bucket, key]) = self.key.as_deref() {
            let about = client.bucket(bucket).await;
            let about = about.map_err(|error| Failure::from(error.body().clone()))?;
            let token = Token::of(ring.seed(), bucket, key.as_bytes());
            let mut json = one(ring, ring.partitions().of(token), usize::from(about.n));
            json["token"] = json!(token.to_string());
            json
        } else if let Some(partition) = self.partition {
            if ring.partitions().count() <= partition {
                let message = format!("there are {} partitions", ring.partitions().count());
                return Err(Failure::usage(message));
            }
            one(ring, Partition(partition), usize::from(ring.replicas_max()))
        } else {
            whole(ring, &info.state)
        };
        out.answer(json, ring_lines)
    }
}

fn name(ring: &Ring, node: NodeId) -> String {
    ring.member(node)
        .map_or_else(|| node.to_string(), |member| member.name.clone())
}

fn one(ring: &Ring, partition: Partition, n: usize) -> Value {
    let owners = ring.list(partition).owners(n).iter().copied();
    let fallbacks = ring.fallbacks(partition, n);
    json!({
        "partition": partition.0,
        "replicas": owners.map(|node| name(ring, node)).collect::<Vec<_>>(),
        "fallbacks": fallbacks.map(|node| name(ring, node)).collect::<Vec<_>>(),
    })
}

/// The whole ring as JSON.
pub(crate) fn whole(ring: &Ring, state: &str) -> Value {
    let names = |p: Partition| -> Vec<String> {
        let owners = ring.list(p).owners(usize::from(ring.replicas_max()));
        owners.iter().map(|node| name(ring, *node)).collect()
    };
    let partitions: Vec<Value> = (0..ring.partitions().count())
        .map(|p| json!({ "partition": p, "replicas": names(Partition(p)) }))
        .collect();
    let nodes: Vec<Value> = ring
        .members()
        .iter()
        .map(
            |m| json!({ "name": m.name, "address": m.address, "zone": m.zone, "weight": m.weight }),
        )
        .collect();
    json!({ "epoch": ring.epoch().get(), "state": state, "partitions": partitions, "nodes": nodes })
}

fn ring_lines(json: &Value) -> Vec<String> {
    let names = |value: &Value| {
        let names = value.as_array().into_iter().flatten();
        let names: Vec<&str> = names.filter_map(Value::as_str).collect();
        names.join(" ")
    };
    if let Some(epoch) = json["epoch"].as_u64() {
        let state = json["state"].as_str().unwrap_or_default();
        let mut lines = vec![format!("ring {epoch}   {state}")];
        for partition in json["partitions"].as_array().into_iter().flatten() {
            let replicas = names(&partition["replicas"]);
            lines.push(format!("{:>6}  {replicas}", partition["partition"]));
        }
        return lines;
    }
    let token = json["token"].as_str();
    let token = token.map_or_else(String::new, |token| format!("token {token}   "));
    let fallbacks = match names(&json["fallbacks"]) {
        none if none.is_empty() => "none".to_owned(),
        some => some,
    };
    vec![
        format!("{token}partition {}", json["partition"]),
        format!("replicas   {}", names(&json["replicas"])),
        format!("fallbacks  {fallbacks}"),
    ]
}
