//! One operation from the first try to the last.
//!
//! Decides whom to ask next, how long to wait and what the tries together mean. The rule for
//! writes: once a try may have reached a node and its end is not known, no later refusal can turn
//! the whole into *not applied*. A read that takes longer than nearly all do is asked of a second
//! node within the budget for that; one that takes much longer than its node's answers do, within
//! the budget for retries. The first answer counts, and whoever did not give it is told to stop.
//! Dropping an operation at any point does the same, and gives back what it held.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Span;

use crate::{
    lane::{SendError, Waiting},
    latency::Hedging,
    link::{InFlight, Link},
    pool::{Pool, Routing, cost_kib},
    retry::{Backoff, Verdict},
    routing::Preference,
    table::Route,
    wire::{ErrorBody, ErrorCode, Frame, Request, Response},
};

/// Tries at an error that another node may not have.
const FEW: u32 = 3;
/// The limit that a node names when it wants no more requests.
const DRAINING: &str = "draining";
/// Most of the caller's time that is kept back for the node's answer to arrive.
const MARGIN_MAX: Duration = Duration::from_millis(100);

/// What sending an operation twice would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it only reads. Another node may be asked while one is slow.
    Read,
    /// Nothing: its operation id sees to that.
    Idempotent,
    /// It might be applied twice.
    Once,
}

/// An operation to be carried out.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) request: Request,
    pub(crate) effect: Effect,
    pub(crate) timeout: Duration,
}

/// How one try ended.
enum Try {
    /// A node answered.
    Answer(Response),
    /// Nothing was sent.
    NotSent(String),
    /// Nothing was sent: the node owes us too much already.
    Full(&'static str, String),
    /// No answer yet; it is kept while another node is asked as well.
    Slow,
    /// It was sent, and what became of it is not known.
    Lost(String),
    /// It cannot be sent at all.
    Impossible(String),
}

/// A try that is under way.
struct Flight {
    waiting: Waiting,
    link: Arc<Link>,
    started: Instant,
    /// Says something of how fast its node is.
    counted: Option<InFlight>,
}

/// An operation between tries.
struct Call<'a> {
    pool: &'a Arc<Pool>,
    request: Request,
    effect: Effect,
    deadline: Instant,
    /// Nodes asked since the last pause.
    tried: Vec<Arc<Link>>,
    /// A read that another node was asked as well.
    slow: Option<Flight>,
    backoff: Option<Backoff>,
    /// A try may have been applied.
    ambiguous: bool,
    tries: u32,
    few: u32,
    last: Option<ErrorBody>,
}

/// Carries out an operation.
pub(crate) async fn run(pool: &Arc<Pool>, operation: Operation) -> Result<Response, ErrorBody> {
    let deadline = Instant::now() + operation.timeout;
    let cost = cost_kib(bytes_of(&operation.request));
    // Nobody closes the semaphore, and its total is above any single cost.
    let Ok(Ok(_room)) = timeout_at(deadline, pool.operations.acquire_many(cost)).await else {
        let message = "this client has too many unfinished operations";
        return Err(ErrorBody::overloaded("client_operations", message));
    };
    let mut call = Call {
        pool,
        request: operation.request,
        effect: operation.effect,
        deadline,
        tried: Vec::new(),
        slow: None,
        backoff: None,
        ambiguous: false,
        tries: 0,
        few: 0,
        last: None,
    };
    let answer = call.run().await;
    Span::current().record("tries", call.tries);
    if let Err(error) = &answer {
        tracing::debug!(code = error.code.as_str(), "failed");
    }
    answer
}

impl Call<'_> {
    async fn run(&mut self) -> Result<Response, ErrorBody> {
        loop {
            let outcome = match (self.next_link(), self.slow.take()) {
                (Some(link), slow) => {
                    self.slow = slow;
                    self.tried.push(link.clone());
                    self.attempt(&link).await
                }
                (None, Some(slow)) => self.wait_until(slow, self.deadline).await,
                (None, None) => {
                    self.tried.clear();
                    if !self.pause().await {
                        return Err(self.conclude());
                    }
                    continue;
                }
            };
            match outcome {
                Try::Answer(Response::Error(body)) if self.is_sent_away(&body) => {
                    self.last = Some(body);
                }
                Try::Answer(Response::Error(body)) => {
                    if let Some(end) = self.refused(body) {
                        return Err(end);
                    }
                    if !self.pause().await {
                        return Err(self.conclude());
                    }
                }
                Try::Answer(response) => {
                    self.pool.budget.earn();
                    return Ok(response);
                }
                Try::NotSent(why) => self.note(ErrorBody::new(ErrorCode::Unavailable, why)),
                Try::Full(limit, why) => self.note(ErrorBody::overloaded(limit, why)),
                Try::Slow => {}
                Try::Lost(why) => {
                    self.ambiguous |= self.effect != Effect::Read;
                    self.note(ErrorBody::new(ErrorCode::Unavailable, why));
                    if self.effect == Effect::Once || !self.may_try_again() {
                        return Err(self.conclude());
                    }
                }
                Try::Impossible(why) => {
                    return Err(ErrorBody::new(ErrorCode::InvalidArgument, why));
                }
            }
        }
    }

    fn next_link(&self) -> Option<Arc<Link>> {
        let preference = match (self.pool.routing, self.effect) {
            (Routing::Random, _) => Preference::Any,
            (Routing::Replica, Effect::Read) => Preference::Soonest,
            (Routing::Replica, Effect::Idempotent | Effect::Once) => Preference::First,
        };
        self.pool
            .choose(route(&self.request), preference, &self.tried)
    }

    /// True if the node that was asked is about to stop and has done nothing: another is asked at
    /// once, which costs no budget.
    fn is_sent_away(&self, body: &ErrorBody) -> bool {
        let drains = body.limit.as_deref() == Some(DRAINING) && !self.pool.is_pinned();
        if let Some(link) = self.tried.last().filter(|_| drains) {
            link.sent_away(Instant::now());
        }
        drains
    }

    /// A node's error: the end of the operation, or `None` to go on.
    fn refused(&mut self, body: ErrorBody) -> Option<ErrorBody> {
        let verdict = Verdict::of(body.code);
        self.ambiguous |= body.code == ErrorCode::UnknownOutcome;
        self.few += u32::from(verdict == Verdict::Few);
        self.last = Some(body);
        let end = verdict == Verdict::Final
            || self.few >= FEW
            || (self.effect == Effect::Once && self.ambiguous)
            || !self.may_try_again();
        end.then(|| self.conclude())
    }

    fn may_try_again(&self) -> bool {
        Instant::now() < self.deadline && self.pool.budget.spend()
    }

    /// Waits before asking again; false if there is no time left to.
    async fn pause(&mut self) -> bool {
        let seed = self.pool.seed();
        let pause = self
            .backoff
            .get_or_insert_with(|| Backoff::new(seed))
            .pause();
        let until = Instant::now() + pause;
        if self.deadline <= until {
            return false;
        }
        sleep_until(until).await;
        true
    }

    /// Takes note of why a node could not be asked.
    fn note(&mut self, why: ErrorBody) {
        // What a node said is worth more than that another could not be asked.
        let code = ErrorCode::Unavailable;
        if self.last.as_ref().is_none_or(|last| last.code == code) {
            self.last = Some(why);
        }
    }

    /// What all tries together mean.
    fn conclude(&mut self) -> ErrorBody {
        let last = self.last.take().unwrap_or_else(|| {
            ErrorBody::new(ErrorCode::Unavailable, "no node could be asked in time")
        });
        if !self.ambiguous || last.code == ErrorCode::UnknownOutcome {
            return last;
        }
        // What a node says of its own part need not hold for the tries before.
        let why = last.message.replace("; nothing was applied", "");
        ErrorBody {
            code: ErrorCode::UnknownOutcome,
            message: format!(
                "the write may or may not have been applied: it was sent, and then: {why}"
            ),
            ..last
        }
    }

    /// Asks one node, and waits as long as that is the best to do.
    async fn attempt(&mut self, link: &Arc<Link>) -> Try {
        let lane = match link.lane() {
            Some(lane) => lane,
            None => match timeout_at(self.deadline, self.pool.dial(link)).await {
                Ok(Ok(lane)) => lane,
                Ok(Err(why)) => return Try::NotSent(format!("{}: {why}", link.label())),
                Err(_) => {
                    return Try::NotSent(format!("{}: no connection in time", link.label()));
                }
            },
        };
        self.tries += 1;
        tracing::trace!(node = link.label(), "asked");
        let started = Instant::now();
        let left = self.deadline.saturating_duration_since(started);
        // The node should give up, and say so, before we do.
        let budget = left.saturating_sub((left / 20).min(MARGIN_MAX));
        stamp(&mut self.request, budget, self.ambiguous);
        let waiting = match lane.send(&self.request) {
            Ok(waiting) => waiting,
            Err(SendError::Closed) => {
                return Try::NotSent(format!("{}: the connection is gone", link.label()));
            }
            Err(SendError::Full(limit)) => {
                let node = link.label();
                let why = format!("limit {limit} is reached: {node} does not keep up");
                return Try::Full(limit, why);
            }
            Err(SendError::Encode(error)) => return Try::Impossible(error.to_string()),
        };
        let flight = Flight {
            waiting,
            link: link.clone(),
            started,
            counted: is_quick(&self.request).then(|| link.begin(started)),
        };
        self.wait(flight).await
    }

    /// Waits for a try as long as no other node is to be asked as well.
    async fn wait(&mut self, flight: Flight) -> Try {
        let alone = self.effect != Effect::Read || self.pool.is_pinned() || self.slow.is_some();
        if alone {
            return self.wait_until(flight, self.deadline).await;
        }
        let (started, limit) = (flight.started, flight.link.limit());
        let mut outcome = Try::Slow;
        self.slow = Some(flight);
        let quick = is_quick(&self.request);
        let delay = self.pool.hedging(|hedging| hedging.delay());
        if let Some(delay) = delay.filter(|delay| quick && *delay < limit) {
            outcome = self.wait_for_slow(started + delay).await;
            if matches!(outcome, Try::Slow)
                && self.next_link().is_some()
                && self.pool.hedging(Hedging::spend)
            {
                return outcome;
            }
        }
        if matches!(outcome, Try::Slow) {
            outcome = self.wait_for_slow(started + limit).await;
        }
        if matches!(outcome, Try::Slow) && !(self.next_link().is_some() && self.may_try_again()) {
            outcome = self.wait_for_slow(self.deadline).await;
        }
        outcome
    }

    /// Waits for the slow try alone; it stays if it is still not there.
    async fn wait_for_slow(&mut self, until: Instant) -> Try {
        match self.slow.take() {
            Some(slow) => self.wait_until(slow, until.min(self.deadline)).await,
            None => Try::Slow,
        }
    }

    /// Waits for a try, and for the slow one if there is one.
    async fn wait_until(&mut self, mut flight: Flight, until: Instant) -> Try {
        let slow = self.slow.take();
        let (frame, flight) = match either(&mut flight, slow, until).await {
            Ended::This(frame) => (frame, flight),
            Ended::Slow(frame, slow) => (frame, slow),
            Ended::Time if self.deadline <= until => {
                let why = format!("{} did not answer in time", flight.link.label());
                return Try::Lost(why);
            }
            Ended::Time => {
                self.slow = Some(flight);
                return Try::Slow;
            }
        };
        let Some(frame) = frame else {
            return Try::Lost(format!("{}: the connection was lost", flight.link.label()));
        };
        if flight.counted.is_some() {
            let (now, took) = (Instant::now(), flight.started.elapsed());
            flight.link.answered(took, now);
            if self.effect == Effect::Read {
                self.pool.hedging(|hedging| hedging.record(took));
            }
        }
        match Response::decode(frame.kind, &frame.body) {
            Ok(response) => Try::Answer(response),
            Err(error) => Try::Lost(format!("{}: {error}", flight.link.label())),
        }
    }
}

/// What came of waiting.
enum Ended {
    This(Option<Frame>),
    Slow(Option<Frame>, Flight),
    Time,
}

/// Waits for a try, for an older one of the same read if there is one, and for the time.
async fn either(this: &mut Flight, slow: Option<Flight>, until: Instant) -> Ended {
    let both = async {
        let Some(mut slow) = slow else {
            return Ended::This(this.waiting.answer().await);
        };
        // Biased: whichever has been waited for longest comes first. One that is lost leaves the
        // other to wait for.
        tokio::select! {
            biased;
            Some(frame) = slow.waiting.answer() => Ended::Slow(Some(frame), slow),
            Some(frame) = this.waiting.answer() => Ended::This(Some(frame)),
            else => Ended::This(None),
        }
    };
    timeout_at(until, both).await.unwrap_or(Ended::Time)
}

/// Whether how long it takes says something of the node: what asks all nodes waits for the slowest.
const fn is_quick(request: &Request) -> bool {
    matches!(
        request,
        Request::Get(_) | Request::Put(_) | Request::Delete(_)
    )
}

fn route(request: &Request) -> Route<'_> {
    match request {
        Request::Get(get) => Route::Key(&get.bucket, &get.key),
        Request::Put(write) | Request::Delete(write) => Route::Key(&write.bucket, &write.key),
        Request::Explain(explain) => Route::Key(&explain.bucket, &explain.key),
        Request::Keys(_)
        | Request::Bucket(_)
        | Request::Ring
        | Request::Status
        | Request::Healing(_)
        | Request::RingChange(_) => Route::Any,
    }
}

fn bytes_of(request: &Request) -> usize {
    match request {
        Request::Put(write) | Request::Delete(write) => {
            write.key.len() + write.value.as_ref().map_or(0, bytes::Bytes::len)
        }
        Request::Get(_)
        | Request::Keys(_)
        | Request::Explain(_)
        | Request::Bucket(_)
        | Request::Ring
        | Request::Status
        | Request::Healing(_)
        | Request::RingChange(_) => 0,
    }
}

/// Tells the node how much time is left, and whether it may have seen this before.
fn stamp(request: &mut Request, left: Duration, again: bool) {
    let left = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
    match request {
        Request::Get(get) => get.timeout_ms = left,
        Request::Put(write) | Request::Delete(write) => {
            write.timeout_ms = left;
            write.retry |= again;
        }
        Request::Keys(keys) => keys.timeout_ms = left,
        Request::Explain(explain) => explain.timeout_ms = left,
        Request::Bucket(bucket) => bucket.timeout_ms = left,
        Request::Healing(healing) => healing.timeout_ms = left,
        Request::RingChange(change) => change.timeout_ms = left,
        Request::Ring | Request::Status => {}
    }
}
