//! Sessions (P3 for one reader): an answer shows nothing older than what its reader has brought
//! along, whatever r is and whoever is down; a node that cannot give such an answer says so.
//!
//! It compares clocks: what a context covers is either shown or was replaced. That nothing at all
//! is known of a key, or only later epochs of the nodes that wrote it, as compacting leaves it, may
//! be said only when every replica has said it.

use quorate_node::causality::{Actor, Clock};

use super::{Broken, Ruling};

const PROMISE: &str = "sessions (P3)";

/// What a reader brought along, and what it got.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The key.
    pub key: u32,
    /// Covers all that the reader has seen.
    pub seen: &'a Clock,
    /// Of the answer's context; none if it has none.
    pub shown: Option<&'a Clock>,
    /// Replicas that answered.
    pub answered: u8,
    /// Replicas there are.
    pub replicas: u8,
}

/// A read of a session was answered.
pub fn answered(answer: &Answer<'_>, at: u64) -> Ruling {
    let all = answer.replicas <= answer.answered;
    let holds = match answer.shown {
        Some(shown) => {
            let mut seen = answer.seen.iter();
            let later = |actor: Actor| all && actor.epoch < shown.highest(actor.uuid).0;
            seen.all(|(actor, n)| n <= shown.get(actor) || later(actor))
        }
        None => answer.seen.is_empty() || all,
    };
    if holds {
        return Ok(());
    }
    let detail = format!(
        "a reader of key {} had seen {:?} and was shown {:?} by {} replicas",
        answer.key, answer.seen, answer.shown, answer.answered
    );
    Err(Broken::new(PROMISE, at, detail))
}
