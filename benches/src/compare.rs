//! Whether two runs differ by more than chance.
//!
//! The samples are the seconds of a run, or whole runs where each side has enough of them. The
//! ratio of the means gets a 95 % interval by bootstrap: resampled a few thousand times, seconds in
//! blocks of neighbours, since what slows one second often slows the next. An interval that holds 1
//! says that no difference was seen. Seconds of one run share its luck: what differs between two
//! single runs may still not differ between the next two, and the text says so.

use std::{fmt::Write as _, fs, io::Write as _, path::PathBuf};

use quorate_client::wire::{ErrorBody, ErrorCode};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};

use crate::options::{Compare, Output};

const RESAMPLES: usize = 4_000;
/// Fewer samples say nothing.
const SAMPLES_MIN: usize = 5;

/// All metrics that both sides have.
#[derive(Debug)]
pub(crate) struct Comparison {
    metrics: Vec<Metric>,
    /// Samples are runs, not seconds.
    by_runs: bool,
}

#[derive(Debug)]
struct Metric {
    name: String,
    a: f64,
    b: f64,
    ratio: Ratio,
    more_is_better: bool,
}

/// B over A, with its interval if there are samples enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) ratio: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

impl Metric {
    fn verdict(&self) -> &'static str {
        match self.ratio.interval {
            None => "too few samples",
            Some((low, high)) if low <= 1.0 && 1.0 <= high => "no difference seen",
            Some((low, _)) if (1.0 < low) == self.more_is_better => "better",
            Some(_) => "worse",
        }
    }
}

/// Reads the files and prints how they differ.
pub(crate) fn run(options: &Compare) -> Result<(), ErrorBody> {
    let read = |path: &PathBuf| {
        let wrong = |error: String| {
            let message = format!("{}: {error}", path.display());
            ErrorBody::new(ErrorCode::InvalidArgument, message)
        };
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let run: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if run["series"].as_array().is_none_or(Vec::is_empty) {
            return Err(wrong("no series of seconds in it".to_owned()));
        }
        Ok(run)
    };
    let all = |paths: &[PathBuf]| paths.iter().map(read).collect::<Result<Vec<_>, _>>();
    let (a, b) = (all(&options.a)?, all(&options.b)?);
    let comparison = compare(&a, &b);
    let text = match options.output {
        Output::Table => {
            let same = [
                "workload",
                "clients",
                "records",
                "value_bytes",
                "loop",
                "rate",
            ]
            .into_iter()
            .filter(|name| a[0][*name] != b[0][*name])
            .collect::<Vec<_>>();
            let mut text = comparison.text("A", "B");
            if !same.is_empty() {
                let _ = writeln!(text, "note: the runs differ in {}", same.join(", "));
            }
            text
        }
        Output::Json => format!("{:#}\n", json!({ "metrics": comparison.json() })),
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))
}

/// Compares the runs of `a` with those of `b`.
pub(crate) fn compare(a: &[Value], b: &[Value]) -> Comparison {
    let by_runs = SAMPLES_MIN <= a.len() && SAMPLES_MIN <= b.len();
    let mut metrics = Vec::new();
    for (name, more_is_better) in [
        ("ops/s", true),
        ("get mean", false),
        ("get p50", false),
        ("get p99", false),
        ("get p999", false),
        ("put mean", false),
        ("put p50", false),
        ("put p99", false),
        ("put p999", false),
        ("cpu us/op", false),
    ] {
        let samples = |runs: &[Value]| -> Vec<f64> {
            let runs = runs.iter().map(|run| samples(run, name));
            if by_runs {
                runs.filter(|run| !run.is_empty())
                    .map(|run| mean(&run))
                    .collect()
            } else {
                runs.flatten().collect()
            }
        };
        let (of_a, of_b) = (samples(a), samples(b));
        if !of_a.is_empty() && !of_b.is_empty() && 0.0 < mean(&of_a) {
            metrics.push(Metric {
                name: name.to_owned(),
                a: mean(&of_a),
                b: mean(&of_b),
                ratio: bootstrap(&of_a, &of_b, by_runs),
                more_is_better,
            });
        }
    }
    Comparison { metrics, by_runs }
}

/// A metric of each whole measured second.
fn samples(run: &Value, name: &str) -> Vec<f64> {
    let seconds = run["series"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|second| {
            second["at"].as_f64() > Some(0.0) && second["seconds"].as_f64() > Some(0.9)
        });
    let sample = |second: &Value| match name.split_once(' ') {
        None => second["ops_per_second"].as_f64(),
        Some(("cpu", _)) => {
            let nodes = second["nodes"]
                .as_array()
                .filter(|nodes| !nodes.is_empty())?;
            let cores: f64 = nodes
                .iter()
                .filter_map(|node| node["cpu_cores"].as_f64())
                .sum();
            let rate = second["ops_per_second"]
                .as_f64()
                .filter(|rate| 0.0 < *rate)?;
            Some(cores * 1e6 / rate)
        }
        Some((kind, percentile)) => second["latency_us"][kind][percentile].as_f64(),
    };
    seconds.filter_map(sample).collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

/// The ratio of the means of B and A, and where it lies in 95 % of resamples.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cube root of a small count"
)]
pub(crate) fn bootstrap(a: &[f64], b: &[f64], independent: bool) -> Ratio {
    let ratio = mean(b) / mean(a);
    if a.len() < SAMPLES_MIN || b.len() < SAMPLES_MIN {
        return Ratio {
            ratio,
            interval: None,
        };
    }
    let block = |samples: &[f64]| {
        if independent {
            1
        } else {
            (samples.len() as f64).cbrt().ceil() as usize
        }
    };
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut ratios: Vec<f64> = (0..RESAMPLES)
        .map(|_| resampled(b, block(b), &mut rng) / resampled(a, block(a), &mut rng))
        .filter(|ratio| ratio.is_finite())
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| ratios.get(ratios.len() * share / 1_000).copied();
    Ratio {
        ratio,
        interval: at(25).zip(at(975)),
    }
}

/// The mean of as many samples, drawn in blocks that wrap around.
fn resampled(samples: &[f64], block: usize, rng: &mut Pcg64Mcg) -> f64 {
    let mut sum = 0.0;
    let mut start = 0;
    for drawn in 0..samples.len() {
        if drawn % block == 0 {
            start = rng.random_range(0..samples.len());
        }
        sum += samples[(start + drawn % block) % samples.len()];
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let count = samples.len() as f64;
    sum / count
}

impl Comparison {
    /// For people.
    pub(crate) fn text(&self, a: &str, b: &str) -> String {
        let mut text = format!(
            "{:<10}{a:>12}{b:>12}{:>9}   {:<17}{b} is\n",
            "", "ratio", "95 % interval"
        );
        for metric in &self.metrics {
            let interval = metric
                .ratio
                .interval
                .map_or_else(String::new, |(low, high)| format!("{low:.3} to {high:.3}"));
            let _ = writeln!(
                text,
                "{:<10}{:>12.0}{:>12.0}{:>9.3}   {interval:<17}{}",
                metric.name,
                metric.a,
                metric.b,
                metric.ratio.ratio,
                metric.verdict()
            );
        }
        text + if self.by_runs {
            "means of runs; the interval is of runs\n"
        } else {
            "means of seconds; between single runs more may differ than the interval says\n"
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let metric = |metric: &Metric| {
            json!({
                "metric": metric.name, "a": metric.a, "b": metric.b,
                "ratio": metric.ratio.ratio,
                "low": metric.ratio.interval.map(|(low, _)| low),
                "high": metric.ratio.interval.map(|(_, high)| high),
                "verdict": metric.verdict(),
                "samples": if self.by_runs { "runs" } else { "seconds" },
            })
        };
        self.metrics.iter().map(metric).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn noise(seed: u64, mean: f64, count: usize) -> Vec<f64> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut sample = || mean * (0.9 + 0.2 * rng.random::<f64>());
        (0..count).map(|_| sample()).collect()
    }

    fn run(rates: &[f64], p99: f64) -> Value {
        let second = |(number, rate): (usize, &f64)| {
            json!({
                "at": number, "seconds": 1.0, "ops_per_second": rate,
                "latency_us": { "get": { "p50": 100.0, "p99": p99 } },
                "nodes": [{ "cpu_cores": 0.5 }, { "cpu_cores": 0.5 }],
            })
        };
        json!({ "series": rates.iter().enumerate().map(second).collect::<Value>() })
    }

    #[test]
    fn a_true_difference_is_inside_its_interval_and_one_is_not() {
        let Ratio { ratio, interval } =
            bootstrap(&noise(1, 100.0, 60), &noise(2, 120.0, 60), false);
        let (low, high) = interval.unwrap();
        assert!(
            1.0 < low && low < 1.2 && 1.2 < high && high < 1.3,
            "{low} {high}"
        );
        assert!(low < ratio && ratio < high);
    }

    #[test]
    fn equals_rarely_seem_to_differ() {
        let differ = (0..100).filter(|seed| {
            let (a, b) = (noise(2 * seed, 100.0, 40), noise(2 * seed + 1, 100.0, 40));
            let (low, high) = bootstrap(&a, &b, true).interval.unwrap();
            high < 1.0 || 1.0 < low
        });
        // Five of a hundred are to be expected.
        assert!(differ.count() <= 12);
    }

    #[test]
    fn a_comparison_says_what_is_better() {
        // The first second is of the warm-up.
        let a = run(&noise(1, 1_000.0, 31), 500.0);
        let b = run(&noise(2, 1_500.0, 31), 700.0);
        let compared = compare(&[a], &[b]);
        let verdicts: Vec<_> = compared
            .metrics
            .iter()
            .map(|m| (&*m.name, m.verdict()))
            .collect();
        let want = [
            ("ops/s", "better"),
            ("get p50", "no difference seen"),
            ("get p99", "worse"),
            ("cpu us/op", "better"),
        ];
        assert_eq!(verdicts, want);
        assert!(compared.text("A", "B").contains("no difference seen"));
        assert_eq!(compared.json()[0]["verdict"], "better");
    }

    #[test]
    fn a_few_seconds_say_nothing_and_runs_count_as_runs() {
        let short = run(&noise(1, 1_000.0, 4), 500.0);
        let compared = compare(slice::from_ref(&short), slice::from_ref(&short));
        assert_eq!(compared.metrics[0].verdict(), "too few samples");
        let many = |seed: u64| -> Vec<_> {
            (0..5)
                .map(|n| run(&noise(seed + n, 1_000.0, 10), 500.0))
                .collect()
        };
        assert!(compare(&many(1), &many(11)).by_runs);
    }
}
