//! Every history of a key that is deleted and reaped: nothing that was deleted comes back, and
//! nothing that was not is lost.
//!
//! Two owners and a member that owns nothing: it may hold a hint, and read for a client. States are
//! the product's containers, merged and minted by the product's own rules; the agreement is a model
//! of its rules. A state that was sent may arrive at any later time, any number of times or never;
//! an operation that has read may bring an owner up to date whenever it likes. One round of reaping
//! is held, asked for by either owner at any time; whatever may be done in any order is. The space
//! is finite and searched whole.
//!
//! Members that own nothing are fenced so that they can go on: what they send before it is taken in
//! by nobody, but a hint that they hold would be as good as new behind it.
//!
//! With any one rule left out there is a history in which a deleted value is back, or a value that
//! nobody deleted is gone: so each is needed.

use std::{
    fmt,
    hash::{Hash as _, Hasher as _},
    time::Instant,
};

use quorate_node::causality::{Container, Coordinated, Minter, OpId, Write};
use quorate_node::causality::{coordinate, receive};
use quorate_ring::NodeUuid;
use xxhash_rust::xxh3::Xxh3Default;

use super::pool::{Events, HashedSet, Id, Pool};

const NODES: usize = 3;
const OWNERS: std::ops::Range<u8> = 0..2;
const OTHER: u8 = 2;
const BOTH: u8 = 0b011;
const MESSAGES: usize = 1;

/// What reaping rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// An owner says yes only if it holds the very same state.
    SameState,
    /// All owners have to say yes.
    AllOwners,
    /// A member that holds a hint says no.
    NoHints,
    /// What is older than the fence is not taken in.
    Fence,
    /// The fence begins when all owners have said yes.
    FenceLast,
    /// An operation is as old as its beginning, not as its end.
    OldAsBegun,
    /// What an operation is told is not older than its node takes in.
    AnswersToo,
    /// An owner deletes only the very same state.
    SameAtCommit,
}

impl Need {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SameState,
        Self::AllOwners,
        Self::NoHints,
        Self::Fence,
        Self::FenceLast,
        Self::OldAsBegun,
        Self::AnswersToo,
        Self::SameAtCommit,
    ];
}

/// One step of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the numbers are nodes and messages")]
pub enum Step {
    Put { node: u8 },
    Delete { node: u8 },
    Send { node: u8, slot: u8 },
    Deliver { slot: u8, to: u8 },
    HandOff { to: u8 },
    DropHint,
    Begin { node: u8 },
    Fetch { from: u8 },
    Take,
    Repair { to: u8 },
    Ask { node: u8 },
    Vote { node: u8 },
    Fence { node: u8 },
    Commit { node: u8 },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Node {
    store: Id,
    /// Epochs used.
    epochs: u8,
    fenced: bool,
}

/// A state and whether it was read behind the fence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Carried {
    state: Id,
    late: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    nodes: [Node; NODES],
    messages: [Carried; MESSAGES],
    /// One more than the node whose operation it is.
    reader: u8,
    read: Carried,
    answer: Carried,
    answered: bool,
    writes: u8,
    /// Which of the writes are values.
    values: Events,
    /// What all owners are to hold; nothing before somebody asks.
    wanted: Id,
    yes: u8,
    committed: u8,
}

/// How a search ended.
#[derive(Debug)]
pub struct Outcome {
    /// The rule that was left out.
    pub without: Option<Need>,
    /// Distinct states.
    pub states: usize,
    /// Wall time.
    pub seconds: f64,
    /// A shortest history that breaks a promise, and which.
    pub broken: Option<(&'static str, Vec<Step>)>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states, {:.1} s", self.states, self.seconds)?;
        if let Some(need) = self.without {
            write!(f, ", without {need:?}")?;
        }
        if let Some((what, steps)) = &self.broken {
            write!(f, "; {what} after {} steps: {steps:?}", steps.len())?;
        }
        Ok(())
    }
}

struct Search {
    writes: u8,
    without: Option<Need>,
    pool: Pool,
}

/// Searches all histories of one key and one round, with so many writes: the second may delete, the
/// third create anew.
///
/// # Panics
///
/// If there are more than four thousand million states.
#[must_use]
pub fn reaping(writes: u8, without: Option<Need>) -> Outcome {
    let begun = Instant::now();
    let mut search = Search {
        writes,
        without,
        pool: Pool::default(),
    };
    let mut known = HashedSet::default();
    known.insert(State::default().name());
    let mut states = vec![State::default()];
    let mut origins: Vec<(u32, Step)> = vec![(0, Step::DropHint)];
    let mut at = 0;
    let mut steps = Vec::new();
    let mut broken = None;
    while at < states.len() && broken.is_none() {
        let state = states[at];
        search.steps(&state, &mut steps);
        for &step in &steps {
            let mut next = state;
            let lost = search.take(&mut next, step);
            if !known.insert(next.name()) {
                continue;
            }
            states.push(next);
            origins.push((u32::try_from(at).expect("memory ends first"), step));
            let back = search.is_back(&next).then_some("a deleted value is back");
            if let Some(what) = lost.or(back) {
                broken = Some((what, way(&origins)));
                break;
            }
        }
        at += 1;
    }
    Outcome {
        without,
        states: states.len(),
        seconds: begun.elapsed().as_secs_f64(),
        broken,
    }
}

impl Search {
    fn needs(&self, need: Need) -> bool {
        self.without != Some(need)
    }

    fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        steps.clear();
        let held = |node: u8| state.nodes[usize::from(node)].store;
        let fits = |carried: Carried, to: u8| carried.state != 0 && self.takes(state, carried, to);
        for node in OWNERS {
            if state.writes < self.writes {
                steps.push(Step::Put { node });
                if held(node) != 0 {
                    steps.push(Step::Delete { node });
                }
            }
            if held(node) != 0 {
                steps.extend((0..1).map(|slot| Step::Send { node, slot }));
            }
        }
        for (slot, message) in (0..).zip(state.messages) {
            let to = (0..3).filter(|to| fits(message, *to));
            steps.extend(to.map(|to| Step::Deliver { slot, to }));
        }
        if held(OTHER) != 0 {
            let late = state.nodes[usize::from(OTHER)].fenced;
            let state_of = held(OTHER);
            let hint = Carried {
                state: state_of,
                late,
            };
            let to = OWNERS.filter(|to| fits(hint, *to));
            steps.extend(to.map(|to| Step::HandOff { to }));
            steps.push(Step::DropHint);
        }
        if state.reader == 0 {
            steps.extend((0..3).map(|node| Step::Begin { node }));
        } else {
            // It begins again when its node is fenced, and may still be answered what it asked
            // before.
            let node = state.reader - 1;
            if state.nodes[usize::from(node)].fenced && !state.read.late {
                steps.push(Step::Begin { node });
            }
            steps.extend(OWNERS.map(|from| Step::Fetch { from }));
            if state.answered {
                steps.push(Step::Take);
            }
            let to = OWNERS.filter(|to| fits(self.as_sent(state), *to));
            steps.extend(to.map(|to| Step::Repair { to }));
        }
        self.agreement(state, steps);
    }

    fn agreement(&self, state: &State, steps: &mut Vec<Step>) {
        let held = |node: u8| state.nodes[usize::from(node)].store;
        if state.wanted == 0 {
            let asks = OWNERS.filter(|node| self.is_dead(held(*node)));
            steps.extend(asks.map(|node| Step::Ask { node }));
            return;
        }
        let says_yes = |node: &u8| {
            let same = held(*node) == state.wanted;
            state.yes & 1 << node == 0 && (same || !self.needs(Need::SameState))
        };
        steps.extend(OWNERS.filter(says_yes).map(|node| Step::Vote { node }));
        let agreed = if self.needs(Need::AllOwners) {
            state.yes == BOTH
        } else {
            state.yes != 0
        };
        let open = |node: &u8| !state.nodes[usize::from(*node)].fenced;
        if agreed || !self.needs(Need::FenceLast) {
            let free = |node: &u8| *node != OTHER || held(OTHER) == 0 || !self.needs(Need::NoHints);
            let may = (0..3).filter(|node| open(node) && free(node));
            steps.extend(may.map(|node| Step::Fence { node }));
        }
        if agreed && !(0..3).any(|node| open(&node)) {
            let may = |node: &u8| {
                let same = held(*node) == state.wanted || !self.needs(Need::SameAtCommit);
                same && state.committed & 1 << node == 0
            };
            steps.extend(OWNERS.filter(may).map(|node| Step::Commit { node }));
        }
    }

    /// Whether a node takes in what it is sent.
    fn takes(&self, state: &State, carried: Carried, to: u8) -> bool {
        carried.late || !state.nodes[usize::from(to)].fenced || !self.needs(Need::Fence)
    }

    /// What the operation would send now.
    fn as_sent(&self, state: &State) -> Carried {
        let node = state.nodes[usize::from(state.reader.max(1) - 1)];
        let late = state.read.late || (node.fenced && !self.needs(Need::OldAsBegun));
        Carried { late, ..state.read }
    }

    /// Something was lost by it, if it is said what.
    fn take(&mut self, state: &mut State, step: Step) -> Option<&'static str> {
        match step {
            Step::Put { node } => self.write(state, node, true),
            Step::Delete { node } => self.write(state, node, false),
            Step::Send { node, slot } => {
                let node = state.nodes[usize::from(node)];
                let (held, late) = (node.store, node.fenced);
                state.messages[usize::from(slot)] = Carried { state: held, late };
            }
            Step::Deliver { slot, to } => {
                let message = state.messages[usize::from(slot)].state;
                self.merge(state, to, message);
            }
            Step::HandOff { to } => {
                let hint = state.nodes[usize::from(OTHER)].store;
                self.merge(state, to, hint);
            }
            Step::DropHint => state.nodes[usize::from(OTHER)].store = 0,
            Step::Begin { node } => {
                state.reader = node + 1;
                state.read = Carried {
                    state: 0,
                    late: state.nodes[usize::from(node)].fenced,
                };
            }
            Step::Fetch { from } => {
                let node = state.nodes[usize::from(from)];
                let (held, late) = (node.store, node.fenced);
                state.answer = Carried { state: held, late };
                state.answered = true;
            }
            Step::Take => self.take_answer(state),
            Step::Repair { to } => self.merge(state, to, state.read.state),
            Step::Ask { node } => state.wanted = state.nodes[usize::from(node)].store,
            Step::Vote { node } => state.yes |= 1 << node,
            Step::Fence { node } => state.nodes[usize::from(node)].fenced = true,
            Step::Commit { node } => {
                let store = &mut state.nodes[usize::from(node)].store;
                let gone = std::mem::take(store);
                state.committed |= 1 << node;
                return self.lost(state, gone);
            }
        }
        None
    }

    fn take_answer(&mut self, state: &mut State) {
        let answer = std::mem::take(&mut state.answer);
        state.answered = false;
        let reader = usize::from(state.reader - 1);
        let old = state.nodes[reader].fenced && !answer.late;
        if old && self.needs(Need::AnswersToo) {
            return;
        }
        if let Some(told) = self.pool.get(answer.state) {
            let (told, events) = (told.container.clone(), told.events);
            let mut read = self.pool.container(state.read.state).cloned();
            let read = read.get_or_insert_default();
            read.sync(&told).expect("dots are used once");
            let events = events | self.pool.events(state.read.state);
            state.read.state = self.pool.add(read.clone(), events);
        }
    }

    fn merge(&mut self, state: &mut State, to: u8, incoming: Id) {
        let Some(known) = self.pool.get(incoming) else {
            return;
        };
        let (incoming, events) = (known.container.clone(), known.events);
        let node = &mut state.nodes[usize::from(to)];
        let local = self.pool.container(node.store);
        let mut minter = minter(to, node.epochs);
        let received = receive(local, incoming, &mut minter).expect("there are epochs left");
        node.epochs += u8::from(received.rule3);
        let events = events | self.pool.events(node.store);
        node.store = self.pool.add(received.container, events);
    }

    /// A delete has seen what its node holds; a value is written blindly.
    fn write(&mut self, state: &mut State, node: u8, value: bool) {
        let at = state.writes;
        state.writes += 1;
        state.values |= u8::from(value) << at;
        let node_at = usize::from(node);
        let local = self.pool.container(state.nodes[node_at].store);
        let context = local.filter(|_| !value).map(Container::context);
        let write = Write {
            op: OpId {
                principal: 1,
                id: u128::from(at),
            },
            request_hash: 1 + u64::from(at),
            context: context.unwrap_or_default(),
            value: value.then(|| bytes::Bytes::from_static(b"value")),
            written_at_ms: 0,
            expires_at_ms: None,
            stamp: None,
            now_ms: 0,
        };
        let mut minter = minter(node, state.nodes[node_at].epochs);
        let Coordinated::Minted {
            container, rule, ..
        } = coordinate(local, &mut minter, write)
        else {
            return;
        };
        let events = 1 << at | self.pool.events(state.nodes[node_at].store);
        state.nodes[node_at].epochs += u8::from(rule.is_some());
        state.nodes[node_at].store = self.pool.add(container, events);
    }

    /// The writes whose values are live in a state.
    fn live(&self, state: Id) -> Events {
        let container = self.pool.container(state);
        let siblings = container.into_iter().flat_map(Container::siblings);
        let values = siblings.filter(|(_, version)| version.value.is_some());
        values.fold(0, |live, (_, version)| {
            live | 1 << u8::try_from(version.op.id).expect("a few writes")
        })
    }

    fn is_dead(&self, state: Id) -> bool {
        state != 0 && self.live(state) == 0
    }

    /// A value that was live in what is deleted, and that nobody else holds.
    fn lost(&self, state: &State, gone: Id) -> Option<&'static str> {
        let held = state.nodes.iter().map(|node| self.live(node.store));
        let elsewhere = held.fold(0, |all, live| all | live);
        (self.live(gone) & !elsewhere != 0).then_some("a value that nobody deleted is gone")
    }

    /// What was reaped by agreement is live at an owner.
    fn is_back(&self, state: &State) -> bool {
        let reaped = self.pool.events(state.wanted);
        let owners = OWNERS.map(|node| self.live(state.nodes[usize::from(node)].store));
        state.committed != 0 && owners.fold(0, |all, live| all | live) & reaped != 0
    }
}

impl State {
    /// A number that no other state has, for all that is known.
    fn name(&self) -> u64 {
        let mut hasher = Xxh3Default::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// A node that has used so many epochs.
fn minter(node: u8, used: u8) -> Minter {
    let mut minter = Minter::new(NodeUuid::new(1 + u128::from(node)), 1, 100);
    for _ in 0..used {
        minter.take().expect("a hundred epochs");
    }
    minter
}

/// The steps that lead to the state found last.
fn way(origins: &[(u32, Step)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut at = origins.len() - 1;
    while at != 0 {
        let (before, step) = origins[at];
        steps.push(step);
        at = usize::try_from(before).expect("an index");
    }
    steps.reverse();
    steps
}
