//! What processes do: end on signals, leave nothing behind, and survive each other's end.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::dev::Dev;

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args([name, &pid]).status().unwrap();
    assert!(sent.success(), "{name} {pid}");
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A program that is told lines and answers each with a line.
struct Talk {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Talk {
    fn with(command: &mut Command) -> Self {
        let mut child = spawn(command);
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, answers }
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    fn ask(&mut self, line: &str) -> Value {
        self.say(line);
        self.answer()
    }
}

#[test]
fn a_cluster_that_cannot_start_leaves_nothing_and_can_be_tried_again() {
    let dev = Dev::idle();
    let taken = UdpSocket::bind(("127.0.0.1", dev.base + 1)).unwrap();
    let failed = dev.up();
    let message = failed.json["error"]["message"].as_str().unwrap();
    assert_eq!((failed.exit, failed.code()), (1, "internal"));
    assert!(
        message.contains(&format!("port {}", dev.base + 1)),
        "{message}"
    );
    assert!(!dev.path("client.toml").exists() && !dev.path("node1").exists());
    drop(taken);
    assert_eq!(dev.up().exit, 0);
    dev.ok(&["put", "default", "k", "v"]);
    dev.refused(2, "invalid_argument", &["dev", "--detach", "--nodes", "5"]);

    // A directory that exists and is somebody else's is left alone.
    let home = dev.dir.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter"), "dear").unwrap();
    dev.refused(
        2,
        "invalid_argument",
        &["dev", "--detach", "--fresh", "--dir", "home"],
    );
    assert!(home.join("letter").exists());
}

#[test]
fn a_cluster_in_the_foreground_takes_commands_and_ends_with_its_program() {
    let dev = Dev::idle();
    let ports = dev.ports();
    let args: Vec<&str> = ports.iter().map(String::as_str).collect();
    let mut talk = Talk::with(&mut dev.command(&[&["dev"], &args[..]].concat()));
    assert_eq!(talk.answer()["ready"], true);
    assert!((1..=3).all(|number| dev.runs(number)));
    talk.say(":kill n2");
    assert!(
        2 <= talk.ask("put default k v")["durable_on"]
            .as_array()
            .unwrap()
            .len()
    );
    assert!(!dev.runs(2));
    talk.say(":start n2");
    assert_eq!(talk.ask("get default k")["siblings"][0]["value"], "v");
    assert!(dev.runs(2));
    assert_eq!(talk.ask("frobnicate")["error"]["code"], "invalid_argument");
    signal(&talk.child, "-TERM");
    assert_eq!(talk.child.wait().unwrap().code(), Some(0));
    assert!(!(1..=3).any(|number| dev.runs(number)));
}

#[test]
fn a_cluster_whose_output_nobody_reads_does_not_stay() {
    let dev = Dev::idle();
    let ports = dev.ports();
    let args: Vec<&str> = ports.iter().map(String::as_str).collect();
    let mut child = spawn(&mut dev.command(&[&["dev"], &args[..]].concat()));
    drop(child.stdout.take());
    let stdin = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(stdin);
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    assert!(dev.path("client.toml").exists());
    assert!(!(1..=3).any(|number| dev.runs(number)));
}

#[test]
fn a_node_started_by_hand_is_the_same_node_and_drains_at_sigterm() {
    let dev = Dev::start();
    dev.ok(&["put", "default", "k", "v", "--w", "3"]);
    dev.node("stop", 1);
    let mut serve = dev.command(&["serve", "--config", "quorate-dev/node1/node.toml"]);
    let mut serve = spawn(&mut serve);
    // Finds the process that is there, and only waits until it is ready.
    dev.node("start", 1);
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
    assert_eq!(dev.ok(&one).values(), ["v"]);
    signal(&serve, "-TERM");
    assert_eq!(serve.wait().unwrap().code(), Some(0));
    dev.node("start", 1);
    assert_eq!(dev.ok(&one).values(), ["v"]);
}

#[test]
fn an_import_outlives_a_node_and_the_last_line_of_a_key_stays() {
    const KEYS: usize = 1_000;
    const ROUNDS: usize = 4;
    let dev = Dev::start();
    let line = |n: usize| format!("k{}\t{}{}\n", n % KEYS, "x".repeat(100), n / KEYS);
    let lines: Vec<String> = (0..KEYS * ROUNDS).map(line).collect();
    let mut import = spawn(&mut dev.command(&["import", "default", "-", "--format", "tsv"]));
    let mut stdin = import.stdin.take().unwrap();
    let (first, rest) = lines.split_at(lines.len() / 3);
    stdin.write_all(first.concat().as_bytes()).unwrap();
    dev.node("kill", 2);
    stdin.write_all(rest.concat().as_bytes()).unwrap();
    drop(stdin);
    let ended = import.wait_with_output().unwrap();
    let json: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(0), "{json}");
    assert_eq!(
        (&json["imported"], &json["failed"]),
        (&lines.len().into(), &0.into())
    );
    assert!(json["seconds"].is_f64());
    dev.node("start", 2);

    let mut expected = lines[KEYS * (ROUNDS - 1)..].concat();
    // Once more changes nothing, nor makes siblings.
    for _ in 0..2 {
        let exported = dev.output(&["export", "default", "--format", "tsv"]);
        let mut exported: Vec<_> = exported.stdout.split_inclusive(|b| *b == b'\n').collect();
        exported.sort_unstable();
        let mut wanted: Vec<_> = expected
            .as_bytes()
            .split_inclusive(|b| *b == b'\n')
            .collect();
        wanted.sort_unstable();
        assert!(exported == wanted, "{} of {KEYS} values", exported.len());
        let again = lines.concat();
        let again = dev.feed(
            &["import", "default", "-", "--format", "tsv"],
            again.as_bytes(),
        );
        assert_eq!(again.status.code(), Some(0));
    }
    expected.clear();

    // A reader that has had enough is no error.
    let mut keys = spawn(&mut dev.command(&["export", "default", "--format", "tsv"]));
    drop(keys.stdout.take());
    assert_eq!(keys.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    keys.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_shell_notices_that_its_node_was_killed_and_came_back() {
    let dev = Dev::start();
    let pinned = ["--node", &dev.address(1), "--pin", "shell"];
    let mut shell = Talk::with(&mut dev.command(&pinned));
    assert_eq!(shell.ask("put default k v --w 3")["exit"], 0);
    dev.node("kill", 1);
    assert_eq!(shell.ask("get default k --timeout 300ms")["exit"], 5);
    dev.node("start", 1);
    let began = Instant::now();
    while shell.ask("get default k --r 1 --timeout 300ms")["exit"] != 0 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it is never noticed"
        );
    }
    let waited = began.elapsed();
    drop(shell.child.stdin.take());
    assert_eq!(shell.child.wait().unwrap().code(), Some(0));

    // The same with a connection that has not heard of the end: nothing was asked meanwhile.
    let mut shell = Talk::with(&mut dev.command(&pinned));
    assert_eq!(shell.ask("get default k")["exit"], 0);
    dev.node("kill", 1);
    dev.node("start", 1);
    let began = Instant::now();
    while shell.ask("get default k --r 1")["exit"] != 0 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "it is never noticed"
        );
    }
    eprintln!(
        "answered again after {waited:?}, unasked after {:?}",
        began.elapsed()
    );
    drop(shell.child.stdin.take());
    assert_eq!(shell.child.wait().unwrap().code(), Some(0));
}

#[test]
fn options_come_from_the_environment_too_and_verbose_tells_more() {
    let dev = Dev::start();
    dev.ok(&["put", "default", "k", "v", "--w", "3"]);
    let mut get = Command::new(env!("CARGO_BIN_EXE_quorate"));
    get.current_dir("/")
        .args(["get", "default", "k", "--r", "1", "-v"])
        .env("QUORATE_OUTPUT", "json")
        .env("QUORATE_PROFILE", dev.path("client.toml"))
        .env("QUORATE_NODE", dev.address(2))
        .env("QUORATE_PIN", "1")
        .env("QUORATE_TIMEOUT", "9s");
    let got = get.output().unwrap();
    let json: Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(json["siblings"][0]["value"], "v");
    assert_eq!(json["replicas"]["asked"], 1);
    assert!(!got.stderr.is_empty(), "there is something to tell");
    get.env("QUORATE_TIMEOUT", "soon");
    assert_eq!(get.output().unwrap().status.code(), Some(2));
    let addresses = [dev.address(1), dev.address(2)];
    let both = ["--node", &addresses[0], "--node", &addresses[1], "--pin"];
    let both = [&both[..], &["get", "default", "k"]].concat();
    dev.refused(2, "invalid_argument", &both);
}

#[test]
fn what_is_watched_is_told_when_it_changes() {
    let dev = Dev::start();
    let mut watch = Talk::with(&mut dev.command(&["cluster", "status", "--watch"]));
    let state = |status: &Value| status["nodes"][1]["state"].as_str().map(str::to_owned);
    assert_eq!(state(&watch.answer()).as_deref(), Some("up"));
    dev.node("kill", 2);
    let limit = Instant::now() + Duration::from_mins(1);
    while state(&watch.answer()).as_deref() == Some("up") {
        assert!(Instant::now() < limit, "the kill is never told");
    }
    // A reader that goes away ends it, quietly.
    drop(watch.answers);
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
    dev.node("start", 2);
    // It never ends, so a program that waits for one answer per line is told.
    let mut shell = Talk::with(&mut dev.command(&["shell"]));
    assert_eq!(shell.ask("cluster status --watch")["exit"], 2);
    assert_eq!(shell.ask("ring transfers --watch")["state"], "stable");
    drop(shell.child.stdin.take());
    assert_eq!(shell.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_write_of_unknown_outcome_is_repeated_by_the_id_it_names() {
    let dev = Dev::start();
    let mut shell = Talk::with(&mut dev.command(&["shell"]));
    assert_eq!(shell.ask("put default k v --w 3")["exit"], 0);
    dev.node("pause", 2);
    dev.node("pause", 3);
    // Nobody knows yet that they stand still.
    let seen = shell.ask("get default k --r 1 --pr 0");
    let context = seen["context"].as_str().unwrap().to_owned();
    let put = format!("put default k w --context {context}");
    let unknown = shell.ask(&format!("{put} --timeout 500ms"));
    dev.node("resume", 2);
    dev.node("resume", 3);
    if unknown["exit"] == 5 {
        return; // It was known after all: certainly not applied, and nothing to repeat.
    }
    assert_eq!(unknown["error"]["code"], "unknown_outcome", "{unknown}");
    let message = unknown["error"]["message"].as_str().unwrap();
    assert!(!message.contains("nothing was applied"), "{message}");
    let id = unknown["error"]["op_id"].as_str().unwrap();
    assert!(message.contains(&format!("--op-id {id}")), "{message}");
    let again = shell.ask(&format!("{put} --op-id {id}"));
    assert_eq!(again["exit"], 0, "{again}");
    let got = shell.ask("get default k --r 3");
    let siblings = got["siblings"].as_array().unwrap();
    assert_eq!(siblings.len(), 1, "{got}");
    assert_eq!(siblings[0]["value"], "w");
}
