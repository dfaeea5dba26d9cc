//! Nodes that stand in for others that were killed, and hand over what they kept.

use std::time::{Duration, Instant};

use quorate_client::Written;
use serde_json::Value;

use super::dev::Dev;

impl Dev {
    fn json(&self, args: &[&str]) -> Value {
        let output = self
            .command()
            .args(args)
            .args(["--output", "json"])
            .output();
        let output = output.expect("the quorate binary runs");
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{args:?}: {output:?}"))
    }

    /// The numbers of a key's replicas.
    fn owners(&self, key: &str) -> Vec<u16> {
        let shown = self.json(&["ring", "show", "--key", "default", key]);
        let names = shown["replicas"].as_array().expect("replicas").iter();
        let number = |name: &Value| name.as_str()?.strip_prefix('n')?.parse().ok();
        names
            .map(|name| number(name).expect("n1, n2, ..."))
            .collect()
    }

    fn hints(&self) -> u64 {
        self.json(&["hints"])["total"].as_u64().expect("a number")
    }

    /// Puts through a node until that is acknowledged.
    async fn put(&self, through: u16, key: &str, value: &str) -> Written {
        let client = self.pinned(through).await;
        let limit = Instant::now() + Duration::from_mins(1);
        let id = client.op_id();
        loop {
            let put = client.put("default", key, value.to_owned()).op_id(id).w(2);
            match put.send().await {
                Ok(written) => return written,
                Err(error) => assert!(Instant::now() < limit, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What each of a key's replicas has in its own store.
    async fn stored(&self, owners: &[u16], key: &str) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        for owner in owners {
            let client = self.pinned(*owner).await;
            let got = client.get("default", key).r(1).send().await;
            let got = got.expect("a replica answers from its own copy");
            let values = got.siblings.into_iter().filter_map(|version| version.value);
            let text = values.map(|value| String::from_utf8_lossy(&value).into_owned());
            let mut text: Vec<String> = text.collect();
            text.sort_unstable();
            all.push(text);
        }
        all
    }
}

fn other_than(owners: &[u16]) -> Vec<u16> {
    (1..=5).filter(|number| !owners.contains(number)).collect()
}

/// W6, rows 14, 16 and 17 of the failures: two of three replicas are killed and the write counts
/// with hints; those who keep them are killed too; without any further request all replicas get it.
#[test]
fn hints_survive_the_killing_of_who_keeps_them_and_are_handed_over_without_traffic() {
    let dev = Dev::of(5);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let owners = dev.owners("cart");
    let fallbacks = other_than(&owners);
    for number in &owners[1..] {
        dev.node("kill", *number);
    }
    let written = runtime.block_on(dev.put(owners[0], "cart", "milk"));
    assert!(
        1 <= written.hinted && 2 <= written.durable_on.len(),
        "{written:?}"
    );
    let held = dev.hints();
    assert!(1 <= held, "{held}");
    for number in &fallbacks {
        dev.node("kill", *number);
        dev.node("start", *number);
    }
    let limit = Instant::now() + Duration::from_secs(20);
    while dev.hints() < held {
        assert!(Instant::now() < limit, "hints are gone: {}", dev.hints());
    }
    for number in &owners[1..] {
        dev.node("start", *number);
    }
    let converged = dev.json(&["cluster", "wait-converged"]);
    assert_eq!(converged["converged"], true, "{converged}");
    assert_eq!(dev.hints(), 0);
    let stored = runtime.block_on(dev.stored(&owners, "cart"));
    assert!(
        stored.iter().all(|values| *values == ["milk"]),
        "{stored:?}"
    );
}

/// With no replica left one who stands in coordinates; what it minted becomes a sibling of what
/// it could not know.
#[test]
fn a_key_whose_replicas_are_all_down_is_written_and_read_all_the_same() {
    let dev = Dev::of(5);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let owners = dev.owners("cart");
    let fallbacks = other_than(&owners);
    runtime.block_on(dev.put(owners[0], "cart", "milk"));
    for number in &owners {
        dev.node("kill", *number);
    }
    let written = runtime.block_on(dev.put(fallbacks[0], "cart", "eggs"));
    assert_eq!((written.primaries, written.hinted), (0, 2), "{written:?}");
    let seen = runtime.block_on(async {
        let client = dev.pinned(fallbacks[1]).await;
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            // Only for who is known to be down others are asked, and that may take seconds yet.
            match client.get("default", "cart").send().await {
                Err(_) if Instant::now() < limit => {}
                seen => break seen,
            }
        }
    });
    let seen = seen.expect("those who keep hints are asked").siblings;
    assert_eq!(seen.len(), 1, "{seen:?}");
    for number in &owners {
        dev.node("start", *number);
    }
    let converged = dev.json(&["cluster", "wait-converged"]);
    assert_eq!(converged["converged"], true, "{converged}");
    let stored = runtime.block_on(dev.stored(&owners, "cart"));
    assert!(
        stored.iter().all(|values| *values == ["eggs", "milk"]),
        "{stored:?}"
    );
}
