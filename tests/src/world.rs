//! The world: all nodes, clients, links, disks and clocks in one thread, driven by one agenda.
//!
//! Take the next event, advance the time, hand it to whom it concerns, carry out what comes back.
//! Nothing here knows what a right answer is; that is `judge`'s part. Nothing here decides what
//! goes wrong when; that is the nemesis's. The course of a whole run is in `course`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use quorate_client::wire::{
    Request, Response, Verified,
    frame::{Frame, FrameReader},
};
use quorate_node::{
    api::Output,
    message::{Message, Principal, Role},
    node::Node,
    store::{Completion, memory::Image},
    wire,
};
use quorate_ring::{Decree, Member, NodeId, Ring};

use crate::{
    agenda::Agenda,
    answers::Answers,
    care::Drains,
    clock::Clock,
    definers::Definers,
    disk::Disk,
    history::{History, OpIndex, Seen},
    kept::{Asked, Counts},
    layout::Layout,
    nemesis::{Fault, Nemesis},
    net::Network,
    operator::Operator,
    options::Options,
    oracle::{Broken, bounds, causality::Causality, ring::Rings, session::Session},
    process::{Doom, Input, Process, Waiting},
    rng::Rng,
    trace::{Trace, fingerprint, weight},
    words::Words,
    workload::{Attempt, Call, Heard, Workload},
};

/// What can happen.
#[derive(Debug)]
pub enum Event {
    /// A message arrives.
    Deliver {
        /// Sender.
        from: usize,
        /// Receiver.
        to: usize,
        /// What it says.
        payload: Payload,
    },
    /// A client's request arrives.
    Request(Box<Attempt>),
    /// A client hears of one of its attempts.
    Hear(u64, Heard),
    /// A timer of a machine, in the life that set it.
    Timer(usize, u32),
    /// A disk finishes a commit, in the life that began it.
    Disk(usize, u32),
    /// A node hears what its disk has done, in the life that asked for it.
    Told(usize, u32, Vec<Completion>),
    /// A client begins an operation.
    Operation,
    /// A client that has not heard of an attempt sends another elsewhere.
    Again(u64),
    /// The nemesis strikes.
    Strike,
    /// A fault that was announced begins.
    Fault(Fault),
    /// A fault ends.
    Relief(Relief),
    /// Bounds are checked.
    Audit,
    /// An operator does something about the ring.
    Operator,
    /// A node hears that a client takes an attempt back.
    TakeBack(usize, u64),
    /// An operator drains a node, or lets it take requests again.
    Drain,
    /// Somebody makes, changes or drops a bucket.
    Define,
}

/// A message on its way.
#[derive(Clone, Debug)]
pub enum Payload {
    /// As bytes.
    Encoded(Bytes),
    /// As it is, when encoding is off.
    Plain(Box<Message>),
}

/// How a fault ends.
#[derive(Debug)]
pub enum Relief {
    /// The process is started, unless it lives.
    Start(usize),
    /// The process goes on, if it is still in the life in which it was paused.
    Resume(usize, u32),
    /// The links are mended.
    Mend(Vec<(usize, usize)>),
    /// The disk is as fast as before.
    Disk(usize),
    /// The disk has space again.
    Space(usize),
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// Simulated nanoseconds since the start.
    pub now: u64,
    /// What the run is made of.
    pub options: Options,
    /// What is planned.
    pub agenda: Agenda<Event>,
    /// The nodes.
    pub processes: Vec<Process>,
    /// The links.
    pub network: Network,
    /// The clients.
    pub workload: Workload,
    /// What clients did and heard.
    pub history: History,
    /// What reads have to see.
    pub session: Session,
    /// What clocks have been.
    pub causality: Causality,
    /// Who strikes.
    pub nemesis: Nemesis,
    /// The run's fingerprint.
    pub trace: Trace,
    /// Where keys live.
    pub layout: Layout,
    /// The rings there were.
    pub rings: Rings,
    /// Who changes them.
    pub operator: Operator,
    /// The first promise that was broken.
    pub broken: Option<Broken>,
    /// Records damaged from outside: (node, key).
    pub rotted: BTreeSet<(usize, u32)>,
    /// Keys that were ever deleted.
    pub deleted: BTreeSet<u32>,
    /// Records reaped (true) and clocks compacted (false).
    pub reaped: BTreeMap<bool, u64>,
    /// Deletes that all owners agreed to forget.
    pub reaped_ops: BTreeSet<OpIndex>,
    /// Per key: covers every version that was live before the key was reaped.
    pub dead_clocks: BTreeMap<u32, quorate_node::causality::Clock>,
    /// Nodes with a directory that was put back, copied or cut short and is not dealt with yet.
    pub displaced: BTreeSet<usize>,
    /// Whose directory was put back, copied or cut short, ever, or replaced more often than others
    /// remember.
    pub touched: BTreeSet<usize>,
    /// What the reaped states of each key had seen: all owners had it.
    pub reaped_clocks: BTreeMap<u32, quorate_node::causality::Clock>,
    /// Reaps for which messages on their way have been looked through.
    pub judged_reaps: BTreeSet<(u32, u64, bool)>,
    /// Whether faults are on.
    pub faulty: bool,
    /// Deaths of processes.
    pub deaths: u64,
    /// Times that a node met one of its limits.
    pub refusals: u64,
    /// What replicas told those who read.
    pub answers: Answers,
    /// What was kept for others.
    pub kept: Counts,
    /// Who was asked to keep something.
    pub asked: Asked,
    /// What nodes said to each other.
    pub words: Words,
    /// Saved directories, by node.
    pub backups: BTreeMap<usize, Image>,
    /// What clients heard, if the caller asked for it to be kept.
    pub heard: Option<BTreeMap<u64, Heard>>,
    /// Damage that nodes have reported.
    pub reported: BTreeSet<(usize, Bytes)>,
    /// What a node last answered to `verify`.
    pub verified: Option<Verified>,
    /// Who drains nodes.
    pub(crate) drains: Drains,
    /// Who makes, changes and drops buckets.
    pub(crate) definers: Definers,
    /// What is aimed at the steps of a change of the ring.
    pub(crate) turns: Rng,
    /// What is aimed at directories that are lost.
    pub(crate) losses: Rng,
    ring: Arc<Ring>,
    known: Vec<Member>,
    indexes: BTreeMap<NodeId, usize>,
    principals: Vec<Principal>,
}

impl World {
    /// A world in which every node has just been started for the first time.
    #[must_use]
    pub fn new(options: Options, print: bool) -> Self {
        let mut rng = Rng::new(options.seed, 0x3041);
        let workload = Workload::new(&options);
        let count = options.nodes + options.spare;
        let names: Vec<String> = (1..=count).map(|node| format!("n{node}")).collect();
        let layout = Layout::new(&names, &options, workload.keys());
        let processes: Vec<Process> = names
            .iter()
            .enumerate()
            .map(|(node, name)| {
                let drift = rng.below(500);
                let skew = skew(&mut rng, &options);
                let skew = if options.may_be_wrong(node) { skew } else { 0 };
                let offset = skew + options.wall_shift_ms;
                let clock = Clock::new(drift, offset);
                let disk = Disk::new(options.disk.clone(), Rng::new(rng.word(), 1));
                Process::new(name.clone(), clock, disk, Rng::new(rng.word(), 2))
            })
            .collect();
        let keys = options.workload.keys;
        let mut world = Self {
            now: 0,
            agenda: Agenda::default(),
            indexes: indexes(&processes),
            network: Network::new(count, options.net.clone(), options.seed),
            history: History::new(keys),
            session: Session::new(keys, options.replicas, options.lww),
            causality: Causality::default(),
            nemesis: Nemesis::new(&options),
            trace: Trace::new(print),
            rings: Rings::new(Decree::founding(Ring::clone(&layout.ring()))),
            operator: Operator::new(&options, names.clone()),
            known: names.iter().map(|name| Layout::member(name)).collect(),
            ring: layout.ring(),
            broken: None,
            rotted: BTreeSet::new(),
            deleted: BTreeSet::new(),
            reaped: BTreeMap::new(),
            reaped_ops: BTreeSet::new(),
            dead_clocks: BTreeMap::new(),
            displaced: BTreeSet::new(),
            touched: BTreeSet::new(),
            reaped_clocks: BTreeMap::new(),
            judged_reaps: BTreeSet::new(),
            faulty: true,
            deaths: 0,
            refusals: 0,
            answers: Answers::default(),
            kept: Counts::default(),
            asked: Asked::default(),
            words: Words::default(),
            backups: BTreeMap::new(),
            heard: None,
            reported: BTreeSet::new(),
            verified: None,
            drains: Drains::new(&options),
            definers: Definers::new(&options),
            turns: Rng::new(options.seed, 0x0e33),
            losses: Rng::new(options.seed, 0x0e34),
            principals: principals(options.workload.clients),
            processes,
            workload,
            layout,
            options,
        };
        world.trace.line(0, format_args!("{:?}", world.options));
        for node in 0..world.processes.len() {
            world.start(node);
        }
        world.agenda.plan(AUDIT_INTERVAL, Event::Audit);
        world
    }

    /// Handles events until `until`, or until a promise is broken.
    pub fn run_until(&mut self, until: u64) {
        while self.broken.is_none() && self.agenda.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        if self.broken.is_none() {
            self.now = self.now.max(until);
        }
    }

    /// Handles the next event.
    pub fn step(&mut self) {
        let Some((at, event)) = self.agenda.pop() else {
            return;
        };
        self.now = at;
        match event {
            Event::Deliver { from, to, payload } => self.deliver(from, to, payload),
            Event::Request(attempt) => self.request(attempt),
            Event::Hear(serial, heard) => self.hear(serial, heard),
            Event::Timer(node, life) => {
                let process = &mut self.processes[node];
                if process.life == life && process.timer == Some(at) {
                    process.timer = None;
                    self.feed(node, Input::Timeout);
                }
            }
            Event::Disk(node, life) => self.commit(node, life),
            Event::Told(node, life, completions) => self.tell(node, life, completions),
            Event::Operation => self.operation(),
            Event::Again(serial) => {
                if let Some(attempt) = self.workload.again(serial, &mut self.history) {
                    self.send_request(attempt);
                }
            }
            Event::Operator => self.operate(),
            Event::TakeBack(node, serial) => self.take_back(node, serial),
            Event::Drain => self.drain_some(),
            Event::Define => self.define_some(),
            Event::Strike => self.strike(),
            Event::Fault(fault) => {
                if self.faulty {
                    self.inflict(fault);
                }
            }
            Event::Relief(relief) => self.relieve(relief),
            Event::Audit => {
                self.audit();
                self.agenda.plan(self.now + AUDIT_INTERVAL, Event::Audit);
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, payload: Payload) {
        if self.processes[to].machine.is_none() {
            return;
        }
        let message = match payload {
            Payload::Plain(message) => message,
            Payload::Encoded(bytes) => Box::new(wire::decode(&bytes).expect(CODEC)),
        };
        let print = fingerprint(&message);
        self.trace.mix(self.now, to as u64, print);
        if self.trace.prints() {
            let (from, to) = (&self.processes[from].name, &self.processes[to].name);
            self.trace
                .line(self.now, format_args!("{to} <- {from}: {message:?}"));
        }
        let from = self.processes[from].id;
        self.feed(to, Input::Message(from, message));
    }

    fn request(&mut self, attempt: Box<Attempt>) {
        let target = attempt.target;
        self.trace.mix(self.now, target as u64, attempt.serial);
        let process = &mut self.processes[target];
        if process.machine.is_none() {
            // The connection is refused: the client knows that nothing has happened.
            self.judge_refusal(&attempt);
            let heard = Heard::Refused;
            self.agenda
                .plan(self.now + REFUSAL, Event::Hear(attempt.serial, heard));
            return;
        }
        self.feed(target, Input::Request(attempt));
    }

    fn hear(&mut self, serial: u64, heard: Heard) {
        if self.trace.prints() {
            self.trace.line(
                self.now,
                format_args!("client hears of {serial}: {heard:?}"),
            );
        }
        if let Some(kept) = &mut self.heard {
            kept.entry(serial).or_insert_with(|| heard.clone());
        }
        if let Heard::Answer(response, _) = &heard
            && self.faulty
            && self.options.ring_interval.is_some()
            && let Some(request) = self.operator.heard(response)
        {
            self.ask_ring(request);
        }
        let next = self.workload.heard(serial, heard, &mut self.history);
        if let Some(attempt) = next {
            self.send_request(attempt);
        }
    }

    fn operation(&mut self) {
        self.one_operation();
        if self.faulty {
            let at = self.now + self.workload.pause();
            self.agenda.plan(at, Event::Operation);
        }
    }

    fn operate(&mut self) {
        let decree = Arc::clone(self.rings.newest());
        if let Some(request) = self.operator.ask(&decree) {
            self.ask_ring(request);
        }
        if self.faulty {
            let at = self.now + self.operator.pause();
            self.agenda.plan(at, Event::Operator);
        }
    }

    /// The operator sends a request to some node.
    pub fn ask_ring(&mut self, request: Request) {
        let target = self.operator.target();
        let client = self.options.workload.clients;
        let attempt =
            self.workload
                .attempt(client, target, OPERATOR_BUDGET, Call::Operate, request);
        self.send_request(attempt);
    }

    /// Some client does something.
    pub(crate) fn one_operation(&mut self) {
        let attempt = self
            .workload
            .next_op(self.now, &mut self.history, &self.session);
        if let Some(pause) = self.workload.impatience(&attempt) {
            self.agenda
                .plan(self.now + pause, Event::Again(attempt.serial));
        }
        self.send_request(attempt);
    }

    /// A client sends a request.
    pub fn send_request(&mut self, attempt: Attempt) {
        if let Call::Write(index) = attempt.call {
            let op = &mut self.history.ops[index.at()];
            if op.attempts == 1 {
                op.deaths = self.deaths;
            }
        }
        if self.trace.prints() {
            let Attempt {
                serial,
                client,
                target,
                request,
                ..
            } = &attempt;
            let name = &self.processes[*target].name;
            self.trace.line(
                self.now,
                format_args!("client {client} -> {name}: {serial} {request:?}"),
            );
        }
        self.plan_take_back(&attempt);
        let gives_up = self.now + self.workload.patience();
        self.agenda
            .plan(gives_up, Event::Hear(attempt.serial, Heard::Silence));
        if let Some(at) = self.network.client_send(self.now) {
            let mut attempt = Box::new(attempt);
            if self.options.encode {
                attempt.request = reencode_request(&attempt.request);
            }
            self.agenda.plan(at, Event::Request(attempt));
        }
    }

    /// Sends an answer back to its client.
    pub(crate) fn send_answer(&mut self, serial: u64, response: Response, seen: Option<Seen>) {
        let response = if self.options.encode {
            reencode_response(&response)
        } else {
            response
        };
        let heard = Heard::Answer(Box::new(response), seen);
        if let Some(at) = self.network.client_send(self.now) {
            self.agenda.plan(at, Event::Hear(serial, heard));
        }
    }

    /// Hands an input to a node, or keeps it while the node stands still.
    pub(crate) fn feed(&mut self, node: usize, input: Input) {
        let process = &mut self.processes[node];
        if process.machine.is_none() {
            return;
        }
        if process.paused {
            process.backlog.push_back(input);
            return;
        }
        if let Some(Doom::AfterInputs(left, lasts)) = &mut process.doom {
            if *left == 0 {
                let lasts = *lasts;
                self.crash(node, Some(lasts));
                return;
            }
            *left -= 1;
        }
        let taken_back = match &input {
            Input::TakeBack(serial) => self.requests_of(node, *serial),
            Input::Request(_) | Input::Message(..) | Input::Completion(_) | Input::Timeout => {
                BTreeSet::new()
            }
        };
        let process = &mut self.processes[node];
        let moment = process.clock.moment(self.now);
        if let Input::Message(from, message) = &input {
            self.note_heard(node, *from, message);
            self.note_told(node, *from, message);
        }
        let process = &mut self.processes[node];
        let Some(machine) = &mut process.machine else {
            return;
        };
        match input {
            Input::TakeBack(_) => machine.handle_cancel(moment, &taken_back),
            Input::Request(attempt) => {
                process.requests += 1;
                let id = process.requests;
                let principal = &self.principals[attempt.client];
                let request = attempt.request.clone();
                let deadline = self.now + attempt.budget;
                process.waiting.insert(id, Waiting { attempt, deadline });
                machine.handle_request(
                    moment,
                    quorate_node::api::RequestId(id),
                    principal,
                    request,
                );
            }
            Input::Message(from, message) => machine.handle_message(moment, from, *message),
            Input::Completion(completion) => {
                self.trace.mix(self.now, node as u64, completion.ticket().0);
                machine.handle_completion(moment, completion);
            }
            Input::Timeout => machine.handle_timeout(moment),
        }
        self.drain(node);
    }

    /// Does what a node wants done.
    pub fn drain(&mut self, node: usize) {
        let Some(mut machine) = self.processes[node].machine.take() else {
            return;
        };
        let mut stops = false;
        let mut outputs = 0_u32;
        while let Some(output) = machine.poll_output() {
            outputs += 1;
            if bounds::OUTPUTS_MAX < outputs {
                let name = &self.processes[node].name;
                let broken = bounds::endless(name, self.now);
                self.rule(Err(broken));
                break;
            }
            match output {
                Output::Send { to, message, .. } => self.say(node, &machine, to, message),
                Output::Reply { id, response } => self.reply(node, &machine, id.0, response),
                Output::Store(command) => self.store(node, &mut machine, command),
                Output::Meet(member) => {
                    let links = &mut self.processes[node].links;
                    links.insert(member.id, member.address);
                }
                Output::Part(member) => {
                    self.processes[node].links.remove(&member);
                }
                Output::Event(event) => {
                    if matches!(event, quorate_node::event::Event::RingChanged { .. }) {
                        self.adopted(node, machine.decree());
                    }
                    stops |= self.judge_event(node, &event);
                }
            }
        }
        let process = &mut self.processes[node];
        if let Some(at) = machine.poll_timeout() {
            let at = process.clock.world_time(at).max(self.now + 1);
            if process.timer.is_none_or(|planned| at < planned) {
                process.timer = Some(at);
                self.agenda.plan(at, Event::Timer(node, process.life));
            }
        }
        process.machine = Some(machine);
        if stops {
            let lasts = match process.doom {
                Some(Doom::OnStoreFailure(lasts)) => lasts,
                Some(Doom::AfterInputs(..) | Doom::InStep(_)) | None => RESTART,
            };
            self.crash(node, Some(lasts));
        }
    }

    pub(crate) fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let Some(&to) = self.indexes.get(&to) else {
            return;
        };
        self.judge_asked(from, &message);
        self.answers.note(&message);
        let receiver = &self.processes[to];
        if self.processes[from].links.get(&receiver.id) != Some(&receiver.address) {
            // Nobody listens there.
            return;
        }
        let bytes = if self.options.net.bandwidth == 0 {
            0
        } else {
            weight(&message)
        };
        let arrivals = self.network.send(self.now, from, to, bytes);
        let Some(first) = arrivals.first else {
            return;
        };
        let payload = if self.options.encode {
            Payload::Encoded(wire::encode(&message).expect(CODEC))
        } else {
            Payload::Plain(Box::new(message))
        };
        if let Some(second) = arrivals.second {
            let payload = payload.clone();
            self.agenda
                .plan(second, Event::Deliver { from, to, payload });
        }
        self.agenda
            .plan(first, Event::Deliver { from, to, payload });
    }

    fn reply(&mut self, node: usize, machine: &Node, request: u64, response: Response) {
        let waiting = self.processes[node].waiting.remove(&request);
        self.trace.mix(self.now, node as u64, request);
        match waiting {
            Some(waiting) => {
                self.judge_counted(node, machine.decree(), &waiting.attempt, &response);
                self.judge_reply(node, &waiting.attempt, response);
            }
            None => self.judge_second_reply(node, request),
        }
    }

    /// Starts a node that is down.
    pub fn start(&mut self, node: usize) {
        if self.processes[node].disk.is_full() {
            // Without a durable lease a process does not begin; whoever started it tries again.
            let relief = Event::Relief(Relief::Start(node));
            self.agenda.plan(self.now + RESTART, relief);
            return;
        }
        self.trace
            .line(self.now, format_args!("n{} starts", node + 1));
        // Newcomers have asked the first node; the others hear of them from it, or from each other.
        let known = if node == 0 { &self.known[..] } else { &[] };
        self.processes[node].start(self.now, &self.ring, &self.options, known);
        self.begin_life(node);
        self.drain(node);
        self.feed(node, Input::Timeout);
    }

    /// Kills a node; it is started again after `lasts`, if that is given.
    pub fn crash(&mut self, node: usize, lasts: Option<u64>) {
        if self.processes[node].machine.is_none() {
            return;
        }
        self.trace
            .line(self.now, format_args!("n{} dies", node + 1));
        self.deaths += 1;
        let lost = self.processes[node].crash();
        self.judge_hints(node);
        for waiting in lost {
            // The connection breaks, and the client notices soon.
            let serial = waiting.attempt.serial;
            self.agenda
                .plan(self.now + REFUSAL, Event::Hear(serial, Heard::Silence));
        }
        if let Some(lasts) = lasts {
            let relief = Relief::Start(node);
            self.agenda.plan(self.now + lasts, Event::Relief(relief));
        }
    }

    /// Stops a node where it stands.
    pub fn pause(&mut self, node: usize) {
        self.trace
            .line(self.now, format_args!("n{} stands still", node + 1));
        self.processes[node].paused = true;
    }

    /// Lets a node go on.
    pub fn resume(&mut self, node: usize) {
        self.trace
            .line(self.now, format_args!("n{} goes on", node + 1));
        let process = &mut self.processes[node];
        process.paused = false;
        for waiting in process.waiting.values_mut() {
            waiting.deadline = waiting.deadline.max(self.now);
        }
        let backlog = std::mem::take(&mut process.backlog);
        // Which comes first, its timers or what has arrived, is chance in reality; timers here.
        self.feed(node, Input::Timeout);
        for input in backlog {
            self.feed(node, input);
        }
    }
}

/// How long the operator waits for an answer.
const OPERATOR_BUDGET: u64 = 3_000_000_000;
const AUDIT_INTERVAL: u64 = 1_000_000_000;
/// How fast a client notices that nobody listens, or that a connection broke.
const REFUSAL: u64 = 2_000_000;
/// How long a node stays down that stopped by its own will.
const RESTART: u64 = 1_000_000_000;

const CODEC: &str = "the codec takes every message of the product, and reads what it wrote";

/// A request as it arrives: through the product's codec.
fn reencode_request(request: &Request) -> Request {
    let mut out = BytesMut::new();
    request.append_to(&mut out, 1).expect(CODEC);
    let frame = one_frame(out);
    Request::decode(frame.kind, &frame.body).expect(CODEC)
}

/// An answer as it arrives: through the product's codec.
fn reencode_response(response: &Response) -> Response {
    let mut out = BytesMut::new();
    response.append_to(&mut out, 1).expect(CODEC);
    let frame = one_frame(out);
    Response::decode(frame.kind, &frame.body).expect(CODEC)
}

fn one_frame(bytes: BytesMut) -> Frame {
    let mut reader = FrameReader::new();
    reader.feed(bytes.freeze());
    let frame = reader.next_frame().expect(CODEC);
    frame.expect(CODEC)
}

fn skew(rng: &mut Rng, options: &Options) -> i64 {
    if !options.classes.clock {
        return 0;
    }
    i64::try_from(rng.below(600_000)).expect("a small number") - 300_000
}

/// Where each is in the list.
fn indexes(processes: &[Process]) -> BTreeMap<NodeId, usize> {
    let ids = processes.iter().map(|process| process.id);
    ids.zip(0..).collect()
}

fn principals(clients: usize) -> Vec<Principal> {
    let principal = |client| Principal {
        name: format!("client-{client}"),
        role: Role::Admin,
    };
    (0..=clients).map(principal).collect()
}
