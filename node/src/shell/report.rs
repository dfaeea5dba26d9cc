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
        Event::StoodIn { .. } | Event::HintHanded { .. } | Event::HintLost { .. } => {
            report_hint(event, name, metrics);
        }
        Event::Fenced { .. }
        | Event::SetAside { .. }
        | Event::Rebuilding { .. }
        | Event::Rebuilt => report_standing(event, metrics),
        Event::Membership(Membership::Changed(update)) => {
            let node = name(update.node);
            match update.state {
                State::Up => tracing::info!(node, "up"),
                State::Suspect => tracing::info!(node, "suspect"),
                State::Down => tracing::warn!(node, "down"),
            }
        }
        Event::Compared { .. }
        | Event::TreeCorrected { .. }
        | Event::Scrubbed { .. }
        | Event::Reaped { .. }
        | Event::DroppedRemoved { .. }
        | Event::ReapBlocked { .. } => report_healing(event, name, metrics),
        Event::MemberMoved { name, address } => {
            tracing::info!(node = name, address, "moved to another address");
        }
        Event::MemberForgotten { name } => tracing::warn!(node = name, "forgotten"),
        Event::RingChanged { epoch, phase, .. } => {
            tracing::info!(%epoch, step = phase.as_str(), "the ring has changed");
        }
        Event::RingFork { epoch } => tracing::error!(%epoch, "two rings claim one epoch"),
        Event::RingForced { note } => {
            tracing::error!(note, "the ring was changed without a majority");
        }
        Event::StoreFailed { reason } => tracing::debug!(reason, "the store has failed"),
        Event::Ready => tracing::info!("ready"),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the others are told where this is called"
)]
fn report_healing(event: &Event, name: &dyn Fn(NodeId) -> String, metrics: &Metrics) {
    match event {
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
        Event::Reaped { .. } | Event::DroppedRemoved { .. } | Event::ReapBlocked { .. } => {
            report_removal(event, name, metrics);
        }
        Event::TreeCorrected { leaves } => {
            metrics.healing.corrected(*leaves);
            tracing::warn!(leaves, "the tree was not what is stored");
        }
        Event::Scrubbed {
            records,
            bytes,
            damaged,
        } => {
            metrics.healing.scrubbed(*records, *bytes);
            if 0 < *damaged {
                tracing::warn!(records, bytes, damaged, "scrubbed, and found damage");
            } else {
                tracing::debug!(records, bytes, "scrubbed");
            }
        }
        _ => {}
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the others are none of its business"
)]
fn report_hint(event: &Event, name: &dyn Fn(NodeId) -> String, metrics: &Metrics) {
    match event {
        Event::StoodIn { owner, holder } => {
            metrics.hints.stored();
            let (owner, holder) = (name(*owner), name(*holder));
            tracing::debug!(owner, holder, "stood in for");
        }
        Event::HintHanded { owner } => {
            metrics.hints.replayed(true);
            tracing::debug!(owner = name(*owner), "a hint was handed over");
        }
        Event::HintLost { owner } => {
            metrics.hints.replayed(false);
            tracing::warn!(owner = name(*owner), "a hint could not be read");
        }
        _ => {}
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the others are none of its business"
)]
fn report_standing(event: &Event, metrics: &Metrics) {
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
        Event::SetAside { records, why } => {
            tracing::warn!(
                records,
                why,
                "what this data directory held was set aside: quorate salvage shows it"
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

/// What goes for good, or does not.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are told above")]
fn report_removal(event: &Event, name: &dyn Fn(NodeId) -> String, metrics: &Metrics) {
    match event {
        Event::Reaped { gone, key, .. } => {
            metrics.healing.reaped(*gone);
            tracing::debug!(key = mark(key), gone, "all owners agreed on it: reaped");
        }
        Event::DroppedRemoved { records } => {
            metrics.healing.dropped(*records);
            tracing::info!(records, "removed what was left of dropped buckets");
        }
        Event::ReapBlocked { node, why } => {
            tracing::info!(node = name(*node), why, "nothing is reaped meanwhile");
        }
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
