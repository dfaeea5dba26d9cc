//! Containers against sets of events.
//!
//! In the model a replica knows a set of writes, and a write its past: the set its author had
//! seen. A write is live where it is known and in no known write's past. Replicas lose keys and
//! restart as they like; the container must agree in every state.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::sample;
use crate::causality::{
    Container, Context, Coordinated, EPOCH_LEASE, Minter, OpId, coordinate, receive,
};

pub(super) const REPLICAS: usize = 3;
const CLIENTS: usize = 2;

/// One step of a history. Replicas and clients are counted from zero.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Blind { replica: usize },
    Put { replica: usize, client: usize },
    Read { replica: usize, client: usize },
    Send { from: usize, to: usize },
    Lose { replica: usize },
    Restart { replica: usize },
    Retry { replica: usize, back: usize },
    Reuse { replica: usize, back: usize },
}

fn ordinary() -> impl Strategy<Value = Step> {
    let (replica, client) = (|| 0..REPLICAS, || 0..CLIENTS);
    prop_oneof![
        2 => replica().prop_map(|replica| Step::Blind { replica }),
        4 => (replica(), client()).prop_map(|(replica, client)| Step::Put { replica, client }),
        4 => (replica(), client()).prop_map(|(replica, client)| Step::Read { replica, client }),
        4 => (replica(), replica()).prop_map(|(from, to)| Step::Send { from, to }),
    ]
}

/// Histories in which replicas forget keys and restart.
pub(super) fn faulty_history() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => ordinary(),
        1 => (0..REPLICAS).prop_map(|replica| Step::Lose { replica }),
        1 => (0..REPLICAS).prop_map(|replica| Step::Restart { replica }),
    ];
    prop::collection::vec(step, 1..60)
}

/// Histories in which clients repeat requests at other replicas.
pub(super) fn retrying_history() -> impl Strategy<Value = Vec<Step>> {
    let retry = (0..REPLICAS, 0..4_usize);
    let step = prop_oneof![
        4 => ordinary(),
        1 => retry.prop_map(|(replica, back)| Step::Retry { replica, back }),
    ];
    prop::collection::vec(step, 1..60)
}

/// Histories in which clients also use an id for another value.
pub(super) fn mistaken_history() -> impl Strategy<Value = Vec<Step>> {
    let reuse = (0..REPLICAS, 0..4_usize);
    let step = prop_oneof![
        8 => ordinary(),
        1 => (0..REPLICAS).prop_map(|replica| Step::Restart { replica }),
        2 => reuse.prop_map(|(replica, back)| Step::Reuse { replica, back }),
    ];
    prop::collection::vec(step, 1..60)
}

type Events = BTreeSet<OpId>;

/// The product and the model, side by side.
pub(super) struct World {
    pub(super) held: Vec<Option<Container>>,
    minters: Vec<Minter>,
    known: Vec<Events>,
    read: Vec<(Context, Events)>,
    /// Every write with its context and its past.
    writes: Vec<(OpId, Context, Events)>,
    past: BTreeMap<OpId, Events>,
}

impl World {
    pub(super) fn after(history: &[Step]) -> Self {
        let nodes = 1..=u8::try_from(REPLICAS).expect("a few");
        let mut world = Self {
            held: vec![None; REPLICAS],
            minters: nodes.map(sample::minter).collect(),
            known: vec![Events::new(); REPLICAS],
            read: vec![(Context::default(), Events::new()); CLIENTS],
            writes: Vec::new(),
            past: BTreeMap::new(),
        };
        for step in history {
            world.step(*step);
        }
        world
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Blind { replica } => self.put(replica, Context::default(), &Events::new()),
            Step::Put { replica, client } => {
                let (context, past) = self.read[client].clone();
                self.put(replica, context, &past);
            }
            Step::Read { replica, client } => {
                if let Some(held) = &self.held[replica] {
                    self.read[client] = (held.context(), self.known[replica].clone());
                }
            }
            Step::Send { from, to } => self.send(from, to),
            Step::Lose { replica } => {
                self.held[replica] = None;
                self.known[replica].clear();
            }
            Step::Restart { replica } => {
                let start = self.minters[replica].boot_epoch() + EPOCH_LEASE;
                let uuid = self.minters[replica].uuid();
                self.minters[replica] = Minter::new(uuid, start, start + EPOCH_LEASE);
            }
            Step::Retry { replica, back } => {
                if let Some(first) = self.writes.iter().nth_back(back) {
                    let (op, context, past) = first.clone();
                    self.apply(replica, op, context, &past);
                }
            }
            Step::Reuse { replica, back } => {
                if let Some((op, ..)) = self.writes.iter().nth_back(back) {
                    self.reuse(replica, *op);
                }
            }
        }
    }

    fn put(&mut self, replica: usize, context: Context, past: &Events) {
        let op = sample::op(self.writes.len() as u128);
        self.past.insert(op, past.clone());
        self.writes.push((op, context.clone(), past.clone()));
        self.apply(replica, op, context, past);
    }

    fn apply(&mut self, replica: usize, op: OpId, context: Context, past: &Events) {
        let mut write = sample::write(op.id, Some("value"));
        write.context = context;
        let local = self.held[replica].as_ref();
        match coordinate(local, &mut self.minters[replica], write) {
            Coordinated::Minted { container, .. } => {
                self.held[replica] = Some(container);
                self.known[replica].extend(past);
                self.known[replica].insert(op);
            }
            Coordinated::AlreadyApplied => {}
            Coordinated::OpIdReused | Coordinated::LeaseExhausted => unreachable!("not here"),
        }
    }

    /// Of this the model knows nothing.
    fn reuse(&mut self, replica: usize, op: OpId) {
        let write = sample::write(op.id, Some("another value"));
        let local = self.held[replica].as_ref();
        let outcome = coordinate(local, &mut self.minters[replica], write);
        if let Coordinated::Minted { container, .. } = outcome {
            self.held[replica] = Some(container);
        }
    }

    fn send(&mut self, from: usize, to: usize) {
        let Some(incoming) = self.held[from].clone() else {
            return;
        };
        let local = self.held[to].as_ref();
        let received = receive(local, incoming, &mut self.minters[to]).expect("no dot is reused");
        self.held[to] = Some(received.container);
        let events = self.known[from].clone();
        self.known[to].extend(events);
    }

    /// What the model says is live at a replica.
    pub(super) fn live(&self, replica: usize) -> Events {
        let known = &self.known[replica];
        let replaced = |op: &OpId| known.iter().any(|later| self.past[later].contains(op));
        known.iter().copied().filter(|op| !replaced(op)).collect()
    }

    /// What the container says is live there, each as often as it has versions.
    pub(super) fn held(&self, replica: usize) -> Vec<OpId> {
        let held = self.held[replica].iter();
        let mut ops: Vec<OpId> = held
            .flat_map(|held| held.siblings().map(|(_, sibling)| sibling.op))
            .collect();
        ops.sort_unstable();
        ops
    }

    /// Everyone tells everyone.
    pub(super) fn exchange(&mut self) {
        for from in 0..REPLICAS {
            for to in 0..REPLICAS {
                self.send(from, to);
            }
        }
    }
}
