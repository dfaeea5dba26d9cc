//! Values that expire (P4): what a write with a ttl replaced does not come back when it expires,
//! which the oracles of reads and of durability see to, since an expired version goes on covering
//! it. Here: in the end no disk holds a value whose time was over long ago, and none has lost one
//! that had no end.

use quorate_node::causality::Container;

use super::{Broken, Ruling};
use crate::history::History;

const PROMISE: &str = "expiry (P4)";

/// Checks one record: no value may be left in it that expired before that time.
pub fn record(
    history: &History,
    node: &str,
    key: u32,
    container: &Container,
    before_ms: u64,
    at: u64,
) -> Ruling {
    for (dot, version) in container.siblings() {
        let broken = |what: &str| {
            let detail = format!("{node} holds {dot:?} of key {key}, {what}");
            Err(Broken::new(PROMISE, at, detail))
        };
        let expired = version.expires_at_ms.is_some_and(|at| at < before_ms);
        if expired && version.value.is_some() {
            return broken("with a value whose time is over");
        }
        let op = history.find_number(version.op.id);
        if let Some(index) = op
            && version.value.is_none()
            && !history.op(index).may_hide()
        {
            return broken("without its value");
        }
    }
    Ok(())
}
