//! How long does this disk take to make four kilobytes durable?
//!
//! Every figure about durable writes is read against this one.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures the real disk with the real clock"
)]

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

const ROUNDS: usize = 200;

/// The median time of an `fdatasync` after appending 4 KiB to a file in `dir`, out of 200.
pub fn fdatasync_probe(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!("fdatasync-probe-{}", std::process::id()));
    let times = measure(&path);
    fs::remove_file(&path)?;
    let mut times = times?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn measure(path: &Path) -> io::Result<Vec<Duration>> {
    let mut file = File::create(path)?;
    let block = [0x5a; 4096];
    (0..ROUNDS)
        .map(|_| {
            file.write_all(&block)?;
            let start = Instant::now();
            file.sync_data()?;
            Ok(start.elapsed())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Duration::ZERO < fdatasync_probe(dir.path()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
