//! What an operator should know of a plan before it is committed, beyond the rings themselves:
//! whose disk is too small for what it gets, which quorums would not be reached while data moves,
//! and for whom the change would wait.
//!
//! Estimates, from what nodes last said of themselves. Nothing here decides anything.

use std::collections::{BTreeMap, BTreeSet};

use quorate_client::wire::BucketInfo;
use quorate_ring::{NodeId, Partition, Plan, Ring, Token};

use crate::ring_message::Progress;

/// What is known when a plan is shown.
pub(super) struct Foresight<'a> {
    pub(super) old: &'a Ring,
    pub(super) plan: &'a Plan,
    pub(super) buckets: &'a [BucketInfo],
    /// Members, old and new, that are down and not given up.
    pub(super) down: BTreeSet<NodeId>,
    pub(super) reports: &'a BTreeMap<NodeId, Progress>,
    pub(super) name: &'a dyn Fn(NodeId) -> String,
}

/// About how many bytes one replica of a partition takes, by what its holder says it holds.
pub(super) fn replica_bytes(
    plan: &Plan,
    reports: &BTreeMap<NodeId, Progress>,
    holder: NodeId,
) -> u64 {
    let disk = reports.get(&holder).map_or(0, |report| report.disk_bytes);
    let held = plan.held.get(&holder).map_or(0, |held| held.0);
    disk / held.max(1)
}

impl Foresight<'_> {
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.capacity();
        if !self.plan.moves.is_empty() {
            warnings.extend(self.waits());
            warnings.extend(self.quorums());
        }
        warnings
    }

    /// Nodes that get more than they have room for.
    fn capacity(&self) -> Vec<String> {
        let mut gets: BTreeMap<NodeId, u64> = BTreeMap::new();
        for step in &self.plan.moves {
            *gets.entry(step.to).or_default() += replica_bytes(self.plan, self.reports, step.from);
        }
        let free = |node: &NodeId| self.reports.get(node).map_or(0, |report| report.disk_free);
        // Old copies are deleted only when all is over, and the engine takes some space to work.
        let tight = gets
            .into_iter()
            .filter(|(node, bytes)| free(node) != 0 && free(node) < bytes + bytes / 4);
        tight
            .map(|(node, bytes)| {
                let (name, has) = ((self.name)(node), free(&node) >> 20);
                let gets = bytes >> 20;
                format!("{name} gets about {gets} MiB and has {has} MiB free: give it less weight")
            })
            .collect()
    }

    fn waits(&self) -> Option<String> {
        let names: Vec<String> = self.down.iter().map(|node| (self.name)(*node)).collect();
        (!names.is_empty()).then(|| {
            format!(
                "{} is down: the change waits until it is back, unless it is removed with --dead",
                names.join(", ")
            )
        })
    }

    /// Buckets whose writes need more nodes, among old owners or new ones, than are up.
    fn quorums(&self) -> Vec<String> {
        let new = &self.plan.ring;
        let moving: BTreeSet<Partition> = self.plan.moves.iter().map(|m| m.partition).collect();
        let up = |ring: &Ring, partition: Partition, n: u8| {
            let token = Token::new(*new.partitions().tokens(partition).start());
            let owners = ring.preference(token).owners(usize::from(n));
            let gone = |node: &&NodeId| self.down.contains(node) || self.plan.dead.contains(node);
            owners.iter().filter(|node| !gone(node)).count()
        };
        let mut warnings = Vec::new();
        for bucket in self.buckets {
            let w = usize::from(bucket.w.max(bucket.pw));
            let short = moving.iter().filter(|partition| {
                let lacks = |ring| up(ring, **partition, bucket.n) < w;
                lacks(self.old) || lacks(new)
            });
            let short = short.count();
            if short != 0 {
                let name = &bucket.name;
                warnings.push(format!(
                    "writes of bucket {name} fail in {short} partitions while data moves: they \
                     need w={w} of the old and of the new owners"
                ));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::{Change, Decree, Member, Partitions, Staged};

    use super::*;

    fn member(name: &str) -> Member {
        Member::new(name, "127.0.0.1:1", "z", 1).unwrap()
    }

    fn warnings(down: &[&str], free: u64, w: u8) -> Vec<String> {
        let names = ["n1", "n2", "n3"];
        let members = names.map(member).to_vec();
        let ring = Ring::founding(members, Partitions::new(16).unwrap(), 1, 3).unwrap();
        let decree = Decree::founding(ring);
        let mut staged = Staged::new(decree.epoch);
        staged.stage(NodeId::of_name("n1"), Change::Join(member("n4")));
        let plan = Plan::new(&decree, &staged, 3).unwrap();
        let report = |name: &str| {
            let progress = Progress {
                disk_bytes: 160 << 20,
                disk_free: free,
                ..Progress::default()
            };
            (NodeId::of_name(name), progress)
        };
        let reports = ["n1", "n2", "n3", "n4"].map(report).into();
        let bucket = BucketInfo {
            name: "b".to_owned(),
            n: 3,
            w,
            ..BucketInfo::default()
        };
        let foresight = Foresight {
            old: &decree.ring,
            plan: &plan,
            buckets: &[bucket],
            down: down.iter().map(|name| NodeId::of_name(name)).collect(),
            reports: &reports,
            name: &|node| {
                let member = plan.ring.member(node);
                member.map_or_else(String::new, |member| member.name.clone())
            },
        };
        foresight.warnings()
    }

    #[test]
    fn nothing_is_said_of_a_plan_that_is_well() {
        assert!(warnings(&[], 1 << 40, 2).is_empty());
    }

    #[test]
    fn a_disk_that_is_too_small_is_named() {
        let found = warnings(&[], 130 << 20, 2);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("n4 gets about 120 MiB and has 130 MiB free"));
    }

    #[test]
    fn who_is_down_holds_it_up_and_quorums_that_need_it_fail() {
        let found = warnings(&["n2"], 1 << 40, 2);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("n2 is down"));
        let found = warnings(&["n2"], 1 << 40, 3);
        assert!(
            found[1].contains("bucket b fail in 12 partitions"),
            "{found:?}"
        );
    }
}
