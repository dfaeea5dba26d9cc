//! What `/metrics` tells: counters and histograms of one node, with few and fixed labels.
//!
//! Never a key, an address or a partition in a label. Hot series are found by index, not by name.

mod answers;
mod gossip;
mod healing;
mod hints;
mod reads;
mod standing;

use std::{array, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use quorate_client::wire::{ErrorCode, Request, Response};

pub(super) use self::standing::Place;
use self::{answers::Answers, gossip::Gossip, healing::Healing, hints::Hints, reads::Reads};
use crate::hedging::Hedging;

/// What was asked, as far as metrics tell operations apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Get = 0,
    Put = 1,
    Delete = 2,
    Keys = 3,
    Admin = 4,
}

const OPS: [(Op, &str); 5] = [
    (Op::Get, "get"),
    (Op::Put, "put"),
    (Op::Delete, "delete"),
    (Op::Keys, "keys"),
    (Op::Admin, "admin"),
];

impl Op {
    pub(super) const fn of(request: &Request) -> Self {
        match request {
            Request::Get(_) => Self::Get,
            Request::Put(_) => Self::Put,
            Request::Delete(_) => Self::Delete,
            Request::Keys(_) => Self::Keys,
            Request::Explain(_)
            | Request::Bucket(_)
            | Request::Ring
            | Request::Status
            | Request::Healing(_)
            | Request::RingChange(_) => Self::Admin,
        }
    }
}

/// Every outcome a request can have: fine, nothing there, or the error's code.
const OUTCOMES: [&str; 15] = [
    "ok",
    "not_found",
    "invalid_argument",
    "unknown_bucket",
    "bad_context",
    "not_available_yet",
    "unknown_outcome",
    "unavailable",
    "stale",
    "overloaded",
    "conflict",
    "too_many_siblings",
    "op_id_reused",
    "denied",
    "internal",
];

fn outcome(response: &Response) -> usize {
    let word = match response {
        Response::Got(reply) if reply.siblings.is_empty() => "not_found",
        Response::Got(_)
        | Response::Written(_)
        | Response::Keys(_)
        | Response::Explained(_)
        | Response::Buckets(_)
        | Response::Ring(_)
        | Response::Status(_)
        | Response::Healing(_)
        | Response::RingChange(_) => return 0,
        Response::Error(error) => error.code.as_str(),
    };
    let found = OUTCOMES.iter().position(|outcome| *outcome == word);
    found.unwrap_or_else(|| {
        let internal = ErrorCode::Internal.as_str();
        OUTCOMES
            .iter()
            .position(|outcome| *outcome == internal)
            .unwrap_or(0)
    })
}

type Label = [(&'static str, &'static str); 1];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Served {
    op: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug)]
struct Series {
    total: Counter,
    duration: Histogram,
}

/// One node's series.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    served: [[Series; OUTCOMES.len()]; OPS.len()],
    pub(super) syncs: Histogram,
    pub(super) corrupt: Counter,
    pub(super) fenced: Counter,
    pub(super) minted: Counter,
    pub(super) damaged: Counter,
    pub(super) undecodable: Counter,
    pub(super) taken_back: Counter,
    pub(super) healing: Healing,
    pub(super) hints: Hints,
    answers: Answers,
    reads: Reads,
    pub(super) gossip: Gossip,
    pub(super) standing: standing::Standing,
    repairs: [Counter; 2],
    refusals: Family<Label, Counter>,
    dropped: Family<Label, Counter>,
    http: Family<Label, Counter>,
    connections: Family<Label, Gauge>,
    in_flight: Gauge,
    epoch: Gauge,
    members: Family<Label, Gauge>,
    uptime: Gauge<f64, AtomicU64>,
    disk: Gauge,
}

/// What is looked up when somebody asks.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) in_flight: usize,
    pub(super) epoch: u64,
    /// Members up, suspect, down.
    pub(super) members: [usize; 3],
    pub(super) uptime: Duration,
    pub(super) disk_bytes: u64,
    /// Of the time, for background work, in thousandths.
    pub(super) share: u32,
    /// Damaged records that have been written anew.
    pub(super) mended: u64,
    /// What background jobs have taken.
    pub(super) spent: Vec<(&'static str, Duration)>,
    /// Held at the last scan, and waiting to be reaped.
    pub(super) tombstones: (u64, usize),
    pub(super) hedging: Hedging,
}

fn latency() -> Histogram {
    // 100 us to 13 s, doubling.
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

impl Metrics {
    pub(super) fn new(name: &str) -> Self {
        let mut registry = Registry::with_prefix("quorate");
        let info = vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("node", name.to_owned()),
        ];
        registry.register("build", "The release and the node's name", Info::new(info));
        let served = requests(&mut registry);
        let syncs = latency();
        registry.register_with_unit(
            "storage_fsync_duration",
            "From batch to durable",
            Unit::Seconds,
            syncs.clone(),
        );
        let help = "Replicas that reads brought up to date";
        let repairs = family::<Counter>(&mut registry, "read_repairs", help);
        let kind = |kind| repairs.get_or_create(&[("kind", kind)]).clone();
        let repair_counters = [kind("async"), kind("sync")];
        let answers = Answers::new(&mut registry);
        let reads = Reads::new(&mut registry);
        let gossip = Gossip::new(&mut registry);
        let standing = standing::Standing::new(&mut registry);
        let mut counter = |name, help| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            served,
            syncs,
            answers,
            reads,
            gossip,
            standing,
            repairs: repair_counters,
            corrupt: counter(
                "storage_corrupt_records",
                "Records that failed their checksum",
            ),
            fenced: counter(
                "identity_fenced",
                "Times that this data directory was found restored, rolled back or copied",
            ),
            minted: counter("dots_minted", "Versions made here"),
            damaged: counter(
                "peer_messages_damaged",
                "Records of peers that arrived damaged",
            ),
            taken_back: counter("requests_taken_back", "Requests that clients gave up"),
            undecodable: counter("peer_messages_unknown", "Messages that made no sense"),
            refusals: family(&mut registry, "refusals", "Requests refused, by limit"),
            dropped: family(&mut registry, "peer_messages_dropped", "Not sent, by lane"),
            http: family(
                &mut registry,
                "http_responses",
                "Answers over HTTP, by class of status",
            ),
            connections: family(&mut registry, "quic_connections", "Accepted and alive"),
            epoch: family_of_one(&mut registry, "ring_version", "Epoch of the ring in force"),
            in_flight: family_of_one(&mut registry, "requests_inflight", "Not answered yet"),
            members: family(&mut registry, "members", "Members by state, as seen here"),
            uptime: family_of_one(&mut registry, "uptime_seconds", "Since the start"),
            healing: Healing::new(&mut registry),
            hints: Hints::new(&mut registry),
            disk: family_of_one(&mut registry, "storage_bytes", "On disk"),
            registry,
        }
    }

    pub(super) fn served(&self, op: Op, response: &Response, took: Duration) {
        let series = &self.served[op as usize][outcome(response)];
        series.total.inc();
        series.duration.observe(took.as_secs_f64());
        self.answers.observe(response);
    }

    pub(super) fn repaired(&self, blocking: bool) {
        self.repairs[usize::from(blocking)].inc();
    }

    pub(super) fn refused(&self, limit: &'static str) {
        self.refusals.get_or_create(&[("limit", limit)]).inc();
    }

    pub(super) fn dropped(&self, lane: &'static str) {
        self.dropped.get_or_create(&[("lane", lane)]).inc();
    }

    pub(super) fn http_response(&self, status: u16) {
        let class = match status {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        self.http.get_or_create(&[("class", class)]).inc();
    }

    pub(super) fn connected(&self, role: &'static str, by: i64) {
        self.connections.get_or_create(&[("role", role)]).inc_by(by);
    }

    /// The whole text.
    pub(super) fn encode(&self, now: &Snapshot) -> String {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.in_flight.set(gauge(now.in_flight));
        self.epoch.set(i64::try_from(now.epoch).unwrap_or(i64::MAX));
        for (state, count) in ["up", "suspect", "down"].into_iter().zip(now.members) {
            self.members
                .get_or_create(&[("state", state)])
                .set(gauge(count));
        }
        self.healing.show_share(now.share);
        self.healing.show_mended(now.mended);
        self.healing.show_spent(&now.spent);
        self.healing
            .show_tombstones(now.tombstones.0, now.tombstones.1);
        self.reads.show(&now.hedging);
        self.uptime.set(now.uptime.as_secs_f64());
        self.disk
            .set(i64::try_from(now.disk_bytes).unwrap_or(i64::MAX));
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("a string takes everything");
        out
    }
}

/// Requests by operation and outcome.
fn requests(registry: &mut Registry) -> [[Series; OUTCOMES.len()]; OPS.len()] {
    let totals = Family::<Served, Counter>::default();
    let durations = Family::<Served, Histogram>::new_with_constructor(latency);
    let series = array::from_fn(|op| {
        array::from_fn(|outcome| {
            let labels = Served {
                op: OPS[op].1,
                outcome: OUTCOMES[outcome],
            };
            Series {
                total: totals.get_or_create(&labels).clone(),
                duration: durations.get_or_create(&labels).clone(),
            }
        })
    });
    registry.register("requests", "Requests of clients answered", totals);
    registry.register_with_unit(
        "request_duration",
        "From request to answer",
        Unit::Seconds,
        durations,
    );
    series
}

fn family<M>(registry: &mut Registry, name: &str, help: &str) -> Family<Label, M>
where
    M: Default + Clone + Send + Sync + std::fmt::Debug + 'static,
    Family<Label, M>: prometheus_client::registry::Metric,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

fn family_of_one<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: Default + Clone + prometheus_client::registry::Metric,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_client::wire::{ErrorBody, GetReply};

    #[test]
    fn served_requests_are_counted_by_op_and_outcome() {
        let metrics = Metrics::new("n1");
        let took = Duration::from_millis(1);
        metrics.served(Op::Get, &Response::Got(GetReply::default()), took);
        let error = ErrorBody::overloaded("requests_in_flight", "no");
        metrics.served(Op::Put, &Response::Error(error), took);
        metrics.refused("requests_in_flight");
        let text = metrics.encode(&Snapshot {
            in_flight: 3,
            epoch: 4,
            members: [2, 0, 1],
            uptime: Duration::from_secs(7),
            disk_bytes: 1,
            share: 500,
            mended: 2,
            spent: vec![("scrub", Duration::from_secs(3))],
            tombstones: (5, 0),
            hedging: Hedging::default(),
        });
        for line in [
            "quorate_requests_total{op=\"get\",outcome=\"not_found\"} 1",
            "quorate_requests_total{op=\"put\",outcome=\"overloaded\"} 1",
            "quorate_request_duration_seconds_count{op=\"get\",outcome=\"not_found\"} 1",
            "quorate_refusals_total{limit=\"requests_in_flight\"} 1",
            "quorate_tombstones{state=\"live\"} 5",
            "quorate_members{state=\"down\"} 1",
            "quorate_requests_inflight 3",
            "quorate_uptime_seconds 7.0",
            "quorate_background_seconds_total{job=\"scrub\"} 3.0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn every_error_code_is_an_outcome() {
        for code in [
            ErrorCode::InvalidArgument,
            ErrorCode::Stale,
            ErrorCode::OpIdReused,
            ErrorCode::Denied,
        ] {
            let response = Response::Error(ErrorBody::new(code, ""));
            assert_eq!(OUTCOMES[outcome(&response)], code.as_str());
        }
    }
}
