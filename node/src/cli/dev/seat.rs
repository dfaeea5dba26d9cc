//! One node of a dev directory, and the process that runs it, whoever has started that.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use quorate_client::wire::ErrorCode;

use super::super::output::Failure;

/// How long a node may take to become ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long a node may take to stop when asked to.
const STOP_MAX: Duration = Duration::from_secs(15);
/// Options of `serve` that must come from the configuration alone.
const OPTIONS: [&str; 8] = [
    "QUORATE_CONFIG",
    "QUORATE_DATA_DIR",
    "QUORATE_LISTEN",
    "QUORATE_HTTP",
    "QUORATE_NAME",
    "QUORATE_ZONE",
    "QUORATE_WEIGHT",
    "QUORATE_ADVERTISE",
];

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) name: String,
    pub(super) quic: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) zone: String,
    /// Absolute.
    dir: PathBuf,
}

impl Seat {
    pub(super) fn all(dir: &Path) -> Result<Vec<Self>, Failure> {
        let mut seats = Vec::new();
        while let Ok(number) = u16::try_from(seats.len() + 1)
            && dir.join(format!("node{number}/node.toml")).exists()
        {
            seats.push(Self::find(dir, number)?);
        }
        if seats.is_empty() {
            let message = format!("there is no dev cluster in {}", dir.display());
            return Err(Failure::usage(message));
        }
        Ok(seats)
    }

    /// One of those that are there.
    pub(super) fn numbered(dir: &Path, number: u16) -> Result<Self, Failure> {
        let seats = Self::all(dir)?;
        let there = u16::try_from(seats.len()).unwrap_or(u16::MAX);
        if !(1..=there).contains(&number) {
            let dir = dir.display();
            let message = format!("there is no node {number} in {dir}: it has 1 to {there}");
            return Err(Failure::usage(message));
        }
        Self::find(dir, number)
    }

    pub(super) fn find(dir: &Path, number: u16) -> Result<Self, Failure> {
        let home = dir.join(format!("node{number}"));
        let path = home.join("node.toml");
        let problem =
            |why: &dyn std::fmt::Display| Failure::usage(format!("{}: {why}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| problem(&error))?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| problem(&error))?;
        let field = |name: &str| {
            let text = table.get(name).and_then(toml::Value::as_str);
            text.ok_or_else(|| problem(&format!("there is no {name}")))
        };
        let address = |name: &str| field(name)?.parse().map_err(|error| problem(&error));
        Ok(Self {
            name: field("name")?.to_owned(),
            quic: address("listen")?,
            http: address("http")?,
            zone: field("zone")?.to_owned(),
            dir: home.canonicalize()?,
        })
    }

    /// Where all of it is kept.
    pub(super) fn home(&self) -> &Path {
        &self.dir
    }

    fn config(&self) -> PathBuf {
        self.dir.join("node.toml")
    }

    /// The process that runs this node, also one that was started by hand.
    pub(super) fn pid(&self) -> Option<u32> {
        let noted = fs::read_to_string(self.dir.join("node.pid")).ok();
        let noted = noted.and_then(|text| text.trim().parse().ok());
        if let Some(pid) = noted
            && self.is_served_by(pid)
        {
            return Some(pid);
        }
        let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| self.is_served_by(*pid))
    }

    fn is_served_by(&self, pid: u32) -> bool {
        // A process that has ended and not been waited for has no command line.
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
            return false;
        };
        let words: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if !words.iter().any(|word| word == "serve") {
            return false;
        }
        let after = words.windows(2).find(|pair| pair[0] == "--config");
        let after = after.map(|pair| pair[1].as_str());
        let joined = || words.iter().find_map(|word| word.strip_prefix("--config="));
        let Some(config) = after.or_else(joined) else {
            return false;
        };
        let at = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let config = at.join(config).canonicalize();
        config.is_ok_and(|config| config == self.config())
    }

    /// Says which port is in use before anything is started in vain.
    pub(super) fn check_ports(&self) -> Result<(), Failure> {
        let quic = UdpSocket::bind(self.quic).map(drop);
        let http = TcpListener::bind(self.http).map(drop);
        for (result, address, what, flag) in [
            (quic, self.quic, "QUIC", "--base-port"),
            (http, self.http, "HTTP", "--base-http"),
        ] {
            if let Err(error) = result {
                let port = address.port();
                return Err(Failure::new(
                    ErrorCode::Internal,
                    format!(
                        "port {port}, for {what} of {}, cannot be used: {error}. Stop what listens \
                         on it, or choose others with {flag}",
                        self.name
                    ),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn spawn(&self) -> Result<(), Failure> {
        let mut log = OpenOptions::new();
        let log = log
            .create(true)
            .append(true)
            .open(self.dir.join("node.log"))?;
        let mut serve = Command::new(std::env::current_exe()?);
        for option in OPTIONS {
            serve.env_remove(option);
        }
        let mut child = serve
            .arg("serve")
            .arg("--config")
            .arg(self.config())
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

    pub(super) async fn wait_ready(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            if self.is_ready() {
                return Ok(());
            }
            if self.pid().is_none() {
                return Err(self.died());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let message = format!(
            "{} is not ready after {} s; see {}",
            self.name,
            READY_MAX.as_secs(),
            self.log()
        );
        Err(Failure::new(ErrorCode::Unavailable, message))
    }

    fn log(&self) -> String {
        self.dir.join("node.log").display().to_string()
    }

    fn died(&self) -> Failure {
        let text = fs::read_to_string(self.dir.join("node.log")).unwrap_or_default();
        let mut last = text.lines().rev();
        let newest = last.clone().next().unwrap_or_default();
        let why = last.find_map(|line| line.strip_prefix("error: "));
        let message = format!(
            "{} has ended: {} (all of it in {})",
            self.name,
            why.unwrap_or(newest),
            self.log()
        );
        Failure::new(ErrorCode::Internal, message)
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

    pub(super) async fn act(&self, action: &str) -> Result<(), Failure> {
        let running = || {
            let gone = || Failure::usage(format!("{} is not running", self.name));
            self.pid().ok_or_else(gone)
        };
        match action {
            "start" => {
                match self.pid() {
                    Some(pid) => signal(pid, "CONT")?,
                    None => {
                        self.check_ports()?;
                        self.spawn()?;
                    }
                }
                self.wait_ready().await
            }
            "stop" => running().and_then(|_| self.end("TERM")),
            "kill" => running().and_then(|_| self.end("KILL")),
            "pause" => signal(running()?, "STOP"),
            "resume" => signal(running()?, "CONT"),
            other => Err(Failure::usage(format!(
                "a node can do no {other:?}: kill, start, pause, resume or stop"
            ))),
        }
    }

    /// Asks the process to stop and does not wait; true if there is one.
    pub(super) fn ask_to_stop(&self) -> bool {
        let Some(pid) = self.pid() else {
            return false;
        };
        signal(pid, "CONT")
            .and_then(|()| signal(pid, "TERM"))
            .is_ok()
    }

    /// Ends the process and waits until it is gone.
    pub(super) fn end(&self, how: &str) -> Result<(), Failure> {
        let Some(pid) = self.pid() else {
            return Ok(());
        };
        signal(pid, "CONT")?;
        signal(pid, how)?;
        let deadline = Instant::now() + STOP_MAX;
        while self.is_served_by(pid) {
            if deadline < Instant::now() {
                signal(pid, "KILL")?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Through `kill`, since the standard library has no signals and unsafe code is forbidden here. A
/// process that is gone by now needs none.
fn signal(pid: u32, name: &str) -> Result<(), Failure> {
    let mut kill = Command::new("kill");
    let kill = kill.arg(format!("-{name}")).arg(pid.to_string());
    let status = kill.stderr(Stdio::null()).status()?;
    if status.success() || !Path::new(&format!("/proc/{pid}")).exists() {
        return Ok(());
    }
    let message = format!("no signal {name} to process {pid}");
    Err(Failure::new(ErrorCode::Internal, message))
}
