//! `quorate-sim`: runs seeds, many or one, and says whether a promise was broken.
//!
//! Exit codes: 0 clean, 1 a promise was broken (the last line plays it again), 2 usage.

use std::{
    env,
    io::{Write as _, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::{Parser, Subcommand};
use quorate_sim::{
    course::Report,
    options::Extras,
    replay::Plan,
    search, shrink,
    soak::{Soak, Summary, soak},
    strength::{Strength, strength},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulates whole clusters from a seed and judges what they promise.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run one seed.
    Run {
        #[command(flatten)]
        run: Which,
        /// Print everything that happens.
        #[arg(long)]
        trace: bool,
        /// If it fails, look for a smaller run that fails as well.
        #[arg(long)]
        shrink: bool,
    },
    /// Run seed after seed.
    Soak {
        /// How long, by the wall clock.
        #[arg(long, required_unless_present = "seeds")]
        minutes: Option<u64>,
        /// How many seeds.
        #[arg(long)]
        seeds: Option<u64>,
        /// Threads.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// First seed; from the clock if absent.
        #[arg(long)]
        seed: Option<u64>,
        /// Leave a failing run as it is.
        #[arg(long)]
        no_shrink: bool,
    },
    /// Run one seed twice and compare.
    Meta {
        #[command(flatten)]
        run: Which,
    },
    /// Play a failure again from the line that it printed.
    Replay {
        /// The line, whole or from `seed=` on.
        line: Vec<String>,
        /// Print everything that happens.
        #[arg(long)]
        trace: bool,
    },
    /// Search small models of the protocol exhaustively.
    Search {
        /// How many steps deep.
        #[arg(long, default_value_t = 9)]
        depth: usize,
    },
    /// Plant bugs in a copy of the sources, one after the other, and check that each is found.
    Strength {
        /// Only these.
        names: Vec<String>,
        /// Seeds before a bug counts as missed.
        #[arg(long, default_value_t = 500)]
        seeds: u64,
        /// Threads.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// Where the copy and its builds go.
        #[arg(long)]
        scratch: Option<PathBuf>,
        /// The workspace.
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.."))]
        source: PathBuf,
    },
}

#[derive(clap::Args)]
struct Which {
    /// Where everything comes from.
    #[arg(long)]
    seed: u64,
    /// Simulated seconds with faults, instead of the usual ones.
    #[arg(long, conflicts_with = "minutes")]
    seconds: Option<u64>,
    /// Simulated minutes with faults.
    #[arg(long)]
    minutes: Option<u64>,
    /// Pass messages on as they are.
    #[arg(long)]
    no_encode: bool,
    /// Classes of fault that the product is not yet made for, with commas between them.
    #[arg(long, default_value = "")]
    extras: String,
}

impl Which {
    fn plan(&self) -> Option<Plan> {
        Some(Plan {
            seconds: self
                .seconds
                .or_else(|| self.minutes.map(|minutes| minutes * 60)),
            encode: !self.no_encode,
            extras: Extras::parse(&self.extras)?,
            ..Plan::new(self.seed)
        })
    }
}

fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Run { run, trace, shrink } => match run.plan() {
            Some(plan) => run_once(plan, trace, shrink),
            None => unknown_extras(),
        },
        Verb::Soak {
            minutes,
            seeds,
            jobs,
            seed,
            no_shrink,
        } => conclude(&run_many(minutes, seeds, jobs, seed), !no_shrink),
        Verb::Meta { run } => run.plan().map_or_else(unknown_extras, run_twice),
        Verb::Replay { line, trace } => match Plan::from_line(&line.join(" ")) {
            Ok(plan) => run_once(plan, trace, false),
            Err(error) => {
                say_error(&error.to_string());
                ExitCode::from(2)
            }
        },
        Verb::Search { depth } => search_models(depth),
        Verb::Strength {
            names,
            seeds,
            jobs,
            scratch,
            source,
        } => plant_bugs(&Strength {
            source,
            scratch: scratch.unwrap_or_else(|| env::temp_dir().join("quorate-strength")),
            only: names,
            seeds,
            jobs: jobs.max(1),
        }),
    }
}

fn unknown_extras() -> ExitCode {
    say_error("the extra classes are wipe, restore, lying_disk, damaged_journal and clone");
    ExitCode::from(2)
}

fn run_once(plan: Plan, trace: bool, shrink: bool) -> ExitCode {
    let started = Instant::now();
    let mut summary = Summary::default();
    let report = summary.run(plan, trace);
    if plan.encode && !trace {
        summary.run_plain(plan, &report);
    }
    summary.wall = started.elapsed();
    conclude(&summary, shrink)
}

fn run_many(minutes: Option<u64>, seeds: Option<u64>, jobs: usize, seed: Option<u64>) -> Summary {
    let first = seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs() * 1_000_000)
    });
    say_error(&format!("first seed {first}"));
    let runs = AtomicU64::new(0);
    let simulated = AtomicU64::new(0);
    let options = Soak {
        time: minutes.map_or(Duration::MAX, |minutes| Duration::from_secs(minutes * 60)),
        seeds: seeds.unwrap_or(u64::MAX),
        jobs: jobs.max(1),
        first,
    };
    soak(options, |report| {
        let runs = runs.fetch_add(1, Ordering::Relaxed) + 1;
        let seconds = report.simulated / 1_000_000_000;
        let simulated = simulated.fetch_add(seconds, Ordering::Relaxed) + seconds;
        if runs.is_multiple_of(100) {
            say_error(&format!(
                "{runs} runs, {simulated} simulated s, no promise broken"
            ));
        }
    })
}

fn run_twice(plan: Plan) -> ExitCode {
    let mut summary = Summary::default();
    let first = summary.run(plan, false);
    let second = summary.run(plan, false);
    say(&format!(
        "seed {}: {:016x} after {} events, then {:016x} after {}",
        plan.seed, first.hash, first.events, second.hash, second.events
    ));
    if first.hash == second.hash && first.events == second.events {
        return ExitCode::SUCCESS;
    }
    say("determinism (W18) broken: two runs of one seed differ");
    say(&plan.to_string());
    ExitCode::from(1)
}

fn plant_bugs(options: &Strength) -> ExitCode {
    let verdicts = match strength(options, |verdict| say(&verdict.to_string())) {
        Ok(verdicts) => verdicts,
        Err(error) => {
            say_error(&error.to_string());
            return ExitCode::from(1);
        }
    };
    let caught = verdicts.iter().filter(|verdict| verdict.ran.caught).count();
    say(&format!(
        "caught {caught} of {} planted bugs within {} seeds each",
        verdicts.len(),
        options.seeds
    ));
    if caught == verdicts.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

fn search_models(depth: usize) -> ExitCode {
    for (question, reports) in [
        ("minting dots", search::minting(depth, &[])),
        ("repeating requests", search::retries(depth)),
    ] {
        say(&format!("{question}, depth {depth}\n{reports}"));
        if let Some(finding) = reports.broken() {
            say(&finding.to_string());
            say(&format!("quorate-sim search --depth {depth}"));
            return ExitCode::from(1);
        }
    }
    say("changing the owners of a key, to the end");
    for outcome in search::transition::transitions(None) {
        say(&outcome.to_string());
        if outcome.broken.is_some() {
            say(&format!("quorate-sim search --depth {depth}"));
            return ExitCode::from(1);
        }
    }
    say("deleting and reaping a key, to the end; then without each rule");
    let outcome = search::reap::reaping(3, None);
    say(&outcome.to_string());
    if outcome.broken.is_some() {
        return ExitCode::from(1);
    }
    for need in search::reap::Need::ALL {
        say(&search::reap::reaping(3, Some(need)).to_string());
    }
    ExitCode::SUCCESS
}

fn conclude(summary: &Summary, shrink: bool) -> ExitCode {
    for (_, broken) in &summary.broken {
        say(&broken.to_string());
    }
    say(&summary.to_string());
    let Some((plan, broken)) = summary.broken.first() else {
        return ExitCode::SUCCESS;
    };
    say(&plan.to_string());
    if shrink {
        let report = Report {
            broken: Some(broken.clone()),
            ..Report::default()
        };
        let (smaller, report) = shrink::shrink(*plan, report, SHRINK_MAX);
        if smaller != *plan
            && let Some(broken) = &report.broken
        {
            say(&format!("smaller: {broken}"));
            say(&smaller.to_string());
        }
    }
    ExitCode::from(1)
}

const SHRINK_MAX: Duration = Duration::from_mins(1);

fn say(line: &str) {
    // Nothing is left to be done if nobody listens.
    let _ = writeln!(stdout(), "{line}");
}

fn say_error(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
