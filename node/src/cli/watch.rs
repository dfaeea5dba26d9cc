//! Answers that are looked at again and again: `--watch`.
//!
//! On a terminal the newest look takes the place of the one before. Elsewhere each look that says
//! something new is printed below the last, as a table or as one JSON line, so that it can be kept
//! or piped. A cluster that does not answer for a while is watched all the same.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use quorate_client::wire::ErrorCode;
use serde_json::Value;

use super::output::{Failure, Format, Out};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// What there is to see.
pub(crate) struct Look {
    pub(crate) json: Value,
    pub(crate) lines: Vec<String>,
}

/// Looks until the program is ended.
pub(crate) async fn watch(
    out: &mut Out,
    mut look: impl AsyncFnMut() -> Result<Look, Failure>,
) -> Result<(), Failure> {
    if out.is_kept() {
        let message = "--watch never ends: it works at a prompt, not where a program reads";
        return Err(Failure::usage(message));
    }
    let mut screen = Screen::default();
    let mut told = Value::Null;
    loop {
        let look = match look().await {
            Ok(look) => look,
            Err(failure) if failure.code == ErrorCode::Unavailable => Look {
                json: failure.to_json(),
                lines: vec![format!("error: {failure}")],
            },
            Err(failure) => return Err(failure),
        };
        if look.json != told {
            match out.format() {
                Format::Json => out.answer(look.json.clone(), |_| Vec::new())?,
                Format::Table => screen.show(&look.lines)?,
            }
            told = look.json;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Stdout, redrawn in place if it is a terminal.
#[derive(Default)]
pub(crate) struct Screen {
    drawn: bool,
}

impl Screen {
    pub(crate) fn show(&mut self, lines: &[String]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let terminal = out.is_terminal();
        let mut text = String::new();
        match (terminal, self.drawn) {
            (true, false) => text.push_str("\x1b[2J\x1b[H"),
            (true, true) => text.push_str("\x1b[H"),
            (false, true) => text.push('\n'),
            (false, false) => {}
        }
        for line in lines {
            text.push_str(line);
            // What an earlier, longer line left behind.
            text.push_str(if terminal { "\x1b[K\n" } else { "\n" });
        }
        if terminal {
            text.push_str("\x1b[J");
        }
        self.drawn = true;
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }
}
