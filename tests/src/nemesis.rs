//! Who strikes when: faults in time, as the seed says.
//!
//! The fault atlas: damage to stored records (bit rot, silent loss, misdirected writes) strikes
//! always the same one replica of a key, and only in runs whose writes ask for at least two; what
//! strikes a whole directory strikes one node of the run only, and never beside the former; a disk
//! that failed a sync keeps what it synced before. So at least one copy of everything acknowledged
//! is always sound, and every loss is a defect.

use std::collections::BTreeMap;

use crate::{
    options::{Classes, Extras, Options},
    rng::Rng,
};

/// How long before the power goes disks are slow: a few slow commits.
const BROWNOUT_MIN: u64 = 10_000_000;
const BROWNOUT_MAX: u64 = 300_000_000;

/// One stroke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These processes die at once; each is started again after its time.
    Crash(Vec<(usize, u64)>),
    /// This process dies at the next step of its disk.
    CrashInStep(usize, u64),
    /// This process dies after so many further inputs.
    CrashAfter(usize, u32, u64),
    /// This process stands still.
    Pause(usize, u64),
    /// These directed links are cut for so long.
    Cut(Vec<(usize, usize)>, u64),
    /// A wall clock jumps to this offset in milliseconds.
    Clock(usize, i64),
    /// A disk is slow for so long.
    SlowDisk(usize, u64),
    /// The next sync of this disk fails.
    FsyncError(usize, u64),
    /// Something stored is damaged.
    Harm(Harm),
    /// This disk takes no writes for so long.
    DiskFull(usize, u64),
    /// These directed links hold everything back for so long.
    Clog(Vec<(usize, usize)>, u64),
    /// These nodes are cut off, each after its delay and for its time.
    Swizzle(Vec<(usize, u64, u64)>),
    /// So many requests at one instant.
    Overload(u32),
    /// A request for this key.
    Wanted(u32),
    /// One replica of this key is cut off for so long; when it is back another is cut off, and the
    /// record of the third is damaged.
    Ambush(usize, u64),
    /// These disks are slow for so long, and then their processes die at once, just after so many
    /// requests; each is started again after its time.
    Brownout(Vec<(usize, u64)>, u64, u32),
    /// Writes to a key of this node wait for another replica when its directory is lost.
    Bereave(usize),
}

/// Damage to what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// One replica of this key is damaged; which one follows from the key.
    BitRot(usize),
    /// The same replica of this key forgets it, and does not know that it did.
    SilentLoss(usize),
    /// The same replica of this key finds the record of another key.
    Misdirected(usize),
    /// This node is started again with an empty disk.
    Wipe(usize, u64),
    /// This node's directory is saved, or goes back to what was saved.
    Restore(usize, u64),
    /// This disk lies about the next write.
    LyingDisk(usize),
    /// This node loses power, and the end of its journal.
    DamagedJournal(usize, u64),
    /// This node is started again on a copy of the directory of the other.
    Clone(usize, usize, u64),
}

/// The classes that act through [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Crash,
    PowerCut,
    Pause,
    Partition,
    Clock,
    SlowDisk,
    FsyncError,
    BitRot,
    SilentLoss,
    Misdirected,
    DiskFull,
    Clog,
    Bridge,
    Swizzle,
    Overload,
    Ambush,
    Brownout,
    Wipe,
    Restore,
    LyingDisk,
    DamagedJournal,
    Clone,
    Straggler,
    Bereaved,
}

/// Draws faults.
#[derive(Debug)]
pub struct Nemesis {
    classes: Vec<Class>,
    interval: u64,
    lasts_max: u64,
    nodes: usize,
    keys: usize,
    hot_keys: usize,
    hot: u32,
    /// The one node that classes beyond the seed's may strike.
    victim: usize,
    muted: Vec<&'static str>,
    rng: Rng,
    /// Strokes so far, by class.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Nemesis {
    /// The nemesis of a run.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            classes: enabled(&options.classes, options.extras),
            interval: options.nemesis.interval,
            lasts_max: options.nemesis.lasts_max,
            nodes: options.nodes + options.spare,
            keys: options.workload.keys,
            hot_keys: options.workload.hot_keys,
            hot: options.nemesis.hot,
            victim: Rng::new(options.seed, 0x0e32).index(options.nodes),
            muted: options.muted.clone(),
            rng: Rng::new(options.seed, 0x0e31),
            counts: BTreeMap::new(),
        }
    }

    /// Time until the next stroke; none if nothing ever strikes.
    pub fn pause(&mut self) -> Option<u64> {
        (!self.classes.is_empty()).then(|| self.rng.exponential(self.interval))
    }

    /// The next stroke; none if it is muted.
    pub fn strike(&mut self) -> Option<Fault> {
        let class = *self.rng.pick(&self.classes);
        let node = self.rng.index(self.nodes);
        let lasts = self.rng.between(self.lasts_max / 20, self.lasts_max);
        let (name, fault) = match class {
            Class::Crash => ("crash", self.crash(node, lasts)),
            Class::PowerCut => ("power_cut", Fault::Crash(self.several())),
            Class::Brownout => {
                let slow = self.rng.between(BROWNOUT_MIN, BROWNOUT_MAX);
                let requests = u32::try_from(self.rng.below(80)).expect("below 80");
                ("brownout", Fault::Brownout(self.several(), slow, requests))
            }
            Class::Pause => ("pause", Fault::Pause(node, lasts)),
            Class::Partition => ("partition", Fault::Cut(self.cut(node), lasts)),
            Class::Clock => {
                let offset = i64::try_from(self.rng.below(600_000)).expect("a small number");
                ("clock", Fault::Clock(node, offset - 300_000))
            }
            Class::SlowDisk => ("slow_disk", Fault::SlowDisk(node, lasts)),
            Class::FsyncError => ("fsync_error", Fault::FsyncError(node, lasts)),
            Class::DiskFull => ("disk_full", Fault::DiskFull(node, lasts)),
            Class::Clog => ("clog", Fault::Clog(self.cut(node), lasts)),
            Class::Bridge => ("bridge", Fault::Cut(self.bridge(node), lasts)),
            Class::Swizzle => ("swizzle", self.swizzle()),
            Class::Overload => {
                let requests = u32::try_from(self.rng.between(20, 600)).expect("a small number");
                ("overload", Fault::Overload(requests))
            }
            Class::Straggler => ("straggler", self.straggler(node)),
            Class::Bereaved => ("bereaved", Fault::Bereave(self.victim)),
            Class::Ambush => ("ambush", Fault::Ambush(self.some_key(), lasts)),
            Class::BitRot
            | Class::SilentLoss
            | Class::Misdirected
            | Class::Wipe
            | Class::Restore
            | Class::LyingDisk
            | Class::DamagedJournal
            | Class::Clone => {
                let (name, harm) = self.harm(class, lasts);
                (name, Fault::Harm(harm))
            }
        };
        if self.muted.contains(&name) {
            return None;
        }
        *self.counts.entry(name).or_default() += 1;
        Some(fault)
    }

    fn harm(&mut self, class: Class, lasts: u64) -> (&'static str, Harm) {
        let victim = self.victim;
        if class == Class::SilentLoss {
            ("silent_loss", Harm::SilentLoss(self.some_key()))
        } else if class == Class::Misdirected {
            ("misdirected", Harm::Misdirected(self.some_key()))
        } else if class == Class::Wipe {
            ("wipe", Harm::Wipe(victim, lasts))
        } else if class == Class::Restore {
            ("restore", Harm::Restore(victim, lasts))
        } else if class == Class::LyingDisk {
            ("lying_disk", Harm::LyingDisk(victim))
        } else if class == Class::DamagedJournal {
            ("damaged_journal", Harm::DamagedJournal(victim, lasts))
        } else if class == Class::Clone {
            let other = (victim + 1 + self.rng.index(self.nodes - 1)) % self.nodes;
            ("clone", Harm::Clone(victim, other, lasts))
        } else {
            ("bit_rot", Harm::BitRot(self.some_key()))
        }
    }

    /// One link holds everything back, for longer than it takes to reap a key.
    fn straggler(&mut self, node: usize) -> Fault {
        let other = (node + 1 + self.rng.index(self.nodes - 1)) % self.nodes;
        let lasts = self.rng.between(self.lasts_max / 2, self.lasts_max * 2);
        Fault::Clog(vec![(node, other)], lasts)
    }

    fn some_key(&mut self) -> usize {
        let hot = self.rng.chance(self.hot);
        self.rng.index(if hot { self.hot_keys } else { self.keys })
    }

    /// Two sides that hear each other only through one node between them.
    fn bridge(&mut self, node: usize) -> Vec<(usize, usize)> {
        let side: Vec<bool> = (0..self.nodes).map(|_| self.rng.chance(500_000)).collect();
        let pairs = (0..self.nodes).flat_map(|from| (0..self.nodes).map(move |to| (from, to)));
        pairs
            .filter(|&(from, to)| from != node && to != node && side[from] != side[to])
            .collect()
    }

    /// Some nodes cut off one after the other, and back in another order.
    fn swizzle(&mut self) -> Fault {
        let mut cuts = Vec::new();
        for node in 0..self.nodes {
            if self.rng.chance(500_000) {
                let after = self.rng.below(self.lasts_max);
                let lasts = self.rng.between(self.lasts_max / 20, self.lasts_max);
                cuts.push((node, after, lasts));
            }
        }
        Fault::Swizzle(cuts)
    }

    fn crash(&mut self, node: usize, lasts: u64) -> Fault {
        match self.rng.below(3) {
            0 => Fault::Crash(vec![(node, lasts)]),
            1 => Fault::CrashInStep(node, lasts),
            _ => {
                let inputs = u32::try_from(self.rng.below(40)).expect("below 40");
                Fault::CrashAfter(node, inputs, lasts)
            }
        }
    }

    /// All nodes or about half of them, each with the time for which it will be down.
    fn several(&mut self) -> Vec<(usize, u64)> {
        let all = self.rng.chance(500_000);
        (0..self.nodes)
            .filter_map(|node| {
                let lasts = self.rng.between(self.lasts_max / 20, self.lasts_max);
                (all || self.rng.chance(500_000)).then_some((node, lasts))
            })
            .collect()
    }

    /// Symmetric, one-way, isolating one node, or one link.
    fn cut(&mut self, node: usize) -> Vec<(usize, usize)> {
        let kind = self.rng.below(4);
        let side: Vec<bool> = (0..self.nodes)
            .map(|other| {
                if kind == 0 {
                    other == node
                } else {
                    self.rng.chance(500_000)
                }
            })
            .collect();
        let other = self.rng.index(self.nodes);
        let mut links = Vec::new();
        for from in 0..self.nodes {
            for to in 0..self.nodes {
                let cut = match kind {
                    0 | 1 => side[from] != side[to],
                    2 => side[from] && !side[to],
                    _ => from == node && to == other,
                };
                if cut && from != to {
                    links.push((from, to));
                }
            }
        }
        links
    }
}

fn enabled(classes: &Classes, extras: Extras) -> Vec<Class> {
    [
        (classes.crash, Class::Crash),
        (classes.power_cut, Class::PowerCut),
        (classes.pause, Class::Pause),
        (classes.partition, Class::Partition),
        (classes.clock, Class::Clock),
        (classes.slow_disk, Class::SlowDisk),
        (classes.fsync_error, Class::FsyncError),
        (classes.bit_rot, Class::BitRot),
        (classes.silent_loss, Class::SilentLoss),
        (classes.misdirected, Class::Misdirected),
        (classes.disk_full, Class::DiskFull),
        (classes.clog, Class::Clog),
        (classes.odd_partitions, Class::Bridge),
        (classes.odd_partitions, Class::Swizzle),
        (classes.overload, Class::Overload),
        (classes.ambush, Class::Ambush),
        (classes.brownout, Class::Brownout),
        (extras.wipe, Class::Wipe),
        (extras.restore, Class::Restore),
        (extras.lying_disk, Class::LyingDisk),
        (extras.damaged_journal, Class::DamagedJournal),
        (extras.clone, Class::Clone),
        (classes.straggler, Class::Straggler),
        (classes.bereaved, Class::Bereaved),
    ]
    .into_iter()
    .filter_map(|(on, class)| on.then_some(class))
    .collect()
}
