//! `cluster check`: what would still hold if some nodes stopped now.
//!
//! Answered from the ring, the buckets, who is up, and whether the ring is changing. Quorums are
//! those of the buckets; a request that asks for more may fail all the same.

use std::collections::BTreeSet;

use quorate_client::{
    Client,
    wire::{BucketInfo, ErrorCode, StatusReply},
};
use quorate_ring::{Partition, Ring};
use serde_json::{Value, json};

use super::output::{Failure, Out};

/// Ask whether nodes may stop now; exit code 6 if not.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The nodes that are to stop, for example n2 or n2,n3.
    #[arg(
        long,
        required = true,
        value_delimiter = ',',
        value_name = "NODE[,NODE]"
    )]
    down: Vec<String>,
}

/// What is left of a bucket's replicas, over all partitions.
struct Left {
    bucket: BucketInfo,
    /// Replicas left of the partition that has least.
    least: usize,
    /// Partitions without enough for a read, and for a write.
    short: (u32, u32),
}

impl Left {
    fn of(bucket: BucketInfo, ring: &Ring, gone: &BTreeSet<String>) -> Self {
        let is_left = |id: &quorate_ring::NodeId| {
            let member = ring.member(*id);
            member.is_some_and(|member| !gone.contains(&member.name))
        };
        let reads = usize::from(bucket.r.max(bucket.pr));
        let writes = usize::from(bucket.w.max(bucket.pw));
        let (mut least, mut short) = (usize::MAX, (0, 0));
        for p in 0..ring.partitions().count() {
            let owners = ring.list(Partition(p)).owners(usize::from(bucket.n));
            let left = owners.iter().filter(|id| is_left(id)).count();
            least = least.min(left);
            short.0 += u32::from(left < reads);
            short.1 += u32::from(left < writes);
        }
        Self {
            bucket,
            least,
            short,
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.bucket.name, "n": self.bucket.n, "least_replicas": self.least,
            "reads": self.short.0 == 0, "writes": self.short.1 == 0,
            "partitions_without_reads": self.short.0, "partitions_without_writes": self.short.1,
        })
    }

    fn line(&self) -> String {
        let word = |short: u32| match short {
            0 => "hold".to_owned(),
            short => format!("fail in {short} partitions"),
        };
        format!(
            "{:<20} reads {}, writes {}, at least {} of n={} replicas left",
            self.bucket.name,
            word(self.short.0),
            word(self.short.1),
            self.least,
            self.bucket.n
        )
    }
}

/// Why not.
fn reasons(status: &StatusReply, left: &[Left], down: &[String]) -> Vec<String> {
    let mut reasons = Vec::new();
    for left in left {
        for (what, short) in [("reads", left.short.0), ("writes", left.short.1)] {
            if 0 < short {
                let name = &left.bucket.name;
                reasons.push(format!(
                    "{what} of bucket {name} would fail in {short} partitions"
                ));
            }
        }
    }
    if status.ring_state != "stable" {
        let state = &status.ring_state;
        reasons.push(format!(
            "the ring is {state}: the change waits for every node it concerns"
        ));
    }
    let staying = |name: &String| !down.contains(name);
    let nodes = status.nodes.iter();
    for node in nodes.filter(|node| node.rebuilding && staying(&node.name)) {
        let name = &node.name;
        reasons.push(format!(
            "{name} is still being refilled and counts for no read"
        ));
    }
    reasons
}

impl Check {
    pub(crate) async fn run(&self, client: &Client, out: &mut Out) -> Result<(), Failure> {
        let failed = |error: quorate_client::ReadError| Failure::from(error.body().clone());
        let status = client.status().await.map_err(failed)?;
        let ring = client.ring().await.map_err(failed)?.ring;
        let buckets = client.buckets().await.map_err(failed)?;
        let mut gone = BTreeSet::new();
        for name in &self.down {
            if status.nodes.iter().all(|node| node.name != *name) {
                let message = format!("there is no node {name:?}; see quorate cluster status");
                return Err(Failure::usage(message));
            }
            gone.insert(name.clone());
        }
        let away = |state: &str| matches!(state, "down" | "suspect");
        let absent = status.nodes.iter().filter(|node| away(&node.state));
        gone.extend(absent.map(|node| node.name.clone()));
        let left = buckets.into_iter();
        let left: Vec<Left> = left.map(|info| Left::of(info, &ring, &gone)).collect();
        let reasons = reasons(&status, &left, &self.down);
        let json = json!({
            "down": self.down, "gone": gone, "ok": reasons.is_empty(), "reasons": reasons,
            "buckets": left.iter().map(Left::json).collect::<Vec<_>>(),
        });
        let names = self.down.join(", ");
        if reasons.is_empty() {
            return out.answer(json, |_| {
                let mut lines = vec![format!("{names} may stop now")];
                lines.extend(left.iter().map(Left::line));
                lines
            });
        }
        let message = format!("{names} should not stop now: {}", reasons.join("; "));
        let mut failure = Failure::new(ErrorCode::Conflict, message);
        failure.details = json;
        Err(failure)
    }
}
