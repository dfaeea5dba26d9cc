//! What clients do: reads and writes with and without contexts, retries, quorums of their own.
//!
//! Clients live outside the cluster. Each keeps the contexts of its latest answers and uses them
//! in later writes, however stale they have become. A client that hears nothing, or hears that the
//! outcome is unknown, may send the same operation again, to the same node or another; one that
//! hears an answer may do so as well, since that is what networks do to people. Some lie: they
//! bring contexts that are damaged, made up, or of another key, or use an operation id twice.

use std::{collections::BTreeMap, rc::Rc};

use bytes::Bytes;
use quorate_client::wire::{
    Condition, ErrorCode, GetRequest, Request, Response, Version, WriteRequest,
};

use crate::{
    history::{History, Op, OpIndex, Outcome, Reuse, Seen, op_id, place},
    options::{Options, WorkloadOptions},
    oracle::session::{Read, Session},
    rng::{Rng, nanos},
};

const R_DEFAULT: u8 = 2;
const W_DEFAULT: u8 = 2;
const ATTEMPTS_MAX: u32 = 4;
/// What the bucket allows.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// What a request is about.
#[derive(Clone, Debug)]
pub enum Call {
    /// A get.
    Read(Read),
    /// A put or delete.
    Write(OpIndex),
    /// Another put under the id of that one, which was acknowledged.
    Reuse(OpIndex),
    /// Something about the ring.
    Operate,
    /// A change of buckets, with its mark.
    Define(u32),
}

/// One request of one client to one node.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Unique in the run.
    pub serial: u64,
    /// The client.
    pub client: usize,
    /// The node.
    pub target: usize,
    /// How long the node may take, by the budget in the request.
    pub budget: u64,
    /// What it is about.
    pub call: Call,
    /// What is sent.
    pub request: Request,
}

/// What a client gets to know of an attempt.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The node answered; for a read or an acknowledged write, what the context stands for.
    Answer(Box<Response>, Option<Seen>),
    /// The node could not be reached: the request was certainly not received.
    Refused,
    /// Nothing, for so long that the client gave up.
    Silence,
}

/// Numbers for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkCounts {
    /// Operations started.
    pub operations: u64,
    /// Operations that were answered as asked.
    pub acknowledged: u64,
    /// Further attempts of operations.
    pub retries: u64,
    /// Of these, sent to another node than the one before.
    pub elsewhere: u64,
    /// Of these, sent before the first could be answered.
    pub impatient: u64,
    /// Operation ids used again for another write.
    pub reused: u64,
    /// Writes with a precondition.
    pub conditional: u64,
    /// Writes with a context nobody gave out.
    pub forged: u64,
    /// Requests with next to no time.
    pub hasty: u64,
    /// Writes of values about as large as a value may be.
    pub huge: u64,
    /// Gets that brought along what was seen.
    pub sessions: u64,
    /// Requests taken back.
    pub taken_back: u64,
}

impl WorkCounts {
    /// What clients did wrong or in a hurry, by name.
    #[must_use]
    pub const fn faults(&self) -> [(&'static str, u64); 9] {
        [
            ("elsewhere", self.elsewhere),
            ("impatient", self.impatient),
            ("reused_id", self.reused),
            ("conditional", self.conditional),
            ("forged", self.forged),
            ("hasty", self.hasty),
            ("huge", self.huge),
            ("sessions", self.sessions),
            ("taken_back", self.taken_back),
        ]
    }
}

/// All clients.
#[derive(Debug)]
pub struct Workload {
    options: WorkloadOptions,
    nodes: usize,
    replicas: u8,
    bucket: &'static str,
    sloppy: bool,
    keys: Vec<Bytes>,
    contexts: Vec<BTreeMap<u32, Seen>>,
    waiting: BTreeMap<u64, Attempt>,
    serial: u64,
    rng: Rng,
    /// The key that everybody wants at present.
    aim: Option<u32>,
    /// What writes demand of their quorums comes from a stream of its own.
    demands: Rng,
    /// For what was not always drawn.
    manners: Rng,
    /// For the summary.
    pub counts: WorkCounts,
}

impl Workload {
    /// From now on everybody wants this key, or whichever they like.
    pub const fn aim(&mut self, key: Option<u32>) {
        self.aim = key;
    }

    /// The clients of a run.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let work = options.workload.clone();
        let keys = (0..work.keys)
            .map(|key| Bytes::from(format!("key-{key:04}")))
            .collect();
        Self {
            aim: None,
            contexts: vec![BTreeMap::new(); work.clients],
            nodes: options.nodes + options.spare,
            replicas: options.replicas,
            bucket: options.bucket(),
            sloppy: options.sloppy,
            options: work,
            keys,
            waiting: BTreeMap::new(),
            serial: 0,
            rng: Rng::new(options.seed, 0x3042),
            demands: Rng::new(options.seed, 0x3048),
            manners: Rng::new(options.seed, 0x3053),
            counts: WorkCounts::default(),
        }
    }

    /// The bytes of every key.
    #[must_use]
    pub fn keys(&self) -> &[Bytes] {
        &self.keys
    }

    /// Time until the next operation.
    pub fn pause(&mut self) -> u64 {
        self.rng.exponential(self.options.interval)
    }

    /// Attempts that have not been answered or given up.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody lies, hurries or exaggerates any more.
    pub fn calm_down(&mut self) {
        self.options.hasty = 0;
        self.options.impatient = 0;
        self.options.reuse = 0;
        self.options.forged = 0;
        self.options.huge = 0;
        self.options.fickle = 0;
    }

    /// How long a client waits before it gives up.
    #[must_use]
    pub fn patience(&self) -> u64 {
        self.options.patience()
    }

    /// The next operation of some client.
    pub fn next_op(&mut self, now: u64, history: &mut History, session: &Session) -> Attempt {
        self.counts.operations += 1;
        let client = self.rng.index(self.options.clients);
        let key = self.some_key();
        let key = self.aim.unwrap_or(key);
        if self.rng.chance(self.options.gets) {
            let r = if self.rng.chance(self.options.own_quorum) {
                Some(self.quorum(1))
            } else {
                None
            };
            let read = session.read(key, r.unwrap_or(R_DEFAULT), now);
            let attempt = self.get(client, read, r);
            return self.within_session(attempt);
        }
        let op = self.some_write(now, client, key, session);
        let op = history.push(op);
        self.write(client, op, history)
    }

    /// Now and then a get brings along what its client has seen.
    fn within_session(&mut self, attempt: Attempt) -> Attempt {
        let Call::Read(read) = &attempt.call else {
            return attempt;
        };
        if self.options.sessions == 0 || !self.manners.chance(self.options.sessions) {
            return attempt;
        }
        match self.contexts[attempt.client].get(&read.key).cloned() {
            Some(seen) => self.having_seen(attempt, &seen),
            None => attempt,
        }
    }

    /// The same get by a reader that has seen this.
    pub fn having_seen(&mut self, mut attempt: Attempt, seen: &Seen) -> Attempt {
        if let Request::Get(get) = &mut attempt.request {
            get.seen = vec![seen.context.clone()];
            self.counts.sessions += 1;
            self.waiting.insert(attempt.serial, attempt.clone());
        }
        attempt
    }

    /// After what time a client takes an attempt back, if it does.
    pub fn take_back_after(&mut self, attempt: &Attempt) -> Option<u64> {
        let may = matches!(attempt.call, Call::Read(_) | Call::Write(_));
        if self.options.fickle == 0 || !may || !self.manners.chance(self.options.fickle) {
            return None;
        }
        self.counts.taken_back += 1;
        let longest = *self.manners.pick(&[1, 4, 32]);
        Some(self.manners.below(longest * 1_000_000))
    }

    fn some_key(&mut self) -> u32 {
        let keys = if self.rng.chance(500_000) {
            self.options.hot_keys
        } else {
            self.options.keys
        };
        u32::try_from(self.rng.index(keys)).expect("a run has few keys")
    }

    fn quorum(&mut self, least: u8) -> u8 {
        let span = self.rng.between(u64::from(least), u64::from(self.replicas));
        u8::try_from(span).expect("between two bytes")
    }

    fn some_write(&mut self, now: u64, client: usize, key: u32, session: &Session) -> Op {
        let delete = self.rng.chance(self.options.deletes);
        let contextual = self.rng.chance(self.options.contextual);
        let seen = self.contexts[client]
            .get(&key)
            .filter(|_| contextual)
            .cloned();
        let w = if self.rng.chance(self.options.own_quorum) {
            self.quorum(self.options.w_min)
        } else {
            W_DEFAULT
        };
        let condition = match &seen {
            _ if !self.rng.chance(self.options.conditional) => Condition::None,
            Some(_) => Condition::IfMatch,
            None => Condition::IfAbsent,
        };
        let mut op = Op {
            value_bytes: 4 + self.rng.index(self.options.value_max),
            seen,
            w,
            condition,
            ..Op::new(key, delete, now)
        };
        if !delete && self.rng.chance(self.options.mortal) {
            op.ttl_ms = self.rng.between(1, self.options.ttl_max_ms);
        }
        if op.condition != Condition::None {
            self.counts.conditional += 1;
            op.front = session.read(key, w, now).front;
        }
        self.demand(&mut op);
        if self.rng.chance(self.options.huge) {
            self.counts.huge += 1;
            op.value_bytes = VALUE_BYTES_MAX - 1 + self.rng.index(3);
        }
        if self.rng.chance(self.options.forged) {
            self.counts.forged += 1;
            op.forged = Some(self.forge(client, key, op.seen.take()));
        }
        op
    }

    /// Whether others may stand in for its replicas, and how many must have it themselves.
    fn demand(&mut self, op: &mut Op) {
        op.sloppy = self.sloppy && !self.demands.chance(self.options.strict);
        if self.demands.chance(self.options.primary) {
            let pw = self.demands.between(1, u64::from(op.w));
            op.pw = u8::try_from(pw).expect("between two bytes");
        }
    }

    /// After what time the author of a write sends it elsewhere as well, if it cannot wait.
    pub fn impatience(&mut self, attempt: &Attempt) -> Option<u64> {
        let hurries = matches!(attempt.call, Call::Write(_));
        (hurries && self.rng.chance(self.options.impatient))
            .then(|| self.rng.below(nanos(self.options.timeout) / 8))
    }

    /// A client that has not heard of an attempt sends another to another node.
    pub fn again(&mut self, serial: u64, history: &mut History) -> Option<Attempt> {
        let Attempt {
            client,
            target,
            call: Call::Write(index),
            ..
        } = *self.waiting.get(&serial)?
        else {
            return None;
        };
        self.counts.retries += 1;
        self.counts.impatient += 1;
        self.counts.elsewhere += 1;
        let next = self.write(client, index, history);
        let elsewhere = (target + 1 + self.rng.index(self.nodes - 1)) % self.nodes;
        Some(self.retarget(next, elsewhere))
    }

    /// A client uses the id of an acknowledged put for another.
    fn reuse(&mut self, client: usize, index: OpIndex, history: &mut History) -> Attempt {
        self.counts.reused += 1;
        let timeout_ms = self.timeout_ms();
        let op = &mut history.ops[index.at()];
        if op.reuse == Reuse::No {
            op.reuse = Reuse::Tried;
        }
        let request = Request::Put(WriteRequest {
            bucket: self.bucket.to_owned(),
            key: self.key(op.key),
            value: Some(Bytes::from_static(b"another value under the same id")),
            w: (op.w != W_DEFAULT).then_some(op.w),
            // Who lets others stand in need not meet those who hold the first.
            sloppy: (self.sloppy && !op.sloppy).then_some(false),
            op_id: op_id(index),
            retry: true,
            timeout_ms,
            ..WriteRequest::default()
        });
        let target = self.rng.index(self.nodes);
        let budget = u64::from(timeout_ms) * 1_000_000;
        self.attempt(client, target, budget, Call::Reuse(index), request)
    }

    /// A context that no node gave out for this key.
    fn forge(&mut self, client: usize, key: u32, seen: Option<Seen>) -> Bytes {
        let foreign = self.contexts[client].iter().find(|(of, _)| **of != key);
        let foreign = foreign.map(|(_, seen)| seen.context.clone());
        let made_up = || Bytes::from_static(b"no node ever said this, whatever it may mean");
        let own = seen.map(|seen| seen.context);
        match (self.rng.below(3), own, foreign) {
            (0, Some(own), _) => {
                let mut bytes = own.to_vec();
                let at = self.rng.index(bytes.len());
                bytes[at] ^= 1 << self.rng.below(8);
                Bytes::from(bytes)
            }
            (1, Some(own), _) => own.slice(..self.rng.index(own.len())),
            (_, _, Some(foreign)) => foreign,
            (_, _, None) => made_up(),
        }
    }

    /// Sends a read of a caller's choosing.
    pub fn get(&mut self, client: usize, read: Read, r: Option<u8>) -> Attempt {
        let timeout_ms = self.timeout_ms();
        let request = Request::Get(GetRequest {
            bucket: self.bucket.to_owned(),
            key: self.key(read.key),
            r,
            pr: None,
            seen: Vec::new(),
            timeout_ms,
        });
        let target = self.rng.index(self.nodes);
        let budget = u64::from(timeout_ms) * 1_000_000;
        self.attempt(client, target, budget, Call::Read(read), request)
    }

    /// Sends a write for the first time or once more.
    pub fn write(&mut self, client: usize, index: OpIndex, history: &mut History) -> Attempt {
        let timeout_ms = self.timeout_ms();
        let op = &mut history.ops[index.at()];
        let retry = op.refused < op.attempts;
        op.attempts += 1;
        if op.outcome == Outcome::NotApplied {
            op.outcome = Outcome::Unknown;
        }
        let write = WriteRequest {
            bucket: self.bucket.to_owned(),
            key: self.key(op.key),
            value: op.value.clone(),
            context: context(op),
            w: (op.w != W_DEFAULT).then_some(op.w),
            pw: (0 < op.pw).then_some(op.pw),
            sloppy: (self.sloppy && !op.sloppy).then_some(false),
            op_id: op_id(index),
            retry,
            ttl_ms: (0 < op.ttl_ms).then_some(op.ttl_ms),
            condition: op.condition,
            timeout_ms,
        };
        let request = if op.delete {
            Request::Delete(write)
        } else {
            Request::Put(write)
        };
        let target = self.rng.index(self.nodes);
        let budget = u64::from(timeout_ms) * 1_000_000;
        self.attempt(client, target, budget, Call::Write(index), request)
    }

    fn key(&self, key: u32) -> Bytes {
        self.keys[place(key)].clone()
    }

    fn timeout_ms(&mut self) -> u32 {
        if self.rng.chance(self.options.hasty) {
            self.counts.hasty += 1;
            return u32::try_from(self.rng.below(20)).expect("below 20");
        }
        u32::try_from(self.options.timeout.as_millis()).expect("budgets are short")
    }

    pub(crate) fn attempt(
        &mut self,
        client: usize,
        target: usize,
        budget: u64,
        call: Call,
        request: Request,
    ) -> Attempt {
        self.serial += 1;
        let attempt = Attempt {
            serial: self.serial,
            client,
            target,
            budget,
            call,
            request,
        };
        self.waiting.insert(self.serial, attempt.clone());
        attempt
    }

    /// A client hears of an attempt. What it does next, if anything, is returned with the time it
    /// takes to begin.
    pub fn heard(&mut self, serial: u64, heard: Heard, history: &mut History) -> Option<Attempt> {
        let attempt = self.waiting.remove(&serial)?;
        let again = match heard {
            Heard::Answer(response, seen) => {
                let well = !matches!(*response, Response::Error(_));
                if let Some(seen) = seen {
                    self.remember(&attempt, seen, history);
                }
                if well {
                    self.counts.acknowledged += 1;
                    if self.may_reuse(&attempt, history) {
                        let Call::Write(index) = attempt.call else {
                            return None;
                        };
                        return Some(self.reuse(attempt.client, index, history));
                    }
                    self.options.needless_retry
                } else {
                    self.after_error(&response)
                }
            }
            Heard::Refused | Heard::Silence => self.options.retry,
        };
        let Call::Write(index) = attempt.call else {
            return None;
        };
        if ATTEMPTS_MAX <= history.op(index).attempts || !self.rng.chance(again) {
            return None;
        }
        self.counts.retries += 1;
        let mut next = self.write(attempt.client, index, history);
        if self.rng.chance(300_000) {
            next = self.retarget(next, attempt.target);
        }
        self.counts.elsewhere += u64::from(next.target != attempt.target);
        Some(next)
    }

    /// Whether a client that heard this goes on to use the operation's id for another write: of a
    /// put without a context, so that both are alike but for their values.
    fn may_reuse(&mut self, attempt: &Attempt, history: &History) -> bool {
        let Call::Write(index) = attempt.call else {
            return false;
        };
        let op = history.op(index);
        op.seen.is_none() && !op.delete && self.rng.chance(self.options.reuse)
    }

    fn retarget(&mut self, mut attempt: Attempt, target: usize) -> Attempt {
        attempt.target = target;
        self.waiting.insert(attempt.serial, attempt.clone());
        attempt
    }

    /// A refusal for cause is not repeated; a full or lonely node may be better off later.
    fn after_error(&self, response: &Response) -> u32 {
        let Response::Error(error) = response else {
            return 0;
        };
        let worth = matches!(
            error.code,
            ErrorCode::UnknownOutcome | ErrorCode::Unavailable | ErrorCode::Overloaded
        );
        if worth { self.options.retry } else { 0 }
    }

    fn remember(&mut self, attempt: &Attempt, seen: Seen, history: &History) {
        let key = match &attempt.call {
            Call::Read(read) => read.key,
            Call::Write(index) => history.op(*index).key,
            Call::Operate | Call::Define(_) | Call::Reuse(_) => return,
        };
        // The auditor of the healing phase is nobody's client.
        if let Some(contexts) = self.contexts.get_mut(attempt.client) {
            contexts.insert(key, seen);
        }
    }
}

/// What a write carries as its context.
fn context(op: &Op) -> Option<Bytes> {
    let seen = op.seen.as_ref().map(|seen| seen.context.clone());
    op.forged.clone().or(seen)
}

/// The versions of an answer, if it has any.
#[must_use]
pub fn versions(response: &Response) -> Option<(&[Version], Option<&Bytes>)> {
    match response {
        Response::Got(reply) => Some((&reply.siblings, reply.context.as_ref())),
        Response::Written(reply) => Some((&reply.siblings, Some(&reply.context))),
        Response::Keys(_)
        | Response::Explained(_)
        | Response::Buckets(_)
        | Response::Ring(_)
        | Response::Status(_)
        | Response::Healing(_)
        | Response::RingChange(_)
        | Response::Error(_) => None,
    }
}

impl Op {
    /// A write that nobody has sent yet.
    #[must_use]
    pub fn new(key: u32, delete: bool, started: u64) -> Self {
        Self {
            key,
            delete,
            value_bytes: 16,
            value: None,
            seen: None,
            ttl_ms: 0,
            w: W_DEFAULT,
            pw: 0,
            sloppy: false,
            condition: Condition::None,
            front: Vec::new(),
            forged: None,
            started,
            deaths: 0,
            ids_before: 0,
            prompt: false,
            lent: false,
            attempts: 0,
            refused: 0,
            outcome: Outcome::Unknown,
            reuse: Reuse::No,
            dots: Vec::new(),
            stamps: Vec::new(),
            settled: false,
            replaced: None,
            visited: 0,
        }
    }

    /// The same write by an author who had seen these.
    #[must_use]
    pub fn having_seen(self, context: Bytes, ops: &[OpIndex]) -> Self {
        let ops = Rc::from(ops);
        Self {
            seen: Some(Seen { context, ops }),
            ..self
        }
    }
}
