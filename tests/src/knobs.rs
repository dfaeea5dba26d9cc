//! What can be taken away from a run by name, to see whether it fails without it.
//!
//! A class of fault is muted, not removed: the nemesis draws it as before and then does nothing,
//! so that the rest of the run changes as little as it can.

use std::fmt;

use crate::options::{Options, Scans};

/// One thing that a run can do without.
type Knob = (&'static str, fn(&mut Options));

/// All of them, in the order in which they are tried.
const KNOBS: [Knob; 47] = [
    ("crash", |o| o.muted.push("crash")),
    ("power_cut", |o| o.muted.push("power_cut")),
    ("pause", |o| o.muted.push("pause")),
    ("partition", |o| o.muted.push("partition")),
    ("bridge", |o| o.muted.push("bridge")),
    ("swizzle", |o| o.muted.push("swizzle")),
    ("clog", |o| o.muted.push("clog")),
    ("clock", |o| o.muted.push("clock")),
    ("slow_disk", |o| o.muted.push("slow_disk")),
    ("disk_full", |o| o.muted.push("disk_full")),
    ("fsync_error", |o| o.muted.push("fsync_error")),
    ("bit_rot", |o| o.muted.push("bit_rot")),
    ("silent_loss", |o| o.muted.push("silent_loss")),
    ("misdirected", |o| o.muted.push("misdirected")),
    ("overload", |o| o.muted.push("overload")),
    ("ambush", |o| o.muted.push("ambush")),
    ("brownout", |o| o.muted.push("brownout")),
    ("turning", |o| o.classes.turning = false),
    ("straggler", |o| o.muted.push("straggler")),
    ("late_word", |o| o.classes.late_word = false),
    ("bereaved", |o| o.muted.push("bereaved")),
    ("unheard", |o| o.classes.unheard = false),
    ("broken_off", |o| o.classes.broken_off = false),
    ("late_reads", |o| o.disk.reads_at_once = true),
    ("late_pages", |o| o.disk.scans = Scans::AtOnce),
    ("late_commits", |o| o.disk.told_mean = 0),
    ("loss", |o| o.net.loss = 0),
    ("duplicate", |o| o.net.duplicate = 0),
    ("tail", |o| o.net.tail = 0),
    ("client_loss", |o| o.net.client_loss = 0),
    ("spread", |o| o.net.spread = 1),
    ("busy", |o| o.net.busy = 0),
    ("bandwidth", |o| o.net.bandwidth = 0),
    ("disk_tail", |o| o.disk.tail = 0),
    ("small_limits", |o| {
        o.limits = quorate_node::limits::Limits::default();
    }),
    ("huge", |o| o.workload.huge = 0),
    ("forged", |o| o.workload.forged = 0),
    ("hasty", |o| o.workload.hasty = 0),
    ("impatient", |o| o.workload.impatient = 0),
    ("reuse", |o| o.workload.reuse = 0),
    ("deletes", |o| o.workload.deletes = 0),
    ("conditional", |o| o.workload.conditional = 0),
    ("retry", |o| o.workload.retry = 0),
    ("needless_retry", |o| o.workload.needless_retry = 0),
    ("own_quorum", |o| o.workload.own_quorum = 0),
    ("drains", |o| o.drain_interval = None),
    ("buckets", |o| o.bucket_interval = None),
];

/// A set of things that a run does without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Without(u64);

impl Without {
    /// The run as it is.
    pub const NOTHING: Self = Self(0);

    /// Everything that could be taken away, one by one.
    pub fn each() -> impl Iterator<Item = Self> {
        (0..KNOBS.len()).map(|place| Self(1 << place))
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if nothing is taken away.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Takes it away.
    pub fn apply(self, options: &mut Options) {
        for (place, (_, knob)) in KNOBS.iter().enumerate() {
            if self.0 & (1 << place) != 0 {
                knob(options);
            }
        }
    }

    /// Reads names with commas between them; none if one is unknown.
    #[must_use]
    pub fn parse(names: &str) -> Option<Self> {
        let mut set = Self::NOTHING;
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let place = KNOBS.iter().position(|(known, _)| *known == name)?;
            set = set.and(Self(1 << place));
        }
        Some(set)
    }
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (place, (name, _)) in KNOBS.iter().enumerate() {
            if self.0 & (1 << place) != 0 {
                write!(f, "{comma}{name}")?;
                comma = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let all = Without::each().fold(Without::NOTHING, Without::and);
        assert_eq!(Without::parse(&all.to_string()), Some(all));
        assert_eq!(Without::parse("crash,nonsense"), None);
        assert_eq!(Without::parse(""), Some(Without::NOTHING));
    }
}
