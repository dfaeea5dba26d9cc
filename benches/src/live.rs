//! What a run shows while it goes on: a few lines that are drawn again each second in a terminal,
//! one line a second elsewhere. Always on stderr; the figures themselves are the report's.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
};

use quorate_client::wire::ErrorBody;
use serde_json::json;

use crate::{options::Run, report::Second};

/// Seconds that the sparkline shows.
const SPARKS_MAX: usize = 40;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The view of one run.
#[derive(Debug)]
pub(crate) struct Live {
    title: String,
    seconds: u64,
    rates: Vec<f64>,
    is_terminal: bool,
    drawn: usize,
}

impl Live {
    pub(crate) fn new(run: &Run, target: &str) -> Self {
        let how = match run.rate {
            Some(rate) => format!("open loop, {rate} op/s"),
            None => "closed loop".to_owned(),
        };
        Self {
            title: format!(
                "{target}  workload {}  {how}  {} clients  {} records",
                run.workload.name(),
                run.clients,
                run.records
            ),
            seconds: run.duration.as_secs(),
            rates: Vec::new(),
            is_terminal: io::stderr().is_terminal(),
            drawn: 0,
        }
    }

    /// Shows one more second.
    pub(crate) fn show(&mut self, second: &Second, event: Option<&str>) {
        if SPARKS_MAX <= self.rates.len() {
            self.rates.remove(0);
        }
        self.rates.push(second.rate());
        if let Some(event) = event {
            self.clear();
            note(event);
        }
        if self.is_terminal {
            self.clear();
            let text = self.block(second);
            self.drawn = text.lines().count();
            write_all(&text);
        } else {
            note(&line(second));
        }
    }

    /// Makes room for other output.
    pub(crate) fn clear(&mut self) {
        if self.is_terminal && 0 < self.drawn {
            write_all(&format!("\x1b[{}A\r\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    fn block(&self, second: &Second) -> String {
        let phase = if second.at <= 0.0 { "warm-up" } else { "" };
        let mut text = format!(
            "{}   {:.0}/{} s {phase}\nthroughput {:>9.0} op/s   {}\n",
            self.title,
            second.at,
            self.seconds,
            second.rate(),
            sparkline(&self.rates)
        );
        for (name, histogram) in second.tally.latencies() {
            let _ = writeln!(
                text,
                "{name:<10} p50 {:>8} us   p99 {:>8} us   max {:>8} us",
                histogram.value_at_quantile(0.5),
                histogram.value_at_quantile(0.99),
                histogram.max()
            );
        }
        let _ = writeln!(
            text,
            "errors {:?}   behind {}",
            second.tally.errors, second.behind
        );
        text
    }
}

fn line(second: &Second) -> String {
    let mut text = format!("{:>5.0} s {:>8.0} op/s", second.at, second.rate());
    for (name, histogram) in second.tally.latencies() {
        let _ = write!(
            text,
            "   {name} p50 {} us p99 {} us",
            histogram.value_at_quantile(0.5),
            histogram.value_at_quantile(0.99)
        );
    }
    let _ = write!(text, "   errors {}", second.tally.errors());
    if 0 < second.behind {
        let _ = write!(text, "   behind {}", second.behind);
    }
    text
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of eight bars, clamped"
)]
fn sparkline(rates: &[f64]) -> String {
    let max = rates.iter().copied().fold(1.0, f64::max);
    let bar = |rate: &f64| BARS[((rate / max * 7.0).round() as usize).min(7)];
    rates.iter().map(bar).collect()
}

fn write_all(text: &str) {
    // Progress that cannot be shown is not worth failing for; so below.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// One line that the next one overwrites, in a terminal only.
pub(crate) fn progress(text: &str) {
    if io::stderr().is_terminal() {
        write_all(&format!("\r\x1b[K{text}"));
    }
}

/// A line that stays.
pub(crate) fn note(text: &str) {
    let start = if io::stderr().is_terminal() {
        "\r\x1b[K"
    } else {
        ""
    };
    write_all(&format!("{start}{}\n", text.trim_end()));
}

/// An error, for people on stderr and for programs on stdout.
pub(crate) fn complain(body: &ErrorBody) {
    note(&format!("error: {}", body.message));
    let error = json!({ "error": { "code": body.code.as_str(), "message": body.message } });
    let _ = writeln!(io::stdout().lock(), "{error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sparkline_is_as_high_as_the_rate() {
        assert_eq!(sparkline(&[0.0, 50.0, 100.0]), "▁▅█");
        assert_eq!(sparkline(&[]), "");
    }
}
