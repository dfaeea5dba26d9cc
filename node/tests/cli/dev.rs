//! A cluster made, used and ended through the command line alone.

use std::{
    io::Write as _,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;
use tempfile::TempDir;

/// How a command ended: its exit code and its answer.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: i32,
    pub(crate) json: Value,
}

impl Ended {
    /// The code of the error it ended with.
    pub(crate) fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or("none")
    }

    /// All values that a get has found, in order.
    pub(crate) fn values(&self) -> Vec<&str> {
        let siblings = self.json["siblings"]
            .as_array()
            .expect("a get was answered");
        let mut values: Vec<_> = siblings
            .iter()
            .filter_map(|s| s["value"].as_str())
            .collect();
        values.sort_unstable();
        values
    }

    pub(crate) fn context(&self) -> &str {
        let context = self.json["context"].as_str();
        context.expect("this answer has a context")
    }
}

/// A running cluster of three.
pub(crate) struct Dev {
    pub(crate) dir: TempDir,
    pub(crate) base: u16,
}

impl Dev {
    /// A directory and ports for a cluster that is not made yet.
    pub(crate) fn idle() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let base = free_ports();
        Self { dir, base }
    }

    pub(crate) fn start() -> Self {
        // Two tests may draw the same ports between looking and using them: then one tries again.
        for _ in 0..10 {
            let dev = Self::idle();
            if dev.up().exit == 0 {
                return dev;
            }
        }
        panic!("no cluster could be started");
    }

    /// Starts the nodes, as `dev` does the first and every other time.
    pub(crate) fn up(&self) -> Ended {
        let args = self.ports();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.run(&[&["dev", "--detach"], &args[..]].concat())
    }

    /// The options of `dev` that say which ports.
    pub(crate) fn ports(&self) -> [String; 4] {
        let (port, http) = (self.base.to_string(), (self.base + 500).to_string());
        [
            "--base-port".to_owned(),
            port,
            "--base-http".to_owned(),
            http,
        ]
    }

    /// True if the process of a node runs.
    pub(crate) fn runs(&self, number: u16) -> bool {
        let pid = std::fs::read_to_string(self.path(&format!("node{number}/node.pid")));
        let pid = pid.unwrap_or_default();
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.trim()));
        line.is_ok_and(|line| !line.is_empty())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("quorate-dev").join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command
            .current_dir(self.dir.path())
            .args(["--output", "json"])
            .args(args)
            .env_remove("QUORATE_PROFILE");
        command
    }

    /// Runs a command whose answer is one line of JSON.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        ended(&self.output(args))
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the binary runs")
    }

    /// Runs a command that must go well.
    pub(crate) fn ok(&self, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.exit, 0, "{args:?}: {}", ended.json);
        ended
    }

    /// Runs a command that must end in this way.
    pub(crate) fn refused(&self, exit: i32, code: &str, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(
            (ended.exit, ended.code()),
            (exit, code),
            "{args:?}: {}",
            ended.json
        );
        let message = ended.json["error"]["message"].as_str();
        assert!(
            message.is_some_and(|text| 10 < text.len()),
            "{}",
            ended.json
        );
        ended
    }

    /// What a command prints when it reads `input`.
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(input).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    pub(crate) fn node(&self, action: &str, number: u16) {
        self.ok(&["dev", "node", action, &number.to_string()]);
    }

    pub(crate) fn address(&self, number: u16) -> String {
        format!("127.0.0.1:{}", self.base + number - 1)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if !self.path("client.toml").exists() {
            return;
        }
        let stopped = self.output(&["dev", "stop"]);
        if !std::thread::panicking() {
            assert!(stopped.status.success(), "the cluster stops");
        }
    }
}

pub(crate) fn ended(output: &Output) -> Ended {
    let text = String::from_utf8_lossy(&output.stdout);
    Ended {
        exit: output.status.code().unwrap_or(-1),
        json: serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned())),
    }
}

/// Runs the binary in `dir`, without a cluster.
pub(crate) fn alone(dir: &Path, args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let command = command
        .current_dir(dir)
        .args(["--output", "json"])
        .args(args);
    ended(&command.output().expect("the binary runs"))
}

/// A port that is free with the three after it, and so is what is 500 further on. Below the ports
/// that the system gives to clients, and another one each time for the tests that run beside this
/// one.
pub(crate) fn free_ports() -> u16 {
    static TRIES: AtomicU32 = AtomicU32::new(0);
    loop {
        let tries = TRIES.fetch_add(1, Ordering::Relaxed);
        let offset = (u64::from(std::process::id()) * 7_919 + u64::from(tries) * 997) % 20_000;
        let base = 10_000 + u16::try_from(offset).expect("it is small");
        let quic = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok();
        let http = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (base..base + 4).all(|port| quic(port) && http(port + 500)) {
            return base;
        }
    }
}
