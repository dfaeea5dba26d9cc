//! A network that falls apart in two and comes together again, with real processes in network
//! namespaces: writes on both sides, and changes of the ring on both sides.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Instant,
};

use serde_json::Value;

use super::lan::{Lan, PATIENCE, Shell, answer};

const NEAR: [usize; 2] = [1, 2];
const FAR: [usize; 3] = [3, 4, 5];
const KEYS: usize = 30;

/// Writes until that is acknowledged; an unknown outcome is repeated as the same operation. The
/// context it leaves, and whether somebody stood in for a replica.
fn put(shell: &mut Shell, key: &str, value: &str, context: Option<&str>) -> (String, bool) {
    let seen = context.map_or_else(String::new, |context| format!(" --context {context}"));
    let line = format!("put default {key} {value} --timeout 1s{seen}");
    let limit = Instant::now() + PATIENCE;
    let mut id = None;
    loop {
        let again = id
            .as_ref()
            .map_or_else(String::new, |id| format!(" --op-id {id}"));
        let answer = shell.ask(&format!("{line}{again}"));
        if answer["exit"] == 0 {
            let context = answer["context"].as_str().expect("a put leaves one");
            let hinted = answer["hinted"].as_u64().expect("a number");
            return (context.to_owned(), 0 < hinted);
        }
        // Certainly not applied, or to be asked for under its name.
        if answer["exit"] == 4 {
            id = answer["error"]["op_id"].as_str().map(str::to_owned);
        }
        assert!(Instant::now() < limit, "{line}: {answer}");
    }
}

fn values(answer: &Value) -> BTreeSet<String> {
    let siblings = answer["siblings"].as_array().into_iter().flatten();
    let values = siblings.filter_map(|sibling| sibling["value"].as_str());
    values.map(str::to_owned).collect()
}

/// On one side: each key is written on top of what was there before the split, and again on top of
/// that; a second family of keys is written without having seen anything. How many of all these
/// somebody stood in for.
fn write_on(lan: &Lan, nodes: &[usize], side: &str, before: &BTreeMap<String, String>) -> usize {
    let mut shells: Vec<Shell> = nodes.iter().map(|number| lan.shell(*number)).collect();
    let mut hinted = 0;
    for number in 0..KEYS {
        let shell = &mut shells[number % nodes.len()];
        let key = format!("seen{number}");
        let (context, first) = put(shell, &key, &format!("{side}-first"), Some(&before[&key]));
        let (_, second) = put(shell, &key, &format!("{side}-last"), Some(&context));
        let (_, blind) = put(shell, &format!("blind{number}"), side, None);
        hinted += [first, second, blind].into_iter().filter(|h| *h).count();
    }
    hinted
}

/// W6 and W10: both sides take all writes; afterwards every node shows
/// what either has acknowledged, and nothing that its writers had replaced.
#[test]
fn both_sides_of_a_split_take_writes_and_every_node_has_all_of_them_afterwards() {
    let Some(lan) = Lan::of(5) else { return };
    let mut shell = lan.shell(1);
    let before = (0..KEYS).map(|number| {
        let key = format!("seen{number}");
        let (context, _) = put(&mut shell, &key, "before", None);
        (key, context)
    });
    let before: BTreeMap<String, String> = before.collect();
    lan.split(&FAR);
    let (near, far) = std::thread::scope(|scope| {
        let near = scope.spawn(|| write_on(&lan, &NEAR, "near", &before));
        let far = scope.spawn(|| write_on(&lan, &FAR, "far", &before));
        let joined = |side: std::thread::ScopedJoinHandle<'_, usize>| side.join().expect("written");
        (joined(near), joined(far))
    });
    eprintln!("stood in for: {near} writes on the near side, {far} on the far side");
    assert!(0 < near && 0 < far, "a side had all replicas of every key");
    // Neither side has seen anything of the other's.
    lan.wait_until_up(1, &NEAR);
    lan.wait_until_up(3, &FAR);
    let got = lan.ok(1, &["get", "default", "blind0", "--r", "1"]);
    assert!(!values(&got).contains("far"), "{got}");
    lan.heal();
    for number in [1, 3] {
        lan.wait_until_up(number, &[1, 2, 3, 4, 5]);
    }
    lan.ok(2, &["repair", "--wait", "--timeout", "120s"]);
    let converged = ["cluster", "wait-converged", "--timeout", "120s"];
    assert_eq!(lan.ok(4, &converged)["converged"], true);
    let set = |values: [&str; 2]| values.map(str::to_owned).into();
    for node in 1..=5 {
        let mut shell = lan.shell(node);
        for number in 0..KEYS {
            let seen = shell.ask(&format!("get default seen{number} --r 1"));
            assert_eq!(values(&seen), set(["near-last", "far-last"]), "{seen}");
            let blind = shell.ask(&format!("get default blind{number} --r 1"));
            assert_eq!(values(&blind), set(["near", "far"]), "{blind}");
        }
    }
}

/// The weight that the ring gives a node, as node `by` sees it.
fn weight(lan: &Lan, by: usize, name: &str) -> Option<u64> {
    let status = lan.ok(by, &["cluster", "status"]);
    let mut rows = status["nodes"].as_array().into_iter().flatten();
    rows.find(|row| row["name"] == name)?["weight"].as_u64()
}

fn digest(lan: &Lan, by: usize) -> String {
    let plan = lan.ok(by, &["ring", "plan"]);
    let digest = plan["digest"].as_str().expect("a plan has a digest");
    digest.to_owned()
}

/// W8, row 37 of the failures: the smaller side agrees on nothing and says so, whether it knows yet
/// that it is the smaller one or not; who had asked there is told that another change was first, as
/// soon as that is heard of.
#[test]
fn of_two_changes_committed_on_the_two_sides_of_a_split_one_wins_and_the_other_is_told() {
    let Some(lan) = Lan::of(5) else { return };
    lan.ok(1, &["ring", "stage", "weight", "n1", "2"]);
    let lost = digest(&lan, 1);
    lan.split(&FAR);

    // At once, while nobody knows that the others are gone.
    let commit = ["ring", "commit", &lost, "--timeout", "110s"];
    let waiting = lan
        .quorate(1, &commit)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let brief = lan.ask(2, &["ring", "commit", &lost, "--timeout", "1s"]);
    assert_eq!(brief.0, 4, "{}", brief.1);
    assert_eq!(brief.1["error"]["code"], "unknown_outcome", "{}", brief.1);

    lan.ok(3, &["ring", "unstage", "--timeout", "60s"]);
    let stage = ["ring", "stage", "weight", "n5", "2"];
    lan.ok(4, &[&stage[..], &["--timeout", "60s"]].concat());
    let won = digest(&lan, 5);
    let committed = lan.ok(3, &["ring", "commit", &won]);
    assert_eq!(committed["state"], "moving", "{committed}");

    // Now that it is known: nothing is even tried, and nothing was changed.
    lan.wait_until_up(2, &NEAR);
    let refused = lan.ask(2, &["ring", "commit", &lost]);
    assert_eq!(refused.0, 5, "{}", refused.1);
    let message = refused.1["error"]["message"].as_str().expect("a message");
    assert_eq!(refused.1["error"]["code"], "unavailable");
    assert!(
        message.contains("2 of 5 members of the ring are up") && message.contains("--force"),
        "{message}"
    );
    lan.heal();

    let output = waiting.wait_with_output().expect("it ends");
    let (exit, told) = answer(&output);
    assert_eq!((exit, &told["error"]["code"]), (6, &"conflict".into()));
    let message = told["error"]["message"].as_str().expect("a message");
    assert!(
        message.contains("another change was agreed on first") && message.contains("weight n5 2"),
        "{message}"
    );
    for number in 1..=5 {
        lan.ok(number, &["ring", "wait", "--timeout", "120s"]);
    }
    let shown: Vec<Value> = (1..=5).map(|by| lan.ok(by, &["ring", "show"])).collect();
    assert!(
        shown.iter().all(|ring| *ring == shown[0]),
        "one history: {shown:?}"
    );
    assert_eq!(shown[0]["state"], "stable");
    for by in 1..=5 {
        let weights = (weight(&lan, by, "n1"), weight(&lan, by, "n5"));
        assert_eq!(weights, (Some(1), Some(2)), "as n{by} sees it");
    }
    // The plan that lost is of a ring that is no more.
    let late = lan.ask(1, &["ring", "commit", &lost]);
    assert_eq!(late.0, 6, "{}", late.1);
    assert_eq!(late.1["error"]["code"], "conflict", "{}", late.1);
}
