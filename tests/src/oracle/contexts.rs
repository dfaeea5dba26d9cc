//! P1, P2, W20: a context counts only for what a node of this cluster gave out for that very key.
//!
//! A forged context could delete what its author never saw, so a write that carries one must not
//! happen at all: it is refused before a dot is minted, and never acknowledged.

use quorate_client::wire::ErrorCode;

use super::{Broken, Ruling};
use crate::history::{History, OpIndex};

const PROMISE: &str = "contexts (P1, P2, W20)";

/// A node announced a dot for an operation.
pub fn minted(history: &History, index: OpIndex, at: u64) -> Ruling {
    if history.op(index).forged.is_none() {
        return Ok(());
    }
    let detail = format!("{index:?} is minted with a context that nobody gave out for its key");
    Err(Broken::new(PROMISE, at, detail))
}

/// A write was refused: one whose context is good must not be refused for it.
pub fn refused(history: &History, index: OpIndex, code: ErrorCode, at: u64) -> Ruling {
    if code != ErrorCode::BadContext || history.op(index).forged.is_some() {
        return Ok(());
    }
    let detail = format!("{index:?} is refused for a context that a node gave out");
    Err(Broken::new(PROMISE, at, detail))
}
