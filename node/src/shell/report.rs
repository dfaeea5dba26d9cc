//! What the node's events become: log lines and counters.
//!
//! Keys are never logged, only their length and hash; values not even that.

use bytes::Bytes;
use quorate_gossip::{Event as Membership, State};
use quorate_ring::NodeId;
use xxhash_rust::xxh3::xxh3_64;

use super::metrics::Metrics;
use crate::event::Event;

/// Tells one event. `name` knows what nodes are called.
pub(super) fn report(event: &Event, name: &dyn Fn(NodeId) -> String, metrics: &Metrics) {
    match event {
        Event::Minted { .. } => {
            metrics.minted.inc();
        }
        Event::CorruptRecord { bucket, key } => {
            metrics.corrupt.inc();
            let (bucket, key) = (bucket.0, mark(key));
            tracing::error!(
                bucket,
                key,
                "a stored record is damaged; it will be repaired"
            );
        }
        Event::EqualDotsDiffer { bucket, key, from } => {
            let (bucket, key, from) = (bucket.0, mark(key), name(*from));
            tracing::error!(bucket, key, from, "two values under one dot: not merged");
        }
        Event::DamagedMessage { from } => {
            metrics.damaged.inc();
            tracing::warn!(from = name(*from), "a record arrived damaged");
        }
        Event::ReadRepair { replica, blocking } => {
            metrics.repaired(*blocking);
            tracing::debug!(replica = name(*replica), blocking, "read repair");
        }
        Event::ManySiblings { bucket, key, count } => {
            let (bucket, key) = (bucket.0, mark(key));
            tracing::warn!(bucket, key, count, "many siblings");
        }
        Event::Refused { limit } => {
            metrics.refused(limit);
            tracing::debug!(limit, "refused");
        }
        Event::Membership(Membership::Changed(update)) => {
            let node = name(update.node);
            match update.state {
                State::Up => tracing::info!(node, "up"),
                State::Suspect => tracing::info!(node, "suspect"),
                State::Down => tracing::warn!(node, "down"),
            }
        }
        Event::Compared {
            peer,
            agreed,
            moved_keys,
            moved_bytes,
        } => {
            metrics.healing.compared(*agreed, *moved_keys, *moved_bytes);
            let peer = name(*peer);
            tracing::debug!(peer, agreed, moved_keys, moved_bytes, "compared");
        }
        Event::TreeCorrected { leaves } => {
            metrics.healing.corrected(*leaves);
            tracing::warn!(leaves, "the tree was not what is stored");
        }
        Event::RingChanged { epoch, phase, .. } => {
            tracing::info!(%epoch, step = phase.as_str(), "the ring has changed");
        }
        Event::RingFork { epoch } => tracing::error!(%epoch, "two rings claim one epoch"),
        Event::RingForced { note } => {
            tracing::error!(note, "the ring was changed without a majority");
        }
        Event::Fenced { .. } | Event::Rebuilding { .. } | Event::Rebuilt => {
            of_identity(event, metrics);
        }
        Event::StoreFailed { reason } => tracing::debug!(reason, "the store has failed"),
        Event::Ready => tracing::info!("ready"),
    }
}

/// What becomes of the data directory.
fn of_identity(event: &Event, metrics: &Metrics) {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are told elsewhere"
    )]
    match event {
        Event::Fenced { uuid, reason } => {
            metrics.fenced.inc();
            tracing::error!(
                %uuid,
                reason,
                "this data directory was restored, rolled back or copied: it gets a new name, and \
                 counts for no read until it has been rebuilt"
            );
        }
        Event::Rebuilding { transfers } => {
            tracing::warn!(
                transfers,
                "rebuilding: taking in what the other replicas hold"
            );
        }
        Event::Rebuilt => tracing::info!("rebuilt: this data directory counts again"),
        _ => {}
    }
}

/// A key as it may be logged.
pub(super) fn mark(key: &Bytes) -> String {
    format!("{} bytes #{:08x}", key.len(), xxh3_64(key) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        let mark = mark(&Bytes::from_static(b"secret"));
        assert!(mark.starts_with("6 bytes #") && !mark.contains("secret"));
    }
}
