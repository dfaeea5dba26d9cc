//! No phantom: every value ever read was written by some attempt of a client under that key, byte
//! for byte. P8: damaged data is never served.
//!
//! Attempts that failed count as attempts: their outcome is unknown, not absent.

use quorate_client::wire::Version;

use super::{Broken, Ruling};
use crate::history::{History, OpIndex, Reuse};

const PROMISE: &str = "no phantom (P8)";

/// Checks one listed version and says whose it is. Values are compared only if `with_value`, as
/// answers to writes may leave them out.
pub fn recognise(
    history: &History,
    key: u32,
    version: &Version,
    with_value: bool,
    at: u64,
) -> Result<OpIndex, Broken> {
    let broken = |what: &str| {
        let detail = format!("key {key} lists dot {}: {what}", version.dot);
        Broken::new(PROMISE, at, detail)
    };
    let index = history
        .find(&version.op_id)
        .ok_or_else(|| broken("nobody's operation"))?;
    let op = history.op(index);
    if op.key != key {
        return Err(broken(&format!("{index:?} belongs to key {}", op.key)));
    }
    let expired = 0 < op.ttl_ms && version.tombstone;
    if op.delete != version.tombstone && !expired {
        return Err(broken(&format!("{index:?} is not of that kind")));
    }
    match &version.value {
        Some(_) if op.delete => Err(broken("a tombstone with a value")),
        Some(_) if version.value != op.value && op.reuse != Reuse::Minted => {
            Err(broken(&format!("{index:?} wrote other bytes")))
        }
        None if with_value && !op.delete => Err(broken(&format!("{index:?} lost its value"))),
        Some(_) | None => Ok(index),
    }
}

/// A read ends well or badly, but not with a value of a write that was never minted.
pub fn minted(history: &History, index: OpIndex, at: u64) -> Ruling {
    if history.op(index).dots.is_empty() {
        let detail = format!("{index:?} is listed, and no node has minted it");
        return Err(Broken::new(PROMISE, at, detail));
    }
    Ok(())
}
