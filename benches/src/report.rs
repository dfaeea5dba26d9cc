//! What a run says: text for people, JSON for programs. The HTML page is made from the JSON.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::Path,
    slice,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    compare, html,
    live::note,
    load::command_line,
    machine::Usage,
    options::Run,
    tally::{Tally, micros},
};

/// Something that was done to the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Seconds after the measured time began.
    pub(crate) at: f64,
    /// How long it took, in seconds.
    pub(crate) took: f64,
    pub(crate) name: String,
    /// Why it was not done.
    pub(crate) error: Option<String>,
}

impl Event {
    pub(crate) fn text(&self) -> String {
        let outcome = self.error.as_ref().map_or_else(
            || format!("done after {:.1} s", self.took),
            |error| format!("FAILED: {error}"),
        );
        format!("{:>5.1} s  {}  {outcome}", self.at, self.name)
    }
}

/// One second of a run, or what was left of it.
#[derive(Debug)]
pub(crate) struct Second {
    /// When it ended, in seconds after the measured time began; not above zero in the warm-up.
    pub(crate) at: f64,
    pub(crate) seconds: f64,
    pub(crate) tally: Tally,
    /// Operations that were due and had not begun.
    pub(crate) behind: u64,
    pub(crate) usage: Vec<Usage>,
    pub(crate) load: Option<f64>,
}

impl Second {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(crate) fn rate(&self) -> f64 {
        self.tally.ops() as f64 / self.seconds.max(0.001)
    }

    fn json(&self) -> Value {
        let nodes = self.usage.iter().map(|usage| {
            json!({
                "cpu_cores": usage.cpu.as_secs_f64() / self.seconds.max(0.001),
                "resident_bytes": usage.resident, "written_bytes": usage.written,
            })
        });
        json!({
            "at": self.at, "seconds": self.seconds, "ops_per_second": self.rate(),
            "latency_us": self.tally.latency_json(), "errors": self.tally.errors(),
            "stale": self.tally.stale, "behind": self.behind, "load": self.load,
            "nodes": nodes.collect::<Value>(),
        })
    }
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    run: Run,
    pub(crate) target: &'static str,
    started: u64,
    /// The measured time.
    pub(crate) total: Tally,
    series: Vec<Value>,
    pub(crate) seconds: f64,
    pub(crate) sync: Duration,
    pub(crate) environment: Value,
    /// Names of the processes, if they are on this machine.
    pub(crate) nodes: Vec<String>,
    used: Vec<Usage>,
    pub(crate) own_cpu: Duration,
    pub(crate) not_started: u64,
    pub(crate) events: Vec<Event>,
    /// Records that lost an acknowledged write, if that was looked for.
    pub(crate) lost: Option<u64>,
    /// The same load on other stores.
    pub(crate) others: Vec<Self>,
}

impl Report {
    pub(crate) fn new(run: &Run, target: &'static str, started: u64) -> Self {
        Self {
            run: run.clone(),
            target,
            started,
            total: Tally::new(),
            series: Vec::new(),
            seconds: 0.0,
            sync: Duration::ZERO,
            environment: Value::Null,
            nodes: Vec::new(),
            used: Vec::new(),
            own_cpu: Duration::ZERO,
            not_started: 0,
            events: Vec::new(),
            lost: None,
            others: Vec::new(),
        }
    }

    /// One more second; the warm-up is kept for the picture only.
    pub(crate) fn push(&mut self, second: Second) {
        if 0.0 < second.at {
            self.total.add(&second.tally);
            self.used.resize(second.usage.len(), Usage::default());
            for (used, more) in self.used.iter_mut().zip(&second.usage) {
                used.cpu += more.cpu;
                used.written += more.written;
                used.resident = more.resident;
            }
        }
        if 0.1 < second.seconds {
            self.series.push(second.json());
        }
    }

    /// Nothing acknowledged is missing, and nothing is there that should not be.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.unwrap_or(0) == 0 && self.total.duplicated == 0 && self.total.resurrected == 0
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn per_op(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.total.ops().max(1) as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    fn rate(&self) -> f64 {
        self.total.ops() as f64 / self.seconds
    }

    /// More operations wait at the end than come in a hundredth of a second, and than clients.
    fn is_saturated(&self) -> bool {
        let usual = self.run.rate.unwrap_or(0) / 100;
        usual.max(self.run.clients as u64) < self.not_started
    }

    fn cpu_us_per_op(&self) -> Option<f64> {
        let all = self.used.iter().map(|usage| usage.cpu).sum();
        (!self.used.is_empty()).then(|| self.per_op(all))
    }

    /// Prints the text, and writes the files that are wanted.
    pub(crate) fn publish(&self) -> io::Result<()> {
        let figures = self.json();
        let mut text = self.text();
        for (other, report) in figures["also"]
            .as_array()
            .into_iter()
            .flatten()
            .zip(&self.others)
        {
            let _ = write!(text, "\n{}", report.text());
            text += &compare::compare(slice::from_ref(other), slice::from_ref(&figures))
                .text(report.target, self.target);
        }
        if let Some(path) = &self.run.report {
            fs::write(path, html::page(&figures))?;
            let _ = writeln!(text, "report: {}", path.display());
        }
        let to_stdout = self.run.json.as_deref() == Some(Path::new("-"));
        if let Some(path) = self.run.json.as_ref().filter(|_| !to_stdout) {
            fs::write(path, format!("{figures:#}\n"))?;
        }
        if to_stdout {
            note(&text);
            writeln!(io::stdout().lock(), "{figures:#}")
        } else {
            write!(io::stdout().lock(), "{text}")
        }
    }

    /// All of it.
    pub(crate) fn json(&self) -> Value {
        let mut figures = self.figures();
        let rest = json!({
            "latency_percentiles_us": self.total.curves_json(),
            "service_us": self.total.service_json(),
            "nodes": self.nodes.iter().zip(&self.used).map(|(name, used)| json!({
                "name": name, "cpu_us_per_op": self.per_op(used.cpu),
                "cpu_seconds": used.cpu.as_secs_f64(), "resident_bytes": used.resident,
                "written_bytes": used.written,
            })).collect::<Value>(),
            "events": self.events.iter().map(|event| json!({
                "at": event.at, "took": event.took, "name": event.name, "error": event.error,
            })).collect::<Value>(),
            "environment": self.environment, "started_unix": self.started,
            "command": command_line(), "series": self.series,
        });
        let others: Vec<_> = self.others.iter().map(Self::json).collect();
        let whole = figures_with(&figures, &rest);
        let ratios: Value = others
            .iter()
            .map(|other| {
                let compared = compare::compare(slice::from_ref(other), slice::from_ref(&whole));
                json!({ "to": other["target"], "metrics": compared.json() })
            })
            .collect();
        merge(&mut figures, rest);
        merge(&mut figures, json!({ "also": others, "ratios": ratios }));
        figures
    }

    fn figures(&self) -> Value {
        let sizes = self.run.value_bytes;
        let bytes = if sizes.min == sizes.max {
            json!(sizes.min)
        } else {
            json!(format!("{}..{}", sizes.min, sizes.max))
        };
        json!({
            "target": self.target, "ops": self.total.ops(), "errors": self.total.errors,
            "seconds": self.seconds, "ops_per_second": self.rate(),
            "latency_us": self.total.latency_json(),
            "lost": self.lost.unwrap_or(0), "stale": self.total.stale,
            "duplicated": self.total.duplicated, "resurrected": self.total.resurrected,
            "verified": self.lost.is_some(),
            "workload": self.run.workload.name(),
            "loop": if self.run.rate.is_some() { "open" } else { "closed" },
            "rate": self.run.rate, "not_started": self.not_started,
            "saturated": self.is_saturated(),
            "warm_up_seconds": self.run.warm_up.as_secs_f64(),
            "clients": self.run.clients, "records": self.run.records,
            "key_dist": format!("{:?}", self.run.dist()).to_lowercase(),
            "value_bytes": bytes, "r": self.run.r, "w": self.run.w,
            "fdatasync_us_p50": micros(self.sync),
            "cpu_us_per_op": self.cpu_us_per_op(),
            "generator_cpu_us_per_op": self.per_op(self.own_cpu),
            "resident_bytes": self.used.iter().map(|used| used.resident).collect::<Value>(),
        })
    }

    fn text(&self) -> String {
        let (run, total) = (&self.run, &self.total);
        let how = run.rate.map_or_else(
            || "closed loop".to_owned(),
            |rate| format!("open loop of {rate} op/s"),
        );
        let mut lines = vec![
            format!(
                "{} · workload {} · {how} · {} clients · {} records of {} B · {:?} · {:.1} s",
                self.target,
                run.workload.name(),
                run.clients,
                run.records,
                run.value_bytes.min,
                run.dist(),
                self.seconds
            ),
            format!(
                "fdatasync here {} us (p50, measured just before)",
                micros(self.sync)
            ),
            format!("{:.0} op/s", self.rate()),
            "op        p50 us    p99 us  p99.9 us    max us       ops".to_owned(),
        ];
        for (name, histogram) in total.latencies() {
            let at = |quantile| histogram.value_at_quantile(quantile);
            lines.push(format!(
                "{name:<6}{:>10}{:>10}{:>10}{:>10}{:>10}",
                at(0.5),
                at(0.99),
                at(0.999),
                histogram.max(),
                histogram.len()
            ));
        }
        if run.rate.is_some() {
            lines.push(format!(
                "latency counts from when an operation was due; {} due operations never began{}",
                self.not_started,
                if self.is_saturated() {
                    ": SATURATED"
                } else {
                    ""
                }
            ));
        }
        if let Some(cpu) = self.cpu_us_per_op() {
            let own = self.per_op(self.own_cpu);
            lines.push(format!(
                "processor: {cpu:.1} us per op in all nodes together, {own:.1} us in this process"
            ));
            let memory = self.used.iter().map(|used| match used.resident {
                Some(bytes) => (bytes >> 20).to_string(),
                None => "down".to_owned(),
            });
            let memory: Vec<_> = memory.collect();
            lines.push(format!("memory of each node: {} MiB", memory.join(", ")));
        }
        lines.extend(self.events.iter().map(Event::text));
        lines.push(format!("errors {:?}", total.errors));
        if let Some(lost) = self.lost {
            lines.push(format!(
                "verified: {lost} lost, {} stale, {} duplicated, {} resurrected",
                total.stale, total.duplicated, total.resurrected
            ));
        }
        lines.join("\n") + "\n"
    }
}

fn figures_with(figures: &Value, rest: &Value) -> Value {
    let mut whole = figures.clone();
    merge(&mut whole, rest.clone());
    whole
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}
