//! What the machine can do, and what the nodes take of it.
//!
//! Nodes are known by the `node.pid` files beside the profile, as `quorate dev` leaves them; of a
//! cluster elsewhere nothing is known.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

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

/// The processes of a local cluster.
#[derive(Debug, Default)]
pub(crate) struct Processes(Vec<PathBuf>);

impl Processes {
    /// Those of a directory that `quorate dev` made.
    pub(crate) fn beside(profile: &Path) -> Self {
        let dir = profile.parent().unwrap_or_else(|| Path::new("."));
        let pid = |number: u32| -> Option<u32> {
            let text = fs::read_to_string(dir.join(format!("node{number}/node.pid"))).ok()?;
            text.trim().parse().ok()
        };
        let stats = (1..).map_while(pid);
        Self(
            stats
                .map(|pid| PathBuf::from(format!("/proc/{pid}")))
                .collect(),
        )
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Processor time of all of them since they started.
    pub(crate) fn cpu(&self) -> Duration {
        let ticks: u64 = self.0.iter().filter_map(|dir| ticks(dir)).sum();
        Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
    }

    /// Resident memory of each, in bytes.
    pub(crate) fn resident(&self) -> Vec<u64> {
        self.0.iter().filter_map(|dir| resident(dir)).collect()
    }
}

/// Processor time of this process.
pub(crate) fn own_cpu() -> Duration {
    Processes(vec![PathBuf::from("/proc/self")]).cpu()
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
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_takes_time() {
        let own = Processes(vec![PathBuf::from("/proc/self")]);
        assert!(own.resident()[0] > 1 << 20);
        assert!(own.cpu() < Duration::from_hours(1));
        assert_eq!(own.count(), 1);
    }

    #[test]
    fn a_profile_without_nodes_beside_it_has_no_processes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            Processes::beside(&dir.path().join("client.toml")).count(),
            0
        );
        assert!(fdatasync_p50(dir.path()).unwrap() < Duration::from_secs(10));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
