//! `cluster check`: what would still hold if some nodes stopped now.
//!
//! Answered from the ring, the buckets, who is up, who is being refilled, hints, and whether the
//! ring is changing. Quorums are those of the buckets, counted without fallbacks, which are told
//! beside them; a request that asks for more may fail all the same.

use std::collections::BTreeSet;

use quorate_client::{
    Client,
    wire::{BucketInfo, ErrorCode, StatusReply},
};
use quorate_ring::{NodeId, Partition, Ring};
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

/// Who would be left.
struct After<'a> {
    ring: &'a Ring,
    /// Nodes that would be away: those named, and those that are away already.
    gone: BTreeSet<String>,
    /// Nodes that are being refilled: they count for writes and not for reads.
    rebuilding: BTreeSet<String>,
}

impl After<'_> {
    fn name(&self, id: NodeId) -> &str {
        self.ring.member(id).map_or("", |member| &member.name)
    }

    fn stays(&self, id: NodeId) -> bool {
        !self.gone.contains(self.name(id))
    }

    fn reads(&self, id: NodeId) -> bool {
        self.stays(id) && !self.rebuilding.contains(self.name(id))
    }

    /// Members left, and of how many.
    fn members(&self) -> (usize, usize) {
        let members = self.ring.members();
        let left = members.iter().filter(|member| self.stays(member.id));
        (left.count(), members.len())
    }

    /// True if the ring, and buckets, could still be changed.
    fn has_majority(&self) -> bool {
        let (left, all) = self.members();
        all < 2 * left
    }
}

/// What would be left of a bucket's replicas, over all partitions.
struct Left {
    bucket: BucketInfo,
    /// Replicas left of the partition that has least.
    least: usize,
    /// Partitions without enough for a read, and for a write that wants primaries only.
    short: (u32, u32),
    /// Partitions where even fallbacks would not make a write's quorum.
    lost: u32,
}

impl Left {
    fn of(bucket: BucketInfo, after: &After<'_>) -> Self {
        let reads = usize::from(bucket.r.max(bucket.pr));
        let writes = usize::from(bucket.w.max(bucket.pw));
        // Whoever is not an owner may stand in for one, but not for a primary that is asked for.
        let (members, _) = after.members();
        let (mut least, mut short, mut lost) = (usize::MAX, (0, 0), 0);
        for p in 0..after.ring.partitions().count() {
            let owners = after.ring.list(Partition(p)).owners(usize::from(bucket.n));
            let left = owners.iter().filter(|id| after.stays(**id)).count();
            let readable = owners.iter().filter(|id| after.reads(**id)).count();
            least = least.min(left);
            short.0 += u32::from(readable < reads);
            short.1 += u32::from(left < writes);
            let enough = left != 0 && usize::from(bucket.pw) <= left;
            lost += u32::from(!(enough && usize::from(bucket.w) <= members));
        }
        if !bucket.sloppy {
            lost = short.1;
        }
        Self {
            bucket,
            least,
            short,
            lost,
        }
    }

    fn json(&self) -> Value {
        let bucket = &self.bucket;
        json!({
            "name": bucket.name, "n": bucket.n, "r": bucket.r, "pr": bucket.pr, "w": bucket.w,
            "pw": bucket.pw, "sloppy": bucket.sloppy, "least_replicas": self.least,
            "reads": self.short.0 == 0, "writes": self.short.1 == 0,
            "writes_with_fallbacks": self.lost == 0,
            "partitions_without_reads": self.short.0, "partitions_without_writes": self.short.1,
        })
    }

    fn line(&self) -> String {
        let word = |short: u32| match short {
            0 => "hold".to_owned(),
            short => format!("fail in {short} partitions"),
        };
        let bucket = &self.bucket;
        let stand_in = if self.short.1 != 0 && self.lost == 0 {
            " (fallbacks would take them)"
        } else {
            ""
        };
        format!(
            "{:<20} reads (r={} pr={}) {}, writes (w={} pw={}) {}{stand_in}, at least {} of n={} \
             replicas left",
            bucket.name,
            bucket.r,
            bucket.pr,
            word(self.short.0),
            bucket.w,
            bucket.pw,
            word(self.short.1),
            self.least,
            bucket.n
        )
    }
}

/// Why not.
fn reasons(status: &StatusReply, left: &[Left], after: &After<'_>, down: &[String]) -> Vec<String> {
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
    for node in &status.nodes {
        let (name, stops) = (&node.name, down.contains(&node.name));
        if stops && 0 < node.hints_held {
            let hints = node.hints_held;
            reasons.push(format!(
                "{name} holds {hints} hints for others that it would keep from them"
            ));
        }
        if !stops && 0 < node.hints_owed && !after.gone.contains(name) {
            let hints = node.hints_owed;
            reasons.push(format!(
                "{name} stays and has not got {hints} writes yet that others hold for it"
            ));
        }
    }
    reasons
}

/// What is no reason against it, and worth knowing.
fn remarks(status: &StatusReply, after: &After<'_>, down: &[String]) -> Vec<String> {
    let mut remarks = Vec::new();
    let staying = |name: &String| !down.contains(name);
    let nodes = status.nodes.iter().filter(|node| staying(&node.name));
    for node in nodes {
        let name = &node.name;
        if node.rebuilding {
            remarks.push(format!("{name} is being refilled and counts for no read"));
        }
        if 0 < node.behind_keys {
            let keys = node.behind_keys;
            remarks.push(format!("{name} is known to be behind in {keys} keys"));
        }
    }
    if !after.has_majority() {
        let (left, all) = after.members();
        remarks.push(format!(
            "with {left} of {all} members neither the ring nor buckets can be changed"
        ));
    }
    remarks
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
        let rebuilding = status.nodes.iter().filter(|node| node.rebuilding);
        let rebuilding = rebuilding.map(|node| node.name.clone()).collect();
        let ring = &ring;
        let after = After {
            ring,
            gone,
            rebuilding,
        };
        let left = buckets.into_iter();
        let left: Vec<Left> = left.map(|info| Left::of(info, &after)).collect();
        let reasons = reasons(&status, &left, &after, &self.down);
        let remarks = remarks(&status, &after, &self.down);
        let json = json!({
            "down": self.down, "gone": after.gone, "ok": reasons.is_empty(), "reasons": reasons,
            "remarks": remarks, "ring_changes": after.has_majority(),
            "buckets": left.iter().map(Left::json).collect::<Vec<_>>(),
        });
        let names = self.down.join(", ");
        if reasons.is_empty() {
            return out.answer(json, |_| {
                let mut lines = vec![format!("{names} may stop now")];
                lines.extend(left.iter().map(Left::line));
                lines.extend(remarks.iter().map(|remark| format!("note   {remark}")));
                let next = format!("next   quorate drain {}", self.down.join(" "));
                lines.extend((self.down.len() == 1).then_some(next));
                lines
            });
        }
        let message = format!("{names} should not stop now: {}", reasons.join("; "));
        let mut failure = Failure::new(ErrorCode::Conflict, message);
        failure.details = json;
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use quorate_client::wire::NodeStatus;
    use quorate_ring::{Member, Partitions};

    use super::*;

    fn ring(count: usize) -> Ring {
        let member = |at| Member::new(&format!("n{at}"), "127.0.0.1:1", "z", 1).unwrap();
        let members = (1..=count).map(member).collect();
        Ring::founding(members, Partitions::new(16).unwrap(), 1, 3).unwrap()
    }

    fn bucket(sloppy: bool, pw: u8) -> BucketInfo {
        BucketInfo {
            name: "b".to_owned(),
            n: 3,
            r: 2,
            w: 2,
            pw,
            sloppy,
            ..BucketInfo::default()
        }
    }

    fn after<'a>(ring: &'a Ring, gone: &[&str], rebuilding: &[&str]) -> After<'a> {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        After {
            ring,
            gone: set(gone),
            rebuilding: set(rebuilding),
        }
    }

    #[test]
    fn one_of_three_may_stop_and_two_may_not() {
        let ring = ring(3);
        let left = Left::of(bucket(true, 0), &after(&ring, &["n1"], &[]));
        assert_eq!((left.least, left.short, left.lost), (2, (0, 0), 0));
        let left = Left::of(bucket(true, 0), &after(&ring, &["n1", "n2"], &[]));
        assert_eq!((left.least, left.short, left.lost), (1, (16, 16), 16));
    }

    #[test]
    fn who_is_refilled_counts_for_writes_only() {
        let ring = ring(3);
        let left = Left::of(bucket(true, 0), &after(&ring, &["n1"], &["n2"]));
        assert_eq!(left.short, (16, 0));
    }

    #[test]
    fn fallbacks_stand_in_unless_primaries_are_asked_for_or_sloppy_is_off() {
        let ring = ring(6);
        let gone = ["n1", "n2"];
        let lost = |sloppy, pw| Left::of(bucket(sloppy, pw), &after(&ring, &gone, &[])).lost;
        assert_eq!(lost(true, 0), 0);
        assert!(0 < lost(true, 2));
        assert!(0 < lost(false, 0));
    }

    #[test]
    fn hints_on_either_side_speak_against_it() {
        let ring = ring(3);
        let row = |name: &str, hints_held, hints_owed| NodeStatus {
            name: name.to_owned(),
            hints_held,
            hints_owed,
            ..NodeStatus::default()
        };
        let mut status = StatusReply {
            ring_state: "stable".to_owned(),
            nodes: vec![row("n1", 0, 0), row("n2", 0, 0)],
            ..StatusReply::default()
        };
        let down = ["n1".to_owned()];
        let count =
            |status: &StatusReply| reasons(status, &[], &after(&ring, &["n1"], &[]), &down).len();
        assert_eq!(count(&status), 0);
        status.nodes[0].hints_held = 1;
        status.nodes[1].hints_owed = 2;
        assert_eq!(count(&status), 2);
    }
}
