//! The course of a run: bucket and records, the measured time, verification.

use std::{
    collections::BTreeSet,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quorate_client::{
    Client, Profile, ReadError,
    wire::{BucketOptions, ErrorBody, ErrorCode},
};
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    keys::Keys,
    ledger::{Ledger, newest},
    machine::{self, Processes},
    options::Run,
    report::{self, Report},
    value,
    worker::{Owned, Shared, Tally, Worker},
};

/// How often a record is looked for at the end before it counts as unreadable.
const LOOKS: u32 = 10;
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Runs it all.
pub(crate) async fn run(run: &Run) -> Result<Report, ErrorBody> {
    let path = profile_path(run)?;
    let profile = Profile::load(&path).map_err(usage)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let sync = machine::fdatasync_p50(dir.unwrap_or_else(|| Path::new("."))).map_err(internal)?;
    let client = Client::connect(&profile).await.map_err(|e| e.body())?;
    make_bucket(&client, &run.bucket).await?;
    let shared = Arc::new(Shared {
        run: run.clone(),
        client,
        ledger: Ledger::new(run.records),
        all: Keys::new(run.key_dist, run.records),
        own: Keys::new(run.key_dist, run.records.div_ceil(run.clients)),
        stop: AtomicBool::new(false),
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let workers = load_records(&shared).await?;

    let processes = Processes::beside(&path);
    let (cpu, own_cpu) = (processes.cpu(), machine::own_cpu());
    let started = Instant::now();
    let tally = measure(&shared, workers).await?;
    let seconds = started.elapsed().as_secs_f64();
    let ops = tally.get.len() + tally.put.len();
    let mut report = Report::new(run, tally, seconds, sync);
    if 0 < processes.count() {
        report.cpu_us_per_op = Some(per_op(processes.cpu().saturating_sub(cpu), ops));
        report.resident = processes.resident();
    }
    report.own_cpu_us_per_op = per_op(machine::own_cpu().saturating_sub(own_cpu), ops);
    if run.verify {
        report.lost = Some(verify(&shared).await?);
    }
    shared.client.clone().close().await;
    Ok(report)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn per_op(time: Duration, ops: u64) -> f64 {
    time.as_secs_f64() * 1e6 / ops.max(1) as f64
}

fn profile_path(run: &Run) -> Result<PathBuf, ErrorBody> {
    let usual = PathBuf::from("quorate-dev/client.toml");
    match &run.profile {
        Some(path) => Ok(path.clone()),
        None if usual.exists() => Ok(usual),
        None => Err(usage(
            "no client profile: name one with --profile, or start a cluster here with \
             `quorate dev`",
        )),
    }
}

fn usage(error: impl ToString) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidArgument, error.to_string())
}

fn internal(error: impl ToString) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, error.to_string())
}

async fn make_bucket(client: &Client, name: &str) -> Result<(), ErrorBody> {
    match client.bucket(name).await {
        Ok(_) => Ok(()),
        Err(ReadError::Invalid(body)) if body.code == ErrorCode::UnknownBucket => {
            let made = client.create_bucket(name, BucketOptions::default()).await;
            made.map(drop).map_err(|error| error.body().clone())
        }
        Err(error) => Err(error.body().clone()),
    }
}

/// Workers that know their records, all of which exist.
async fn load_records(shared: &Arc<Shared>) -> Result<Vec<Worker>, ErrorBody> {
    let (run, client) = (&shared.run, &shared.client);
    let mut there = BTreeSet::new();
    let mut keys = client.keys(&*run.bucket).prefix("r");
    while let Some(key) = keys.next().await {
        there.insert(key.map_err(|error| error.body().clone())?);
    }
    let there = Arc::new(there);
    let mut loading = JoinSet::new();
    for number in 0..run.clients {
        let worker = Worker {
            shared: shared.clone(),
            number,
            owned: vec![Owned::default(); (run.records - number).div_ceil(run.clients)],
            rng: Pcg64Mcg::seed_from_u64(number as u64),
            tally: Tally::new(),
        };
        loading.spawn(load_one(worker, there.clone()));
    }
    let mut workers = Vec::new();
    while let Some(worker) = loading.join_next().await {
        workers.push(worker.map_err(internal)??);
        let done = shared.done.load(Ordering::Relaxed);
        report::progress(&format!("loading: {done} records written"));
    }
    shared.done.store(0, Ordering::Relaxed);
    Ok(workers)
}

async fn load_one(
    mut worker: Worker,
    there: Arc<BTreeSet<bytes::Bytes>>,
) -> Result<Worker, ErrorBody> {
    for own in 0..worker.owned.len() {
        let record = worker.number + own * worker.shared.run.clients;
        let key = value::key(record);
        if there.contains(key.as_bytes()) {
            let got = worker.shared.client.get(&*worker.shared.run.bucket, &key);
            let got = got.send().await.map_err(|error| error.body().clone())?;
            let number = newest(record, &got);
            worker.shared.ledger.acknowledge(record, number);
            worker.owned[own] = Owned {
                context: got.context,
                number,
            };
        } else if !worker.write(own).await {
            let codes: Vec<_> = worker.tally.errors.keys().collect();
            return Err(internal(format!(
                "record {key} cannot be loaded: {codes:?}"
            )));
        }
    }
    worker.tally = Tally::new();
    Ok(worker)
}

async fn measure(shared: &Arc<Shared>, workers: Vec<Worker>) -> Result<Tally, ErrorBody> {
    let mut working = JoinSet::new();
    for worker in workers {
        working.spawn(worker.work());
    }
    let live = std::io::stderr().is_terminal();
    let end = Instant::now() + shared.run.duration;
    let mut before = 0;
    while let left = end.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        sleep(left.min(Duration::from_secs(1))).await;
        let done = shared.done.load(Ordering::Relaxed);
        if live {
            let failed = shared.failed.load(Ordering::Relaxed);
            let left = end.saturating_duration_since(Instant::now()).as_secs();
            report::progress(&format!(
                "{} op/s   {failed} errors   {left} s left",
                done - before
            ));
        }
        before = done;
    }
    shared.stop.store(true, Ordering::Relaxed);
    let mut total = Tally::new();
    while let Some(tally) = working.join_next().await {
        total.add(&tally.map_err(internal)?);
    }
    Ok(total)
}

/// Records of which an acknowledged write is not there any more.
async fn verify(shared: &Arc<Shared>) -> Result<u64, ErrorBody> {
    let mut looking = JoinSet::new();
    for number in 0..shared.run.clients {
        let shared = shared.clone();
        looking.spawn(async move {
            let mut lost = 0;
            for record in (number..shared.run.records).step_by(shared.run.clients) {
                if look(&shared, record).await? < shared.ledger.acknowledged(record) {
                    lost += 1;
                    report::note(&format!("lost: {}", value::key(record)));
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

async fn look(shared: &Shared, record: usize) -> Result<u64, ErrorBody> {
    let mut looks = 0;
    loop {
        let get = shared.client.get(&*shared.run.bucket, value::key(record));
        match get.send().await {
            Ok(got) => return Ok(newest(record, &got)),
            Err(error) if looks == LOOKS => return Err(error.body().clone()),
            Err(_) => sleep(LOOK_PAUSE).await,
        }
        looks += 1;
    }
}
