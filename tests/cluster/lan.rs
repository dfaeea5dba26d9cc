//! Nodes in network namespaces of their own, on a network that can be cut in two.
//!
//! Each node has a namespace with one address; a further namespace, the switch, has two bridges,
//! and which side of a split a node is on is which bridge its cable is plugged into. Nothing is
//! made outside these namespaces, so nothing but they has to be removed; what a test left behind
//! that was killed itself is removed by the next one. Needs root and `ip`; without them tests say
//! so and are skipped.
//!
//! The tests' own process stays outside: it works through the command line, run beside a node.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::dev::binary;

/// Where the names of namespaces are, in `ip netns`.
const NAMESPACES: &str = "/run/netns";
const PREFIX: &str = "quorate-test-";
/// Nothing takes so long on any machine; only so that a test that hangs says where.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A cluster of `n1`, `n2`, ... at 10.77.0.1, 10.77.0.2, ..., each where no other network is.
pub(crate) struct Lan {
    dir: TempDir,
    /// What the names of its namespaces begin with.
    name: String,
    nodes: Vec<Child>,
}

impl Lan {
    /// A cluster that is up; none where namespaces cannot be made.
    pub(crate) fn of(nodes: usize) -> Option<Self> {
        static LANS: AtomicU32 = AtomicU32::new(0);
        let number = LANS.fetch_add(1, Ordering::Relaxed);
        remove_orphans();
        let mut lan = Self {
            dir: tempfile::tempdir().expect("a directory for the test"),
            name: format!("{PREFIX}{}-{number}", std::process::id()),
            nodes: Vec::new(),
        };
        if let Err(problem) = lan.lay_cables(nodes) {
            // Not by a macro, whose words nobody sees of a test that passes.
            let skipped = "SKIPPED, no network namespaces can be made here";
            let _ = writeln!(std::io::stderr(), "{skipped}: {problem}");
            return None;
        }
        lan.furnish(nodes);
        for number in 1..=nodes {
            let child = lan
                .within(number)
                .args(["serve", "--config", &format!("node{number}/node.toml")])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(lan.log(number)).expect("a log"))
                .spawn();
            lan.nodes.push(child.expect("the quorate binary runs"));
        }
        let all: Vec<usize> = (1..=nodes).collect();
        for number in 1..=nodes {
            lan.wait_until_up(number, &all);
        }
        Some(lan)
    }

    /// From now on no packet passes between `side` and the others.
    pub(crate) fn split(&self, side: &[usize]) {
        for number in side {
            self.plug(*number, "far");
        }
    }

    /// All are on one network again.
    pub(crate) fn heal(&self) {
        for number in 1..=self.nodes.len() {
            self.plug(number, "near");
        }
    }

    fn plug(&self, number: usize, bridge: &str) {
        let switch = self.switch();
        let cable = format!("port{number}");
        let plugged = ip(&["-n", &switch, "link", "set", &cable, "master", bridge]);
        plugged.expect("the cable fits");
    }

    /// The command line where node `number` is, which asks that node alone.
    pub(crate) fn quorate(&self, number: usize, args: &[&str]) -> Command {
        let mut command = self.within(number);
        command
            .args(["--node", &address(number), "--pin", "--output", "json"])
            .args(args);
        command
    }

    /// Runs it: its exit code and its answer.
    pub(crate) fn ask(&self, number: usize, args: &[&str]) -> (i32, Value) {
        let output = self.quorate(number, args).output().expect("it runs");
        answer(&output)
    }

    /// As [`ask`](Self::ask), for what has to succeed.
    pub(crate) fn ok(&self, number: usize, args: &[&str]) -> Value {
        let (exit, json) = self.ask(number, args);
        assert_eq!(exit, 0, "{args:?} at n{number}: {json}");
        json
    }

    /// A `quorate shell` that asks node `number` alone.
    pub(crate) fn shell(&self, number: usize) -> Shell {
        let mut child = self
            .quorate(number, &["shell"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let commands = child.stdin.take().expect("it is piped");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Shell {
            child,
            commands,
            answers,
        }
    }

    /// Until node `number` sees those in state `up`, and all others in state `down`.
    pub(crate) fn wait_until_up(&self, number: usize, up: &[usize]) {
        let wanted: Vec<String> = (1..=self.nodes.len())
            .map(|node| if up.contains(&node) { "up" } else { "down" }.to_owned())
            .collect();
        let limit = Instant::now() + PATIENCE;
        loop {
            let (exit, status) = self.ask(number, &["cluster", "status"]);
            let rows = status["nodes"].as_array().into_iter().flatten();
            let seen: Vec<&str> = rows.filter_map(|row| row["state"].as_str()).collect();
            if exit == 0 && seen == wanted {
                return;
            }
            let late = "is not what is seen";
            assert!(Instant::now() < limit, "{wanted:?} {late}: {status}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn namespace(&self, number: usize) -> String {
        format!("{}-n{number}", self.name)
    }

    fn log(&self, number: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("node{number}/node.log"))
    }

    /// The binary, to be run where node `number` is.
    fn within(&self, number: usize) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(number)])
            .arg(binary())
            .env("QUORATE_PROFILE", self.dir.path().join("client.toml"))
            .current_dir(self.dir.path());
        command
    }

    fn lay_cables(&self, nodes: usize) -> Result<(), String> {
        let switch = self.switch();
        ip(&["netns", "add", &switch])?;
        for bridge in ["near", "far"] {
            ip(&["-n", &switch, "link", "add", bridge, "type", "bridge"])?;
            ip(&["-n", &switch, "link", "set", bridge, "up"])?;
        }
        for number in 1..=nodes {
            let (home, port) = (self.namespace(number), format!("port{number}"));
            ip(&["netns", "add", &home])?;
            let cable = ["link", "add", &port, "type", "veth", "peer", "eth0"];
            ip(&[&["-n", &switch][..], &cable, &["netns", &home]].concat())?;
            let own = format!("10.77.0.{number}/24");
            ip(&["-n", &home, "address", "add", &own, "dev", "eth0"])?;
            for device in ["lo", "eth0"] {
                ip(&["-n", &home, "link", "set", device, "up"])?;
            }
            ip(&["-n", &switch, "link", "set", &port, "master", "near", "up"])?;
        }
        Ok(())
    }

    /// Certificates and configurations, as an operator would make them.
    fn furnish(&self, nodes: usize) {
        let at = self.dir.path();
        let make = |args: &[&str]| {
            let made = Command::new(binary()).current_dir(at).args(args).output();
            let made = made.expect("the quorate binary runs");
            assert!(made.status.success(), "{args:?}: {made:?}");
        };
        make(&["tls", "ca", "--out", "ca"]);
        let client = "tls client --ca ca --role admin --out me";
        make(&client.split(' ').collect::<Vec<_>>());
        let (mut members, mut addresses) = (String::new(), Vec::new());
        for number in 1..=nodes {
            let address = address(number);
            let _ = writeln!(
                members,
                "[[members]]\nname = \"n{number}\"\naddress = \"{address}\""
            );
            addresses.push(format!("\"{address}\""));
        }
        for number in 1..=nodes {
            let host = format!("10.77.0.{number}");
            let (name, out) = (format!("n{number}"), format!("node{number}/tls"));
            let node = ["tls", "node", "--ca", "ca", "--host", &host];
            make(&[&node[..], &["--name", &name, "--out", &out]].concat());
            let text = format!(
                "name = \"{name}\"\nlisten = \"{}\"\n[tls]\nca = \"tls/ca.pem\"\n\
                 cert = \"tls/node.pem\"\nkey = \"tls/node.key\"\n\
                 cluster_key = \"tls/cluster.key\"\n{members}",
                address(number)
            );
            fs::write(at.join(format!("node{number}/node.toml")), text).expect("it is new");
        }
        let profile = format!(
            "nodes = [{}]\nca = \"me/ca.pem\"\ncert = \"me/client.pem\"\nkey = \"me/client.key\"\n",
            addresses.join(", ")
        );
        fs::write(at.join("client.toml"), profile).expect("it is new");
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for child in &mut self.nodes {
            // It may have ended by itself, which its log says.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for number in 1..=self.nodes.len() {
                let text = fs::read_to_string(self.log(number)).unwrap_or_default();
                let last: Vec<_> = text.lines().rev().take(15).collect();
                eprintln!("--- last of n{number}, newest first\n{}", last.join("\n"));
            }
        }
        remove(|name| name.starts_with(&format!("{}-", self.name)));
    }
}

/// A command line that is told lines and answers each with one.
pub(crate) struct Shell {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        writeln!(self.commands, "{line}").expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn answer(output: &Output) -> (i32, Value) {
    let json = serde_json::from_slice(&output.stdout);
    let json = json.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().expect("it was not killed"), json)
}

fn address(number: usize) -> String {
    format!("10.77.0.{number}:7400")
}

fn ip(args: &[&str]) -> Result<(), String> {
    let run = Command::new("ip").args(args).output();
    let output = run.map_err(|error| format!("ip cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", args.join(" "), said.trim()))
}

/// Removes the namespaces of tests whose process is gone.
fn remove_orphans() {
    remove(|name| {
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        process.is_some_and(|process| !Path::new("/proc").join(process).exists())
    });
}

fn remove(which: impl Fn(&str) -> bool) {
    let names = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        if which(&name)
            && let Err(problem) = ip(&["netns", "delete", &name])
        {
            eprintln!("{problem}");
        }
    }
}
