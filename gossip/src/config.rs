//! How often and how patiently members are probed.

use std::time::Duration;

/// Times and counts of failure detection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// One member is probed per interval.
    pub probe_interval: Duration,
    /// A direct probe that is silent for longer is tried through others. Below the interval.
    pub probe_timeout: Duration,
    /// How many others are asked to probe a silent member.
    pub indirect: usize,
    /// How long a suspect may take to refute, among ten members or fewer; among more it is as much
    /// longer as their logarithm is greater.
    pub suspicion: Duration,
    /// Every so many intervals a member that is down is probed, to notice its return.
    pub revive_every: u32,
    /// How much a process that does badly may be more patient than usual: its intervals and
    /// timeouts grow up to one more than this many times. Zero: never.
    pub health_max: u32,
    /// One page of rows is exchanged with somebody per interval.
    pub sync_interval: Duration,
}

impl Config {
    /// One machine: no network, but busy processors.
    #[must_use]
    pub const fn local() -> Self {
        Self {
            probe_interval: Duration::from_millis(250),
            probe_timeout: Duration::from_millis(120),
            indirect: 2,
            suspicion: Duration::from_millis(1_500),
            revive_every: 2,
            health_max: 8,
            sync_interval: Duration::from_secs(10),
        }
    }

    /// One data centre: round trips below a millisecond, pauses of a second are not rare.
    #[must_use]
    pub const fn lan() -> Self {
        Self {
            probe_interval: Duration::from_millis(500),
            probe_timeout: Duration::from_millis(250),
            indirect: 3,
            suspicion: Duration::from_secs(3),
            revive_every: 2,
            health_max: 8,
            sync_interval: Duration::from_secs(20),
        }
    }

    /// A simulated data centre: runs last a minute, so that whatever is rare has to come sooner.
    #[must_use]
    pub const fn sim() -> Self {
        Self {
            sync_interval: Duration::from_secs(5),
            ..Self::lan()
        }
    }
}
