//! How long each peer takes to answer.
//!
//! The estimator of TCP (RFC 6298: a smoothed round trip and its deviation) gives every replica a
//! limit of its own: a replica silent for longer is worth a second try elsewhere. Slow peers are
//! asked last. Whether a peer is alive is gossip's business, not ours.

use std::{collections::BTreeMap, time::Duration};

use quorate_ring::NodeId;

use crate::limits::Limits;

/// Before the first answer, a peer is assumed to take this long.
const FIRST_GUESS: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug)]
struct Latency {
    smooth_us: u64,
    deviation_us: u64,
}

/// Round trips per peer.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    latency: BTreeMap<NodeId, Latency>,
}

impl Peers {
    /// A peer answered after `elapsed`.
    pub(crate) fn answered(&mut self, peer: NodeId, elapsed: Duration) {
        let sample = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX >> 8);
        let latency = self.latency.entry(peer).or_insert(Latency {
            smooth_us: sample,
            deviation_us: sample / 2,
        });
        let error = latency.smooth_us.abs_diff(sample);
        latency.deviation_us = (3 * latency.deviation_us + error) / 4;
        latency.smooth_us = (7 * latency.smooth_us + sample) / 8;
    }

    /// A peer has been silent for `elapsed`: at least that long must be expected of it.
    pub(crate) fn silent(&mut self, peer: NodeId, elapsed: Duration) {
        if self.expected(peer) < elapsed {
            self.answered(peer, elapsed);
        }
    }

    /// How long the peer usually takes.
    pub(crate) fn expected(&self, peer: NodeId) -> Duration {
        self.latency
            .get(&peer)
            .map_or(FIRST_GUESS, |l| Duration::from_micros(l.smooth_us))
    }

    /// How long to wait for the peer before trying elsewhere.
    pub(crate) fn limit(&self, peer: NodeId, limits: &Limits) -> Duration {
        self.latency
            .get(&peer)
            .map_or(FIRST_GUESS * 2, |l| {
                Duration::from_micros(l.smooth_us + 4 * l.deviation_us)
            })
            .clamp(limits.replica_limit_min, limits.replica_limit_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_slows_down_gets_a_longer_limit_and_recovers() {
        let limits = Limits::default();
        let mut peers = Peers::default();
        let peer = NodeId::new(1);
        for _ in 0..50 {
            peers.answered(peer, Duration::from_millis(1));
        }
        let quick = peers.limit(peer, &limits);
        for _ in 0..50 {
            peers.answered(peer, Duration::from_millis(200));
        }
        let slow = peers.limit(peer, &limits);
        assert!(quick < slow);
        for _ in 0..100 {
            peers.answered(peer, Duration::from_millis(1));
        }
        assert!(peers.limit(peer, &limits) < slow);
    }
}
