//! A cluster of `quorate dev` in a directory of its own, and the load generator beside it.

use std::{
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// The cluster's binary: testing the whole workspace builds it beside this one.
fn quorate() -> PathBuf {
    let bench = Path::new(env!("CARGO_BIN_EXE_quorate-bench"));
    let quorate = bench.with_file_name("quorate");
    assert!(quorate.exists(), "build the workspace first");
    quorate
}

pub(crate) fn run(program: &Path, dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    let output = command.current_dir(dir).args(args).output();
    output.expect("the program runs")
}

pub(crate) fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

/// Ended with the test.
pub(crate) struct Cluster(pub(crate) tempfile::TempDir);

impl Cluster {
    pub(crate) fn of(nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port().min(64_000);
        drop(socket);
        let (base, http) = (port.to_string(), (port + 500).to_string());
        let dev = format!("dev --detach --nodes {nodes} --base-port {base} --base-http {http}");
        let started = run(&quorate(), dir.path(), &words(&dev));
        let text = String::from_utf8_lossy(&started.stderr).into_owned();
        assert!(started.status.success(), "{text}");
        Self(dir)
    }

    pub(crate) fn bench(&self, args: &[&str]) -> Output {
        let bench = Path::new(env!("CARGO_BIN_EXE_quorate-bench"));
        run(bench, self.0.path(), args)
    }

    /// The JSON of a run that found nothing wrong, and what it said meanwhile.
    pub(crate) fn figures(&self, args: &str, more: &[&str]) -> (Value, String) {
        let output = self.bench(&[&words(args)[..], more, &["--json", "-"]].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        (serde_json::from_slice(&output.stdout).unwrap(), text)
    }

    /// A command of `quorate`: its exit code and its answer.
    pub(crate) fn ask(&self, command: &str) -> (i32, Value) {
        let args = [&words(command)[..], &["--output", "json"]].concat();
        let output = run(&quorate(), self.0.path(), &args);
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap(), json)
    }

    /// As [`ask`](Self::ask), for what has to succeed.
    pub(crate) fn ok(&self, command: &str) -> Value {
        let (exit, json) = self.ask(command);
        assert_eq!(exit, 0, "{command}: {json}");
        json
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        run(&quorate(), self.0.path(), &["dev", "stop"]);
    }
}
