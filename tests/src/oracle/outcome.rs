//! P6, W17: a write that failed with anything but `unknown_outcome` was certainly not applied: no
//! node mints it afterwards or has minted it before, and nobody ever reads it.
//!
//! An operation counts as refused only while every one of its attempts was.

use quorate_client::wire::ErrorCode;

use super::{Broken, Listing, Ruling};
use crate::history::{History, OpIndex, Outcome};

const PROMISE: &str = "unknown outcome (P6, W17)";

/// An attempt was answered with an error other than `unknown_outcome`.
pub fn refused(history: &mut History, index: OpIndex, code: ErrorCode, at: u64) -> Ruling {
    let op = &mut history.ops[index.at()];
    op.refused += 1;
    if op.refused < op.attempts || op.outcome != Outcome::Unknown {
        return Ok(());
    }
    op.outcome = Outcome::NotApplied;
    if op.dots.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "{index:?} of key {} answered {} but has dots {:?}",
        op.key,
        code.as_str(),
        op.dots
    );
    Err(Broken::new(PROMISE, at, detail))
}

/// A node announced a dot for an operation.
pub fn minted(history: &History, index: OpIndex, at: u64) -> Ruling {
    if history.op(index).outcome == Outcome::NotApplied {
        let detail = format!("{index:?} is minted after it was refused for certain");
        return Err(Broken::new(PROMISE, at, detail));
    }
    Ok(())
}

/// Versions were listed.
pub fn listed(history: &History, listing: &Listing) -> Ruling {
    for &index in &listing.ops {
        if history.op(index).outcome == Outcome::NotApplied {
            let detail = format!("{index:?} is listed after it was refused for certain");
            return Err(Broken::new(PROMISE, listing.at, detail));
        }
    }
    Ok(())
}
