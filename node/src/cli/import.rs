//! `quorate import`: every line of a file becomes a value, each sent until it is acknowledged.
//!
//! Lines are spread over workers by key, so that lines of one key are written in their order. The
//! operation id of a line follows from bucket, key and line: an import that is run again finds
//! what it has written before and goes on from there. After success every key holds the last of
//! its lines; versions that somebody else writes meanwhile, unseen by us, stay as siblings.

mod progress;
mod worker;

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use quorate_client::{Client, wire::ErrorCode};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use xxhash_rust::xxh3::xxh3_64;

use self::{
    progress::Progress,
    worker::{Job, Tally, Worker},
};
use super::{
    lines::{Line, LineFormat, Lines},
    output::{Failure, Out},
};

/// Lines that may wait for one worker.
const QUEUE: usize = 4;
/// Memory for lines that are on their way, in KiB.
const LINES_KIB: usize = 64 << 10;
/// A JSON line may be a little longer than the value limit only in error; read no more than that.
const LINE_BYTES_MAX: usize = 8 << 20;

/// Write every line of a file as a value; a later line with the same key replaces the earlier.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The bucket, which must exist.
    bucket: String,
    /// The file; `-` is stdin.
    file: PathBuf,
    /// How a line holds key and value.
    #[arg(long, value_enum)]
    format: LineFormat,
    /// The field that is the key, for jsonl.
    #[arg(long)]
    key: Option<String>,
    /// Writes under way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
}

impl Import {
    /// True if the lines come from stdin.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    /// Imports; the exit code is 0 only if every line was acknowledged. `patience` is the most
    /// that one line may take, for ever if none is given.
    pub(crate) async fn run(
        &self,
        client: &Client,
        patience: Option<Duration>,
        out: &mut Out,
    ) -> Result<u8, Failure> {
        let began = Instant::now();
        let field = match (self.format, &self.key) {
            (LineFormat::Jsonl, Some(field)) => field.clone(),
            (LineFormat::Tsv, None) => String::new(),
            (LineFormat::Jsonl, None) => {
                return Err(Failure::usage(
                    "jsonl needs --key FIELD: which one is the key?",
                ));
            }
            (LineFormat::Tsv, Some(_)) => {
                let message = "--key is for jsonl: in tsv the key is what stands before the tab";
                return Err(Failure::usage(message));
            }
        };
        let bucket = client.bucket(&self.bucket).await;
        bucket.map_err(|error| Failure::from(error.body().clone()))?;
        let (input, size) = self.open()?;
        let read = Arc::new(AtomicU64::new(0));
        let lines = Lines {
            format: self.format,
            field,
            bytes_max: LINE_BYTES_MAX,
        };
        let lines = lines.read(input, read.clone());
        let tally = Arc::new(Tally::default());
        let progress = Progress::start(tally.clone(), read, size);
        let worked = self.work(client, patience, lines, &tally).await;
        progress.end().await;
        worked?;
        self.report(&tally, began.elapsed(), out)
    }

    fn open(&self) -> Result<(Box<dyn BufRead + Send>, Option<u64>), Failure> {
        if self.reads_stdin() {
            return Ok((Box::new(BufReader::new(std::io::stdin())), None));
        }
        let problem = |error| Failure::usage(format!("{}: {error}", self.file.display()));
        let file = File::open(&self.file).map_err(problem)?;
        let about = file.metadata().map_err(problem)?;
        if about.is_dir() {
            return Err(Failure::usage(format!(
                "{} is a directory",
                self.file.display()
            )));
        }
        let size = about.is_file().then_some(about.len());
        Ok((Box::new(BufReader::with_capacity(1 << 16, file)), size))
    }

    async fn work(
        &self,
        client: &Client,
        patience: Option<Duration>,
        mut lines: mpsc::Receiver<std::io::Result<Result<Line, super::lines::BadLine>>>,
        tally: &Arc<Tally>,
    ) -> Result<(), Failure> {
        let mut workers = JoinSet::new();
        let mut queues = Vec::new();
        for _ in 0..self.concurrency {
            let (queue, jobs) = mpsc::channel(QUEUE);
            queues.push(queue);
            let worker = Worker::new(client.clone(), &self.bucket, patience, tally.clone());
            workers.spawn(worker.run(jobs));
        }
        let room = Arc::new(Semaphore::new(LINES_KIB));
        while let Some(line) = lines.recv().await {
            let line = match line? {
                Ok(line) => line,
                Err(bad) => {
                    let code = ErrorCode::InvalidArgument;
                    tally.failed(bad.number, &Failure::new(code, bad.message));
                    continue;
                }
            };
            let kib = 1 + (line.key.len() + line.value.len()) / 1024;
            let kib = u32::try_from(kib).unwrap_or(u32::MAX);
            // Nobody closes the semaphore, and no line is larger than all of it.
            let Ok(room) = room.clone().acquire_many_owned(kib).await else {
                break;
            };
            let queue = xxh3_64(&line.key) % u64::from(self.concurrency);
            let queue = &queues[usize::try_from(queue).unwrap_or(0)];
            if queue.send(Job { line, _room: room }).await.is_err() {
                // A worker has met something that no other line will escape either.
                break;
            }
        }
        drop(queues);
        while let Some(worked) = workers.join_next().await {
            worked.map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))??;
        }
        Ok(())
    }

    fn report(&self, tally: &Tally, took: Duration, out: &mut Out) -> Result<u8, Failure> {
        let (imported, failed) = (tally.imported_count(), tally.failed_count());
        let failures = tally.failures();
        let exit = failures
            .first()
            .map_or(0, |(_, failure)| failure.code.exit_code());
        let errors: Vec<Value> = failures
            .iter()
            .map(|(line, failure)| {
                json!({
                    "line": line, "code": failure.code.as_str(), "message": failure.message,
                })
            })
            .collect();
        let json = json!({
            "bucket": self.bucket, "imported": imported, "failed": failed,
            "seconds": (took.as_secs_f64() * 1e3).round() / 1e3, "errors": errors,
        });
        out.answer(json, |_| {
            let mut text = vec![format!(
                "imported {imported} lines in {:.1} s, {failed} failed",
                took.as_secs_f64()
            )];
            text.extend(
                failures
                    .iter()
                    .map(|(line, failure)| format!("  line {line}: {failure}")),
            );
            if (failures.len() as u64) < failed {
                text.push(format!("  and {} more", failed - failures.len() as u64));
            }
            text
        })?;
        Ok(exit)
    }
}
