//! What is set aside of a directory that was put back, as an operator sees it.

use std::{fs, path::Path};

use serde_json::Value;

use super::{
    dev::Dev,
    directories::{
        copy, data, id, json, let_it_be_known, put, row, value, wait_converged, wait_until,
        wait_until_rebuilt,
    },
};

/// The exit code of a command.
fn exit(dev: &Dev, args: &[&str]) -> Option<i32> {
    let output = dev.command().args(args).output();
    output.expect("the binary runs").status.code()
}

/// The values of a key that were set aside on n2, each with what has become of it.
fn aside(dev: &Dev, key: &str) -> Vec<(String, String)> {
    let answer = json(dev, &["salvage", "n2", "default", key]);
    let listed = answer["listed"].as_array().cloned().unwrap_or_default();
    let versions = listed.iter().filter_map(|row| row["versions"].as_array());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let versions = versions.flatten();
    versions
        .map(|version| (text(&version["value"]), text(&version["state"])))
        .collect()
}

#[test]
fn what_an_old_directory_held_is_offered_back_and_never_comes_back_by_itself() {
    let dev = Dev::start();
    for key in ["k", "l", "m"] {
        put(&dev, key, "first");
    }
    let_it_be_known();
    let saved = Path::new(dev.path()).join("saved");
    copy(&data(&dev, 2), &saved);
    for key in ["k", "l"] {
        let seen = json(&dev, &["get", "default", key]);
        let context = seen["context"].as_str().expect("a key has a context");
        let put = ["put", "default", key, "second", "--context", context];
        assert!(json(&dev, &put)["error"].is_null());
    }
    let_it_be_known();
    let before = id(&dev, "n2");
    dev.node("kill", 2);
    copy(&saved, &data(&dev, 2));
    dev.node("start", 2);
    wait_until_rebuilt(&dev, "n2", &before);
    wait_converged(&dev);
    wait_until("it is counted", || row(&dev, "n2")["set_aside"] == 3);
    let replaced = ("first".to_owned(), "replaced".to_owned());
    assert_eq!(aside(&dev, "k"), std::slice::from_ref(&replaced));
    assert_eq!(aside(&dev, "m"), [("first".to_owned(), "held".to_owned())]);
    assert_eq!(value(&dev, "k", "3").as_deref(), Some("second"));

    // Of everything at once only that comes back of which nobody knows anything.
    let all = json(&dev, &["salvage", "n2", "--restore", "--all"]);
    assert_eq!((&all["held"], &all["replaced"]), (&1.into(), &2.into()));
    assert_eq!(
        (&all["restored"], &all["discarded"]),
        (&0.into(), &1.into())
    );
    let one = json(&dev, &["salvage", "n2", "default", "k", "--restore"]);
    assert_eq!(
        (&one["restored"], &one["discarded"]),
        (&1.into(), &1.into())
    );
    let both = json(&dev, &["get", "default", "k"]);
    assert_eq!(both["siblings"].as_array().map(Vec::len), Some(2), "{both}");
    let rest = json(&dev, &["salvage", "n2", "--discard", "--all"]);
    assert_eq!(rest["discarded"], 1, "{rest}");
    assert_eq!(json(&dev, &["salvage", "n2"])["records"], 0);
    assert_eq!(value(&dev, "l", "3").as_deref(), Some("second"));

    assert_eq!(exit(&dev, &["salvage", "n9"]), Some(2));
    assert_eq!(exit(&dev, &["salvage", "n2", "default"]), Some(2));
    assert_eq!(exit(&dev, &["salvage", "n2", "--restore"]), Some(2));
    assert_eq!(exit(&dev, &["salvage", "n2", "--all"]), Some(2));
    dev.node("kill", 2);
    wait_until("it is seen to be down", || {
        row(&dev, "n2")["state"] == "down"
    });
    assert_eq!(exit(&dev, &["salvage", "n2", "--timeout", "1s"]), Some(5));
    dev.node("start", 2);
}

#[test]
fn what_nobody_else_knows_is_restored_with_everything() {
    let dev = Dev::start();
    put(&dev, "known", "to all");
    dev.node("kill", 1);
    dev.node("kill", 3);
    let alone = ["put", "default", "alone", "precious", "--w", "1"];
    wait_until("one node takes it alone", || {
        json(&dev, &alone)["error"].is_null()
    });
    let_it_be_known();
    let before = id(&dev, "n2");
    dev.node("kill", 2);
    let saved = Path::new(dev.path()).join("saved");
    copy(&data(&dev, 2), &saved);
    // Without this the others would have it from n2.
    fs::remove_dir_all(data(&dev, 2)).expect("it was there");
    for node in [1, 3, 2] {
        dev.node("start", node);
    }
    wait_until_rebuilt(&dev, "n2", &before);
    wait_converged(&dev);
    assert_eq!(value(&dev, "alone", "3"), None);
    let before = id(&dev, "n2");
    dev.node("kill", 2);
    copy(&saved, &data(&dev, 2));
    dev.node("start", 2);
    wait_until_rebuilt(&dev, "n2", &before);
    wait_until("it is counted", || row(&dev, "n2")["set_aside"] == 2);
    let missing = ("precious".to_owned(), "missing".to_owned());
    assert_eq!(aside(&dev, "alone"), [missing]);
    let all = json(&dev, &["salvage", "n2", "--restore", "--all"]);
    assert_eq!(all["restored"], 1, "{all}");
    assert_eq!(value(&dev, "alone", "3").as_deref(), Some("precious"));
    assert_eq!(value(&dev, "known", "3").as_deref(), Some("to all"));
}
