//! What came of operations: histograms and counts, for one second or for a whole run.
//!
//! Three significant digits, from a microsecond to a minute, so that the memory they take does not
//! depend on how many operations there were.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use quorate_client::wire::ErrorBody;
use serde_json::{Map, Value, json};

use crate::ledger::Verdict;

/// Longest latency that is told from longer ones, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Points of a percentile curve for each halving of what is left.
const TICKS_PER_HALF: u32 = 4;

/// What an operation was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Put,
    /// A get and a put of the same record; both count on their own as well.
    Change,
}

/// Counts and latencies.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) get: Histogram<u64>,
    pub(crate) put: Histogram<u64>,
    change: Histogram<u64>,
    /// Gets and puts from when they really began.
    service: Histogram<u64>,
    /// By error code.
    pub(crate) errors: BTreeMap<&'static str, u64>,
    pub(crate) stale: u64,
    pub(crate) duplicated: u64,
    pub(crate) resurrected: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("three digits fit these bounds")
        };
        Self {
            get: histogram(),
            put: histogram(),
            change: histogram(),
            service: histogram(),
            errors: BTreeMap::new(),
            stale: 0,
            duplicated: 0,
            resurrected: 0,
        }
    }

    pub(crate) fn done(&mut self, kind: Kind, latency: Duration, service: Duration) {
        let histogram = match kind {
            Kind::Get => &mut self.get,
            Kind::Put => &mut self.put,
            Kind::Change => &mut self.change,
        };
        histogram.saturating_record(micros(latency));
        if kind != Kind::Change {
            self.service.saturating_record(micros(service));
        }
    }

    pub(crate) fn failed(&mut self, body: &ErrorBody) {
        *self.errors.entry(body.code.as_str()).or_default() += 1;
    }

    pub(crate) fn judged(&mut self, verdict: Verdict) {
        self.stale += u64::from(verdict.stale);
        self.duplicated += u64::from(verdict.duplicated);
        self.resurrected += u64::from(verdict.resurrected);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.get, &other.get),
            (&mut self.put, &other.put),
            (&mut self.change, &other.change),
            (&mut self.service, &other.service),
        ] {
            own.add(other).expect("the same bounds");
        }
        for (code, count) in &other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.stale += other.stale;
        self.duplicated += other.duplicated;
        self.resurrected += other.resurrected;
    }

    /// Gets and puts that were answered.
    pub(crate) fn ops(&self) -> u64 {
        self.get.len() + self.put.len()
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The histograms that are not empty, by name.
    pub(crate) fn latencies(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let all = [
            ("get", &self.get),
            ("put", &self.put),
            ("change", &self.change),
        ];
        all.into_iter()
            .filter(|(_, histogram)| !histogram.is_empty())
    }

    /// Percentiles of each kind of operation.
    pub(crate) fn latency_json(&self) -> Value {
        let all = self
            .latencies()
            .map(|(name, histogram)| (name.to_owned(), percentiles(histogram)));
        Value::Object(all.collect::<Map<_, _>>())
    }

    /// The same, from when operations really began.
    pub(crate) fn service_json(&self) -> Value {
        percentiles(&self.service)
    }

    /// Pairs of quantile and microseconds, for each kind.
    pub(crate) fn curves_json(&self) -> Value {
        let all = self
            .latencies()
            .map(|(name, histogram)| (name.to_owned(), curve(histogram)));
        Value::Object(all.collect::<Map<_, _>>())
    }
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    json!({
        "p50": histogram.value_at_quantile(0.5), "p90": histogram.value_at_quantile(0.9),
        "p99": histogram.value_at_quantile(0.99), "p999": histogram.value_at_quantile(0.999),
        "max": histogram.max(), "mean": histogram.mean(), "count": histogram.len(),
    })
}

fn curve(histogram: &Histogram<u64>) -> Value {
    let points = histogram.iter_quantiles(TICKS_PER_HALF);
    points
        .map(|point| json!([point.quantile_iterated_to(), point.value_iterated_to()]))
        .collect()
}

/// Whole microseconds, at most the longest that are told apart.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(LATENCY_US_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_add_up_to_the_run() {
        let mut total = Tally::new();
        for second in 1..=10 {
            let mut tally = Tally::new();
            let latency = Duration::from_millis(second);
            tally.done(Kind::Get, latency, latency / 2);
            tally.done(Kind::Change, latency * 2, latency);
            tally.judged(Verdict {
                stale: true,
                ..Verdict::default()
            });
            total.add(&tally);
        }
        assert_eq!((total.ops(), total.stale), (10, 10));
        let latency = total.latency_json();
        assert_eq!(latency["get"]["max"], 10_007, "three digits");
        assert_eq!(latency["change"]["count"], 10);
        assert!(latency.get("put").is_none());
        assert_eq!(total.service_json()["count"], 10);
        let curves = total.curves_json();
        assert_eq!(curves["get"].as_array().unwrap().last().unwrap()[0], 1.0);
    }
}
