//! Changes of the ring, staged or under way, as JSON of the same shape as the command line's.
//!
//! Shows only; changing anything is left to the command line, where a plan has been read first.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::HeaderMap};
use quorate_client::wire::{self, RingAnswer, RingRequest};
use quorate_ring::{Decree, NodeId, Partition, Phase, Ring};
use serde_json::{Value, json};

use super::{
    Refusal, Shared, Web,
    cluster::{TIMEOUT_MS, ask},
};
use crate::cli::ring::{plan_json, transfers_json};

async fn answer(web: &Web, headers: &HeaderMap, verb: &str) -> Result<RingAnswer, Refusal> {
    let request = wire::Request::RingChange(RingRequest {
        verb: verb.to_owned(),
        timeout_ms: TIMEOUT_MS,
        ..RingRequest::default()
    });
    let wire::Response::RingChange(answer) = ask(web, headers, request).await? else {
        return Err(Refusal::odd());
    };
    Ok(*answer)
}

/// `/v1/transfers`: `ring transfers`, and what is staged.
pub(super) async fn transfers(
    State(web): Shared,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let answer = answer(&web, &headers, "transfers").await?;
    let mut json = transfers_json(&answer);
    json["staged"] = json!(answer.staged);
    Ok(Json(json))
}

/// `/v1/plan`: `ring plan`.
pub(super) async fn plan(State(web): Shared, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let answer = answer(&web, &headers, "plan").await?;
    let plan = answer.plan.unwrap_or_default();
    let mut json = plan_json(&plan);
    json["epoch"] = json!(answer.epoch);
    json["staged"] = json!(answer.staged);
    Ok(Json(json))
}

/// Which nodes give up a partition and which take it in, for the partitions of the ring that is
/// read and only while a change is under way. Counts the first `n` nodes of each.
pub(super) fn moving(decree: &Decree, n: usize) -> Vec<Value> {
    let Some(other) = decree.other() else {
        return Vec::new();
    };
    let reading = decree.reading();
    let name = |node: &NodeId| {
        let member = decree.member(*node);
        member.map_or_else(|| node.to_string(), |member| member.name.clone())
    };
    // Those of the first who are not among the second.
    let only = |all: &BTreeSet<NodeId>, without: &BTreeSet<NodeId>| -> Vec<String> {
        all.difference(without).map(name).collect()
    };
    let count = reading.partitions().count();
    let differing = (0..count).filter_map(|partition| {
        let here = owners(&reading, partition, count, n);
        let there = owners(&other, partition, count, n);
        let (mut from, mut to) = (only(&here, &there), only(&there, &here));
        if decree.phase == Phase::Switched {
            std::mem::swap(&mut from, &mut to);
        }
        (from != to).then(|| json!({ "partition": partition, "from": from, "to": to }))
    });
    differing.collect()
}

/// The first `n` owners in `ring` of what is one of `count` partitions in another ring.
fn owners(ring: &Ring, partition: u32, count: u32, n: usize) -> BTreeSet<NodeId> {
    let own = u64::from(ring.partitions().count());
    let (at, count) = (u64::from(partition), u64::from(count));
    let covered = at * own / count..=((at + 1) * own - 1) / count;
    let lists = covered.map(|part| {
        let part = Partition(u32::try_from(part).expect("below the number of partitions"));
        ring.list(part).owners(n)
    });
    lists.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_ring::{Member, NodeUuid, Partitions};

    fn ring(names: &[&str], partitions: u32) -> Ring {
        let members = names
            .iter()
            .map(|name| Member::new(name, "127.0.0.1:1", "z", 1).unwrap());
        let partitions = Partitions::new(partitions).unwrap();
        Ring::founding(members.collect(), partitions, 1, 1).unwrap()
    }

    #[test]
    fn who_takes_in_is_the_same_before_and_after_reads_switch() {
        let uuid = |_| NodeUuid::new(1);
        let stable = Decree::founding(ring(&["n1"], 64));
        assert!(moving(&stable, 1).is_empty());
        let under_way = stable.moving(ring(&["n2"], 64), Vec::new(), String::new(), uuid);
        let before = moving(&under_way, 1);
        assert_eq!(before.len(), 64);
        assert_eq!(
            before[0],
            json!({ "partition": 0, "from": ["n1"], "to": ["n2"] })
        );
        let switched = under_way.switched(uuid);
        assert_eq!(moving(&switched, 1), before);
        assert!(moving(&switched.settled(uuid), 1).is_empty());
    }

    #[test]
    fn rings_of_different_numbers_of_partitions_are_compared_by_what_they_cover() {
        let (coarse, fine) = (ring(&["n1", "n2"], 64), ring(&["n1", "n2"], 128));
        for partition in 0..64 {
            let halves = [2 * partition, 2 * partition + 1];
            let both = halves.map(|half| owners(&fine, half, 128, 1));
            let both: BTreeSet<NodeId> = both.into_iter().flatten().collect();
            assert_eq!(owners(&fine, partition, 64, 1), both);
            assert_eq!(
                owners(&coarse, 2 * partition + 1, 128, 1),
                owners(&coarse, partition, 64, 1)
            );
        }
    }
}
