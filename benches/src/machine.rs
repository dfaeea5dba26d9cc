//! What the machine is and can do, and what the processes under load take of it.
//!
//! Nodes are known by the `node.pid` files beside the profile, as `quorate dev` leaves them, other
//! stores by the process ids given; of a cluster elsewhere nothing is known. A process that was
//! started again under the same name goes on where the old one ended.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Kernel clock ticks a second; the same on every Linux that matters.
const TICKS_PER_SECOND: u64 = 100;
const SYNCS: usize = 200;

/// Median time to append 4 KiB to a file in `dir` and sync it.
pub(crate) fn fdatasync_p50(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(".quorate-bench-sync");
    let result = measure(&path);
    // Left behind it would only be litter.
    drop(fs::remove_file(&path));
    result
}

fn measure(path: &Path) -> io::Result<Duration> {
    let mut file = File::create(path)?;
    let block = [0x51; 4096];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// What the figures depend on besides the store.
pub(crate) fn environment() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    json!({
        "cpu": field(&read("/proc/cpuinfo"), "model name"),
        "cores": thread::available_parallelism().ok(),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_before": load(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// How many threads wanted a core, over the last minute.
pub(crate) fn load() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// What a process takes, or took since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Bytes of memory now; none if it does not run.
    pub(crate) resident: Option<u64>,
    /// Bytes sent to the disk.
    pub(crate) written: u64,
}

/// Where the process id of a node is.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    #[cfg(any(feature = "redis", feature = "etcd", test))]
    Fixed(u32),
}

/// A process that is watched.
#[derive(Debug)]
struct Watched {
    name: String,
    source: Source,
    pid: Option<u32>,
    ticks: u64,
    written: u64,
}

/// The processes of a store.
#[derive(Debug, Default)]
pub(crate) struct Processes(Vec<Watched>);

impl Processes {
    /// Those of a directory that `quorate dev` made.
    pub(crate) fn beside(dir: &Path) -> Self {
        let node = |number: u32| {
            let path = dir.join(format!("node{number}/node.pid"));
            let is_there = path.exists();
            is_there.then(|| Watched::new(format!("n{number}"), Source::File(path)))
        };
        Self((1..).map_while(node).collect())
    }

    /// Those of other stores.
    #[cfg(any(feature = "redis", feature = "etcd", test))]
    pub(crate) fn of(pids: &[u32]) -> Self {
        let watched = pids
            .iter()
            .map(|pid| Watched::new(format!("pid {pid}"), Source::Fixed(*pid)));
        Self(watched.collect())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|watched| watched.name.clone()).collect()
    }

    /// What each took since the last call.
    pub(crate) fn usage(&mut self) -> Vec<Usage> {
        self.0.iter_mut().map(Watched::usage).collect()
    }
}

impl Watched {
    fn new(name: String, source: Source) -> Self {
        let mut watched = Self {
            name,
            source,
            pid: None,
            ticks: 0,
            written: 0,
        };
        // From here on.
        watched.pid = watched.current();
        watched.usage();
        watched
    }

    fn current(&self) -> Option<u32> {
        match &self.source {
            #[cfg(any(feature = "redis", feature = "etcd", test))]
            Source::Fixed(pid) => Some(*pid),
            Source::File(path) => fs::read_to_string(path).ok()?.trim().parse().ok(),
        }
    }

    fn usage(&mut self) -> Usage {
        let pid = self.current();
        if pid != self.pid {
            (self.pid, self.ticks, self.written) = (pid, 0, 0);
        }
        let Some(dir) = pid.map(|pid| PathBuf::from(format!("/proc/{pid}"))) else {
            return Usage::default();
        };
        let ticks = ticks(&dir).unwrap_or(self.ticks);
        let written = written(&dir).unwrap_or(self.written);
        let more = ticks.saturating_sub(self.ticks);
        let usage = Usage {
            cpu: Duration::from_millis(more * 1_000 / TICKS_PER_SECOND),
            resident: resident(&dir),
            written: written.saturating_sub(self.written),
        };
        (self.ticks, self.written) = (ticks, written);
        usage
    }
}

/// Processor time of this process.
pub(crate) fn own_cpu() -> Duration {
    let ticks = ticks(Path::new("/proc/self")).unwrap_or(0);
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

fn ticks(dir: &Path) -> Option<u64> {
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    // After the name, which may contain anything: state is the first field, user time the 12th.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let user: u64 = fields.get(11)?.parse().ok()?;
    let system: u64 = fields.get(12)?.parse().ok()?;
    Some(user + system)
}

fn resident(dir: &Path) -> Option<u64> {
    let status = fs::read_to_string(dir.join("status")).ok()?;
    let kib: u64 = line(&status, "VmRSS:")?
        .trim_end_matches(" kB")
        .parse()
        .ok()?;
    Some(kib * 1024)
}

fn written(dir: &Path) -> Option<u64> {
    let text = fs::read_to_string(dir.join("io")).ok()?;
    line(&text, "write_bytes:")?.parse().ok()
}

fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_takes_time() {
        let mut own = Processes::of(&[std::process::id()]);
        let usage = own.usage()[0];
        assert!(usage.resident > Some(1 << 20));
        assert!(
            usage.cpu < Duration::from_secs(10),
            "only since it was made"
        );
        assert_eq!(own.names().len(), 1);
    }

    #[test]
    fn a_restarted_node_is_still_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("node1");
        fs::create_dir(&node).unwrap();
        fs::write(node.join("node.pid"), "0").unwrap();
        let mut nodes = Processes::beside(dir.path());
        assert_eq!(nodes.names(), ["n1"]);
        assert_eq!(nodes.usage()[0].resident, None, "no such process");
        fs::write(node.join("node.pid"), std::process::id().to_string()).unwrap();
        assert!(nodes.usage()[0].resident.is_some());
    }

    #[test]
    fn a_profile_without_nodes_beside_it_has_no_processes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Processes::beside(dir.path()).names().is_empty());
        assert!(fdatasync_p50(dir.path()).unwrap() < Duration::from_secs(10));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_environment_is_named() {
        let environment = environment();
        assert!(environment["cores"].as_u64() > Some(0), "{environment}");
        assert!(
            environment["kernel"]
                .as_str()
                .is_some_and(|name| !name.is_empty())
        );
    }
}
