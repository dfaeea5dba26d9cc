//! Writes the lines of some keys, one after the other.
//!
//! A line is first written only if there is no live value, under its own operation id: in a fresh
//! import that is all, and in one that is run again it is answered by what was written before.
//! Otherwise the key is read and what was read is replaced. A line that was written before and
//! replaced since is put off to the end: usually a later line of the same file has replaced it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use quorate_client::{Client, Context, OpId, wire::ErrorCode};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep},
};
use xxhash_rust::xxh3::xxh3_64;

use super::super::{lines::Line, output::Failure};

/// Failures that are told one by one.
const FAILURES_TOLD: usize = 10;
/// Lines put off by one worker; more are written at once.
const LATER_MAX: usize = 256;
/// Pauses between tries that go beyond what the client does by itself.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Answers `internal` to one line before it is given up.
const DEFECTS_MAX: u32 = 8;

/// A line and the memory it takes.
pub(super) struct Job {
    pub(super) line: Line,
    pub(super) _room: OwnedSemaphorePermit,
}

/// What became of all lines so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    imported: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<(u64, Failure)>>,
    /// Why a try did not work, since the last that did.
    trouble: Mutex<Option<String>>,
}

impl Tally {
    pub(super) fn imported_count(&self) -> u64 {
        self.imported.load(Ordering::Relaxed)
    }

    pub(super) fn failed_count(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn failures(&self) -> Vec<(u64, Failure)> {
        let failures = self.failures.lock();
        let mut failures = failures.unwrap_or_else(PoisonError::into_inner).clone();
        failures.sort_by_key(|(line, _)| *line);
        failures
    }

    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_trouble(&self, why: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn imported(&self) {
        self.imported.fetch_add(1, Ordering::Relaxed);
        self.set_trouble(None);
    }

    pub(super) fn failed(&self, line: u64, failure: &Failure) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURES_TOLD {
            failures.push((line, failure.clone()));
        }
    }
}

/// What came of writing a line.
enum Written {
    /// It is acknowledged.
    Yes,
    /// It was applied before, and something else has taken its place since.
    Before,
    /// There is a live value that this line must replace.
    Taken,
}

pub(super) struct Worker {
    client: Client,
    bucket: String,
    patience: Option<Duration>,
    tally: Arc<Tally>,
    /// How many lines each key has had so far, by the key's hash. Two keys that share a hash only
    /// cost a read.
    seen: HashMap<u64, u32>,
    later: BTreeMap<Bytes, (Line, u32)>,
}

impl Worker {
    pub(super) fn new(
        client: Client,
        bucket: &str,
        patience: Option<Duration>,
        tally: Arc<Tally>,
    ) -> Self {
        Self {
            client,
            bucket: bucket.to_owned(),
            patience,
            tally,
            seen: HashMap::new(),
            later: BTreeMap::new(),
        }
    }

    /// Writes all lines of the queue; ends early only at what would befall every line.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) -> Result<(), Failure> {
        while let Some(Job { line, _room }) = jobs.recv().await {
            let times = self.seen.entry(xxh3_64(&line.key)).or_default();
            let nth = *times;
            *times += 1;
            if self.later.remove(&line.key).is_some() {
                // This line would have replaced that one.
                self.tally.imported();
            }
            let result = self.write(&line, nth).await;
            self.note(line.number, result)?;
        }
        for (_, (line, nth)) in std::mem::take(&mut self.later) {
            let result = self.replace(&line, nth).await;
            self.note(line.number, result.map(|()| true))?;
        }
        Ok(())
    }

    /// Counts a line; `false` is one that is put off.
    fn note(&self, number: u64, result: Result<bool, Failure>) -> Result<(), Failure> {
        match result {
            Ok(true) => self.tally.imported(),
            Ok(false) => {}
            Err(failure) => {
                if matches!(failure.code, ErrorCode::Denied | ErrorCode::UnknownBucket) {
                    return Err(failure);
                }
                self.tally.failed(number, &failure);
            }
        }
        Ok(())
    }

    async fn write(&mut self, line: &Line, nth: u32) -> Result<bool, Failure> {
        if nth == 0 {
            match self.write_first(line).await? {
                Written::Yes => return Ok(true),
                Written::Before if self.later.len() < LATER_MAX => {
                    self.later.insert(line.key.clone(), (line.clone(), nth));
                    return Ok(false);
                }
                Written::Before | Written::Taken => {}
            }
        }
        self.replace(line, nth).await.map(|()| true)
    }

    /// Writes a line whose key has probably no value yet.
    async fn write_first(&self, line: &Line) -> Result<Written, Failure> {
        let op = operation(&self.bucket, line, 0, None);
        let mut tries = Tries::new(self);
        loop {
            let put = self
                .client
                .put(self.bucket.as_str(), &line.key, line.value.clone());
            match put.op_id(op).if_absent().send().await {
                Ok(written) => {
                    let ours = written
                        .siblings
                        .iter()
                        .any(|s| s.op_id == op.as_bytes()[..]);
                    return Ok(if ours { Written::Yes } else { Written::Before });
                }
                Err(error) => {
                    let body = error.body().clone();
                    if matches!(body.code, ErrorCode::Conflict | ErrorCode::TooManySiblings) {
                        return Ok(Written::Taken);
                    }
                    tries.again(body.into()).await?;
                }
            }
        }
    }

    /// Puts a line in the place of whatever is there.
    async fn replace(&self, line: &Line, nth: u32) -> Result<(), Failure> {
        let mut tries = Tries::new(self);
        let mut seen = self.read(line, &mut tries).await?;
        loop {
            let op = operation(&self.bucket, line, nth, seen.as_ref());
            let put = self
                .client
                .put(self.bucket.as_str(), &line.key, line.value.clone());
            let put = match &seen {
                Some(context) => put.context(context),
                None => put,
            };
            match put.op_id(op).send().await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let body = error.body().clone();
                    if matches!(
                        body.code,
                        ErrorCode::TooManySiblings | ErrorCode::OpIdReused
                    ) {
                        // Something came between: what is there must be seen first.
                        tries.pause(body.into()).await?;
                        seen = self.read(line, &mut tries).await?;
                    } else {
                        tries.again(body.into()).await?;
                    }
                }
            }
        }
    }

    async fn read(&self, line: &Line, tries: &mut Tries<'_>) -> Result<Option<Context>, Failure> {
        loop {
            match self
                .client
                .get(self.bucket.as_str(), &line.key)
                .send()
                .await
            {
                Ok(got) => return Ok(got.context),
                Err(error) => tries.again(error.body().clone().into()).await?,
            }
        }
    }
}

/// The tries of one line.
struct Tries<'a> {
    worker: &'a Worker,
    began: Instant,
    pause: Duration,
    defects: u32,
}

impl<'a> Tries<'a> {
    fn new(worker: &'a Worker) -> Self {
        Self {
            worker,
            began: Instant::now(),
            pause: PAUSE_MIN,
            defects: 0,
        }
    }

    /// Waits before the next try, or gives the failure back if another would not help.
    async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        self.defects += u32::from(failure.code == ErrorCode::Internal);
        let code = failure.code;
        let hope = matches!(
            code,
            ErrorCode::Unavailable | ErrorCode::Overloaded | ErrorCode::UnknownOutcome
        ) || (code == ErrorCode::Internal && self.defects < DEFECTS_MAX);
        if hope {
            self.pause(failure).await
        } else {
            Err(failure)
        }
    }

    async fn pause(&mut self, failure: Failure) -> Result<(), Failure> {
        let spent = self.began.elapsed() + self.pause;
        if self
            .worker
            .patience
            .is_some_and(|patience| patience < spent)
        {
            return Err(failure);
        }
        self.worker.tally.set_trouble(Some(failure.message));
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

/// The id of the `nth` line of its key, written over what the context shows.
fn operation(bucket: &str, line: &Line, nth: u32, context: Option<&Context>) -> OpId {
    let mut hasher = blake3::Hasher::new_derive_key("quorate 2026 import operation");
    let context = context.map(|context| &context.as_bytes()[..]);
    for part in [bucket.as_bytes(), &line.key, &line.value] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(&nth.to_le_bytes());
    hasher.update(context.unwrap_or_default());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    OpId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_id_follows_from_bucket_key_and_line() {
        let line = |key: &'static str, value: &'static str| Line {
            number: 1,
            key: key.into(),
            value: value.into(),
        };
        let id = operation("b", &line("k", "v"), 0, None);
        let again = Line {
            number: 9,
            ..line("k", "v")
        };
        assert_eq!(operation("b", &again, 0, None), id);
        let seen = Context::from_bytes(Bytes::from_static(b"c"));
        for other in [
            operation("c", &line("k", "v"), 0, None),
            operation("b", &line("kv", ""), 0, None),
            operation("b", &line("k", "w"), 0, None),
            operation("b", &line("k", "v"), 1, None),
            operation("b", &line("k", "v"), 0, Some(&seen)),
        ] {
            assert_ne!(other, id);
        }
    }
}
