//! How long each peer takes to answer.
//!
//! The estimator of TCP (RFC 6298: a smoothed round trip and its deviation) gives every replica a
//! limit of its own: a replica silent for longer is worth a second try elsewhere. Slow peers are
//! asked last; since who is asked last may never be asked, each gets a question now and then for
//! whose answer nobody waits, and recovers its place when it is quick again. Whether a peer is
//! alive is gossip's business, not ours.
//!
//! What a peer nearly always takes for a read is followed by steps: up by much when it took longer,
//! down by little when it did not, so that it comes to rest where one in so many takes longer
//! (Robbins and Monro, 1951). No samples are kept, and it does not matter how much longer it took,
//! which is never known of one whose answer nobody waited for.

use std::{collections::BTreeMap, time::Duration};

use quorate_gossip::Instant;
use quorate_ring::NodeId;

use crate::{limits::Limits, message::RpcId};

/// Before the first answer, a peer is assumed to take this long.
const FIRST_GUESS: Duration = Duration::from_millis(50);
/// Of so many reads a peer answers all but one in what it usually takes.
const USUALLY: u64 = 50;
/// A step down is one part in so many of what a peer usually takes.
const STEP: u64 = 512;
/// A peer that was asked nothing for so long is tried.
const TRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Latency {
    smooth_us: u64,
    deviation_us: u64,
}

/// A question for whose answer nobody waits.
#[derive(Clone, Copy, Debug)]
struct Trial {
    rpc: RpcId,
    sent: Instant,
}

/// Round trips per peer.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    latency: BTreeMap<NodeId, Latency>,
    /// What each usually takes for a read, in nanoseconds.
    usual: BTreeMap<NodeId, u64>,
    /// When each was last asked something whose answer is timed.
    asked: BTreeMap<NodeId, Instant>,
    trials: BTreeMap<NodeId, Trial>,
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

    /// A peer is asked something whose answer will be timed.
    pub(crate) fn asks(&mut self, peer: NodeId, now: Instant) {
        self.asked.insert(peer, now);
    }

    /// One of these that has been asked nothing for a while, and has no place among the first.
    pub(crate) fn due(&self, peers: &[NodeId], now: Instant) -> Option<NodeId> {
        let rests = |peer: &NodeId| {
            let asked = self.asked.get(peer);
            asked.is_none_or(|asked| TRY_AFTER <= now.since(*asked))
        };
        peers.iter().copied().find(rests)
    }

    /// A peer is tried; one that has not answered the last trial has been silent since.
    pub(crate) fn tries(&mut self, peer: NodeId, rpc: RpcId, now: Instant) {
        self.asks(peer, now);
        let trial = Trial { rpc, sent: now };
        if let Some(last) = self.trials.insert(peer, trial) {
            self.silent(peer, now.since(last.sent));
        }
    }

    /// An answer has come; if it is that of a trial it says more than what is remembered.
    pub(crate) fn tried(&mut self, peer: NodeId, rpc: RpcId, now: Instant) {
        let Some(trial) = self.trials.get(&peer).filter(|trial| trial.rpc == rpc) else {
            return;
        };
        let elapsed = now.since(trial.sent);
        self.trials.remove(&peer);
        self.answered(peer, elapsed);
        let sample = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX >> 8);
        if let Some(latency) = self.latency.get_mut(&peer) {
            latency.smooth_us = u64::midpoint(latency.smooth_us, sample);
        }
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

    /// A peer has answered a read before it was found slow.
    pub(crate) fn was_quick(&mut self, peer: NodeId, elapsed: Duration, limits: &Limits) {
        let first = || nanos(elapsed).saturating_mul(4);
        let usual = self.usual.entry(peer).or_insert_with(first);
        *usual = within(*usual - *usual / STEP, limits);
    }

    /// A peer has not answered a read in what it usually takes.
    pub(crate) fn took_long(&mut self, peer: NodeId, limits: &Limits) {
        let usual = nanos(self.usual(peer, limits));
        let longer = usual + usual / STEP * (USUALLY - 1);
        self.usual.insert(peer, within(longer, limits));
    }

    /// What the peer nearly always takes for a read.
    pub(crate) fn usual(&self, peer: NodeId, limits: &Limits) -> Duration {
        let usual = self.usual.get(&peer).copied().map(Duration::from_nanos);
        usual.unwrap_or(FIRST_GUESS).max(limits.hedge_min)
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

fn within(usual: u64, limits: &Limits) -> u64 {
    usual.clamp(nanos(limits.hedge_min), nanos(limits.replica_limit_max))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_usually_takes_is_exceeded_by_one_in_fifty() {
        let limits = Limits::default();
        let mut peers = Peers::default();
        let peer = NodeId::new(1);
        let mut long = 0;
        // Evenly from 2 to 12 ms, in no order.
        for turn in 0..20_000_u64 {
            let takes = Duration::from_micros(2_000 + turn * 7_919 % 10_000);
            if peers.usual(peer, &limits) < takes {
                peers.took_long(peer, &limits);
                long += u32::from(10_000 <= turn);
            } else {
                peers.was_quick(peer, takes, &limits);
            }
        }
        assert!((150..=250).contains(&long), "of 10,000: {long}");
        let usual = peers.usual(peer, &limits);
        assert!((10..13).contains(&usual.as_millis()), "{usual:?}");
        for _ in 0..100 {
            peers.took_long(peer, &limits);
        }
        assert_eq!(peers.usual(peer, &limits), limits.replica_limit_max);
    }

    #[test]
    fn a_peer_that_nobody_asks_is_tried_and_recovers_its_place() {
        let mut peers = Peers::default();
        let (slow, quick) = (NodeId::new(1), NodeId::new(2));
        let ms = Duration::from_millis;
        let mut now = Instant::START;
        for _ in 0..50 {
            peers.answered(slow, ms(400));
            peers.answered(quick, ms(1));
        }
        peers.asks(slow, now);
        assert_eq!(peers.due(&[slow], now), None, "just asked");
        let mut trials = 0;
        while ms(2) < peers.expected(slow) {
            now = now + TRY_AFTER;
            peers.asks(quick, now);
            assert_eq!(peers.due(&[quick, slow], now), Some(slow));
            peers.tries(slow, RpcId(trials), now);
            peers.tried(slow, RpcId(trials + 1), now + ms(1));
            peers.tried(slow, RpcId(trials), now + ms(1));
            trials += 1;
        }
        assert!(trials < 12, "{trials}");
        peers.tries(slow, RpcId(99), now);
        peers.tries(slow, RpcId(100), now + TRY_AFTER);
        assert!(ms(10) < peers.expected(slow), "silence is an answer too");
    }

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
