//! What the system says of this process, under the names that every Prometheus exporter uses.
//!
//! Read from `/proc` when somebody asks; what cannot be read is left out.

use std::{fmt::Write as _, fs};

/// Ticks a second in `/proc/self/stat`: fixed by the kernel's interface, whatever its own clock.
const TICKS: u64 = 100;

/// Samples in the text format.
pub(super) fn text() -> String {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let files = fs::read_dir("/proc/self/fd").map(Iterator::count);
    let mut out = String::new();
    if let Some(ticks) = cpu_ticks(&stat) {
        let (whole, hundredths) = (ticks / TICKS, ticks % TICKS);
        let value = format!("{whole}.{hundredths:02}");
        sample(&mut out, "process_cpu_seconds", "counter", "_total", &value);
    }
    if let Some(bytes) = resident_bytes(&status) {
        let value = bytes.to_string();
        sample(
            &mut out,
            "process_resident_memory_bytes",
            "gauge",
            "",
            &value,
        );
    }
    if let Ok(files) = files {
        sample(
            &mut out,
            "process_open_fds",
            "gauge",
            "",
            &files.to_string(),
        );
    }
    out
}

fn sample(out: &mut String, name: &str, kind: &str, suffix: &str, value: &str) {
    let _ = writeln!(out, "# TYPE {name} {kind}\n{name}{suffix} {value}");
}

/// User and system time. The name in parentheses may hold anything, so count from its end.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_of_processes_do_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 900 0 0 0 12 30 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks(""), None);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12_288));
    }

    #[test]
    fn all_three_are_known_here() {
        assert_eq!(text().matches("# TYPE").count(), 3);
    }
}
