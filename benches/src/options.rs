//! The command line: what is asked for, and what of it makes no sense.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate_client::wire::{ErrorBody, ErrorCode};

use crate::{driver::Target, fault::Schedule, value::VALUE_BYTES_MIN};

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
    Run(Box<Run>),
    /// Say what the transport alone takes for as many messages of the same sizes.
    Echo(Echo),
    /// Say how two runs differ, and whether that is more than chance.
    Compare(Compare),
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
    /// 95 % gets of the newest records, 5 % new records.
    D,
    /// Half gets, half gets that are followed by a put of the same record.
    F,
    /// Puts only.
    Put,
    /// Gets only.
    Get,
}

impl Workload {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyDist {
    /// Few records get most of the requests: YCSB's scrambled Zipfian, exponent 0.99.
    Zipf,
    /// All alike.
    Uniform,
    /// The newest most: YCSB's skewed latest.
    Latest,
}

/// Sizes of values, all alike likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let wrong = |_| format!("{text:?} is no size like 100 or 100..4096");
            part.parse::<usize>().map_err(wrong)
        };
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (number(min)?, number(max)?),
            None => (number(text)?, number(text)?),
        };
        if max < min {
            return Err(format!("{text:?} ends before it begins"));
        }
        Ok(Self { min, max })
    }
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
    /// Records that workload d may add; each takes 8 bytes of memory here.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) inserts_max: usize,
    /// Size of each value, 16 or more; a range like 100..4096 draws one for each put.
    #[arg(long, default_value = "100")]
    pub(crate) value_bytes: Sizes,
    /// Which records are asked for; if not given, latest for workload d and zipf for the others.
    #[arg(long, value_enum)]
    pub(crate) key_dist: Option<KeyDist>,
    /// Clients, each with one operation under way; the most that are under way in an open loop.
    #[arg(long, default_value_t = 64)]
    pub(crate) clients: usize,
    /// Operations a second, whatever the answers (open loop); latency counts from the moment at
    /// which an operation was due.
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// How long, for example 30s.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long before that the same load runs unmeasured.
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Replicas a get waits for; the bucket's r if not given.
    #[arg(long)]
    pub(crate) r: Option<u8>,
    /// Durable replicas a put waits for; the bucket's w if not given.
    #[arg(long)]
    pub(crate) w: Option<u8>,
    /// Look for every acknowledged write at the end; lost, stale, duplicated and resurrected
    /// values are counted.
    #[arg(long)]
    pub(crate) verify: bool,
    /// What to do to nodes of a `quorate dev` cluster meanwhile, for example
    /// "kill n2 @10s, start n2 @20s": kill, start, stop, pause or resume.
    #[arg(long)]
    pub(crate) fault: Option<Schedule>,
    /// Directory of that cluster; where the profile lies if not given.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// What to measure: quorate (each request goes to a replica of its key), quorate-random (to any
    /// node, as behind a load balancer), `redis://HOST:PORT` or `etcd://HOST:PORT,...`.
    #[arg(long, default_value = "quorate")]
    pub(crate) target: Target,
    /// Measure this too, with the same load, and compare; repeatable. With `?pid=P,...` its
    /// processes' CPU is measured.
    #[arg(long)]
    pub(crate) also: Vec<Target>,
    /// HTML report, one self-contained file.
    #[arg(long)]
    pub(crate) report: Option<PathBuf>,
    /// Where to write the figures as JSON, `-` for stdout.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// Messages without a store.
#[derive(Clone, Debug, Args)]
pub(crate) struct Echo {
    /// Clients, each with one operation under way.
    #[arg(long, default_value_t = 256)]
    pub(crate) clients: usize,
    /// Operations a second, instead of clients: what a message costs depends on how many there are
    /// to pack together.
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// How long each of put and get is measured.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Directory of a `quorate dev` cluster, whose certificates are used; it need not run.
    #[arg(long, default_value = "quorate-dev")]
    pub(crate) dir: PathBuf,
}

/// Two results, each of one run or of several.
#[derive(Clone, Debug, Args)]
pub(crate) struct Compare {
    /// JSON of a run, or of several, with commas between.
    #[arg(value_delimiter = ',', num_args = 1, required = true)]
    pub(crate) a: Vec<PathBuf>,
    /// The one to compare it with.
    #[arg(value_delimiter = ',', num_args = 1, required = true)]
    pub(crate) b: Vec<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Table, env = "QUORATE_OUTPUT")]
    pub(crate) output: Output,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Run {
    /// Refuses what makes no sense.
    pub(crate) fn checked(self) -> Result<Self, ErrorBody> {
        let needs_records = format!(
            "each client needs a record: --records is at least {}",
            self.clients
        );
        let too_small =
            format!("--value-bytes is at least {VALUE_BYTES_MIN}, to tell values apart");
        let late = self.fault.as_ref().and_then(Schedule::last);
        let wrong = [
            (self.clients == 0, "--clients is at least 1"),
            (self.records < self.clients, &*needs_records),
            (self.value_bytes.min < VALUE_BYTES_MIN, &*too_small),
            (self.duration.is_zero(), "--duration is above zero"),
            (self.rate == Some(0), "--rate is above zero"),
            (
                late.is_some_and(|late| self.duration <= late),
                "--fault goes on after --duration",
            ),
            (
                self.fault.is_some() && !matches!(self.target, Target::Quorate | Target::Random),
                "--fault is for quorate only",
            ),
        ];
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, message)) => Err(ErrorBody::new(
                ErrorCode::InvalidArgument,
                message.to_owned(),
            )),
            None => Ok(self),
        }
    }

    /// How records are chosen.
    pub(crate) fn dist(&self) -> KeyDist {
        let usual = match self.workload {
            Workload::D => KeyDist::Latest,
            Workload::A
            | Workload::B
            | Workload::C
            | Workload::F
            | Workload::Put
            | Workload::Get => KeyDist::Zipf,
        };
        self.key_dist.unwrap_or(usual)
    }
}

/// A length of time with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
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
        match cli.verb {
            Verb::Run(run) => run.checked(),
            Verb::Echo(_) | Verb::Compare(_) => panic!("a run was asked for"),
        }
    }

    #[test]
    fn each_workload_has_its_usual_distribution() {
        assert_eq!(run(&["--workload", "d"]).unwrap().dist(), KeyDist::Latest);
        assert_eq!(run(&["--workload", "a"]).unwrap().dist(), KeyDist::Zipf);
        let asked = run(&["--workload", "d", "--key-dist", "uniform"]).unwrap();
        assert_eq!(asked.dist(), KeyDist::Uniform);
    }

    #[test]
    fn nonsense_is_refused() {
        for args in [
            &["--clients", "0"][..],
            &["--clients", "9", "--records", "8"],
            &["--value-bytes", "15"],
            &["--duration", "0s"],
            &["--rate", "0"],
            &["--duration", "5s", "--fault", "kill n1 @5s"],
        ] {
            let args = [&["--workload", "put"], args].concat();
            assert_eq!(run(&args).unwrap_err().code, ErrorCode::InvalidArgument);
        }
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert!(duration("soon").is_err());
    }

    #[test]
    fn sizes_are_a_number_or_a_range() {
        assert_eq!("100".parse(), Ok(Sizes { min: 100, max: 100 }));
        assert_eq!("16..64".parse(), Ok(Sizes { min: 16, max: 64 }));
        assert!("64..16".parse::<Sizes>().is_err());
        assert!("big".parse::<Sizes>().is_err());
    }

    #[test]
    fn a_comparison_takes_several_runs_a_side() {
        let args = ["quorate-bench", "compare", "a.json,b.json", "c.json"];
        let Verb::Compare(compare) = Cli::try_parse_from(args).unwrap().verb else {
            panic!("a comparison was asked for");
        };
        assert_eq!((compare.a.len(), compare.b.len()), (2, 1));
    }
}
