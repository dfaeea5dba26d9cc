//! Many runs, on several cores, and what came of them together.
//!
//! Runs share nothing, so each core takes the next seed when it is done with the last. Every tenth
//! seed runs a second time without encoding: its story must be the same, and the difference in
//! speed is what encoding costs.

use std::{
    collections::BTreeMap,
    fmt, fs, panic,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    course::{self, Report},
    oracle::Broken,
    replay::Plan,
};

/// Sums over runs.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// Wall time of this summary's making.
    pub wall: Duration,
    /// Operations begun.
    pub operations: u64,
    /// Attempts answered as asked.
    pub acknowledged: u64,
    /// Further attempts.
    pub retries: u64,
    /// Faults by class.
    pub faults: BTreeMap<&'static str, u64>,
    /// What was broken, with the plan that breaks it.
    pub broken: Vec<(Plan, Broken)>,
    /// Most rounds of reads that healing took.
    pub healing_rounds_max: u64,
    encoded: Speed,
    plain: Speed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Speed {
    simulated: u64,
    busy: Duration,
}

impl Speed {
    fn add(&mut self, simulated: u64, busy: Duration) {
        self.simulated += simulated;
        self.busy += busy;
    }

    fn per_second(self) -> u128 {
        u128::from(self.simulated) / self.busy.as_nanos().max(1)
    }
}

impl Summary {
    /// Runs a plan and adds what came of it.
    pub fn run(&mut self, plan: Plan, print: bool) -> Report {
        let before = processor_time();
        let report = guarded(plan, print);
        let busy = processor_time().saturating_sub(before);
        let speed = if plan.encode {
            &mut self.encoded
        } else {
            &mut self.plain
        };
        speed.add(report.simulated, busy);
        self.seeds += 1;
        self.simulated += report.simulated;
        self.operations += report.operations;
        self.acknowledged += report.acknowledged;
        self.retries += report.retries;
        self.healing_rounds_max = self.healing_rounds_max.max(report.healing_rounds);
        for (name, count) in &report.faults {
            *self.faults.entry(name).or_default() += count;
        }
        if let Some(broken) = &report.broken {
            self.broken.push((plan, broken.clone()));
        }
        report
    }

    /// Runs a plan once more without encoding, which must not change the story.
    pub fn run_plain(&mut self, plan: Plan, report: &Report) {
        let unencoded = Plan {
            encode: false,
            ..plan
        };
        let before = processor_time();
        let second = guarded(unencoded, false);
        let busy = processor_time().saturating_sub(before);
        self.plain.add(second.simulated, busy);
        if second.hash != report.hash && report.broken.is_none() {
            let detail = "encoding changes what happens".to_owned();
            let broken = Broken::new("determinism (W18)", second.simulated, detail);
            self.broken.push((plan, broken));
        }
    }

    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
        self.retries += other.retries;
        self.healing_rounds_max = self.healing_rounds_max.max(other.healing_rounds_max);
        for (name, count) in other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        self.broken.extend(other.broken);
        self.encoded
            .add(other.encoded.simulated, other.encoded.busy);
        self.plain.add(other.plain.simulated, other.plain.busy);
    }
}

/// Runs a plan; a panic, whose words go to stderr, is a broken promise like any other.
pub(crate) fn guarded(plan: Plan, print: bool) -> Report {
    panic::catch_unwind(|| course::run(plan.options(), print)).unwrap_or_else(|_| Report {
        seed: plan.seed,
        broken: Some(Broken::new(
            "no panic (P8)",
            0,
            "a node or the simulator panicked".into(),
        )),
        ..Report::default()
    })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.simulated / 1_000_000_000;
        let wall = self.wall.as_secs_f64();
        write!(
            f,
            "seeds {}, simulated {seconds} s, wall {wall:.1} s, operations {}, acknowledged {}, \
             retries {}, faults {{",
            self.seeds, self.operations, self.acknowledged, self.retries
        )?;
        for (number, (name, count)) in self.faults.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {count}")?;
        }
        write!(
            f,
            "}}, simulated s per s of a core: {} encoded, {} not, broken promises {}",
            self.encoded.per_second(),
            self.plain.per_second(),
            self.broken.len()
        )
    }
}

/// What this thread has had of a core so far: unlike the wall's clock it does not count what other
/// programs took. Nothing where the system does not tell.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// How long and how hard.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// Wall time.
    pub time: Duration,
    /// Runs.
    pub seeds: u64,
    /// Threads.
    pub jobs: usize,
    /// First seed.
    pub first: u64,
}

/// Runs seed after seed until the time or the seeds are over or a promise is broken; `progress` is
/// called after every run.
pub fn soak(soak: Soak, progress: impl Fn(&Report) + Sync) -> Summary {
    let started = Instant::now();
    let next = AtomicU64::new(soak.first);
    let stop = AtomicU64::new(0);
    let total = Mutex::new(Summary::default());
    thread::scope(|scope| {
        for _ in 0..soak.jobs {
            scope.spawn(|| {
                let mut own = Summary::default();
                while started.elapsed() < soak.time && stop.load(Ordering::Relaxed) == 0 {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if soak.seeds <= seed - soak.first {
                        break;
                    }
                    let plan = Plan::new(seed);
                    let report = own.run(plan, false);
                    if plan.seed.is_multiple_of(10) {
                        own.run_plain(plan, &report);
                    }
                    progress(&report);
                    if !own.broken.is_empty() {
                        stop.store(1, Ordering::Relaxed);
                    }
                }
                total.lock().expect("no run panicked").add(own);
            });
        }
    });
    let mut total = total.into_inner().expect("no run panicked");
    total.wall = started.elapsed();
    total
}
