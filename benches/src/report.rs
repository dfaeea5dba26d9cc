//! What a run says: text for people, JSON for programs.

use std::{
    fs,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::Duration,
};

use hdrhistogram::Histogram;
use quorate_client::wire::ErrorBody;
use serde_json::{Value, json};

use crate::{
    options::Run,
    worker::{Tally, micros},
};

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    run: Run,
    tally: Tally,
    seconds: f64,
    sync: Duration,
    /// Processor time of all nodes together, if they are on this machine.
    pub(crate) cpu_us_per_op: Option<f64>,
    pub(crate) own_cpu_us_per_op: f64,
    /// Bytes of each node.
    pub(crate) resident: Vec<u64>,
    /// Records that lost an acknowledged write, if that was looked for.
    pub(crate) lost: Option<u64>,
}

impl Report {
    pub(crate) fn new(run: &Run, tally: Tally, seconds: f64, sync: Duration) -> Self {
        Self {
            run: run.clone(),
            tally,
            seconds,
            sync,
            cpu_us_per_op: None,
            own_cpu_us_per_op: 0.0,
            resident: Vec::new(),
            lost: None,
        }
    }

    /// Nothing acknowledged is missing.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.unwrap_or(0) == 0
    }

    fn ops(&self) -> u64 {
        self.tally.get.len() + self.tally.put.len()
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn rate(&self) -> f64 {
        self.ops() as f64 / self.seconds
    }

    /// Prints the text, and writes the JSON where it is wanted.
    pub(crate) fn publish(&self, json: Option<&Path>) -> io::Result<()> {
        let figures = format!("{:#}\n", self.json());
        match json {
            Some(path) if path.as_os_str() == "-" => {
                note(&self.text());
                write!(io::stdout().lock(), "{figures}")
            }
            Some(path) => {
                fs::write(path, figures)?;
                write!(io::stdout().lock(), "{}", self.text())
            }
            None => write!(io::stdout().lock(), "{}", self.text()),
        }
    }

    fn json(&self) -> Value {
        let mut latency = serde_json::Map::new();
        for (name, histogram) in [("get", &self.tally.get), ("put", &self.tally.put)] {
            if !histogram.is_empty() {
                latency.insert(name.to_owned(), percentiles(histogram));
            }
        }
        json!({
            "ops": self.ops(), "errors": self.tally.errors, "seconds": self.seconds,
            "ops_per_second": self.rate(), "latency_us": latency,
            "lost": self.lost.unwrap_or(0), "stale": self.tally.stale,
            "verified": self.lost.is_some(),
            "workload": format!("{:?}", self.run.workload).to_lowercase(), "loop": "closed",
            "clients": self.run.clients, "records": self.run.records,
            "value_bytes": self.run.value_bytes, "fdatasync_us_p50": micros(self.sync),
            "cpu_us_per_op": self.cpu_us_per_op, "generator_cpu_us_per_op": self.own_cpu_us_per_op,
            "resident_bytes": self.resident,
        })
    }

    fn text(&self) -> String {
        let mut lines = vec![format!(
            "workload {:?} · closed loop · {} clients · {} records of {} B · {:.1} s",
            self.run.workload,
            self.run.clients,
            self.run.records,
            self.run.value_bytes,
            self.seconds
        )];
        lines.push(format!(
            "fdatasync here {} us (p50, measured just before)",
            micros(self.sync)
        ));
        lines.push(format!("{:.0} op/s", self.rate()));
        lines.push("op        p50 us    p99 us  p99.9 us    max us       ops".to_owned());
        for (name, histogram) in [("get", &self.tally.get), ("put", &self.tally.put)] {
            if !histogram.is_empty() {
                lines.push(format!(
                    "{name:<5} {:>10}{:>10}{:>10}{:>10}{:>10}",
                    histogram.value_at_quantile(0.5),
                    histogram.value_at_quantile(0.99),
                    histogram.value_at_quantile(0.999),
                    histogram.max(),
                    histogram.len()
                ));
            }
        }
        if let Some(cpu) = self.cpu_us_per_op {
            lines.push(format!(
                "processor: {cpu:.1} us per op in all nodes together, {:.1} us in this process",
                self.own_cpu_us_per_op
            ));
            let resident: Vec<_> = self
                .resident
                .iter()
                .map(|bytes| (bytes >> 20).to_string())
                .collect();
            lines.push(format!("memory of each node: {} MiB", resident.join(", ")));
        }
        lines.push(format!("errors {:?}", self.tally.errors));
        if let Some(lost) = self.lost {
            lines.push(format!("verified: {lost} lost, {} stale", self.tally.stale));
        }
        lines.join("\n") + "\n"
    }
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    json!({
        "p50": histogram.value_at_quantile(0.5), "p99": histogram.value_at_quantile(0.99),
        "p999": histogram.value_at_quantile(0.999), "max": histogram.max(),
    })
}

/// One line that the next one overwrites.
pub(crate) fn progress(text: &str) {
    let mut out = io::stderr().lock();
    if out.is_terminal() {
        // Progress that cannot be shown is not worth failing for; so below.
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
    }
}

pub(crate) fn note(text: &str) {
    let mut out = io::stderr().lock();
    let line = if out.is_terminal() { "\r\x1b[K" } else { "" };
    let _ = writeln!(out, "{line}{}", text.trim_end());
}

/// An error, for people on stderr and for programs on stdout.
pub(crate) fn complain(body: &ErrorBody) {
    note(&format!("error: {}", body.message));
    let error = json!({ "error": { "code": body.code.as_str(), "message": body.message } });
    let _ = writeln!(io::stdout().lock(), "{error}");
}
