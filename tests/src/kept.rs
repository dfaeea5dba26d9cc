//! What nodes keep for others, as it lies on their disks, for the oracles.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_node::{
    event::Event,
    healing::hints::message::HintMessage,
    message::{Message, RpcId, Verdict},
    store::{
        Table,
        format::{self, hint_key, parse_hint_key},
    },
};
use quorate_ring::NodeId;

use crate::{
    history::{OpIndex, place},
    oracle::{Broken, hints},
    world::World,
};

/// How often it came to that.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Times that somebody was asked to stand in for another.
    pub asked: u64,
    /// Hints handed over.
    pub handed: u64,
    /// Hints that could not be read any more.
    pub lost: u64,
    /// Acknowledgements that counted one.
    pub counted: u64,
    /// Writes that nobody coordinated but one who stood in.
    pub coordinated: u64,
    /// Reads that asked those who might keep some.
    pub read: u64,
}

/// Who said that it is overloaded, and for whom somebody was asked to stand in: each by the node
/// that coordinates, the number of its question and the replica.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    overloaded: BTreeSet<(usize, RpcId, NodeId)>,
    stood_in: BTreeSet<(usize, RpcId, NodeId)>,
}

impl Counts {
    /// A node says what it does about them.
    pub const fn note(&mut self, event: &Event) {
        self.asked += matches!(event, Event::StoodIn { .. }) as u64;
        self.handed += matches!(event, Event::HintHanded { .. }) as u64;
        self.lost += matches!(event, Event::HintLost { .. }) as u64;
    }

    /// For the summary.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("stood_in", self.asked),
            ("hints_handed", self.handed),
            ("hints_lost", self.lost),
            ("hints_counted", self.counted),
            ("stand_in_coordinated", self.coordinated),
            ("stand_in_read", self.read),
        ]
    }
}

impl World {
    /// A node hears something.
    pub(crate) fn note_heard(&mut self, node: usize, from: NodeId, message: &Message) {
        if let Message::Replicated {
            id,
            verdict: Verdict::Overloaded(_),
        } = message
        {
            self.asked.overloaded.insert((node, *id, from));
        }
    }

    /// A node asks another to stand in: not for one that it knows to be overloaded.
    pub(crate) fn judge_asked(&mut self, node: usize, message: &Message) {
        let Message::Hint {
            id,
            body: HintMessage::Keep { owner, .. },
        } = message
        else {
            return;
        };
        let asked = (node, *id, *owner);
        let first = self.asked.stood_in.insert(asked);
        // A change of the ring begins it all anew.
        let stable = self.options.ring_interval.is_none();
        if first && stable && self.asked.overloaded.contains(&asked) {
            let name = &self.processes[node].name;
            let broken = hints::for_overload(name, self.now);
            self.rule(Err(broken));
        }
    }

    /// Looks at the hints that a node has deleted.
    pub(crate) fn judge_hints(&mut self, node: usize) {
        for (stored, value) in self.processes[node].disk.take_hints_gone() {
            let Some((owner, token, bucket, name)) = parse_hint_key(&stored) else {
                continue;
            };
            let object = format::object_key(token, bucket, name);
            let number = self.layout.store_keys.iter().position(|key| *key == object);
            let Some(key) = number.and_then(|number| u32::try_from(number).ok()) else {
                continue;
            };
            let Ok(record) = format::decode(bucket, name, &value) else {
                continue;
            };
            let owner = NodeId::new(owner);
            let clock = record.container.clock();
            // A hint for the node itself came with another's directory.
            let covers = |other: usize| {
                self.rotted.contains(&(other, key))
                    || (other != node
                        && self
                            .record(other, key)
                            .is_some_and(|record| record.container.clock().dominates(clock)))
            };
            let meant = self.processes.iter().position(|p| p.id == owner);
            let mut covered = meant.is_some_and(covers);
            if !covered && self.options.ring_interval.is_some() {
                covered = (0..self.processes.len()).any(covers);
            }
            let owner = meant.map_or("nobody", |owner| &self.processes[owner].name);
            let ruling = hints::gone(&hints::Gone {
                holder: &self.processes[node].name,
                owner,
                key,
                at: self.now,
                covered,
            });
            self.rule(ruling);
        }
    }

    /// Whether a hint on a node's synced disk covers an operation.
    pub(crate) fn is_kept(&self, node: usize, index: OpIndex) -> bool {
        let op = self.history.op(index);
        let name = &self.workload.keys()[place(op.key)];
        self.hints_of(node, op.key).any(|bytes| {
            let record = format::decode(self.layout.bucket.0, name, &bytes).ok();
            record.is_some_and(|record| {
                let clock = record.container.clock();
                op.dots.iter().any(|&dot| clock.covers(dot))
            })
        })
    }

    /// The hints of a key that lie on a node's synced disk.
    pub fn hints_of(&self, node: usize, key: u32) -> impl Iterator<Item = Bytes> + '_ {
        let stored = &self.layout.store_keys[place(key)];
        let parsed = format::parse_object_key(stored).expect("made here");
        let disk = &self.processes[node].disk;
        self.processes.iter().filter_map(move |owner| {
            let (token, bucket, name) = parsed;
            disk.synced(Table::Hints, &hint_key(owner.id.get(), token, bucket, name))
        })
    }

    /// Somebody who still keeps hints, or does not know whether it does.
    pub(crate) fn keeps_hints(&self) -> Option<Broken> {
        self.processes.iter().find_map(|process| {
            let count = process.disk.hints().len();
            let machine = process.machine.as_ref();
            let told = machine.and_then(|node| node.hints_held());
            let none = count == 0 && told == Some((0, 0));
            (!none).then(|| hints::left(&process.name, count, self.now))
        })
    }
}
