//! What operators do to look after a cluster: verify, scrub, drain, ask what may stop.

use crate::dev::Dev;

fn draining(dev: &Dev) -> Vec<bool> {
    let status = dev.ok(&["cluster", "status"]);
    let nodes = status.json["nodes"].as_array().expect("nodes").iter();
    let flags = nodes.map(|node| node["draining"].as_bool().expect("a flag"));
    flags.collect()
}

#[test]
fn a_cluster_is_looked_after_by_the_command_line() {
    let dev = Dev::start();
    for key in ["a", "b", "c"] {
        dev.ok(&["put", "default", key, "v", "--w", "3"]);
    }
    let verified = dev.ok(&["verify"]).json;
    assert_eq!(
        (&verified["ok"], &verified["records"]),
        (&true.into(), &9.into())
    );
    let scrubbed = dev.ok(&["scrub", "--wait"]).json;
    let nodes = scrubbed["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 3);
    let whole = |node: &serde_json::Value| node["done"] == true && node["records"] == 3;
    assert!(nodes.iter().all(whole), "{scrubbed}");

    assert_eq!(
        dev.ok(&["cluster", "check", "--down", "n2"]).json["ok"],
        true
    );
    let both = dev.refused(6, "conflict", &["cluster", "check", "--down", "n2,n3"]);
    let bucket = &both.json["error"]["buckets"][0];
    assert_eq!(
        (&bucket["reads"], &bucket["sloppy"]),
        (&false.into(), &true.into())
    );

    dev.ok(&["drain", "n2"]);
    assert_eq!(draining(&dev), [false, true, false]);
    for number in 0..20 {
        let key = format!("k{number}");
        dev.ok(&["put", "default", &key, "v"]);
        dev.ok(&["get", "default", &key]);
    }
    dev.ok(&["drain", "n2", "--undo"]);
    assert_eq!(draining(&dev), [false, false, false]);

    let staged = dev.ok(&["ring", "stage", "zone", "n3", "b"]).json;
    assert_eq!(staged["staged"], serde_json::json!(["zone n3 b"]));
    let plan = dev.ok(&["ring", "plan"]).json;
    assert_eq!(
        plan["moves"],
        serde_json::json!([]),
        "three nodes hold everything"
    );
    dev.ok(&["ring", "unstage"]);
}
