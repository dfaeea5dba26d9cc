//! `quorate dev`: a cluster of real processes on this machine.
//!
//! Makes certificates and configuration once, then starts one `quorate serve` per node and waits
//! until each says that it is ready. A directory that has been used before goes on with its data.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use quorate_client::wire::ErrorCode;
use serde_json::json;

use super::{
    output::{Failure, Format, line, note},
    tls,
};

/// How long a node may take to become ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long a node may take to stop when asked to.
const STOP_MAX: Duration = Duration::from_secs(15);

/// Run a cluster on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: u16,
    /// Where certificates, configuration and data live.
    #[arg(long, default_value = "quorate-dev", global = true)]
    dir: PathBuf,
    /// QUIC port of the first node.
    #[arg(long, default_value_t = 7400)]
    base_port: u16,
    /// HTTP port of the first node.
    #[arg(long, default_value_t = 8400)]
    base_http: u16,
    /// How many zones the nodes are spread over.
    #[arg(long, default_value_t = 1)]
    zones: u16,
    /// Begin anew: stop what runs there and remove its data.
    #[arg(long)]
    fresh: bool,
    /// Return once the cluster is ready and leave it running.
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Stop all nodes.
    Stop,
    /// Start one more node (needs ring changes, which this release does not have).
    Add,
    /// Do something to one node.
    Node {
        /// What to do.
        #[arg(value_parser = ["start", "stop", "kill", "pause", "resume"])]
        action: String,
        /// Its number, 1 for n1.
        number: u16,
    },
}

/// One node of a dev directory.
struct Seat {
    number: u16,
    dir: PathBuf,
    http: SocketAddr,
}

impl Dev {
    pub(crate) fn run(self, format: Format) -> Result<(), Failure> {
        match &self.verb {
            None => self.up(format),
            Some(Verb::Stop) => {
                let stopped = stop_all(&self.dir)?;
                answer(
                    format,
                    &json!({ "stopped": stopped }),
                    &format!("stopped {stopped} nodes"),
                )
            }
            Some(Verb::Add) => Err(Failure::not_yet("adding a node to a running cluster")),
            Some(Verb::Node { action, number }) => {
                let seat = Seat::find(&self.dir, *number)?;
                seat.act(action)?;
                let name = format!("n{number}");
                answer(
                    format,
                    &json!({ "node": name, "done": action }),
                    &format!("{action} {name}"),
                )
            }
        }
    }

    fn up(&self, format: Format) -> Result<(), Failure> {
        if self.nodes == 0 || 100 < self.nodes || self.zones == 0 {
            return Err(Failure::usage("--nodes is 1 to 100 and --zones at least 1"));
        }
        if self.fresh && self.dir.join("client.toml").exists() {
            stop_all(&self.dir)?;
            fs::remove_dir_all(&self.dir)?;
        }
        let began = Instant::now();
        if !self.dir.join("client.toml").exists() {
            self.lay_out()?;
        }
        let seats = Seat::all(&self.dir)?;
        for seat in &seats {
            if seat.pid().is_none() {
                seat.spawn()?;
            }
        }
        for seat in &seats {
            seat.wait_ready()?;
        }
        self.banner(format, &seats, began.elapsed())?;
        if self.detach {
            return Ok(());
        }
        prompt(&seats)?;
        stop_all(&self.dir).map(|_| ())
    }

    fn lay_out(&self) -> Result<(), Failure> {
        let dir = &self.dir;
        fs::create_dir_all(dir)?;
        let ca = dir.join("ca");
        tls::authority(&ca, "dev")?;
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let members: String = (1..=self.nodes).map(|number| self.member(number)).collect();
        for number in 1..=self.nodes {
            let name = format!("n{number}");
            let home = dir.join(format!("node{number}"));
            tls::node(&ca, &hosts, &home.join("tls"), &name)?;
            let text = format!(
                "name = \"{name}\"\nlisten = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\n\
                 data_dir = \"data\"\nzone = \"{}\"\n\n[tls]\nca = \"tls/ca.pem\"\n\
                 cert = \"tls/node.pem\"\nkey = \"tls/node.key\"\n\
                 cluster_key = \"tls/cluster.key\"\n\n[cluster]\nname = \"dev\"\n\
                 partitions = 256\n{members}",
                Self::port(self.base_port, number)?,
                Self::port(self.base_http, number)?,
                self.zone(number),
            );
            fs::write(home.join("node.toml"), text)?;
        }
        tls::client(&ca, "admin", &dir.join("client"), "dev-admin")?;
        let ports: Result<Vec<_>, _> = (1..=self.nodes)
            .map(|number| Self::port(self.base_port, number))
            .collect();
        let nodes: Vec<_> = ports?
            .iter()
            .map(|port| format!("\"127.0.0.1:{port}\""))
            .collect();
        let profile = format!(
            "nodes = [{}]\nca = \"client/ca.pem\"\ncert = \"client/client.pem\"\n\
             key = \"client/client.key\"\n",
            nodes.join(", ")
        );
        // Last, since its presence says that the directory is complete.
        Ok(fs::write(dir.join("client.toml"), profile)?)
    }

    fn member(&self, number: u16) -> String {
        let port = self.base_port.saturating_add(number - 1);
        format!(
            "\n[[members]]\nname = \"n{number}\"\naddress = \"127.0.0.1:{port}\"\nzone = \"{}\"\n\
             weight = 1\n",
            self.zone(number)
        )
    }

    fn zone(&self, number: u16) -> String {
        format!("z{}", (number - 1) % self.zones + 1)
    }

    fn port(base: u16, number: u16) -> Result<u16, Failure> {
        let port = base.checked_add(number - 1);
        port.ok_or_else(|| Failure::usage(format!("there are not {number} ports from {base} on")))
    }

    fn banner(&self, format: Format, seats: &[Seat], took: Duration) -> Result<(), Failure> {
        if format == Format::Json {
            let nodes: Vec<_> = seats
                .iter()
                .map(|s| json!({ "name": format!("n{}", s.number), "http": s.http.to_string() }))
                .collect();
            let profile = self.dir.join("client.toml");
            return line(&json!({ "ready": true, "nodes": nodes, "profile": profile }).to_string());
        }
        line(&format!(
            "quorate {}  dev cluster: {} node processes, data in {}\n",
            env!("CARGO_PKG_VERSION"),
            seats.len(),
            self.dir.display()
        ))?;
        for seat in seats {
            line(&format!("  n{:<4} http://{}/", seat.number, seat.http))?;
        }
        line(&format!(
            "\n  ready in {:.2} s, TLS on (throw-away CA)\n",
            took.as_secs_f64()
        ))?;
        line("  try       quorate put default hello world")?;
        line("            quorate get default hello")?;
        line("  break it  quorate dev node kill 2     (start, stop, pause, resume)")
    }
}

impl Seat {
    fn all(dir: &Path) -> Result<Vec<Self>, Failure> {
        let mut seats = Vec::new();
        while dir.join(format!("node{}", seats.len() + 1)).exists() {
            let number = u16::try_from(seats.len() + 1).unwrap_or(u16::MAX);
            seats.push(Self::find(dir, number)?);
        }
        if seats.is_empty() {
            let message = format!("there is no dev cluster in {}", dir.display());
            return Err(Failure::usage(message));
        }
        Ok(seats)
    }

    fn find(dir: &Path, number: u16) -> Result<Self, Failure> {
        let home = dir.join(format!("node{number}"));
        let path = home.join("node.toml");
        let text = fs::read_to_string(&path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let table: toml::Table = toml::from_str(&text)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let http = table.get("http").and_then(toml::Value::as_str);
        let http = http.and_then(|http| http.parse().ok());
        let http =
            http.ok_or_else(|| Failure::usage(format!("{}: no http address", path.display())))?;
        Ok(Self {
            number,
            dir: home,
            http,
        })
    }

    /// The process, if it lives.
    fn pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.dir.join("node.pid")).ok()?;
        let pid: u32 = text.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let zombie = state
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'));
        let ours = command.windows(5).any(|part| part == b"serve");
        (ours && !zombie).then_some(pid)
    }

    fn spawn(&self) -> Result<(), Failure> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("node.log"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--config")
            .arg(self.dir.join("node.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            // A group of its own: Ctrl-C at the terminal is ours to hand on.
            .process_group(0)
            .spawn()?;
        let mut file = File::create(self.dir.join("node.pid"))?;
        writeln!(file, "{}", child.id())?;
        // For a moment a new process has no command line yet by which `pid` could know it.
        while self.pid().is_none() && child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn wait_ready(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            if self.is_ready() {
                return Ok(());
            }
            if self.pid().is_none() {
                return Err(self.died());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let message = format!(
            "n{} is not ready after {} s",
            self.number,
            READY_MAX.as_secs()
        );
        Err(Failure::new(
            ErrorCode::Unavailable,
            format!("{message}; see {}", self.log()),
        ))
    }

    fn log(&self) -> String {
        self.dir.join("node.log").display().to_string()
    }

    fn died(&self) -> Failure {
        let text = fs::read_to_string(self.dir.join("node.log")).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        let message = format!("n{} has ended: {}", self.number, last.join(" | "));
        Failure::new(
            ErrorCode::Internal,
            format!("{message} (all in {})", self.log()),
        )
    }

    fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let wait = Duration::from_millis(500);
            let mut stream = TcpStream::connect_timeout(&self.http, wait)?;
            stream.set_read_timeout(Some(wait))?;
            let host = self.http;
            write!(
                stream,
                "GET /health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            )?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)?;
            Ok(&head == b"HTTP/1.1 200")
        };
        ask().unwrap_or(false)
    }

    fn act(&self, action: &str) -> Result<(), Failure> {
        let running = || {
            let gone = || Failure::usage(format!("n{} is not running", self.number));
            self.pid().ok_or_else(gone)
        };
        match action {
            "start" => {
                if self.pid().is_none() {
                    self.spawn()?;
                }
                self.wait_ready()
            }
            "stop" => self.end(running()?, "TERM"),
            "kill" => self.end(running()?, "KILL"),
            "pause" => signal(running()?, "STOP"),
            "resume" => signal(running()?, "CONT"),
            other => Err(Failure::usage(format!("a node can do no {other:?}"))),
        }
    }

    fn end(&self, pid: u32, how: &str) -> Result<(), Failure> {
        signal(pid, "CONT")?;
        signal(pid, how)?;
        let deadline = Instant::now() + STOP_MAX;
        while self.pid().is_some() {
            if deadline < Instant::now() {
                signal(pid, "KILL")?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Through `kill`, since the standard library has no signals and unsafe code is forbidden here.
fn signal(pid: u32, name: &str) -> Result<(), Failure> {
    let mut kill = Command::new("kill");
    let status = kill
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status()?;
    if status.success() || name == "CONT" {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::Internal,
        format!("no signal {name} to process {pid}"),
    ))
}

fn stop_all(dir: &Path) -> Result<usize, Failure> {
    let seats = Seat::all(dir)?;
    let running: Vec<_> = seats
        .iter()
        .filter_map(|seat| Some((seat, seat.pid()?)))
        .collect();
    for (_, pid) in &running {
        signal(*pid, "CONT")?;
        signal(*pid, "TERM")?;
    }
    for (seat, pid) in &running {
        seat.end(*pid, "TERM")?;
    }
    Ok(running.len())
}

/// Reads commands that break things until the input or the user ends.
fn prompt(seats: &[Seat]) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    note("  :kill n2  :start n2  :pause n2  :resume n2  :stop n2  — Ctrl-C stops the cluster");
    let (sender, mut lines) = tokio::sync::mpsc::channel::<String>(16);
    std::thread::spawn(move || {
        for text in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(text).is_err() {
                return;
            }
        }
    });
    runtime.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut open = true;
        loop {
            // Biased: a wish to end comes before anything else.
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                text = lines.recv(), if open => match text {
                    Some(text) => obey(seats, text.trim()),
                    None => open = false,
                },
            }
        }
    })
}

fn obey(seats: &[Seat], text: &str) {
    let mut words = text.split_whitespace();
    let (Some(verb), who) = (words.next(), words.next()) else {
        return;
    };
    let number = who.and_then(|who| who.trim_start_matches('n').parse::<u16>().ok());
    let seat = seats.iter().find(|seat| Some(seat.number) == number);
    let result = match (verb.strip_prefix(':'), seat) {
        (Some(action), Some(seat)) => seat.act(action),
        (Some(_), None) => Err(Failure::usage("which node? for example :kill n2")),
        (None, _) => Err(Failure::usage(
            "commands here begin with a colon, as in :kill n2",
        )),
    };
    match result {
        Ok(()) => note("ok"),
        Err(failure) => note(&format!("error: {failure}")),
    }
}

fn answer(format: Format, json: &serde_json::Value, text: &str) -> Result<(), Failure> {
    match format {
        Format::Json => line(&json.to_string()),
        Format::Table => line(text),
    }
}
