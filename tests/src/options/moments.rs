//! The youngest classes: moments that take several things at once, and disks that take time.
//!
//! Everything here is drawn from a stream of its own, after all else; what older seeds drew stays
//! as it was.

use std::time::Duration;

use super::{Classes, Extras, MS, Options, Scans, US};
use crate::rng::Rng;

impl Options {
    /// In some runs a directory is lost while writes wait for another replica, or a process dies
    /// just when it sets aside what it holds; in others disks take their time to read as well.
    /// In the newest ones nodes may also hear late of what their disks have done, and somebody may
    /// be away while a directory is replaced.
    pub(super) fn with_moments(mut self, newest: bool) -> Self {
        let mut rng = Rng::new(self.seed, 0x0918);
        self.disk.reads_at_once = !rng.chance(120_000);
        let classes = &self.classes;
        let aimed = classes.turning || classes.straggler || classes.late_word;
        let often = if newest { 120_000 } else { 60_000 };
        if !classes.harm_records() && !aimed && rng.chance(often) {
            self = self.bereaved(&mut rng);
            self.classes.unheard = newest;
            self.workload.strict *= u32::from(!newest);
        }
        self.classes.broken_off = self.extras != Extras::NONE && rng.chance(400_000);
        if newest && self.disk.scans == Scans::InTurn {
            self.disk.scans = Scans::Later;
        }
        if newest && rng.chance(300_000) {
            self.disk.told_mean = *rng.pick(&[50 * US, 500 * US, 5 * MS]);
        }
        self
    }

    /// Nothing is in the way of a node's directory being lost again and again.
    fn bereaved(mut self, rng: &mut Rng) -> Self {
        self.classes = Classes {
            bereaved: true,
            ..Classes::default()
        };
        self.extras = Extras {
            wipe: true,
            ..Extras::NONE
        };
        self.net.loss = 0;
        self.ring_interval = None;
        self.nemesis.interval = rng.between(1_500, 4_000) * MS;
        self.workload.w_min = 2;
        self.workload.own_quorum = 700_000;
        self.workload.gets = 200_000;
        self.workload.timeout = Duration::from_secs(3);
        self
    }
}
