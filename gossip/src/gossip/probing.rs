//! Who is asked for a sign of life, when, and what silence means.
//!
//! Silence here may be our own fault: what this process missed by standing still, and probes that
//! not even the helpers said anything about, count against itself before they count against
//! others.

use std::time::Duration;

use quorate_ring::NodeId;
use rand::{RngExt as _, seq::SliceRandom as _};

use super::Gossip;
use crate::{
    member::{State, Update},
    message::Kind,
    time::Instant,
};

/// Most probes on behalf of others in progress.
const RELAYS_MAX: usize = 64;

/// The probe in progress.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) target: NodeId,
    number: u64,
    sent: Instant,
    pub(super) indirect: bool,
    /// Helpers that were asked and have not said that they hear us.
    missing: u32,
}

/// A probe on behalf of another.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) for_node: NodeId,
    for_number: u64,
    /// When the other is told that nothing has been heard; none once it has been.
    nack_at: Option<Instant>,
    until: Instant,
}

impl Relay {
    pub(super) fn wakes(&self) -> Instant {
        self.nack_at.unwrap_or(self.until)
    }
}

impl Gossip {
    pub(super) fn start_probe(&mut self, now: Instant, target: NodeId) {
        self.number += 1;
        let number = self.number;
        self.probe = Some(Probe {
            target,
            number,
            sent: now,
            indirect: false,
            missing: 0,
        });
        self.send(target, Kind::Ping(number));
    }

    pub(super) fn acked(&mut self, number: u64) {
        if self
            .probe
            .as_ref()
            .is_some_and(|probe| probe.number == number)
        {
            self.answered();
        }
        if let Some(relay) = self.relays.remove(&number) {
            self.send(relay.for_node, Kind::Ack(relay.for_number));
        }
    }

    /// The probe in progress has done its work.
    pub(super) fn answered(&mut self) {
        if let Some(probe) = self.probe.take()
            && let Some(row) = self.rows.get_mut(&probe.target)
        {
            row.missed = false;
            self.health.better();
        }
    }

    pub(super) fn nacked(&mut self, number: u64) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.number == number) {
            probe.missing = probe.missing.saturating_sub(1);
        }
    }

    pub(super) fn relay(&mut self, now: Instant, from: NodeId, number: u64, target: NodeId) {
        if !self.rows.contains_key(&target) || RELAYS_MAX <= self.relays.len() {
            return;
        }
        self.number += 1;
        // In time for whoever asked: its probe ends with its interval.
        let config = &self.config;
        let patience = config.probe_interval.saturating_sub(config.probe_timeout);
        let relay = Relay {
            for_node: from,
            for_number: number,
            nack_at: Some(now + patience / 2),
            until: now + self.config.probe_interval,
        };
        self.relays.insert(self.number, relay);
        self.send(target, Kind::Ping(self.number));
    }

    pub(super) fn expire_relays(&mut self, now: Instant) {
        let mut silent = Vec::new();
        self.relays.retain(|_, relay| {
            if relay.nack_at.is_some_and(|at| at <= now) {
                relay.nack_at = None;
                silent.push((relay.for_node, relay.for_number));
            }
            now < relay.until
        });
        for (node, number) in silent {
            self.send(node, Kind::Nack(number));
        }
    }

    pub(super) fn indirect_at(&self, probe: &Probe) -> Instant {
        probe.sent + self.health.scale(self.config.probe_timeout)
    }

    pub(super) fn probe_through_others(&mut self, now: Instant) {
        let due = |probe: &&Probe| !probe.indirect && self.indirect_at(probe) <= now;
        let Some(probe) = self.probe.as_ref().filter(due) else {
            return;
        };
        let (number, target) = (probe.number, probe.target);
        let helpers = self.helpers(target);
        if let Some(probe) = &mut self.probe {
            probe.indirect = true;
            probe.missing = u32::try_from(helpers.len()).unwrap_or(u32::MAX);
        }
        // Once more directly: what was lost may have been the first ping.
        self.send(target, Kind::Ping(number));
        for helper in helpers {
            self.send(helper, Kind::PingRequest { number, target });
        }
    }

    /// Nobody has heard of a member that was probed. Missed once it is tried again, which is
    /// returned; missed twice it is suspected.
    pub(super) fn missed(&mut self, now: Instant, probe: &Probe) -> Option<NodeId> {
        let target = probe.target;
        // Who asked nobody else cannot tell its own fault from the other's.
        let unheard = u32::from(!probe.indirect || self.rows.len() < 2);
        let row = self.rows.get_mut(&target)?;
        let silent = self.config.probe_interval <= now.since(row.heard);
        if row.update.state == State::Down || !silent {
            row.missed = false;
            return None;
        }
        self.health.worse(probe.missing.max(unheard));
        if row.update.state != State::Up {
            return None;
        }
        row.missed = !row.missed;
        if row.missed {
            return Some(target);
        }
        let update = Update {
            state: State::Suspect,
            ..row.update
        };
        self.learn(now, update);
        // The one concerned first: nobody else can refute it.
        self.number += 1;
        self.send(target, Kind::Ping(self.number));
        None
    }

    /// How long a suspect may take to refute. News and their refutation need as many rounds as the
    /// logarithm of the cluster's size.
    pub(super) fn suspicion(&self) -> Duration {
        let members = u32::try_from(self.rows.len() + 1).unwrap_or(u32::MAX);
        self.config
            .suspicion
            .mul_f64(f64::from(members).log10().max(1.0))
    }

    pub(super) fn expire_suspects(&mut self, now: Instant) {
        let rows = self.rows.values();
        let over = rows.filter(|row| row.update.state == State::Suspect && row.refute_until <= now);
        let down: Vec<Update> = over.map(|row| row.update).collect();
        for update in down {
            let state = State::Down;
            self.learn(now, Update { state, ..update });
        }
    }

    /// If this process stood still, what it meant to do meanwhile is due that much later: answers
    /// may lie unread, and nobody could refute to deaf ears.
    pub(super) fn notice_delay(&mut self, now: Instant) {
        let late = now.since(self.poll_timeout());
        if self.config.health_max == 0 || late < self.config.probe_timeout {
            return;
        }
        self.health.worse(1);
        self.next_probe = self.next_probe + late;
        self.next_sync = self.next_sync + late;
        if let Some(probe) = &mut self.probe {
            probe.sent = probe.sent + late;
        }
        for relay in self.relays.values_mut() {
            relay.nack_at = relay.nack_at.map(|at| at + late);
            relay.until = relay.until + late;
        }
        for row in self.rows.values_mut() {
            row.refute_until = row.refute_until + late;
        }
    }

    /// Random order, each member once per pass (SWIM, section 4.3); a pass over those that are
    /// not down, with one of the others now and then.
    pub(super) fn next_target(&mut self) -> Option<NodeId> {
        self.round = self.round.wrapping_add(1);
        let down = self
            .rows
            .iter()
            .filter(|(_, row)| row.update.state == State::Down);
        let down: Vec<NodeId> = down.map(|(node, _)| *node).collect();
        let revive = self.round.is_multiple_of(self.config.revive_every);
        if !down.is_empty() && (revive || down.len() == self.rows.len()) {
            return Some(down[self.rng.random_range(0..down.len())]);
        }
        loop {
            if self.order.is_empty() {
                let live = self
                    .rows
                    .iter()
                    .filter(|(_, row)| row.update.state != State::Down);
                let mut live: Vec<NodeId> = live.map(|(node, _)| *node).collect();
                if live.is_empty() {
                    return None;
                }
                live.shuffle(&mut self.rng);
                self.order = live.into();
            }
            let target = self.order.pop_front()?;
            if self.state(target) != Some(State::Down) {
                return Some(target);
            }
        }
    }

    fn helpers(&mut self, target: NodeId) -> Vec<NodeId> {
        let up = self
            .rows
            .iter()
            .filter(|(_, row)| row.update.state == State::Up);
        let mut up: Vec<NodeId> = up
            .map(|(node, _)| *node)
            .filter(|node| *node != target)
            .collect();
        up.shuffle(&mut self.rng);
        up.truncate(self.config.indirect);
        up
    }
}
