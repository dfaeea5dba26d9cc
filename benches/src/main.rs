//! `quorate-bench`: puts load on a cluster and says what it took.
//!
//! Closed loop, so many clients with one operation each under way, or open loop at a given rate.
//! Everything that was acknowledged is remembered, and with `--verify` looked for at the end. Other
//! stores are measured by the same generator, behind features.

mod compare;
mod driver;
mod echo;
mod fault;
mod html;
mod keys;
mod ledger;
mod live;
mod load;
mod machine;
mod options;
mod pace;
mod report;
mod tally;
mod value;
mod worker;

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use quorate_client::wire::{ErrorBody, ErrorCode};

use options::{Cli, Run, Verb};

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Run(options) => run(*options),
        Verb::Echo(options) => echo::run(&options).map(|()| true),
        Verb::Compare(options) => compare::run(&options).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(body) => {
            live::complain(&body);
            ExitCode::from(body.code.exit_code())
        }
    }
}

/// True if what was found is what should be there.
fn run(options: Run) -> Result<bool, ErrorBody> {
    let internal = |error: std::io::Error| ErrorBody::new(ErrorCode::Internal, error.to_string());
    let options = options.checked()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(internal)?;
    let report = runtime.block_on(load::run(&options))?;
    // Connections say good-bye in the background; a moment is enough for them.
    runtime.shutdown_timeout(Duration::from_millis(100));
    report.publish().map_err(internal)?;
    Ok(report.is_clean())
}
