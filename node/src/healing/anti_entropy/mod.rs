//! Merkle anti-entropy: pairs of replicas compare their trees, and move what differs.
//!
//! Decides when which pair is compared, how many comparisons run, and when the own tree is built
//! and audited. Of each pair the node with the smaller id leads; a comparison heals both sides.
//! Comparisons come by themselves at jittered intervals, at once when a peer is back or somebody
//! wishes for one, and rest as the governor says. What a comparison does is `session`; what the
//! other side answers, `answer`; whom to compare with over what, `layout`.

mod answer;
mod layout;
mod session;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use self::{
    answer::Answer,
    layout::{Layout, PairKey},
    session::{Outcome, Session},
};
use super::{
    Found, Load, Mechanism,
    care::ScrubProgress,
    expiry::Expiry,
    governor::Work,
    merkle::{
        forest::{DOUBTS_MAX, Forest},
        trie::{LEAVES, Prefix, leaf_of},
    },
    message::{ASK_LEAVES_MAX, PairReport, Standing, TreeMessage},
    scrub::{LOOK_TASK, Scrub},
};
use crate::{
    api::Output,
    coordinator::status,
    core::{Behind, Core},
    event::Event,
    message::{Class, Message, RpcId},
    replica::{Address, Caller, Change, Done, Job, Refusal},
    store::{Command, Ticket},
};

/// Comparisons that this node leads at one time.
const SESSIONS_MAX: usize = 2;
/// Answers in the making.
const ANSWERS_MAX: usize = 32;
const TICK: Duration = Duration::from_millis(250);
const RETRY_MIN: Duration = Duration::from_millis(500);

/// How it stands with one peer and one value of n.
#[derive(Debug)]
struct Pair {
    next: Instant,
    failures: u32,
    agreed: Option<Instant>,
    generation: u64,
    behind: u64,
    moved_keys: u64,
    moved_bytes: u64,
    trouble: &'static str,
}

/// What sessions and answers work on.
struct Desk<'a> {
    forest: &'a mut Forest,
    layout: &'a Layout,
}

impl Desk<'_> {
    #[expect(
        clippy::unused_self,
        reason = "the desk is where tickets are given out"
    )]
    fn ticket(&self, core: &mut Core) -> Ticket {
        core.tickets += 1;
        Ticket(core.tickets)
    }

    #[expect(clippy::unused_self, reason = "the desk is where scans are asked for")]
    fn scan(&self, core: &mut Core, command: Command) {
        core.outputs.push_back(Output::Store(command));
    }
}

/// The mechanism of Merkle trees.
#[derive(Debug)]
pub(crate) struct AntiEntropy {
    forest: Forest,
    layout: Layout,
    pairs: BTreeMap<PairKey, Pair>,
    sessions: BTreeMap<u64, Session>,
    answers: BTreeMap<u64, Answer>,
    next_task: u64,
    next_tick: Instant,
    /// The scan of the own store rests until then.
    scan_rests: Instant,
    /// When the page under way was asked for.
    scan_begun: Instant,
    /// When all that is stored is read again.
    scrub: Scrub,
    /// Records with values whose time is over.
    expiry: Expiry,
    /// Records of dropped buckets that this round of the scan came upon.
    removed: u64,
    /// Counts wishes for a comparison.
    generation: u64,
}

impl AntiEntropy {
    pub(crate) fn new(core: &Core) -> Self {
        let now = core.now.mono;
        Self {
            forest: Forest::new(&core.context_key, core.me),
            layout: Layout::default(),
            pairs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_task: 0,
            next_tick: now,
            scan_rests: now,
            scan_begun: now,
            scrub: Scrub::new(now),
            expiry: Expiry::default(),
            removed: 0,
            generation: 0,
        }
    }

    fn task(&mut self) -> u64 {
        self.next_task += 1;
        self.next_task
    }

    /// Follows the ring and the buckets.
    fn refresh(&mut self, core: &mut Core) {
        let ns = core.catalogue.replica_counts();
        if !self.layout.refresh(&core.ring, core.me, ns) {
            return;
        }
        let mut before = std::mem::take(&mut self.pairs);
        let keys: Vec<PairKey> = self.layout.pairs().collect();
        for key in keys {
            let pair = before.remove(&key).unwrap_or_else(|| Pair {
                next: core.now.mono + core.jitter(Duration::from_secs(1)),
                failures: 0,
                agreed: None,
                generation: 0,
                behind: 0,
                moved_keys: 0,
                moved_bytes: 0,
                trouble: "",
            });
            self.pairs.insert(key, pair);
        }
        let layout = &self.layout;
        self.sessions
            .retain(|_, session| !layout.domain((session.peer, session.n)).is_empty());
    }

    fn tick(&mut self, core: &mut Core) {
        let now = core.now.mono;
        self.next_tick = now + TICK;
        core.governor
            .tick(now, core.requests, core.limits.requests_max);
        self.refresh(core);
        self.forest.learn(&core.catalogue);
        let started = core.started;
        let led = self.pairs.iter().filter(|((peer, _), _)| core.me < *peer);
        let agreed = led.map(|((peer, _), pair)| (*peer, pair.agreed.unwrap_or(started)));
        core.behind = Behind {
            keys: self.pairs.values().map(|pair| pair.behind).sum(),
            oldest: agreed.min_by_key(|(_, agreed)| *agreed),
        };
        if !self.forest.is_built() {
            return;
        }
        let due = self.pairs.iter().filter(|((peer, n), pair)| {
            let running = |s: &Session| s.peer == *peer && s.n == *n;
            core.me < *peer
                && pair.next <= now
                && core.is_up(*peer)
                && !self.sessions.values().any(running)
        });
        let mut due: Vec<(Instant, PairKey)> = due.map(|(key, pair)| (pair.next, *key)).collect();
        due.sort_unstable();
        for (_, pair) in due {
            if SESSIONS_MAX <= self.sessions.len() {
                return;
            }
            let id = self.task();
            let session = Session::new(id, pair, self.generation, now);
            self.sessions.insert(id, session);
            self.advance(core, id);
        }
    }

    /// Builds, mends or audits the tree.
    fn scan(&mut self, core: &mut Core) {
        let now = core.now.mono;
        let audit = self.scrub.is_due(now) && self.expiry.wakes(now).is_none();
        if now < self.scan_rests || (!self.forest.has_work() && !audit) {
            return;
        }
        if self.forest.is_scanning() {
            return;
        }
        core.tickets += 1;
        if let Some(command) = self.forest.begin(Ticket(core.tickets), audit) {
            self.scan_begun = now;
            if audit {
                self.scrub.begin();
            }
            core.outputs.push_back(Output::Store(command));
        }
    }

    fn advance(&mut self, core: &mut Core, id: u64) {
        self.with_session(core, id, Session::advance);
    }

    /// Lets a session do something, and ends it if that was all.
    fn with_session(
        &mut self,
        core: &mut Core,
        id: u64,
        act: impl FnOnce(&mut Session, &mut Core, &mut Desk<'_>) -> Outcome,
    ) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        let mut desk = Desk {
            forest: &mut self.forest,
            layout: &self.layout,
        };
        let mut outcome = act(&mut session, core, &mut desk);
        if outcome == Outcome::Going {
            outcome = session.advance(core, &mut desk);
        }
        if outcome == Outcome::Going {
            self.sessions.insert(id, session);
        } else {
            self.ended(core, &session, outcome);
        }
    }

    fn ended(&mut self, core: &mut Core, session: &Session, outcome: Outcome) {
        let now = core.now.mono;
        let interval = core.limits.anti_entropy_interval;
        let jitter = core.jitter(interval / 2);
        let Some(pair) = self.pairs.get_mut(&(session.peer, session.n)) else {
            return;
        };
        let tally = session.tally;
        pair.moved_keys += tally.moved_keys;
        pair.moved_bytes += tally.moved_bytes;
        pair.behind = tally.behind;
        if let Outcome::Failed(why) = outcome {
            pair.trouble = why;
            pair.failures = (pair.failures + 1).min(10);
            let wait = RETRY_MIN * (1 << pair.failures);
            pair.next = now + wait.min(interval) + jitter / 4;
        } else {
            pair.trouble = "";
            pair.failures = 0;
            pair.behind = 0;
            pair.agreed = Some(session.begun);
            pair.generation = session.generation;
            pair.next = now + interval * 3 / 4 + jitter;
        }
        if session.generation < self.generation {
            pair.next = now + RETRY_MIN / 4;
        }
        core.event(Event::Compared {
            peer: session.peer,
            agreed: outcome == Outcome::Agreed,
            moved_keys: tally.moved_keys,
            moved_bytes: tally.moved_bytes,
        });
    }

    /// A peer asks something that the store or the replica has to answer.
    fn make(&mut self, core: &mut Core, from: NodeId, id: RpcId, question: TreeMessage) {
        if ANSWERS_MAX <= self.answers.len() {
            core.event(Event::Refused {
                limit: "tree_answers",
            });
            return;
        }
        let task = self.task();
        let mut desk = Desk {
            forest: &mut self.forest,
            layout: &self.layout,
        };
        let asker = (from, id);
        let answer = match question {
            TreeMessage::AskLeaves {
                n, leaves, after, ..
            } => Answer::leaves(core, &mut desk, asker, n, leaves, after.as_ref()),
            TreeMessage::Pull { places } => Some(Answer::pull(core, asker, task, places)),
            TreeMessage::Push { records } => Some(Answer::push(core, asker, task, records)),
            TreeMessage::Ask { .. }
            | TreeMessage::Sums { .. }
            | TreeMessage::Leaves { .. }
            | TreeMessage::Pulled { .. }
            | TreeMessage::Pushed { .. }
            | TreeMessage::AskRoots { .. }
            | TreeMessage::Roots { .. } => None,
        };
        if let Some(answer) = answer {
            self.answers.insert(task, answer);
            self.send_finished(core, task);
        }
    }

    fn send_finished(&mut self, core: &mut Core, task: u64) {
        if self.answers.get(&task).is_some_and(Answer::finished)
            && let Some(answer) = self.answers.remove(&task)
        {
            let (to, rpc) = (answer.from, answer.rpc);
            answer::send(core, to, rpc, answer.into_message());
        }
    }

    fn roots(&mut self, core: &mut Core, from: NodeId, id: RpcId, compare: bool) {
        let now = core.now.mono;
        if compare {
            self.generation += 1;
            for pair in self.pairs.values_mut() {
                pair.next = now;
                pair.failures = 0;
            }
            self.next_tick = now;
        }
        let body = TreeMessage::Roots {
            ready: self.is_ready() && core.replica.hints().is_complete(),
            hints: status::own(core).hints_held,
            generation: self.generation,
            pairs: self.pairs_of(core.me, now),
        };
        core.send(from, Class::Control, Message::Tree { id, body });
    }

    fn pairs_of(&self, me: NodeId, now: Instant) -> Vec<PairReport> {
        let report = |((peer, n), pair): (&PairKey, &Pair)| {
            let domain = self.layout.domain((*peer, *n));
            let trie = self.forest.trie(*n);
            let ago = |agreed| u64::try_from(now.since(agreed).as_millis()).unwrap_or(u64::MAX);
            PairReport {
                peer: *peer,
                n: *n,
                root: trie.map_or(0, |trie| trie.sum_within(Prefix::ROOT, domain)),
                leads: me < *peer,
                generation: pair.generation,
                agreed_ms_ago: pair.agreed.map(ago),
                behind_keys: pair.behind,
                moved_keys: pair.moved_keys,
                moved_bytes: pair.moved_bytes,
                trouble: pair.trouble.to_owned(),
            }
        };
        self.pairs.iter().map(report).collect()
    }

    fn ask(&mut self, core: &mut Core, from: NodeId, id: RpcId, question: &TreeMessage) {
        let TreeMessage::Ask {
            epoch,
            n,
            branches,
            doubtful,
        } = question
        else {
            return;
        };
        for leaf in doubtful.iter().take(ASK_LEAVES_MAX) {
            self.forest.doubt((*leaf).min(LEAVES - 1));
        }
        let standing = if *epoch != core.ring.epoch() {
            Standing::OtherRing
        } else if self.forest.is_built() {
            Standing::Ready
        } else {
            Standing::Building
        };
        let desk = Desk {
            forest: &mut self.forest,
            layout: &self.layout,
        };
        let body = if standing == Standing::Ready {
            answer::sums(&desk, from, *n, branches)
        } else {
            let differing = Vec::new();
            TreeMessage::Sums {
                standing,
                differing,
            }
        };
        answer::send(core, from, id, body);
    }

    fn scanned_own(&mut self, core: &mut Core, ticket: Ticket, items: Found<'_>, more: bool) {
        let (replica, catalogue) = (&core.replica, &core.catalogue);
        let progress = self.forest.scanned(ticket, items, more, replica, catalogue);
        let sizes = items
            .iter()
            .flatten()
            .map(|(key, value)| key.len() + value.len());
        let bytes = sizes.sum();
        let records = items.as_ref().map_or(0, Vec::len);
        self.scrub.page(records, bytes, progress.damaged);
        self.scrub.step(core);
        self.expiry.found(core, progress.mortal);
        self.removed += progress.dropped.len() as u64;
        for address in progress.dropped {
            // One that is refused is found again by the next scan.
            core.submit_for(Caller::Nobody, &address, Job::Remove);
        }
        if progress.round && 0 < self.removed {
            let records = std::mem::take(&mut self.removed);
            core.event(Event::DroppedRemoved { records });
        }
        let mut queue = std::mem::take(&mut core.lapsed);
        queue.found(core, progress.lapsed);
        if progress.round {
            queue.round();
        }
        core.lapsed = queue;
        if 0 < progress.corrected {
            let leaves = progress.corrected;
            core.event(Event::TreeCorrected { leaves });
        }
        if let Some(command) = progress.next {
            core.outputs.push_back(Output::Store(command));
            return;
        }
        let now = core.now.mono;
        let took = now.since(self.scan_begun).max(Duration::from_millis(1));
        let rest = core.governor.rest_of(Work::Scrub, took);
        self.scan_rests = now + rest;
        if !self.forest.has_work() {
            let per_second = core.limits.scrub_bytes_per_second;
            self.scan_rests = now + rest.max(self.scrub.pace(bytes, per_second));
        }
        if progress.round {
            self.scrub.round(core);
        }
    }
}

impl Mechanism for AntiEntropy {
    fn changed(&mut self, core: &Core, change: Change) {
        self.forest.changed(&change, &core.catalogue);
    }

    fn doubted(&mut self, token: u64) {
        self.forest.doubt(leaf_of(token));
    }

    fn message(&mut self, core: &mut Core, from: NodeId, id: RpcId, message: TreeMessage) {
        self.refresh(core);
        match message {
            TreeMessage::Ask { .. } => self.ask(core, from, id, &message),
            TreeMessage::AskLeaves { .. } | TreeMessage::Pull { .. } | TreeMessage::Push { .. } => {
                self.make(core, from, id, message);
            }
            TreeMessage::AskRoots { compare } => self.roots(core, from, id, compare),
            TreeMessage::Sums { .. }
            | TreeMessage::Leaves { .. }
            | TreeMessage::Pulled { .. }
            | TreeMessage::Pushed { .. } => {
                let found = self.sessions.values().find(|s| s.expects(from, id));
                if let Some(session) = found.map(Session::id) {
                    self.with_session(core, session, |session, core, desk| {
                        session.answer(core, desk, message)
                    });
                }
            }
            // For whoever asked for them; not for a comparison.
            TreeMessage::Roots { .. } => {}
        }
    }

    fn done(&mut self, core: &mut Core, task: u64, address: &Address, done: Done) {
        if task == LOOK_TASK {
            return self.scrub.looked(core, address, &done);
        }
        if matches!(done, Done::Refused(Refusal::EqualDotsDiffer)) {
            let session = self.sessions.get(&task).map(|session| session.peer);
            let from = session.or_else(|| self.answers.get(&task).map(|answer| answer.from));
            core.event(Event::EqualDotsDiffer {
                bucket: address.bucket,
                key: address.key.clone(),
                from: from.unwrap_or(core.me),
            });
        }
        let generation = core.generation(address.token);
        if let Some(answer) = self.answers.get_mut(&task) {
            answer.done(address, done, generation);
            self.send_finished(core, task);
        } else {
            self.with_session(core, task, |session, _, _| {
                session.done(address, done, generation);
                Outcome::Going
            });
        }
    }

    fn scanned(&mut self, core: &mut Core, ticket: Ticket, items: Found<'_>, more: bool) -> bool {
        if self.forest.is_waiting_for(ticket) {
            self.scanned_own(core, ticket, items, more);
            return true;
        }
        let mut desk = Desk {
            forest: &mut self.forest,
            layout: &self.layout,
        };
        for (task, answer) in &mut self.answers {
            match answer.scanned(core, &mut desk, ticket, (items, more)) {
                None => {}
                Some(false) => return true,
                Some(true) => {
                    let task = *task;
                    if let Some(answer) = self.answers.remove(&task) {
                        let (to, rpc) = (answer.from, answer.rpc);
                        answer::send(core, to, rpc, answer.into_message());
                    }
                    return true;
                }
            }
        }
        let mut found = None;
        for (id, session) in &mut self.sessions {
            if session.scanned(core, &mut desk, ticket, (items, more)) {
                found = Some(*id);
                break;
            }
        }
        if let Some(id) = found {
            self.advance(core, id);
        }
        found.is_some()
    }

    fn peer_up(&mut self, core: &mut Core, peer: NodeId) {
        for ((_, _), pair) in self.pairs.range_mut((peer, 0)..=(peer, u8::MAX)) {
            let soon = core.now.mono + core.jitter(Duration::from_secs(1));
            pair.next = pair.next.min(soon);
            pair.failures = 0;
        }
    }

    fn timeout(&mut self, core: &mut Core) {
        let now = core.now.mono;
        if self.next_tick <= now {
            self.tick(core);
        }
        self.expiry.step(core);
        self.scrub.step(core);
        self.scan(core);
        let due = |session: &&Session| session.wake().is_some_and(|wake| wake <= now);
        let due: Vec<u64> = self
            .sessions
            .values()
            .filter(due)
            .map(Session::id)
            .collect();
        for id in due {
            self.advance(core, id);
        }
    }

    fn poll_timeout(&self) -> Instant {
        let expiry = self.expiry.wakes(self.next_tick);
        let wakes = self.sessions.values().filter_map(Session::wake).min();
        let mut next = wakes.map_or(self.next_tick, |wake| wake.min(self.next_tick));
        if !self.forest.is_scanning() {
            let scan = if self.forest.has_work() {
                self.scan_rests
            } else if let Some(expiry) = expiry {
                expiry
            } else {
                self.scrub
                    .wakes()
                    .map_or(self.next_tick, |at| at.max(self.scan_rests))
            };
            next = next.min(scan);
        }
        expiry.map_or(next, |expiry| next.min(expiry))
    }

    fn pairs(&self, me: NodeId, now: Instant) -> Vec<PairReport> {
        self.pairs_of(me, now)
    }

    fn scrub(&mut self, core: &Core, begin: bool) -> ScrubProgress {
        let now = core.now.mono;
        if begin {
            if self.scrub.wish(now) {
                self.forest.rewind();
            }
            self.scan_rests = now;
        }
        self.scrub.progress(now, self.forest.reached_millionths())
    }

    fn load(&self) -> Load {
        vec![
            ("tree_sessions", self.sessions.len(), SESSIONS_MAX),
            ("tree_answers", self.answers.len(), ANSWERS_MAX),
            ("tree_doubts", self.forest.doubts(), DOUBTS_MAX),
        ]
    }

    fn audit(&self, core: &Core, objects: &[(Bytes, Bytes)]) -> Option<String> {
        let secret = (&core.context_key, core.me);
        self.is_ready()
            .then(|| self.forest.differs(secret, objects, &core.catalogue))
            .flatten()
    }

    fn is_ready(&self) -> bool {
        self.forest.is_sure()
    }
}
