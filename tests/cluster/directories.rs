//! Data directories that are lost, put back or copied, with real files.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::dev::Dev;

pub(super) fn json(dev: &Dev, args: &[&str]) -> Value {
    let output = dev.command().args(args).args(["--output", "json"]).output();
    let output = output.expect("the binary runs");
    serde_json::from_slice(&output.stdout).expect("it prints json")
}

pub(super) fn value(dev: &Dev, key: &str, r: &str) -> Option<String> {
    let answer = json(dev, &["get", "default", key, "--r", r]);
    answer["siblings"][0]["value"].as_str().map(str::to_owned)
}

pub(super) fn put(dev: &Dev, key: &str, value: &str) -> Value {
    let answer = json(dev, &["put", "default", key, value]);
    assert!(answer["context"].is_string(), "{answer}");
    answer
}

/// The row of a node in `cluster status`.
pub(super) fn row(dev: &Dev, name: &str) -> Value {
    let status = json(dev, &["cluster", "status"]);
    let rows = status["nodes"].as_array().cloned().unwrap_or_default();
    rows.into_iter()
        .find(|row| row["name"] == name)
        .unwrap_or_default()
}

pub(super) fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(
            since.elapsed() < Duration::from_mins(1),
            "not in a minute: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(super) fn wait_until_rebuilt(dev: &Dev, name: &str, before: &str) {
    wait_until("the node is rebuilt", || {
        let row = row(dev, name);
        row["rebuilding"] == false && row["id"].as_str().is_some_and(|id| id != before)
    });
}

pub(super) fn id(dev: &Dev, name: &str) -> String {
    let row = row(dev, name);
    row["id"].as_str().expect("every node has an id").to_owned()
}

pub(super) fn data(dev: &Dev, number: u16) -> PathBuf {
    Path::new(dev.path()).join(format!("node{number}/data"))
}

pub(super) fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    let status = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()), "it is copied");
}

/// A directory begins a new life every two seconds in which it was written to.
pub(super) fn let_it_be_known() {
    std::thread::sleep(Duration::from_secs(5));
}

pub(super) fn wait_converged(dev: &Dev) {
    let output = dev.command().args(["cluster", "wait-converged"]).output();
    assert!(
        output.is_ok_and(|output| output.status.success()),
        "it converges"
    );
}

#[test]
fn a_node_whose_data_was_wiped_is_rebuilt_and_misses_nothing_meanwhile() {
    let dev = Dev::start();
    wait_until("the directories are named", || {
        json(&dev, &["ring", "show"])["epoch"].as_u64() >= Some(2)
    });
    for number in 0..50 {
        put(&dev, &format!("k{number}"), "before");
    }
    let before = id(&dev, "n2");
    dev.node("kill", 2);
    std::fs::remove_dir_all(data(&dev, 2)).expect("it was there");
    dev.node("start", 2);
    for number in 0..50 {
        let key = format!("k{number}");
        assert_eq!(value(&dev, &key, "2").as_deref(), Some("before"), "{key}");
    }
    wait_until_rebuilt(&dev, "n2", &before);
    wait_converged(&dev);
    // It counts again: any two are enough.
    dev.node("kill", 3);
    for number in 0..50 {
        let key = format!("k{number}");
        assert_eq!(value(&dev, &key, "2").as_deref(), Some("before"), "{key}");
    }
    // And it votes again: two of three are a majority, of which it is one.
    let staged = json(&dev, &["ring", "stage", "weight", "n1", "2"]);
    assert!(staged["error"].is_null(), "{staged}");
    let plan = json(&dev, &["ring", "plan"]);
    let digest = plan["digest"].as_str().expect("a plan has a digest");
    let committed = json(&dev, &["ring", "commit", digest]);
    assert!(committed["error"].is_null(), "{committed}");
    dev.node("start", 3);
    wait_until("the change is over", || {
        json(&dev, &["ring", "show"])["state"] == "stable"
    });
    wait_converged(&dev);
}

#[test]
fn a_directory_that_is_put_back_gets_a_new_name_and_loses_nothing() {
    let dev = Dev::start();
    let first = put(&dev, "k", "first");
    let_it_be_known();
    let saved = Path::new(dev.path()).join("saved");
    copy(&data(&dev, 2), &saved);
    let mut dots = vec![first["siblings"].clone()];
    for number in 0..20 {
        dots.push(put(&dev, &format!("later{number}"), "kept")["siblings"].clone());
    }
    let_it_be_known();
    let before = id(&dev, "n2");
    dev.node("kill", 2);
    copy(&saved, &data(&dev, 2));
    dev.node("start", 2);
    for number in 0..20 {
        let key = format!("later{number}");
        assert_eq!(value(&dev, &key, "2").as_deref(), Some("kept"), "{key}");
    }
    wait_until_rebuilt(&dev, "n2", &before);
    for number in 0..20 {
        let key = format!("later{number}");
        assert_eq!(value(&dev, &key, "3").as_deref(), Some("kept"), "{key}");
        dots.push(put(&dev, &format!("more{number}"), "new")["siblings"].clone());
    }
    let mut names: Vec<String> = dots.iter().map(|dot| dot[0]["dot"].to_string()).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "no name was given twice");
    assert_eq!(value(&dev, "k", "3").as_deref(), Some("first"));
    wait_converged(&dev);
}

#[test]
fn a_node_on_a_copy_of_another_ones_directory_is_nobody_until_it_is_rebuilt() {
    let dev = Dev::start();
    put(&dev, "k", "one");
    let_it_be_known();
    let (one, two) = (id(&dev, "n1"), id(&dev, "n2"));
    dev.node("kill", 2);
    copy(&data(&dev, 1), &data(&dev, 2));
    dev.node("start", 2);
    wait_until_rebuilt(&dev, "n2", &two);
    assert_eq!(id(&dev, "n1"), one);
    assert_ne!(id(&dev, "n2"), one);
    put(&dev, "l", "two");
    assert_eq!(value(&dev, "k", "3").as_deref(), Some("one"));
    assert_eq!(value(&dev, "l", "3").as_deref(), Some("two"));
    wait_converged(&dev);
}
