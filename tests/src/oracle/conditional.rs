//! Preconditions (P6): advisory, but not arbitrary.
//!
//! A write with a precondition asks a quorum first, so it meets whatever was established before it
//! began: `if-absent` is not acknowledged beside such a value, `if-match` not beside one that its
//! author had not seen. Writes that race may both win, and become siblings. A refusal is certain
//! (the outcome oracle sees to that), and has a reason: not `if-absent` on a key that nobody ever
//! wrote, not `if-match` when the author had seen every write there was.
//!
//! Judged are writes that were sent once; a repeated one may meet itself.

use quorate_client::wire::{Condition, ErrorCode};

use super::{Broken, Listing, Ruling, session::Session};
use crate::history::{History, OpIndex, place};

const PROMISE: &str = "conditional writes (P6)";

/// An answer lists these versions: of a write, or of a read. What is listed beside a write, and was
/// established when that began, was there when its condition was looked at.
pub fn listed(history: &History, session: &Session, listing: &Listing) -> Ruling {
    for &index in &listing.ops {
        beside(history, session, index, listing)?;
    }
    Ok(())
}

fn beside(history: &History, session: &Session, index: OpIndex, listing: &Listing) -> Ruling {
    let op = history.op(index);
    // Those who stand in for replicas need not know what these knew.
    if op.condition == Condition::None || op.sloppy || op.attempts != 1 || op.dots.len() != 1 {
        return Ok(());
    }
    if session.forgot_since(op.key, op.started) {
        return Ok(());
    }
    let n = session.n();
    let asked = (n - op.w + 1).max(n / 2 + 1);
    for known in &op.front {
        let other = history.op(known.op);
        let once = other.dots.len() < 2 && !other.delete;
        let lives = known.op != index && listing.ops.contains(&known.op);
        if once && lives && session.reaches(op.key, asked, known) {
            let detail = format!(
                "{index:?} of key {} had the condition {:?} and was minted beside {:?}, \
                 established at {}",
                op.key, op.condition, known.op, known.at
            );
            return Err(Broken::new(PROMISE, listing.at, detail));
        }
    }
    Ok(())
}

/// A write was refused.
pub fn refused(
    history: &mut History,
    session: &Session,
    index: OpIndex,
    code: ErrorCode,
    at: u64,
) -> Ruling {
    let op = history.op(index);
    if code != ErrorCode::Conflict || op.attempts != 1 {
        return Ok(());
    }
    let (key, condition) = (op.key, op.condition);
    let wrong = match condition {
        Condition::None => true,
        Condition::IfAbsent => history.dots[place(key)].is_empty(),
        Condition::IfMatch if op.sloppy => false,
        Condition::IfMatch => {
            let n = session.n();
            let asked = (n - op.w + 1).max(n / 2 + 1);
            let seen = op.seen.as_ref().map(|seen| &seen.ops[..]);
            let had_seen = |op: OpIndex| seen.is_some_and(|seen| seen.contains(&op));
            let lives = op.front.iter().any(|known| {
                !history.op(known.op).delete
                    && had_seen(known.op)
                    && session.reaches(key, asked, known)
            });
            lives && !session.forgot_since(key, op.started) && saw_all(history, index)
        }
    };
    if wrong {
        let detail = format!("{index:?} of key {key} is refused without a reason: {condition:?}");
        return Err(Broken::new(PROMISE, at, detail));
    }
    Ok(())
}

/// Whether the author had seen every write that was ever minted, each but once, and no delete was.
fn saw_all(history: &mut History, index: OpIndex) -> bool {
    history.ancestors(&[index], |_, _| true);
    let mut minted = history.dots[place(history.op(index).key)].values();
    minted.all(|&other| {
        let op = history.op(other);
        history.met(other) && !op.may_hide() && op.dots.len() == 1
    })
}
