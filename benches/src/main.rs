//! `quorate-bench`: puts load on a cluster and says what it took.
//!
//! A closed loop for now: so many clients, each with one operation under way. Everything that was
//! acknowledged is remembered, and with `--verify` looked for at the end.

mod keys;
mod ledger;
mod load;
mod machine;
mod options;
mod report;
mod value;
mod worker;

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use quorate_client::wire::{ErrorBody, ErrorCode};

use options::{Cli, Verb};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Verb::Run(run) = cli.verb;
    let outcome = run.checked().and_then(|run| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        let report = runtime.block_on(load::run(&run))?;
        // Connections say good-bye in the background; a moment is enough for them.
        runtime.shutdown_timeout(Duration::from_millis(100));
        report
            .publish(run.json.as_deref())
            .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        Ok(report.is_clean())
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(body) => {
            report::complain(&body);
            ExitCode::from(body.code.exit_code())
        }
    }
}
