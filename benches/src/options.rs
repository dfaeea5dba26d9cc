//! The command line, and what of it this release can do.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate_client::wire::{ErrorBody, ErrorCode};

use crate::value::VALUE_BYTES_MIN;

/// Puts load on a cluster and says what it took.
#[derive(Debug, Parser)]
#[command(name = "quorate-bench", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run one workload.
    Run(Run),
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Half gets, half puts.
    A,
    /// 95 % gets, 5 % puts.
    B,
    /// Gets only, by popularity.
    C,
    /// Gets of the newest records.
    D,
    /// Half gets, half reads that are followed by a put of the same record.
    F,
    /// Puts only.
    Put,
    /// Gets only.
    Get,
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyDist {
    /// Few records get most of the requests, as in YCSB (exponent 0.99).
    Zipf,
    /// All alike.
    Uniform,
    /// The newest most.
    Latest,
}

/// One run.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// Client profile: addresses and certificates.
    #[arg(long, env = "QUORATE_PROFILE")]
    pub(crate) profile: Option<PathBuf>,
    /// What the clients do.
    #[arg(long, value_enum)]
    pub(crate) workload: Workload,
    /// Bucket; made with the usual settings if it is not there.
    #[arg(long, default_value = "bench")]
    pub(crate) bucket: String,
    /// Records; missing ones are written before the clock starts.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) records: usize,
    /// Size of each value, 16 or more.
    #[arg(long, default_value_t = 100)]
    pub(crate) value_bytes: usize,
    /// Which records are asked for.
    #[arg(long, value_enum, default_value_t = KeyDist::Zipf)]
    pub(crate) key_dist: KeyDist,
    /// Clients, each with one operation under way.
    #[arg(long, default_value_t = 64)]
    pub(crate) clients: usize,
    /// Operations a second, whatever the answers (open loop).
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// How long, for example 30s.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Replicas a get waits for; the bucket's r if not given.
    #[arg(long)]
    pub(crate) r: Option<u8>,
    /// Durable replicas a put waits for; the bucket's w if not given.
    #[arg(long)]
    pub(crate) w: Option<u8>,
    /// Look for every acknowledged write at the end, and count stale reads.
    #[arg(long)]
    pub(crate) verify: bool,
    /// HTML report.
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
    /// Where to write the figures as JSON, `-` for stdout.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl Run {
    /// Refuses what makes no sense, and what this release cannot do.
    pub(crate) fn checked(self) -> Result<Self, ErrorBody> {
        let later = [
            (self.rate.is_some(), "--rate (open loop)"),
            (self.report.is_some(), "--report"),
            (self.workload == Workload::D, "workload d"),
            (self.key_dist == KeyDist::Latest, "--key-dist latest"),
        ];
        if let Some((_, what)) = later.iter().find(|(asked, _)| *asked) {
            let message = format!("{what} is not available yet in this release");
            return Err(ErrorBody::new(ErrorCode::NotAvailableYet, message));
        }
        let wrong = [
            (self.clients == 0, "--clients is at least 1".to_owned()),
            (
                self.records < self.clients,
                format!(
                    "each client needs a record: --records is at least {}",
                    self.clients
                ),
            ),
            (
                self.value_bytes < VALUE_BYTES_MIN,
                format!("--value-bytes is at least {VALUE_BYTES_MIN}, to tell values apart"),
            ),
            (
                self.duration.is_zero(),
                "--duration is above zero".to_owned(),
            ),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, message)) => Err(ErrorBody::new(ErrorCode::InvalidArgument, message)),
            None => Ok(self),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let value: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a duration like 30s"))?;
    match &text[number.len()..] {
        "ms" => Ok(Duration::from_millis(value)),
        "" | "s" => Ok(Duration::from_secs(value)),
        "m" => Ok(Duration::from_secs(60 * value.min(1 << 32))),
        unit => Err(format!("{unit:?} is not a unit of time: ms, s or m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<Run, ErrorBody> {
        let cli = Cli::try_parse_from([&["quorate-bench", "run"], args].concat()).unwrap();
        let Verb::Run(run) = cli.verb;
        run.checked()
    }

    #[test]
    fn what_is_not_there_yet_says_so() {
        for args in [
            &["--workload", "d"][..],
            &["--workload", "a", "--rate", "100"],
            &["--workload", "a", "--report", "x.html"],
            &["--workload", "a", "--key-dist", "latest"],
        ] {
            assert_eq!(run(args).unwrap_err().code, ErrorCode::NotAvailableYet);
        }
        assert!(run(&["--workload", "a"]).is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [
            &["--clients", "0"][..],
            &["--clients", "9", "--records", "8"],
            &["--value-bytes", "15"],
            &["--duration", "0s"],
        ] {
            let args = [&["--workload", "put"], args].concat();
            assert_eq!(run(&args).unwrap_err().code, ErrorCode::InvalidArgument);
        }
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert!(duration("soon").is_err());
    }
}
