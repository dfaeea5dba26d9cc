//! When a node must go on under a new epoch.
//!
//! A dot may be minted once, ever. A node may therefore count on under an actor only while its own
//! history of the key is provably unbroken: nothing it ever minted under that actor can be missing
//! from its state. Each rule names one way in which that proof is lost. They are separate small
//! functions so that each can be seen to be needed: a search over all short histories finds an
//! acknowledged write lost as soon as any one of them is left out.
//!
//! Each function takes what the node knows of *itself*: the greatest (epoch, counter) among its
//! own actors in a clock, (0, 0) if there is none.

use quorate_ring::NodeUuid;

use super::clock::Clock;

/// The rule that demanded a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The epoch in use was begun by an earlier process: a power cut may have taken back a write
    /// that other replicas already have.
    Restart = 0,
    /// The key is absent or unreadable here: it may have been here before.
    Absent = 1,
    /// The key is here, but not all we wrote to it: the writer knows more of us than we do, or
    /// nothing of ours is left.
    Amnesia = 2,
    /// Another replica knows more of us than we do.
    Received = 3,
}

/// Rule 0: our newest epoch of this key is older than this process.
#[must_use]
pub fn restart(local: (u64, u64), boot_epoch: u64) -> bool {
    0 < local.0 && local.0 < boot_epoch
}

/// Rule 1: there is no readable state of the key.
#[must_use]
pub fn absent(local: Option<&Clock>) -> bool {
    local.is_none()
}

/// Rule 2: the key is here, and we have no epoch for it or the writer's context knows a later one.
#[must_use]
pub fn amnesia(local: (u64, u64), context: (u64, u64)) -> bool {
    local.0 == 0 || local < context
}

/// Rule 3: what arrives knows more of us than we do. `local` is none if the key is absent.
#[must_use]
pub fn received(local: Option<(u64, u64)>, incoming: (u64, u64)) -> bool {
    local.unwrap_or((0, 0)) < incoming
}

/// Which of the rules 0, 1 and 2 demands a new epoch for a write coordinated by `uuid`.
#[must_use]
pub fn coordinating(
    uuid: NodeUuid,
    boot_epoch: u64,
    local: Option<&Clock>,
    context: &Clock,
) -> Option<Rule> {
    let Some(clock) = local else {
        return absent(local).then_some(Rule::Absent);
    };
    let ours = clock.highest(uuid);
    if restart(ours, boot_epoch) {
        Some(Rule::Restart)
    } else if amnesia(ours, context.highest(uuid)) {
        Some(Rule::Amnesia)
    } else {
        None
    }
}

/// Whether rule 3 demands a new epoch for `uuid` when `incoming` is merged into `local`.
#[must_use]
pub fn receiving(uuid: NodeUuid, local: Option<&Clock>, incoming: &Clock) -> Option<Rule> {
    let ours = local.map(|clock| clock.highest(uuid));
    received(ours, incoming.highest(uuid)).then_some(Rule::Received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_of_this_process_needs_no_new_one() {
        assert!(!restart((7, 3), 7));
        assert!(restart((6, 3), 7));
        assert!(!restart((0, 0), 7), "no epoch at all is rule 2's business");
    }

    #[test]
    fn a_context_that_knows_more_of_us_is_amnesia() {
        assert!(!amnesia((7, 3), (7, 3)));
        assert!(amnesia((7, 3), (7, 4)));
        assert!(amnesia((7, 3), (8, 1)));
        assert!(!amnesia((7, 3), (6, 9)));
        assert!(amnesia((0, 0), (0, 0)));
    }

    #[test]
    fn a_replica_that_knows_more_of_us_ends_our_epoch() {
        assert!(received(None, (7, 1)));
        assert!(!received(None, (0, 0)));
        assert!(!received(Some((7, 1)), (7, 1)));
        assert!(received(Some((7, 1)), (7, 2)));
    }
}
