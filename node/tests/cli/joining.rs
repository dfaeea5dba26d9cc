//! How clusters begin and grow: founded by one node, joined by others, with a place in the ring
//! once the operator says so.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::dev::{Dev, alone, ended, free_ports};

fn states(status: &serde_json::Value) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let nodes = status["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| (text(&node["name"]), text(&node["state"])))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let expected = expected.iter();
    expected
        .map(|(name, state)| ((*name).to_owned(), (*state).to_owned()))
        .collect()
}

#[test]
fn a_node_added_to_a_running_cluster_takes_its_share_and_comes_back_after_a_kill() {
    let dev = Dev::start();
    for number in 0..20 {
        dev.ok(&["put", "default", &format!("k{number}"), "v", "--w", "3"]);
    }
    let added = dev.ok(&["dev", "add"]);
    assert_eq!(added.json["node"], "n4");
    let waiting = pairs(&[("n1", "up"), ("n2", "up"), ("n3", "up"), ("n4", "joining")]);
    for number in 1..=4 {
        let node = ["--node", &dev.address(number), "--pin"];
        let status = dev.ok(&[&node[..], &["cluster", "status"]].concat());
        assert_eq!(states(&status.json), waiting, "as n{number} sees it");
    }

    // It is still known after its own death, and after that of everybody else.
    for number in 1..=4 {
        dev.node("kill", number);
    }
    for number in 1..=4 {
        dev.node("start", number);
    }
    dev.ok(&["ring", "stage", "join", "n4"]);
    let plan = dev.ok(&["ring", "plan"]);
    dev.ok(&["ring", "commit", plan.json["digest"].as_str().unwrap()]);
    dev.ok(&["ring", "wait"]);
    dev.node("kill", 4);
    dev.node("start", 4);
    let status = dev.ok(&["cluster", "status"]);
    assert_eq!(status.json["nodes"][3]["name"], "n4");
    assert!(0.0 < status.json["nodes"][3]["owned"].as_f64().unwrap());
    for number in 0..20 {
        let key = format!("k{number}");
        assert_eq!(
            dev.ok(&["get", "default", &key, "--r", "3"]).values(),
            ["v"]
        );
    }
}

/// Nodes started by hand, ended with the test.
struct Nodes {
    dir: TempDir,
    base: u16,
    running: Vec<Child>,
}

impl Nodes {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = free_ports();
        let at = dir.path();
        assert_eq!(alone(at, &["tls", "ca", "--out", "ca"]).exit, 0);
        let client = ["tls", "client", "--ca", "ca", "--role", "admin"];
        assert_eq!(alone(at, &[&client[..], &["--out", "me"]].concat()).exit, 0);
        for number in 1..=3 {
            Self::furnish(at, base, number, "ca");
        }
        let profile = format!(
            "nodes = [\"127.0.0.1:{base}\"]\nca = \"me/ca.pem\"\ncert = \"me/client.pem\"\n\
             key = \"me/client.key\"\n"
        );
        fs::write(at.join("client.toml"), profile).unwrap();
        Self {
            dir,
            base,
            running: Vec::new(),
        }
    }

    fn furnish(at: &Path, base: u16, number: u16, ca: &str) {
        let (name, out) = (format!("m{number}"), format!("m{number}/tls"));
        let made = alone(
            at,
            &[
                "tls",
                "node",
                "--ca",
                ca,
                "--host",
                "127.0.0.1",
                "--name",
                &name,
                "--out",
                &out,
            ],
        );
        assert_eq!(made.exit, 0, "{}", made.json);
        let (port, http) = (base + number - 1, base + 500 + number - 1);
        let text = format!(
            "name = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\nhttp = \"127.0.0.1:{http}\"\n\
             [tls]\nca = \"tls/ca.pem\"\ncert = \"tls/node.pem\"\nkey = \"tls/node.key\"\n\
             cluster_key = \"tls/cluster.key\"\n"
        );
        fs::write(at.join(format!("m{number}/node.toml")), text).unwrap();
    }

    fn serve(&self, number: u16, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command
            .current_dir(self.dir.path())
            .args(["--output", "json", "serve", "--config"])
            .arg(format!("m{number}/node.toml"))
            .args(flags)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn start(&mut self, number: u16, flags: &[&str]) {
        let mut command = self.serve(number, flags);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        self.running.push(child);
    }

    fn client(&self, args: &[&str]) -> crate::dev::Ended {
        alone(
            self.dir.path(),
            &[&["--profile", "client.toml"], args].concat(),
        )
    }

    /// Until all these nodes are seen in these states.
    fn wait(&self, expected: &[(&str, &str)]) {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.client(&["cluster", "status"]);
            if status.exit == 0 && states(&status.json) == pairs(expected) {
                return;
            }
            assert!(Instant::now() < limit, "{}", status.json);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for child in &mut self.running {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_cluster_is_founded_by_one_node_and_grows_by_those_that_join() {
    let mut nodes = Nodes::new();
    let nothing = ended(&nodes.serve(1, &[]).output().unwrap());
    assert_eq!((nothing.exit, nothing.code()), (2, "invalid_argument"));
    nodes.start(
        1,
        &[
            "--bootstrap",
            "--cluster-name",
            "orders",
            "--partitions",
            "64",
        ],
    );
    nodes.wait(&[("m1", "up")]);

    // One node cannot keep two copies, and does not pretend to.
    let alone = nodes.client(&["put", "default", "k", "v"]);
    assert_eq!(
        (alone.exit, alone.code()),
        (5, "unavailable"),
        "{}",
        alone.json
    );
    assert_eq!(
        nodes.client(&["put", "default", "k", "v", "--w", "1"]).exit,
        0
    );

    let first = format!("127.0.0.1:{}", nodes.base);
    nodes.start(2, &["--join", &first]);
    nodes.start(3, &["--join", &first]);
    nodes.wait(&[("m1", "up"), ("m2", "joining"), ("m3", "joining")]);
    for name in ["m2", "m3"] {
        let staged = nodes.client(&["ring", "stage", "join", name]);
        assert_eq!(staged.exit, 0, "{}", staged.json);
    }
    let plan = nodes.client(&["ring", "plan"]);
    let digest = plan.json["digest"].as_str().unwrap().to_owned();
    assert_eq!(nodes.client(&["ring", "commit", &digest]).exit, 0);
    assert_eq!(nodes.client(&["ring", "wait"]).exit, 0);
    nodes.wait(&[("m1", "up"), ("m2", "up"), ("m3", "up")]);
    let status = nodes.client(&["cluster", "status"]);
    assert_eq!(status.json["cluster"]["name"], "orders");
    let put = nodes.client(&["put", "default", "other", "v", "--w", "3"]);
    assert_eq!(put.json["durable_on"].as_array().unwrap().len(), 3);
    assert_eq!(
        nodes.client(&["get", "default", "k", "--r", "3"]).values(),
        ["v"]
    );

    // What it was told at first is in its directory: it needs nobody to say it again.
    let third = nodes.running.pop().unwrap();
    kill(third);
    nodes.start(3, &[]);
    nodes.wait(&[("m1", "up"), ("m2", "up"), ("m3", "up")]);
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn who_has_another_name_address_or_cluster_does_not_get_in() {
    let mut nodes = Nodes::new();
    nodes.start(1, &["--bootstrap"]);
    nodes.wait(&[("m1", "up")]);
    let first = format!("127.0.0.1:{}", nodes.base);

    // Of two that claim to be one member, the one that is up is it.
    fs::create_dir(nodes.dir.path().join("elsewhere")).unwrap();
    let port = format!("127.0.0.1:{}", nodes.base + 1);
    let flags = [
        "--join",
        &first,
        "--data-dir",
        "elsewhere",
        "--listen",
        &port,
        "--http",
        "127.0.0.1:0",
    ];
    let twin = ended(&nodes.serve(1, &flags).output().unwrap());
    assert_eq!(twin.exit, 1);
    let message = twin.json["error"]["message"].as_str().unwrap();
    assert!(message.contains("m1 is up at"), "{message}");

    let both = ended(
        &nodes
            .serve(2, &["--join", &first, "--bootstrap"])
            .output()
            .unwrap(),
    );
    assert_eq!(both.exit, 2);

    // Another authority's node: nobody answers it, and it says which member it asked.
    let at = nodes.dir.path();
    assert_eq!(alone(at, &["tls", "ca", "--out", "ca2"]).exit, 0);
    fs::remove_dir_all(at.join("m2")).unwrap();
    Nodes::furnish(at, nodes.base, 2, "ca2");
    let stranger = ended(&nodes.serve(2, &["--join", &first]).output().unwrap());
    assert_eq!(stranger.exit, 1);
    let message = stranger.json["error"]["message"].as_str().unwrap();
    assert!(message.contains(&first), "{message}");
    nodes.wait(&[("m1", "up")]);
}

#[test]
fn whether_nodes_may_stop_is_asked_before_they_are() {
    let dev = Dev::start();
    let one = dev.ok(&["cluster", "check", "--down", "n2"]);
    assert_eq!(one.json["ok"], true);
    let bucket = &one.json["buckets"][0];
    assert_eq!(
        (&bucket["name"], &bucket["least_replicas"]),
        (&"default".into(), &2.into())
    );
    let two = dev.refused(6, "conflict", &["cluster", "check", "--down", "n2,n3"]);
    assert_eq!(two.json["error"]["buckets"][0]["writes"], false);
    dev.refused(2, "invalid_argument", &["cluster", "check", "--down", "n9"]);
    // One that is away already counts as well.
    dev.node("kill", 1);
    let limit = Instant::now() + Duration::from_secs(20);
    while dev.run(&["cluster", "check", "--down", "n2"]).exit != 6 {
        assert!(Instant::now() < limit, "n1 was never missed");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        dev.ok(&["cluster", "check", "--down", "n1"]).json["ok"],
        true
    );
}
