//! The command line as users and scripts see it: answers, JSON and exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and one of processes waits for them"
)]

#[path = "cli/care.rs"]
mod care;
#[path = "cli/dev.rs"]
mod dev;
#[path = "cli/joining.rs"]
mod joining;
#[path = "cli/manual.rs"]
mod manual;
#[path = "cli/process.rs"]
mod process;
#[path = "cli/readme.rs"]
mod readme;
#[path = "cli/refusals.rs"]
mod refusals;

use std::fs;

use dev::{Dev, ended};

#[test]
fn a_value_is_written_read_replaced_and_deleted() {
    let dev = Dev::start();
    let put = dev.ok(&["put", "default", "k", "one"]);
    assert_eq!(
        (&put.json["bucket"], &put.json["key"]),
        (&"default".into(), &"k".into())
    );
    assert!(2 <= put.json["durable_on"].as_array().unwrap().len());
    assert_eq!(put.json["hinted"], 0);
    assert_eq!(put.json["op_id"].as_str().unwrap().len(), 32);
    assert_eq!(put.json["siblings"].as_array().unwrap().len(), 1);

    let get = dev.ok(&["get", "default", "k"]);
    assert_eq!(get.values(), ["one"]);
    let sibling = &get.json["siblings"][0];
    assert_eq!(sibling["op_id"], put.json["op_id"]);
    assert!(sibling["written_at"].as_str().unwrap().ends_with('Z'));
    assert!(2 <= get.json["replicas"]["answered"].as_u64().unwrap());
    assert_eq!(
        dev.output(&["get", "default", "k", "--value"]).stdout,
        b"one"
    );

    // Without a context a value stands beside the first; with the context of both it replaces them.
    dev.ok(&["put", "default", "k", "two"]);
    let both = dev.ok(&["get", "default", "k"]);
    assert_eq!(both.values(), ["one", "two"]);
    dev.refused(6, "conflict", &["get", "default", "k", "--value"]);
    dev.ok(&["put", "default", "k", "three", "--context", both.context()]);
    assert_eq!(dev.ok(&["get", "default", "k"]).values(), ["three"]);

    dev.ok(&["delete", "default", "k"]);
    let gone = dev.run(&["get", "default", "k"]);
    assert_eq!((gone.exit, &gone.json["found"]), (3, &false.into()));
    assert!(!gone.context().is_empty() && gone.values().is_empty());
    assert_eq!(dev.run(&["get", "default", "never"]).exit, 3);
}

#[test]
fn bytes_of_every_kind_come_back_as_they_were() {
    let dev = Dev::start();
    dev.ok(&["put", "default", "00ff", "fe00", "--hex"]);
    let get = dev.ok(&["get", "default", "AP8=", "--base64"]);
    assert_eq!(get.json["key_base64"], "AP8=");
    assert_eq!(get.json["siblings"][0]["value_base64"], "/gA=");
    let file = dev.dir.path().join("value");
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    fs::write(&file, &bytes).unwrap();
    dev.ok(&["put", "default", "file", "--file", file.to_str().unwrap()]);
    assert_eq!(
        dev.output(&["get", "default", "file", "--value"]).stdout,
        bytes
    );
    assert_eq!(
        ended(&dev.feed(&["put", "default", "pipe", "-"], &bytes)).exit,
        0
    );
    assert_eq!(
        dev.output(&["get", "default", "pipe", "--value"]).stdout,
        bytes
    );
    dev.ok(&["put", "default", "empty", ""]);
    assert_eq!(dev.ok(&["get", "default", "empty"]).values(), [""]);
    let keys = dev.output(&["keys", "default", "--prefix", "p"]).stdout;
    assert_eq!(
        String::from_utf8(keys).unwrap().trim(),
        "{\"key\":\"pipe\"}"
    );
    let keys = dev.output(&["keys", "default", "--limit", "2"]).stdout;
    assert_eq!(String::from_utf8(keys).unwrap().lines().count(), 2);
}

#[test]
fn one_operation_id_is_applied_once_and_preconditions_hold() {
    let dev = Dev::start();
    let id = "00112233445566778899aabbccddeeff";
    let first = dev.ok(&["put", "default", "k", "v", "--op-id", id]);
    let again = dev.ok(&["put", "default", "k", "v", "--op-id", id]);
    assert_eq!(
        first.json["siblings"][0]["dot"],
        again.json["siblings"][0]["dot"]
    );
    assert_eq!(dev.ok(&["get", "default", "k"]).values(), ["v"]);
    dev.refused(
        6,
        "op_id_reused",
        &["put", "default", "k", "other", "--op-id", id],
    );
    dev.refused(6, "conflict", &["put", "default", "k", "w", "--if-absent"]);
    dev.ok(&["put", "default", "k", "w", "--if-match", again.context()]);
    dev.refused(
        6,
        "conflict",
        &["put", "default", "k", "x", "--if-match", again.context()],
    );
    assert_eq!(dev.ok(&["get", "default", "k"]).values(), ["w"]);
    dev.ok(&["put", "default", "new", "n", "--if-absent"]);
    dev.ok(&["put", "default", "brief", "b", "--ttl", "1ms"]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(dev.run(&["get", "default", "brief"]).exit, 3);
}

#[test]
fn buckets_are_made_changed_and_dropped() {
    let dev = Dev::start();
    let make = [
        "bucket",
        "create",
        "b",
        "--n",
        "3",
        "--r",
        "1",
        "--w",
        "3",
        "--value-bytes-max",
    ];
    dev.ok(&[&make[..], &["1KiB"]].concat());
    let show = dev.ok(&["bucket", "show", "b"]).json;
    assert_eq!(
        (&show["n"], &show["r"], &show["w"]),
        (&3.into(), &1.into(), &3.into())
    );
    dev.ok(&["bucket", "set", "b", "--w", "2"]);
    assert_eq!(dev.ok(&["bucket", "show", "b"]).json["w"], 2);
    dev.refused(2, "invalid_argument", &["bucket", "set", "b", "--n", "2"]);
    dev.refused(
        2,
        "invalid_argument",
        &["bucket", "create", "c", "--w", "4"],
    );
    dev.refused(2, "invalid_argument", &["bucket", "drop", "b"]);
    dev.ok(&["put", "b", "k", "v"]);
    dev.ok(&["bucket", "drop", "b", "--yes"]);
    dev.refused(2, "unknown_bucket", &["get", "b", "k"]);
    let list = String::from_utf8(dev.output(&["bucket", "list"]).stdout).unwrap();
    assert!(
        list.contains("default") && !list.contains("\"b\""),
        "{list}"
    );
}

/// Through two nodes at one time: one makes the bucket, the other is told that it is there.
#[test]
fn two_who_make_one_bucket_do_not_both_make_it() {
    let dev = Dev::start();
    for name in ["a", "b", "c"] {
        let make = |node, n| {
            let address = dev.address(node);
            let exit = dev
                .run(&["--node", &address, "bucket", "create", name, "--n", n])
                .exit;
            (exit, n)
        };
        let mut told = std::thread::scope(|scope| {
            let other = scope.spawn(|| make(2, "1"));
            [make(1, "3"), other.join().unwrap()]
        });
        told.sort_unstable();
        assert_eq!((told[0].0, told[1].0), (0, 6), "{told:?}");
        for node in 1..=3 {
            let shown = dev
                .ok(&["--node", &dev.address(node), "bucket", "show", name])
                .json;
            assert_eq!(
                shown["n"].to_string(),
                told[0].1,
                "n{node} shows what was made"
            );
        }
    }
}

#[test]
fn with_two_of_three_nodes_down_nothing_is_pretended() {
    let dev = Dev::start();
    dev.ok(&["put", "default", "k", "v", "--w", "3"]);
    dev.node("kill", 2);
    dev.node("kill", 3);
    let put = dev.run(&["--timeout", "2s", "put", "default", "k", "w"]);
    assert!(matches!(
        (put.exit, put.code()),
        (4, "unknown_outcome") | (5, "unavailable")
    ));
    let get = dev.run(&["--timeout", "2s", "get", "default", "k"]);
    assert_eq!((get.exit, get.code()), (5, "unavailable"));
    let make = dev.run(&["--timeout", "2s", "bucket", "create", "b"]);
    assert!(matches!(
        (make.exit, make.code()),
        (4, "unknown_outcome") | (5, "unavailable")
    ));
    let one = [
        "--node",
        &dev.address(1),
        "--pin",
        "get",
        "default",
        "k",
        "--r",
        "1",
    ];
    assert!(dev.ok(&one).values().contains(&"v"));
    dev.node("start", 2);
    dev.node("start", 3);
    assert!(dev.ok(&["get", "default", "k"]).values().contains(&"v"));
}

#[test]
fn the_cluster_shows_itself() {
    let dev = Dev::start();
    dev.ok(&["put", "default", "k", "v", "--w", "3"]);
    let status = dev.ok(&["cluster", "status"]).json;
    for field in ["name", "id", "epoch", "ring_state", "hints", "corrupt"] {
        assert!(!status["cluster"][field].is_null(), "{field}: {status}");
    }
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    for field in [
        "name",
        "id",
        "address",
        "state",
        "zone",
        "weight",
        "owned",
        "epoch",
        "hints_held",
        "hints_owed",
        "corrupt",
        "behind_keys",
        "disk_bytes",
        "version",
        "uptime_seconds",
    ] {
        assert!(!nodes[0][field].is_null(), "{field}: {status}");
    }
    assert!(nodes.iter().all(|node| node["state"] == "up"), "{status}");
    let ring = dev.ok(&["ring", "show"]).json;
    assert_eq!(ring["partitions"].as_array().unwrap().len(), 256);
    // The first ring names nobody's directory; the second one does.
    assert_eq!(
        (&ring["epoch"], &ring["state"]),
        (&2.into(), &"stable".into())
    );
    let key = dev.ok(&["ring", "show", "--key", "default", "k"]).json;
    assert_eq!(key["replicas"].as_array().unwrap().len(), 3);
    assert!(key["token"].is_string() && key["partition"].is_u64());
    let explain = dev.ok(&["explain", "default", "k"]).json;
    let replicas = explain["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 3, "{explain}");
    assert!(
        replicas
            .iter()
            .all(|r| r["versions"].as_array().unwrap().len() == 1),
        "{explain}"
    );
}

#[test]
fn dev_goes_on_with_its_data_and_starts_nothing_twice() {
    let dev = Dev::start();
    dev.ok(&["put", "default", "k", "v", "--w", "3"]);
    let pid = fs::read_to_string(dev.path("node1/node.pid")).unwrap();
    assert_eq!(dev.up().exit, 0);
    assert_eq!(fs::read_to_string(dev.path("node1/node.pid")).unwrap(), pid);
    dev.ok(&["dev", "stop"]);
    assert_eq!(dev.run(&["--timeout", "1s", "get", "default", "k"]).exit, 5);
    assert_eq!(dev.up().exit, 0);
    assert_eq!(dev.ok(&["get", "default", "k"]).values(), ["v"]);
    dev.node("pause", 2);
    assert_eq!(dev.ok(&["get", "default", "k"]).values(), ["v"]);
    dev.node("resume", 2);
}

#[test]
fn a_file_is_imported_exported_and_typed_line_by_line() {
    let dev = Dev::start();
    let line = |n: usize| format!("{{\"id\":\"k{n}\",\"text\":\"«{n}»\"}}\n");
    let text: String = (0..300).map(line).collect();
    let file = dev.dir.path().join("lines.jsonl");
    fs::write(&file, &text).unwrap();
    let args = [
        "import",
        "default",
        file.to_str().unwrap(),
        "--format",
        "jsonl",
        "--key",
        "id",
    ];
    for _ in 0..2 {
        let imported = dev.ok(&args).json;
        assert_eq!(
            (&imported["imported"], &imported["failed"]),
            (&300.into(), &0.into())
        );
    }
    let exported = dev
        .output(&["export", "default", "--format", "jsonl"])
        .stdout;
    let mut exported: Vec<_> = std::str::from_utf8(&exported).unwrap().lines().collect();
    let mut lines: Vec<_> = text.lines().collect();
    exported.sort_unstable();
    lines.sort_unstable();
    assert_eq!(exported, lines);
    let tsv = dev.feed(
        &["import", "default", "-", "--format", "tsv"],
        b"a\tb\tc\na\td\n",
    );
    assert_eq!(ended(&tsv).exit, 0);
    assert_eq!(
        dev.ok(&["get", "default", "a"]).values(),
        ["d"],
        "the later line counts"
    );

    let said = dev.feed(
        &["shell"],
        b"put default s 'two words'\nget default s\nget default none\nwhat\n\
          keys default --limit 2\n",
    );
    let said: Vec<serde_json::Value> = std::str::from_utf8(&said.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let exits: Vec<_> = said
        .iter()
        .map(|line| line["exit"].as_i64().unwrap())
        .collect();
    assert_eq!(exits, [0, 0, 3, 2, 0]);
    assert_eq!(said[1]["siblings"][0]["value"], "two words");
    assert_eq!(said[4]["items"].as_array().unwrap().len(), 2);
}
