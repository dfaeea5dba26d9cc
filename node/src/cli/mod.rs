//! The command line: parses, connects, runs, and turns every end into an exit code.
//!
//! Codes: 0 ok, 1 other failure, 2 usage, 3 not found, 4 outcome unknown, 5 nothing applied, 6
//! conflict, 7 refused. Answers go to stdout, also errors when they are JSON.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command is a person's program: it reads clocks, starts processes and makes files"
)]

pub(crate) mod admin;
mod care;
mod check;
mod complete;
pub(crate) mod data;
mod dev;
mod export;
pub(crate) mod healing;
mod hints;
mod import;
pub(crate) mod input;
mod lines;
mod manual;
pub(crate) mod output;
mod prompt;
pub(crate) mod ring;
mod salvage;
mod serve;
mod session;
mod shell;
mod tls;
mod watch;

use std::{path::PathBuf, time::Duration};

use quorate_client::wire::ErrorCode;

use clap::{FromArgMatches as _, Parser, Subcommand, builder::FalseyValueParser};

use crate::shell::telemetry;
use output::{Failure, Format, Out, line, note};
use session::Session;

/// Headings in help texts.
const CONNECTION: &str = "Connection";
const GENERAL: &str = "General";

/// A leaderless key-value store: any node takes any request, conflicts become siblings.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// How answers are written.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        env = "QUORATE_OUTPUT",
        help_heading = GENERAL
    )]
    output: Format,
    /// Client profile: addresses and certificates.
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "QUORATE_PROFILE",
        help_heading = CONNECTION
    )]
    profile: Option<PathBuf>,
    /// Address of a node, instead of those in the profile; may be given several times.
    #[arg(
        id = "address",
        long = "node",
        value_name = "HOST:PORT",
        global = true,
        help_heading = CONNECTION,
        env = "QUORATE_NODE",
        value_delimiter = ','
    )]
    nodes: Vec<String>,
    /// Send every request to that one node.
    #[arg(
        long,
        global = true,
        env = "QUORATE_PIN",
        help_heading = CONNECTION,
        value_parser = FalseyValueParser::new()
    )]
    pin: bool,
    /// How long to wait, for example 500ms.
    #[arg(
        long,
        value_name = "TIME",
        global = true,
        value_parser = input::duration,
        env = "QUORATE_TIMEOUT",
        help_heading = CONNECTION
    )]
    timeout: Option<Duration>,
    /// Say on stderr what happens behind the scenes.
    #[arg(
        short,
        long,
        global = true,
        env = "QUORATE_VERBOSE",
        help_heading = GENERAL,
        value_parser = FalseyValueParser::new()
    )]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node.
    Serve(serve::Serve),
    /// Run a cluster on this machine.
    Dev(dev::Dev),
    /// Make certificates.
    #[command(subcommand)]
    Tls(tls::Tls),
    /// Write a value.
    Put(data::Put),
    /// Read a key.
    Get(data::Get),
    /// Delete a key.
    Delete(data::Delete),
    /// List the keys of a bucket.
    Keys(data::Keys),
    /// Show where a key lives and what each replica holds.
    Explain(data::Explain),
    /// Write every line of a file.
    Import(import::Import),
    /// Print every value of a bucket, as import reads them.
    Export(export::Export),
    /// Run many commands over one connection.
    Shell,
    /// Create, change and show buckets.
    #[command(subcommand)]
    Bucket(admin::Bucket),
    /// Compare all replicas now, and bring together what differs.
    Repair(healing::Repair),
    /// Show who keeps writes for whom.
    Hints(hints::Hints),
    /// Read every record of every node once more, and say what is wrong.
    Verify(care::Verify),
    /// Let every node read all it stores, and repair what is damaged.
    Scrub(care::Scrub),
    /// Send a node's clients away before it is restarted.
    Drain(care::Drain),
    /// Show what a node has set aside, write it back, or drop it.
    Salvage(salvage::Salvage),
    /// See how the cluster is.
    #[command(subcommand)]
    Cluster(Cluster),
    /// See how keys are placed.
    #[command(subcommand)]
    Ring(RingCommand),
    #[command(flatten)]
    Manual(manual::Manual),
    /// Whatever is no command.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Every node's state.
    Status(admin::Status),
    /// Wait until no hints are left and all replicas agree.
    WaitConverged,
    /// Ask whether nodes may stop now.
    Check(check::Check),
}

#[derive(Debug, Subcommand)]
pub(crate) enum RingCommand {
    /// The ring, one partition, or the nodes of one key.
    Show(admin::RingShow),
    /// Say what the next ring is to be.
    #[command(subcommand)]
    Stage(ring::Stage),
    /// What the staged changes lead to, and what they cost.
    Plan,
    /// Make a plan happen.
    Commit(ring::Commit),
    /// Take back what is staged.
    Unstage,
    /// Stop a change that is under way, while reads still ask the old ring.
    Abort,
    /// How far a change is.
    Transfers(ring::Transfers),
    /// Wait until no change is under way; --timeout says how long.
    Wait,
    #[command(external_subcommand)]
    Other(Vec<String>),
}

impl Command {
    /// Why there is no such command, if there is none.
    fn missing(&self) -> Option<Failure> {
        let (group, words) = match self {
            Self::Other(words) => ("", words),
            Self::Ring(RingCommand::Other(words)) => ("ring ", words),
            Self::Serve(_)
            | Self::Dev(_)
            | Self::Tls(_)
            | Self::Put(_)
            | Self::Get(_)
            | Self::Delete(_)
            | Self::Keys(_)
            | Self::Explain(_)
            | Self::Import(_)
            | Self::Export(_)
            | Self::Shell
            | Self::Manual(_)
            | Self::Bucket(_)
            | Self::Repair(_)
            | Self::Hints(_)
            | Self::Verify(_)
            | Self::Scrub(_)
            | Self::Drain(_)
            | Self::Salvage(_)
            | Self::Cluster(_)
            | Self::Ring(
                RingCommand::Show(_)
                | RingCommand::Stage(_)
                | RingCommand::Plan
                | RingCommand::Commit(_)
                | RingCommand::Unstage
                | RingCommand::Abort
                | RingCommand::Transfers(_)
                | RingCommand::Wait,
            ) => return None,
        };
        let word = words.first().map_or("", String::as_str);
        let meant = match manual::similar(group.trim_end(), word) {
            Some(meant) => format!("; did you mean `{group}{meant}`?"),
            None => format!("; see quorate {group}--help"),
        };
        Some(Failure::usage(format!(
            "there is no command `{group}{word}`{meant}"
        )))
    }
}

/// Runs the command line of this process; returns the exit code.
#[must_use]
pub fn main() -> u8 {
    let format = wanted_format(std::env::args().skip(1));
    let parsed = manual::grammar().try_get_matches();
    let result = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => run(cli),
        Err(error) if error.use_stderr() && format == Format::Json => Err(parse_failure(&error)),
        Err(error) => {
            // Help and version go to stdout and are no error.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    result.unwrap_or_else(|failure| fail(&failure, format))
}

/// What the arguments say of the format, also when they cannot be parsed.
fn wanted_format(args: impl Iterator<Item = String>) -> Format {
    let args: Vec<String> = args.take_while(|arg| arg != "--").collect();
    let separate = args.windows(2).filter(|pair| pair[0] == "--output");
    let separate = separate.map(|pair| pair[1].as_str());
    let joined = args.iter().filter_map(|arg| arg.strip_prefix("--output="));
    let environment = std::env::var("QUORATE_OUTPUT").unwrap_or_default();
    match separate.chain(joined).last().unwrap_or(&environment) {
        "json" => Format::Json,
        _ => Format::Table,
    }
}

fn parse_failure(error: &clap::Error) -> Failure {
    let text = error.to_string();
    Failure::usage(text.trim_start_matches("error: ").trim_end())
}

fn fail(failure: &Failure, format: Format) -> u8 {
    match format {
        Format::Json => {
            let _ = line(&failure.to_json().to_string());
        }
        Format::Table => {
            note(&format!("error: {failure}"));
            if failure.code == ErrorCode::Unavailable && !failure.message.contains("are up") {
                note("hint: `quorate cluster status` says who is up");
            }
        }
    }
    failure.code.exit_code()
}

fn run(cli: Cli) -> Result<u8, Failure> {
    if let Some(failure) = cli.command.missing() {
        return Err(failure);
    }
    let format = cli.output;
    let cli = match cli {
        Cli {
            command: Command::Serve(serve),
            verbose,
            ..
        } => return serve.run(verbose),
        Cli {
            command: Command::Tls(tls),
            ..
        } => return tls.run(format).map(|()| 0),
        Cli {
            command: Command::Manual(manual),
            ..
        } => return manual.run(&mut Out::stdout(format)).map(|()| 0),
        cli => cli,
    };
    if cli.verbose {
        telemetry::init("warn,quorate_client=trace,quorate_node=trace");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut session = Session::new(&cli);
        if let Command::Dev(dev) = &cli.command {
            return dev.run(session, format).await.map(|()| 0);
        }
        if matches!(cli.command, Command::Shell) {
            return shell::run(session, format).await.map(|()| 0);
        }
        let mut out = Out::stdout(format);
        let exit = session.execute(&cli.command, &mut out).await;
        session.close().await;
        exit
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_format_is_known_even_if_nothing_else_is() {
        let wanted = |text: &str| wanted_format(text.split(' ').map(str::to_owned));
        assert_eq!(wanted("frobnicate --output json"), Format::Json);
        assert_eq!(wanted("ring plan --output=json"), Format::Json);
        assert_eq!(wanted("put b k -- --output=json"), Format::Table);
        assert_eq!(wanted("--output json --output table"), Format::Table);
    }
}
