//! A cluster of real processes in a directory of its own, ended when the test ends.
//!
//! Everything goes through the binary that users run: this knows nothing of nodes but the command
//! line of `quorate dev`.

use std::{
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use quorate_client::{Client, Options, Profile};
use tempfile::TempDir;

/// The binary. Testing the whole workspace builds it; testing this package alone uses the one of
/// the last build, and makes one only if there is none.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // This test lies in the deps directory of the profile, the binary one above.
        let test = std::env::current_exe().expect("a test has a path");
        let profile = test.ancestors().nth(2).expect("a test lies in deps");
        let binary = profile.join("quorate");
        if !binary.exists() {
            let status = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--workspace", "--bin", "quorate"])
                .args((!cfg!(debug_assertions)).then_some("--release"))
                .status()
                .expect("cargo runs");
            assert!(status.success(), "the quorate binary does not build");
        }
        binary
    })
}

/// A running cluster.
pub(crate) struct Dev {
    dir: TempDir,
    nodes: u16,
    base_port: u16,
    /// False if it could not be started: then there is nothing to be stopped.
    is_up: bool,
}

impl Dev {
    /// Of three nodes.
    pub(crate) fn start() -> Self {
        Self::of(3)
    }

    pub(crate) fn of(nodes: u16) -> Self {
        // Two tests may draw the same ports between looking and using them: then one tries again.
        for _ in 0..10 {
            let dir = tempfile::tempdir().expect("a directory for the test");
            let base_port = free_ports(nodes);
            let base_http = base_port + 100;
            let mut dev = Self {
                dir,
                nodes,
                base_port,
                is_up: false,
            };
            let (port, http, count) = (base_port.to_string(), base_http.to_string(), nodes);
            let count = count.to_string();
            let args = [
                "dev",
                "--detach",
                "--base-port",
                &port,
                "--base-http",
                &http,
            ];
            let more = ["--nodes", &count, "--dir", dev.path()];
            let output = dev.run(&[&args[..], &more].concat());
            if output.status.success() {
                dev.is_up = true;
                return dev;
            }
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
        panic!("no cluster could be started");
    }

    pub(crate) fn path(&self) -> &str {
        self.dir.path().to_str().expect("temporary paths are UTF-8")
    }

    /// Where node `number` listens.
    pub(crate) fn address(&self, number: u16) -> String {
        format!("127.0.0.1:{}", self.base_port + number - 1)
    }

    pub(crate) fn profile(&self) -> Profile {
        Profile::load(&self.dir.path().join("client.toml")).expect("dev writes a profile")
    }

    /// `start`, `stop`, `kill`, `pause` or `resume` node `number`.
    pub(crate) fn node(&self, action: &str, number: u16) {
        let number = number.to_string();
        let output = self.run(&["dev", "node", action, &number, "--dir", self.path()]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{action} n{number}: {text}");
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.profile()).await.expect("connects")
    }

    /// A client that asks node `number` only.
    pub(crate) async fn pinned(&self, number: u16) -> Client {
        let options = Options {
            pin: Some(self.address(number)),
            ..Options::default()
        };
        let client = Client::connect_with(&self.profile(), &options).await;
        client.expect("connects")
    }

    /// The command line with this cluster's profile.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .env("QUORATE_PROFILE", self.dir.path().join("client.toml"))
            .current_dir(self.dir.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = self.command().args(args).output();
        output.expect("the quorate binary runs")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if !self.is_up {
            return;
        }
        let stopped = self.run(&["dev", "stop", "--dir", self.path()]);
        if std::thread::panicking() {
            for number in 1..=self.nodes {
                let log = self.dir.path().join(format!("node{number}/node.log"));
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let last: Vec<_> = text.lines().rev().take(15).collect();
                eprintln!("--- last of n{number}, newest first\n{}", last.join("\n"));
            }
        } else {
            assert!(stopped.status.success(), "the cluster stops");
        }
    }
}

/// A port that is free with those after it, likely also 100 further on.
fn free_ports(count: u16) -> u16 {
    loop {
        let probe = UdpSocket::bind("127.0.0.1:0").expect("loopback has ports");
        let base = probe.local_addr().expect("it is bound").port();
        let free = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok();
        let http = |port: u16| TcpListener::bind(("127.0.0.1", port + 100)).is_ok();
        if base < 65_000
            && (1..count).all(|next| free(base + next))
            && (0..count).all(|next| http(base + next))
        {
            return base;
        }
    }
}
