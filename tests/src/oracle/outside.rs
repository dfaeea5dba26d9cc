//! W11, P4: a node outside of the ring that says that it is empty holds nothing, no record and no
//! hint: all it had is with those who own it now. From then on nobody waits for it when something
//! is reaped, and nothing of what it held may come back.

use super::Broken;

const PROMISE: &str = "outside (P4, W11)";

/// It says so, and something lies on its disk.
#[must_use]
pub fn holds(node: &str, epoch: u64, (records, hints): (usize, usize), at: u64) -> Broken {
    let detail = format!(
        "{node}, outside of ring {epoch}, says that it holds nothing, and has {records} records \
         and {hints} hints on disk"
    );
    Broken::new(PROMISE, at, detail)
}
