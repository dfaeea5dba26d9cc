//! P6, W5: a retry with the same operation id is applied once.
//!
//! No answer lists one operation twice. An operation that was acknowledged by the very replica it
//! was sent to, and repeated only then, is never minted again: a retry asks so many replicas that
//! it meets one that knows. (An attempt that was on its way all the while knows nothing of it, and
//! a crash may have made the coordinator forget; both are excused.) And after everything has
//! converged, no operation is live that the author of another live one had seen, even if a retry
//! minted it again in between. The memory of operation ids is bounded by design, so an operation
//! that was retried after that many others were told to its key is excused.

use std::collections::BTreeMap;

use quorate_client::wire::ErrorCode;

use super::{Broken, Listing, Ruling};
use crate::history::{History, OpIndex, Reuse, place};

const PROMISE: &str = "idempotence (P6, W5)";

/// Operation ids told to a key within which a retry must be recognised; half of what an object
/// remembers.
pub const WINDOW: usize = 32;

/// A dot is about to be minted for an operation, while processes have died so many times.
pub fn minted(history: &History, index: OpIndex, deaths: u64, at: u64) -> Ruling {
    let op = history.op(index);
    let since = history.ids[place(op.key)] - op.ids_before;
    if op.dots.is_empty() || !op.prompt || op.deaths != deaths || WINDOW < since {
        return Ok(());
    }
    let detail = format!(
        "{index:?} of key {} was acknowledged with {:?} and a later retry minted it again",
        op.key, op.dots
    );
    Err(Broken::new(PROMISE, at, detail))
}

/// A write was refused because its operation id had written something else.
pub fn refused(history: &History, index: OpIndex, code: ErrorCode, at: u64) -> Ruling {
    if code != ErrorCode::OpIdReused || history.op(index).reuse != Reuse::No {
        return Ok(());
    }
    let detail = format!("{index:?} is refused as a reused id, and nobody reused it");
    Err(Broken::new(PROMISE, at, detail))
}

/// Another write under the id of an acknowledged one was acknowledged as well, while processes
/// have died so many times. Replicas that only know that the id was seen take it for a retry.
pub fn reused(history: &History, index: OpIndex, deaths: u64, at: u64) -> Ruling {
    let op = history.op(index);
    let since = history.ids[place(op.key)] - op.ids_before;
    let was_seen = op.replaced.is_some() || history.was_seen(index) || op.reuse == Reuse::Minted;
    if !op.prompt || op.deaths != deaths || WINDOW < since || was_seen {
        return Ok(());
    }
    let detail = format!(
        "another write under the id of {index:?} of key {} was acknowledged",
        op.key
    );
    Err(Broken::new(PROMISE, at, detail))
}

/// No operation has two live siblings in one answer; two different writes under one id may.
pub fn listed(history: &History, listing: &Listing) -> Ruling {
    let ops = listing.ops.iter().copied();
    let mut ops: Vec<_> = ops
        .filter(|&op| history.op(op).reuse != Reuse::Minted)
        .collect();
    ops.sort_unstable();
    if let Some([twice, _]) = ops.windows(2).find(|pair| pair[0] == pair[1]) {
        let detail = format!("key {} lists {twice:?} twice", listing.key);
        return Err(Broken::new(PROMISE, listing.at, detail));
    }
    Ok(())
}

/// At the end: `live` is what each key's replicas agree on.
pub fn at_the_end(history: &mut History, live: &BTreeMap<u32, Vec<OpIndex>>, at: u64) -> Ruling {
    for (&key, ops) in live {
        let listing = Listing {
            key,
            at,
            ops: ops.clone(),
        };
        listed(history, &listing)?;
        let minted = history.dots[place(key)].len();
        for &index in ops {
            let Some(seen) = history.op(index).seen.clone() else {
                continue;
            };
            if let Some(back) = ops
                .iter()
                .find(|&&op| op != index && seen.ops.contains(&op))
                && minted <= WINDOW
            {
                let detail = format!("key {key} still holds {back:?}, which {index:?} replaced");
                return Err(Broken::new(PROMISE, at, detail));
            }
        }
    }
    Ok(())
}
