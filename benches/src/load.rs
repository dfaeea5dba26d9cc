//! The course of a run: records, warm-up, the measured time with its faults, verification; and the
//! same again for each other store that is to be compared.

use std::{
    env,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quorate_client::{
    Routing,
    wire::{ErrorBody, ErrorCode},
};
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;
use tokio::{
    task::{JoinHandle, JoinSet, spawn_blocking},
    time::{sleep, sleep_until, timeout},
};

#[cfg(feature = "etcd")]
use crate::driver::etcd::Etcd;
#[cfg(feature = "redis")]
use crate::driver::redis::Redis;
use crate::{
    driver::{Driver, Target, quorate::Quorate},
    keys::Keys,
    ledger::Ledger,
    live::{self, Live},
    machine::{self, Processes},
    options::{Run, Workload},
    pace::Pace,
    report::{Event, Report, Second},
    tally::Tally,
    value::Names,
    worker::{Inserts, Owned, Shared, Worker},
};

/// How often a record is tried before and after the measured time.
const LOOKS: u32 = 10;
const LOOK_PAUSE: Duration = Duration::from_millis(500);
const SECOND: Duration = Duration::from_secs(1);

/// Events of a run, in order.
type Events = Arc<Mutex<Vec<Event>>>;

/// Runs it all.
pub(crate) async fn run(run: &Run) -> Result<Report, ErrorBody> {
    let mut report = target(run, &run.target).await?;
    let without_faults = Run {
        fault: None,
        ..run.clone()
    };
    for other in &run.also {
        report.others.push(target(&without_faults, other).await?);
    }
    Ok(report)
}

async fn target(run: &Run, target: &Target) -> Result<Report, ErrorBody> {
    match target {
        Target::Quorate | Target::Random => {
            let path = profile_path(run)?;
            let dir = cluster_dir(run, &path);
            let routing = if *target == Target::Random {
                Routing::Random
            } else {
                Routing::Replica
            };
            let driver = Quorate::connect(&path, run, routing).await?;
            measured(run, target, driver, Processes::beside(&dir), &dir).await
        }
        #[cfg(feature = "redis")]
        Target::Redis(place) => {
            let driver = Redis::connect(&place.addresses[0]).await?;
            measured(
                run,
                target,
                driver,
                Processes::of(&place.pids),
                Path::new("."),
            )
            .await
        }
        #[cfg(feature = "etcd")]
        Target::Etcd(place) => {
            let driver = Etcd::connect(&place.addresses, run.clients).await?;
            measured(
                run,
                target,
                driver,
                Processes::of(&place.pids),
                Path::new("."),
            )
            .await
        }
        #[cfg(not(all(feature = "redis", feature = "etcd")))]
        other => Err(without(other)),
    }
}

#[cfg(not(all(feature = "redis", feature = "etcd")))]
fn without(target: &Target) -> ErrorBody {
    let message = format!(
        "built without {0}: cargo run --release -p quorate-bench --features {0}",
        target.name()
    );
    ErrorBody::new(ErrorCode::InvalidArgument, message)
}

fn cluster_dir(run: &Run, profile: &Path) -> PathBuf {
    let beside = profile.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = run.dir.as_deref().or(beside);
    dir.unwrap_or_else(|| Path::new(".")).to_owned()
}

fn profile_path(run: &Run) -> Result<PathBuf, ErrorBody> {
    let of_dir = run.dir.as_ref().map(|dir| dir.join("client.toml"));
    let usual = of_dir.unwrap_or_else(|| PathBuf::from("quorate-dev/client.toml"));
    match &run.profile {
        Some(path) => Ok(path.clone()),
        None if usual.exists() => Ok(usual),
        None => {
            let message = "no client profile: name one with --profile, or start a cluster here \
                           with `quorate dev`";
            Err(ErrorBody::new(
                ErrorCode::InvalidArgument,
                message.to_owned(),
            ))
        }
    }
}

fn internal(error: impl ToString) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, error.to_string())
}

async fn measured<D: Driver>(
    run: &Run,
    target: &Target,
    driver: D,
    mut processes: Processes,
    dir: &Path,
) -> Result<Report, ErrorBody> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH);
    let started = started.map_err(internal)?.as_secs();
    let mut report = Report::new(run, target.name(), started);
    report.sync = machine::fdatasync_p50(dir).map_err(internal)?;
    report.environment = machine::environment();
    report.nodes = processes.names();
    let names = Names::new(run.records, started);
    let inserts_max = match run.workload {
        Workload::D => run.inserts_max,
        Workload::A | Workload::B | Workload::C | Workload::F | Workload::Put | Workload::Get => 0,
    };
    let shared = Arc::new(Shared {
        run: run.clone(),
        driver,
        names,
        ledger: Ledger::new(run.records + inserts_max, names.first_number()),
        inserts: Mutex::new(Inserts::new(inserts_max)),
        tally: Mutex::new(Tally::new()),
    });
    let workers = load_records(&shared).await?;
    processes.usage();
    measure(&shared, workers, &mut processes, dir, &mut report).await?;
    if run.verify {
        report.lost = Some(verify(&shared).await?);
        report.total.add(&shared.tally(|tally| tally.clone()));
    }
    shared.driver.close().await;
    Ok(report)
}

/// Workers that know their records, all of which exist.
async fn load_records<D: Driver>(shared: &Arc<Shared<D>>) -> Result<Vec<Worker<D>>, ErrorBody> {
    let run = &shared.run;
    let all = Keys::new(run.dist(), run.records);
    let own = Keys::new(run.dist(), run.records.div_ceil(run.clients));
    let mut loading = JoinSet::new();
    for number in 0..run.clients {
        let worker = Worker {
            shared: shared.clone(),
            owned: Vec::with_capacity((run.records - number).div_ceil(run.clients)),
            all: all.clone(),
            own: own.clone(),
            rng: Pcg64Mcg::seed_from_u64(number as u64),
        };
        loading.spawn(load_one(worker, number));
    }
    let mut workers = Vec::new();
    loop {
        match timeout(SECOND, loading.join_next()).await {
            Ok(Some(worker)) => workers.push(worker.map_err(internal)??),
            Ok(None) => break,
            Err(_) => {
                let (read, put) = shared.tally(|tally| (tally.get.len(), tally.put.len()));
                live::progress(&format!("loading: {read} records found, {put} written"));
            }
        }
    }
    live::progress("");
    shared.tally(|tally| *tally = Tally::new());
    Ok(workers)
}

async fn load_one<D: Driver>(mut worker: Worker<D>, number: usize) -> Result<Worker<D>, ErrorBody> {
    let (first, clients) = (
        worker.shared.names.first_number(),
        worker.shared.run.clients,
    );
    for record in (number..worker.shared.run.records).step_by(clients) {
        let (newest, context) = look(&worker.shared, record).await?;
        worker.shared.ledger.acknowledge(record, newest);
        worker.owned.push(Owned {
            record,
            context,
            number: newest.max(first),
        });
        let mut tries = 0;
        while newest == 0
            && let Err(body) = worker.write(worker.owned.len() - 1, Instant::now()).await
        {
            tries += 1;
            if tries == LOOKS {
                return Err(body);
            }
            sleep(LOOK_PAUSE).await;
        }
    }
    Ok(worker)
}

/// The warm-up and the measured time.
async fn measure<D: Driver>(
    shared: &Arc<Shared<D>>,
    workers: Vec<Worker<D>>,
    processes: &mut Processes,
    dir: &Path,
    report: &mut Report,
) -> Result<(), ErrorBody> {
    let run = &shared.run;
    let pace = Arc::new(Pace::new(run.rate));
    let driver = thread::spawn({
        let pace = pace.clone();
        move || pace.drive()
    });
    let start = Instant::now();
    let begin = start + run.warm_up;
    let mut working = JoinSet::new();
    for worker in workers {
        working.spawn(worker.work(pace.clone()));
    }
    let mut own_cpu = machine::own_cpu();
    let events = Events::default();
    let faults = spawn_faults(run, dir, begin, &events);
    let mut watch = Watch {
        live: Live::new(run, report.target),
        last: start,
        begin,
        shown: 0,
    };
    for boundary in boundaries(run.warm_up, run.duration) {
        sleep_until((start + boundary).into()).await;
        let second = watch.second(shared, &pace, processes);
        watch.show(&second, &events);
        if second.at <= 0.0 {
            // The warm-up is not counted.
            own_cpu = machine::own_cpu();
        }
        report.push(second);
    }
    pace.stop();
    report.not_started = pace.behind();
    while let Some(ended) = working.join_next().await {
        ended.map_err(internal)?;
    }
    report.seconds = begin.elapsed().as_secs_f64();
    let rest = watch.second(shared, &pace, processes);
    watch.live.clear();
    report.push(rest);
    report.own_cpu = machine::own_cpu().saturating_sub(own_cpu);
    faults.await.map_err(internal)?;
    report.events = std::mem::take(&mut events.lock().unwrap_or_else(PoisonError::into_inner));
    driver.join().map_err(|_| internal("the pace broke"))
}

/// When a second ends, counted from the start of the warm-up: whole seconds of each phase.
fn boundaries(warm_up: Duration, duration: Duration) -> Vec<Duration> {
    let mut all = Vec::new();
    for (start, length) in [(Duration::ZERO, warm_up), (warm_up, duration)] {
        let mut at = Duration::ZERO;
        while at < length {
            at = (at + SECOND).min(length);
            all.push(start + at);
        }
    }
    all
}

fn spawn_faults(run: &Run, dir: &Path, begin: Instant, events: &Events) -> JoinHandle<()> {
    let faults = run
        .fault
        .as_ref()
        .map_or(&[][..], |schedule| schedule.faults());
    let (faults, dir, events) = (faults.to_vec(), dir.to_owned(), events.clone());
    tokio::spawn(async move {
        for fault in faults {
            sleep_until((begin + fault.at).into()).await;
            let (name, at) = (fault.name(), begin.elapsed().as_secs_f64());
            let dir = dir.clone();
            let done = spawn_blocking(move || fault.carry_out(&dir)).await;
            let error = match done {
                Ok(Ok(())) => None,
                Ok(Err(message)) => Some(message),
                Err(panic) => Some(panic.to_string()),
            };
            let event = Event {
                at,
                took: begin.elapsed().as_secs_f64() - at,
                name,
                error,
            };
            events
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(event);
        }
    })
}

/// Cuts the run into seconds.
#[derive(Debug)]
struct Watch {
    live: Live,
    begin: Instant,
    last: Instant,
    /// Events that were shown.
    shown: usize,
}

impl Watch {
    /// All since the last call.
    fn second<D: Driver>(
        &mut self,
        shared: &Shared<D>,
        pace: &Pace,
        processes: &mut Processes,
    ) -> Second {
        let now = Instant::now();
        let is_before = now < self.begin;
        let at = if is_before {
            -(self.begin - now).as_secs_f64()
        } else {
            (now - self.begin).as_secs_f64()
        };
        let seconds = (now - self.last).as_secs_f64();
        // The second that ends with the warm-up ends a moment after it.
        let is_warm_up = self.last < self.begin && at < seconds / 2.0;
        self.last = now;
        Second {
            at: if is_warm_up { at.min(0.0) } else { at },
            seconds,
            tally: shared.tally(|tally| std::mem::replace(tally, Tally::new())),
            behind: pace.behind(),
            usage: processes.usage(),
            load: machine::load(),
        }
    }

    fn show(&mut self, second: &Second, events: &Events) {
        let events = events.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<_> = events[self.shown..].iter().map(Event::text).collect();
        self.shown = events.len();
        let new = (!new.is_empty()).then(|| new.join("\n"));
        self.live.show(second, new.as_deref());
    }
}

/// Records of which an acknowledged write is not there any more.
async fn verify<D: Driver>(shared: &Arc<Shared<D>>) -> Result<u64, ErrorBody> {
    let (clients, count) = (shared.run.clients, shared.count());
    let mut looking = JoinSet::new();
    for number in 0..clients {
        let shared = shared.clone();
        looking.spawn(async move {
            let mut lost = 0;
            for record in (number..count).step_by(clients) {
                let known = shared.ledger.acknowledged(record);
                if 0 < known && look(&shared, record).await?.0 < known {
                    lost += 1;
                    live::note(&format!("lost: {}", shared.names.key(record)));
                }
            }
            Ok::<u64, ErrorBody>(lost)
        });
    }
    let mut lost = 0;
    while let Some(found) = looking.join_next().await {
        lost += found.map_err(internal)??;
    }
    Ok(lost)
}

/// The newest number of a record, outside the measured time.
async fn look<D: Driver>(
    shared: &Shared<D>,
    record: usize,
) -> Result<(u64, Option<D::Context>), ErrorBody> {
    let mut looks = 0;
    loop {
        match shared.driver.read(&shared.names.key(record)).await {
            Ok(seen) => {
                let mut verdict = shared.ledger.judge(record, &seen.values, 0);
                verdict.stale = false;
                shared.tally(|tally| tally.judged(verdict));
                return Ok((verdict.newest, seen.context));
            }
            Err(body) if looks == LOOKS => return Err(body),
            Err(_) => sleep(LOOK_PAUSE).await,
        }
        looks += 1;
    }
}

/// The command line of this process.
pub(crate) fn command_line() -> String {
    let words: Vec<String> = env::args()
        .map(|word| {
            let is_plain = !word.is_empty() && !word.contains([' ', '"', '\'', '$', '&', ';']);
            if is_plain {
                word
            } else {
                format!("'{}'", word.replace('\'', "'\\''"))
            }
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_cut_within_each_phase() {
        let millis = |warm_up, duration| {
            let all = boundaries(
                Duration::from_millis(warm_up),
                Duration::from_millis(duration),
            );
            all.into_iter().map(|at| at.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(millis(0, 2_500), [1_000, 2_000, 2_500]);
        assert_eq!(millis(1_500, 2_000), [1_000, 1_500, 2_500, 3_500]);
    }
}
