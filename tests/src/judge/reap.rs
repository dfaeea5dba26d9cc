//! Shows the oracles what is reaped: the record, every disk, and every message on its way.

use bytes::Bytes;
use quorate_node::{
    event::Event as NodeEvent,
    healing::message::TreeMessage,
    message::{Message, ReplicaState},
    ring_message::RingMessage,
    store::format,
    wire,
};

use crate::{
    history::place,
    oracle::{
        Broken, Ruling,
        reap::{self, Reaped},
    },
    world::{Event, Payload, World},
};

impl World {
    /// A node deletes a tombstone, or compacts a clock.
    pub(crate) fn judge_reaped(&mut self, node: usize, event: &NodeEvent) {
        let NodeEvent::Reaped {
            key,
            generation,
            gone,
            state,
            ..
        } = event
        else {
            return;
        };
        let (generation, gone) = (*generation, *gone);
        let number = self.workload.keys().iter().position(|known| known == key);
        let Some(number) = number.and_then(|number| u32::try_from(number).ok()) else {
            let detail = format!("{key:?} was reaped, which nobody wrote");
            return self.rule(Err(Broken::new("no phantom (P8)", self.now, detail)));
        };
        self.causality.may_shrink(node, number);
        *self.reaped.entry(gone).or_default() += 1;
        let reaped = Reaped {
            key: number,
            state,
            gone,
            at: self.now,
        };
        let first = self.judged_reaps.insert((number, generation, gone));
        let ruling = reaped.is_dead().and_then(|()| {
            self.judge_disks(&reaped)?;
            if first {
                self.judge_messages(&reaped, generation)?;
            }
            Ok(())
        });
        self.rule(ruling);
        let seen = self.reaped_clocks.entry(number).or_default();
        seen.join(state.clock());
        if !gone {
            return;
        }
        let dead = self.dead_clocks.entry(number).or_default();
        dead.join(state.clock());
        for (_, version) in state.siblings() {
            if let Some(index) = self.history.find_number(version.op.id) {
                let history = &mut self.history;
                self.session.reaped(history, index, version.stamp);
                self.reaped_ops.insert(index);
            }
        }
    }

    fn judge_disks(&self, reaped: &Reaped<'_>) -> Ruling {
        let ring = &self.rings.newest().ring;
        for node in 0..self.processes.len() {
            // What one who is out of the ring still holds is too old to be taken in, and so is what
            // is in a directory that was put back and is about to be set aside.
            let outside = ring.member(self.processes[node].id).is_none();
            if outside || self.displaced.contains(&node) {
                continue;
            }
            if let Some(record) = self.record(node, reaped.key) {
                reaped.is_nowhere(&record.container, &self.processes[node].name)?;
            }
        }
        Ok(())
    }

    /// Nothing of what was reaped is live on any disk: no version is ever named so again.
    pub(crate) fn judge_the_dead(&self) -> Ruling {
        for (key, dead) in &self.dead_clocks {
            for node in 0..self.processes.len() {
                if let Some(record) = self.record(node, *key) {
                    let name = &self.processes[node].name;
                    reap::is_not_back(*key, dead, &record.container, name, self.now)?;
                }
            }
        }
        Ok(())
    }

    /// Messages of an older generation are taken in by nobody any more.
    fn judge_messages(&self, reaped: &Reaped<'_>, generation: u64) -> Ruling {
        for event in self.agenda.events() {
            let Event::Deliver { payload, .. } = event else {
                continue;
            };
            let message = match payload {
                Payload::Plain(message) => Message::clone(message),
                Payload::Encoded(bytes) => match wire::decode(bytes) {
                    Ok(message) => message,
                    Err(_) => continue,
                },
            };
            let name = &self.workload.keys()[place(reaped.key)];
            for record in records(&message, name, generation) {
                let record = format::decode(self.layout.bucket.0, name, &record);
                if let Ok(record) = record {
                    reaped.is_nowhere(&record.container, "a message on its way")?;
                }
            }
        }
        Ok(())
    }
}

/// The records of a key in a message, unless they are too old to be taken in.
fn records(message: &Message, name: &Bytes, least: u64) -> Vec<Bytes> {
    let mut found = Vec::new();
    let mut look = |key: &Bytes, record: &Bytes, generation: u64| {
        if key == name && least <= generation {
            found.push(record.clone());
        }
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "nothing else carries records"
    )]
    match message {
        Message::Replicate {
            key,
            record,
            generation,
            ..
        } => look(key, record, *generation),
        Message::Tree { body, .. } => match body {
            TreeMessage::Push { records } => {
                for (place, record, generation) in records {
                    look(&place.key, record, *generation);
                }
            }
            TreeMessage::Pulled { records } => {
                for (place, state, generation) in records {
                    if let ReplicaState::Present(record) = state {
                        look(&place.key, record, *generation);
                    }
                }
            }
            _ => {}
        },
        Message::Ring {
            message: RingMessage::Page { items, .. },
            ..
        } => {
            for item in items {
                look(&item.key, &item.record, item.generation);
            }
        }
        _ => {}
    }
    found
}
