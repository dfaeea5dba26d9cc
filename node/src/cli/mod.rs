//! The command line: parses, connects, runs, and turns every end into an exit code.
//!
//! Codes: 0 ok, 1 other failure, 2 usage, 3 not found, 4 outcome unknown, 5 nothing applied, 6
//! conflict, 7 refused. Answers go to stdout, also errors when they are JSON.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command is a person's program: it reads clocks, starts processes and makes files"
)]

mod admin;
mod data;
mod dev;
mod input;
mod output;
mod tls;

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use quorate_client::{Client, Options, Profile, wire::ErrorCode};

use crate::shell;
use output::{Failure, Format, line, note};

/// A leaderless key-value store: any node takes any request, conflicts become siblings.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 100)]
struct Cli {
    /// How answers are written.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "QUORATE_OUTPUT"
    )]
    output: Format,
    /// Client profile: addresses and certificates.
    #[arg(long, global = true, env = "QUORATE_PROFILE")]
    profile: Option<PathBuf>,
    /// Address of a node, instead of those in the profile; may be given several times.
    #[arg(
        id = "address",
        long = "node",
        global = true,
        env = "QUORATE_NODE",
        value_delimiter = ','
    )]
    nodes: Vec<String>,
    /// Send every request to that one node.
    #[arg(long, global = true, env = "QUORATE_PIN")]
    pin: bool,
    /// How long to wait, for example 500ms.
    #[arg(long, global = true, value_parser = input::duration, env = "QUORATE_TIMEOUT")]
    timeout: Option<Duration>,
    /// Say more.
    #[arg(short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node.
    Serve {
        /// The node's configuration.
        #[arg(long)]
        config: PathBuf,
    },
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
    /// Create, change and show buckets.
    #[command(subcommand)]
    Bucket(admin::Bucket),
    /// See how the cluster is.
    #[command(subcommand)]
    Cluster(Cluster),
    /// See how keys are placed.
    #[command(subcommand)]
    Ring(RingCommand),
    /// Commands that later releases will have.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

#[derive(Debug, Subcommand)]
enum Cluster {
    /// Every node's state.
    Status,
    #[command(external_subcommand)]
    Other(Vec<String>),
}

#[derive(Debug, Subcommand)]
enum RingCommand {
    /// The ring, one partition, or the nodes of one key.
    Show(admin::RingShow),
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Commands that are promised and not there yet.
const LATER: [&str; 18] = [
    "check",
    "wait-converged",
    "stage",
    "plan",
    "commit",
    "unstage",
    "abort",
    "transfers",
    "wait",
    "repair",
    "hints",
    "scrub",
    "verify",
    "drain",
    "salvage",
    "import",
    "export",
    "shell",
];

/// Runs the command line of this process; returns the exit code.
#[must_use]
pub fn main() -> u8 {
    let wants_json = || {
        let mut args = std::env::args();
        let flag = args.any(|arg| arg == "--output=json")
            || std::env::args()
                .collect::<Vec<_>>()
                .windows(2)
                .any(|w| w == ["--output", "json"]);
        flag || std::env::var("QUORATE_OUTPUT").is_ok_and(|value| value == "json")
    };
    match Cli::try_parse() {
        Ok(cli) => {
            let format = cli.output;
            run(cli).unwrap_or_else(|failure| fail(&failure, format))
        }
        Err(error) if error.use_stderr() && wants_json() => {
            let text = error.to_string();
            let text = text.trim_start_matches("error: ").trim_end();
            fail(&Failure::usage(text), Format::Json)
        }
        Err(error) => {
            // Help and version go to stdout and are no error.
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(2)
        }
    }
}

fn fail(failure: &Failure, format: Format) -> u8 {
    match format {
        Format::Json => {
            let _ = line(&failure.to_json().to_string());
        }
        Format::Table => note(&format!("error: {failure}")),
    }
    failure.code.exit_code()
}

fn run(cli: Cli) -> Result<u8, Failure> {
    let format = cli.output;
    match cli.command {
        Command::Serve { config } => return serve(&config),
        Command::Dev(dev) => return dev.run(format).map(|()| 0),
        Command::Tls(tls) => return tls.run(format).map(|()| 0),
        Command::Other(words)
        | Command::Cluster(Cluster::Other(words))
        | Command::Ring(RingCommand::Other(words)) => return Err(unknown(&words)),
        Command::Put(_)
        | Command::Get(_)
        | Command::Delete(_)
        | Command::Keys(_)
        | Command::Explain(_)
        | Command::Bucket(_)
        | Command::Cluster(Cluster::Status)
        | Command::Ring(RingCommand::Show(_)) => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(with_client(cli))
}

async fn with_client(cli: Cli) -> Result<u8, Failure> {
    let format = cli.output;
    let client = connect(&cli).await?;
    let result = match &cli.command {
        Command::Put(put) => put.run(&client, format).await.map(|()| 0),
        Command::Get(get) => get.run(&client, format).await,
        Command::Delete(delete) => delete.run(&client, format).await.map(|()| 0),
        Command::Keys(keys) => keys.run(&client, format).await.map(|()| 0),
        Command::Explain(explain) => explain.run(&client, format).await.map(|()| 0),
        Command::Bucket(bucket) => bucket.run(&client, format).await.map(|()| 0),
        Command::Cluster(Cluster::Status) => admin::status(&client, format).await.map(|()| 0),
        Command::Ring(RingCommand::Show(show)) => show.run(&client, format).await.map(|()| 0),
        Command::Serve { .. }
        | Command::Dev(_)
        | Command::Tls(_)
        | Command::Other(_)
        | Command::Cluster(Cluster::Other(_))
        | Command::Ring(RingCommand::Other(_)) => Ok(0),
    };
    client.close().await;
    result
}

async fn connect(cli: &Cli) -> Result<Client, Failure> {
    let profile = match &cli.profile {
        Some(path) => Profile::load(path),
        None => Profile::find(),
    };
    let mut profile = profile.map_err(|error| Failure::usage(error.to_string()))?;
    if !cli.nodes.is_empty() {
        profile.nodes.clone_from(&cli.nodes);
    }
    let mut options = Options::default();
    if let Some(timeout) = cli.timeout {
        options.timeout = timeout;
    }
    if cli.pin {
        options.pin = profile.nodes.first().cloned();
    }
    let client = Client::connect_with(&profile, &options).await;
    client.map_err(|error| Failure::from(error.body()))
}

fn serve(path: &std::path::Path) -> Result<u8, Failure> {
    let config = shell::load_config(path).map_err(|error| Failure::usage(error.to_string()))?;
    let reason = shell::serve(&config)
        .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
    Ok(match reason {
        shell::ExitReason::Drained | shell::ExitReason::Cut => 0,
    })
}

fn unknown(words: &[String]) -> Failure {
    let word = words.first().map_or("", String::as_str);
    if LATER.contains(&word) {
        return Failure::not_yet(&format!("`{word}`"));
    }
    Failure::usage(format!("there is no command {word:?}; see quorate --help"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
