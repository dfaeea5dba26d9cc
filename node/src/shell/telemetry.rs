//! Where log lines go: standard error, as text or as JSON.
//!
//! `QUORATE_LOG` selects what is told (for example `quorate_node=debug`), and
//! `QUORATE_LOG_FORMAT` is `text` or `json`.

use std::{env, io::IsTerminal as _, panic, process};

use tracing_subscriber::EnvFilter;

const FILTER: &str = "QUORATE_LOG";
const FORMAT: &str = "QUORATE_LOG_FORMAT";

/// Once per process; later calls change nothing. `usual` is what is told if the environment does
/// not say.
pub(crate) fn init(usual: &str) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(usual));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // An error means that somebody else has chosen already, which is fine.
    let _ = if env::var(FORMAT).is_ok_and(|format| format == "json") {
        builder.json().flatten_event(true).try_init()
    } else {
        builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init()
    };
}

/// A panic anywhere leaves locks and drivers in unknown states: the process ends, and is started
/// again by whoever watches over it.
pub(super) fn abort_on_panic() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        tracing::error!(%info, "a defect: the node stops");
        before(info);
        process::abort();
    }));
}
