//! P7, W16: every table and queue stays within its maximum, and after all work is done they are as
//! empty as at the start. Every request is answered exactly once, by its deadline and a little.
//!
//! A process that stood still may answer late by as long as it stood.

use quorate_node::hedging::Hedging;

use super::{Broken, Ruling};

const PROMISE: &str = "bounds (P7, W16)";

/// How late an answer may be. Deadlines are checked by timers, and timers are rounded.
pub const SLACK: u64 = 50_000_000;

/// What a node may want done after one input; more means that it feeds itself for ever.
pub const OUTPUTS_MAX: u32 = 100_000;

/// One gauge of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// What is counted.
    pub name: &'static str,
    /// How many there are.
    pub value: usize,
    /// How many there may be.
    pub max: usize,
}

/// No gauge is above its maximum.
pub fn levels(node: &str, levels: &[Level], at: u64) -> Ruling {
    for level in levels {
        if level.max < level.value {
            let detail = format!(
                "{node}: {} is {}, above {}",
                level.name, level.value, level.max
            );
            return Err(Broken::new(PROMISE, at, detail));
        }
    }
    Ok(())
}

/// A node has asked more replicas in the stead of slow ones than its reads paid for.
#[must_use]
pub fn above_budget(node: &str, hedging: &Hedging, at: u64) -> Broken {
    Broken::new(PROMISE, at, format!("{node} hedges too much: {hedging:?}"))
}

/// Nothing is left over once nobody asks for anything.
pub fn baseline(node: &str, levels: &[Level], at: u64) -> Ruling {
    for level in levels {
        if level.value != 0 {
            let detail = format!("{node}: {} is {} when idle", level.name, level.value);
            return Err(Broken::new(PROMISE, at, detail));
        }
    }
    Ok(())
}

/// A node that does not come to rest after an input.
#[must_use]
pub fn endless(node: &str, at: u64) -> Broken {
    let detail = format!("{node} wants more than {OUTPUTS_MAX} things done after one input");
    Broken::new(PROMISE, at, detail)
}

/// An answer for a request that is not waiting.
#[must_use]
pub fn answered_twice(node: &str, request: u64, at: u64) -> Broken {
    let detail = format!("{node} answered request {request}, which was not waiting");
    Broken::new(PROMISE, at, detail)
}

/// A request whose deadline and slack have passed.
#[must_use]
pub fn unanswered(node: &str, request: u64, deadline: u64, at: u64) -> Broken {
    let detail = format!("{node} has not answered request {request}, due at {deadline}");
    Broken::new(PROMISE, at, detail)
}
