//! What people are told as it happens: the node's own events, a bounded number of them.
//!
//! Each entry is one line of JSON with a number that grows by one. The last few are kept for those
//! who come late; who reads too slowly is told how many it has missed. Keys are marked as in logs,
//! never shown. What happens with every request is not told here; counters are for that.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use quorate_gossip::{Event as Membership, State};
use quorate_ring::NodeId;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::report::mark;
use crate::{cli::output::rfc3339, event::Event};

/// Entries kept for those who come late.
const KEPT: usize = 256;
/// Entries that wait for one slow reader.
const WAITING: usize = 256;

/// One thing that happened.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// A JSON object.
    pub(super) json: String,
}

/// The feed of one node.
#[derive(Debug)]
pub(super) struct Feed {
    kept: Mutex<VecDeque<Arc<Entry>>>,
    sender: broadcast::Sender<Arc<Entry>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            sender: broadcast::Sender::new(WAITING),
        }
    }
}

impl Feed {
    /// Tells an event, if people want to know of such.
    pub(super) fn tell(
        &self,
        event: &Event,
        name: &dyn Fn(NodeId) -> String,
        node: &str,
        wall_ms: impl FnOnce() -> u64,
    ) {
        let Some(mut json) = told(event, name) else {
            return;
        };
        let mut kept = self.kept.lock().expect("a panic ends the process");
        let number = kept.back().map_or(1, |entry| entry.number + 1);
        json["number"] = json!(number);
        json["at"] = json!(rfc3339(wall_ms()));
        json["seen_by"] = json!(node);
        let json = json.to_string();
        let entry = Arc::new(Entry { number, json });
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(entry.clone());
        // An error means that nobody listens.
        let _ = self.sender.send(entry);
    }

    /// What happened after entry `after`, and where the rest will come from.
    pub(super) fn listen(&self, after: u64) -> (Vec<Arc<Entry>>, broadcast::Receiver<Arc<Entry>>) {
        let kept = self.kept.lock().expect("a panic ends the process");
        let late = kept.iter().filter(|entry| after < entry.number);
        (late.cloned().collect(), self.sender.subscribe())
    }
}

fn told(event: &Event, name: &dyn Fn(NodeId) -> String) -> Option<Value> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an event is told only if somebody thought that people want to know of it"
    )]
    Some(match event {
        Event::Membership(Membership::Changed(update)) => {
            let state = match update.state {
                State::Up => "up",
                State::Suspect => "suspect",
                State::Down => "down",
            };
            json!({ "kind": "membership", "node": name(update.node), "state": state })
        }
        Event::CorruptRecord { key, .. } => {
            json!({ "kind": "corrupt_record", "key": mark(key) })
        }
        Event::EqualDotsDiffer { key, from, .. } => {
            json!({ "kind": "equal_dots_differ", "node": name(*from), "key": mark(key) })
        }
        Event::DamagedMessage { from } => {
            json!({ "kind": "damaged_message", "node": name(*from) })
        }
        Event::ManySiblings { key, count, .. } => {
            json!({ "kind": "many_siblings", "key": mark(key), "count": count })
        }
        Event::RingChanged { epoch, phase, .. } => {
            json!({ "kind": "ring", "epoch": epoch.get(), "state": phase.as_str() })
        }
        Event::MemberMoved { name, address } => {
            json!({ "kind": "moved", "node": name, "address": address })
        }
        Event::MemberForgotten { name } => json!({ "kind": "forgotten", "node": name }),
        Event::RingFork { epoch } => json!({ "kind": "ring_fork", "epoch": epoch.get() }),
        Event::RingForced { note } => json!({ "kind": "ring_forced", "note": note }),
        Event::Fenced { uuid, reason } => {
            json!({ "kind": "fenced", "id": uuid.to_string(), "reason": reason })
        }
        Event::SetAside { records, why } => {
            json!({ "kind": "set_aside", "records": records, "why": why })
        }
        Event::Rebuilding { transfers } => {
            json!({ "kind": "rebuilding", "transfers": transfers })
        }
        Event::Rebuilt => json!({ "kind": "rebuilt" }),
        Event::DroppedRemoved { records } => {
            json!({ "kind": "dropped_removed", "records": records })
        }
        Event::ReapBlocked { node, why } => {
            json!({ "kind": "reap_blocked", "node": name(*node), "why": why })
        }
        Event::TreeCorrected { leaves } => {
            json!({ "kind": "tree_corrected", "leaves": leaves })
        }
        Event::Scrubbed {
            records, damaged, ..
        } if 0 < *damaged => {
            json!({ "kind": "scrubbed", "records": records, "damaged": damaged })
        }
        Event::StoreFailed { reason } => json!({ "kind": "store_failed", "reason": reason }),
        Event::Ready => json!({ "kind": "ready" }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_ring::{Phase, RingEpoch};

    fn name(id: NodeId) -> String {
        format!("node {id}")
    }

    #[test]
    fn who_comes_late_gets_what_was_kept_and_then_the_rest_once() {
        let feed = Feed::default();
        for _ in 0..KEPT + 2 {
            feed.tell(&Event::Ready, &name, "n1", || 0);
        }
        let (late, mut rest) = feed.listen(3);
        assert_eq!(late.first().unwrap().number, 4);
        assert_eq!(late.len(), KEPT - 1);
        feed.tell(&Event::Ready, &name, "n1", || 0);
        let next = rest.try_recv().unwrap();
        assert_eq!(next.number, KEPT as u64 + 3);
        let json: Value = serde_json::from_str(&next.json).unwrap();
        assert_eq!(
            (&json["kind"], &json["seen_by"]),
            (&json!("ready"), &json!("n1"))
        );
    }

    #[test]
    fn each_step_of_a_change_of_the_ring_is_told() {
        let feed = Feed::default();
        let event = Event::RingChanged {
            epoch: RingEpoch::new(7),
            phase: Phase::Moving,
            hash: 0,
        };
        feed.tell(&event, &name, "n1", || 0);
        let json: Value = serde_json::from_str(&feed.listen(0).0[0].json).unwrap();
        assert_eq!(
            (&json["kind"], &json["epoch"], &json["state"]),
            (&json!("ring"), &json!(7), &json!("moving"))
        );
    }

    #[test]
    fn what_every_request_causes_is_not_told() {
        let feed = Feed::default();
        feed.tell(&Event::Refused { limit: "scans" }, &name, "n1", || 0);
        assert!(feed.listen(0).0.is_empty());
    }
}
