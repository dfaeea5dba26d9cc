//! What is refused, with which code, and that nothing is harmed by it.

use std::fs;

use crate::dev::{Dev, alone, ended};

#[test]
fn bad_input_is_refused_and_harms_nothing() {
    let dev = Dev::start();
    let kept = dev.ok(&["put", "default", "kept", "v"]);
    let long = "k".repeat(4_097);
    let big = vec![b'x'; (1 << 20) + 1];
    dev.refused(2, "unknown_bucket", &["put", "nowhere", "k", "v"]);
    dev.refused(2, "unknown_bucket", &["get", "nowhere", "k"]);
    dev.refused(2, "invalid_argument", &["put", "default", "", "v"]);
    dev.refused(2, "invalid_argument", &["get", "default", &long]);
    dev.ok(&["put", "default", &long[1..], "v"]);
    let much = ended(&dev.feed(&["put", "default", "big", "-"], &big));
    assert_eq!(
        (much.exit, much.code()),
        (2, "invalid_argument"),
        "{}",
        much.json
    );
    for wrong in [["--w", "0"], ["--w", "4"], ["--pw", "4"]] {
        dev.refused(
            2,
            "invalid_argument",
            &[&["put", "default", "k", "v"], &wrong[..]].concat(),
        );
    }
    for wrong in [["--r", "0"], ["--r", "4"], ["--pr", "4"]] {
        dev.refused(
            2,
            "invalid_argument",
            &[&["get", "default", "kept"], &wrong[..]].concat(),
        );
    }
    dev.ok(&["get", "default", "kept", "--pr", "0"]);
    dev.refused(2, "invalid_argument", &["get", "default"]);
    dev.refused(2, "invalid_argument", &["frobnicate"]);
    dev.refused(2, "invalid_argument", &["ring", "stage", "join", "n4"]);
    dev.refused(2, "invalid_argument", &["drain", "n9"]);

    // Contexts: of another key, with one character changed, and no context at all.
    let context = kept.context();
    let changed = if context.ends_with('A') { "B" } else { "A" };
    let changed = format!("{}{changed}", &context[..context.len() - 1]);
    for (key, bad) in [("other", context), ("kept", &changed), ("kept", "nonsense")] {
        dev.refused(
            2,
            "bad_context",
            &["put", "default", key, "x", "--context", bad],
        );
        dev.refused(
            2,
            "bad_context",
            &["delete", "default", key, "--context", bad],
        );
    }
    assert_eq!(dev.ok(&["get", "default", "kept"]).values(), ["v"]);
}

#[test]
fn roles_decide_who_may_do_what() {
    let (dev, other) = (Dev::start(), Dev::start());
    let profile = |role: &str, ca: &str| {
        let out = dev.path(role);
        let name = format!("quorate-dev/{role}");
        dev.ok(&["tls", "client", "--ca", ca, "--role", role, "--out", &name]);
        let text = format!(
            "nodes = [\"{}\"]\nca = \"ca.pem\"\ncert = \"client.pem\"\nkey = \"client.key\"\n",
            dev.address(1)
        );
        fs::write(out.join("profile.toml"), text).unwrap();
        format!("{name}/profile.toml")
    };
    dev.ok(&["put", "default", "k", "v"]);
    let read = profile("read", "quorate-dev/ca");
    assert_eq!(
        dev.ok(&["--profile", &read, "get", "default", "k"])
            .values(),
        ["v"]
    );
    dev.refused(
        7,
        "denied",
        &["--profile", &read, "put", "default", "k", "w"],
    );
    dev.refused(7, "denied", &["--profile", &read, "delete", "default", "k"]);
    let write = profile("write", "quorate-dev/ca");
    dev.ok(&["--profile", &write, "put", "default", "k2", "w"]);
    dev.refused(7, "denied", &["--profile", &write, "bucket", "create", "b"]);
    // What was set aside may be what others were meant not to see any more.
    for profile in [&read, &write] {
        dev.refused(7, "denied", &["--profile", profile, "salvage", "n1"]);
        let restore = ["salvage", "n1", "default", "k", "--restore"];
        dev.refused(
            7,
            "denied",
            &[&["--profile", profile], &restore[..]].concat(),
        );
    }

    // A certificate of another cluster's authority is nobody here.
    let foreign = other.path("ca");
    fs::remove_dir_all(dev.path("read")).unwrap();
    let stranger = profile("read", foreign.to_str().unwrap());
    let refused = dev.run(&[
        "--profile",
        &stranger,
        "--timeout",
        "2s",
        "get",
        "default",
        "k",
    ]);
    assert_eq!(
        (refused.exit, refused.code()),
        (7, "denied"),
        "{}",
        refused.json
    );
    let there = other.ok(&["put", "default", "k", "v"]);
    let context = there.context();
    let put = ["put", "default", "k", "w", "--context", context];
    dev.refused(2, "bad_context", &put);
    assert_eq!(dev.ok(&["get", "default", "k"]).values(), ["v"]);
}

#[test]
fn a_node_refuses_what_is_not_its_own() {
    let (dev, other) = (Dev::start(), Dev::start());
    dev.ok(&["put", "default", "k", "v", "--w", "3"]);
    let config = dev.path("node1/node.toml");
    let serve = |args: &[&str]| {
        alone(
            dev.dir.path(),
            &[&["serve", "--config", config.to_str().unwrap()], args].concat(),
        )
    };
    let refused = |args: &[&str], why: &str| {
        let ended = serve(args);
        let message = ended.json["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(
            (ended.exit, ended.code()),
            (1, "internal"),
            "{}",
            ended.json
        );
        assert!(message.contains(why), "{why:?}: {message}");
    };
    // Everything is in use by the node that runs; then only the port; then only the directory.
    refused(&[], "another process uses the data directory");
    dev.node("stop", 1);
    refused(&["--listen", &other.address(1)], &other.address(1));
    let foreign = other.path("node1/data");
    other.node("stop", 1);
    let stolen = ["--data-dir", foreign.to_str().unwrap()];
    refused(&stolen, "belongs to cluster");
    let format = dev.path("node1/data/FORMAT");
    let ours = fs::read_to_string(&format).unwrap();
    fs::write(&format, ours.replace(" 1", " 9")).unwrap();
    refused(&[], "format 9");
    fs::write(&format, ours).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("wieght = 3\n{text}")).unwrap();
    let unknown = serve(&[]);
    assert_eq!((unknown.exit, unknown.code()), (2, "invalid_argument"));
    assert!(
        unknown.json["error"]["message"]
            .as_str()
            .unwrap()
            .contains("wieght")
    );
    fs::write(&config, text).unwrap();
    // Its configuration lists who founded the cluster.
    for flag in [
        &["--bootstrap"][..],
        &["--join", "127.0.0.1:1"],
        &["--partitions", "64"],
        &["--cluster-name", "c"],
    ] {
        assert_eq!(serve(flag).code(), "invalid_argument", "{flag:?}");
    }
    dev.node("start", 1);
    other.node("start", 1);
    let own = [
        "--node",
        &dev.address(1),
        "--pin",
        "get",
        "default",
        "k",
        "--r",
        "1",
    ];
    assert_eq!(dev.ok(&own).values(), ["v"]);
}
