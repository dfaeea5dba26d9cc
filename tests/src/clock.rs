//! What each node believes the time to be.
//!
//! The world has one true time in nanoseconds. A node's monotone clock starts at its own boot and
//! runs a little fast or slow; its wall clock is off by an amount that can jump. Neither may
//! change what is true of the data, and the oracles never look at them.

use quorate_gossip::Instant;
use quorate_node::api::Moment;

/// Unix milliseconds at which every run begins.
const WALL_START_MS: u64 = 1_700_000_000_000;

/// The clocks of one machine.
#[derive(Clone, Debug)]
pub struct Clock {
    booted_at: u64,
    drift_ppm: u64,
    wall_offset_ms: u64,
}

/// What [`Clock`] subtracts again, so that offsets can point into the past.
const OFFSET_ZERO_MS: u64 = 1 << 32;

impl Clock {
    /// A clock that gains `drift_ppm` millionths and is `wall_offset_ms` away from the truth.
    #[must_use]
    pub fn new(drift_ppm: u64, wall_offset_ms: i64) -> Self {
        let mut clock = Self {
            booted_at: 0,
            drift_ppm,
            wall_offset_ms: OFFSET_ZERO_MS,
        };
        clock.set_offset(wall_offset_ms);
        clock
    }

    /// The machine's process starts anew: its monotone clock begins at zero.
    pub fn boot(&mut self, now: u64) {
        self.booted_at = now;
    }

    /// Sets how far the wall clock is from the truth.
    pub fn set_offset(&mut self, offset_ms: i64) {
        self.wall_offset_ms = OFFSET_ZERO_MS.saturating_add_signed(offset_ms);
    }

    /// What the node is told at the world's time `now`.
    #[must_use]
    pub fn moment(&self, now: u64) -> Moment {
        let elapsed = now.saturating_sub(self.booted_at);
        let mono = elapsed + elapsed / 1_000 * self.drift_ppm / 1_000;
        let wall = WALL_START_MS + now / 1_000_000 + self.wall_offset_ms;
        Moment {
            mono: Instant::from_nanos(mono),
            wall_ms: wall.saturating_sub(OFFSET_ZERO_MS),
        }
    }

    /// The world's time at which the node's monotone clock has reached `instant`.
    #[must_use]
    pub fn world_time(&self, instant: Instant) -> u64 {
        let mono = instant.as_nanos();
        let elapsed = u128::from(mono) * 1_000_000 / u128::from(1_000_000 + self.drift_ppm);
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        // Rounding may fall short by a few thousandths of a millisecond; never ring early.
        self.booted_at.saturating_add(elapsed).saturating_add(2_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drifting_clock_reaches_its_instants() {
        for drift in [0, 1, 200, 5_000] {
            let mut clock = Clock::new(drift, -5_000);
            clock.boot(77_000_000_000);
            for mono in [0, 999, 1_000_000, 123_456_789_012] {
                let at = clock.world_time(Instant::from_nanos(mono));
                assert!(clock.moment(at).mono.as_nanos() >= mono);
            }
        }
    }

    #[test]
    fn wall_clocks_can_be_wrong_in_both_directions() {
        assert_eq!(Clock::new(0, -10).moment(0).wall_ms, WALL_START_MS - 10);
        assert_eq!(Clock::new(0, 10).moment(0).wall_ms, WALL_START_MS + 10);
    }
}
