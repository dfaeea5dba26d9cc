//! Who strikes when: faults in time, as the seed says.
//!
//! The fault atlas: damage to stored records strikes at most one replica of a key, and only in
//! runs whose writes ask for at least two; a disk that failed a sync keeps what it synced before.
//! So at least one copy of everything acknowledged is always sound, and every loss is a defect.

use std::collections::BTreeMap;

use crate::{
    options::{Classes, Options},
    rng::Rng,
};

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
    /// One replica of this key is damaged; which one follows from the key.
    BitRot(usize),
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
}

/// Draws faults.
#[derive(Debug)]
pub struct Nemesis {
    classes: Vec<Class>,
    interval: u64,
    lasts_max: u64,
    nodes: usize,
    keys: usize,
    rng: Rng,
    /// Strokes so far, by class.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Nemesis {
    /// The nemesis of a run.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            classes: enabled(&options.classes),
            interval: options.nemesis.interval,
            lasts_max: options.nemesis.lasts_max,
            nodes: options.nodes,
            keys: options.workload.keys,
            rng: Rng::new(options.seed, 0x0e31),
            counts: BTreeMap::new(),
        }
    }

    /// Time until the next stroke; none if nothing ever strikes.
    pub fn pause(&mut self) -> Option<u64> {
        (!self.classes.is_empty()).then(|| self.rng.exponential(self.interval))
    }

    /// The next stroke.
    pub fn strike(&mut self) -> Fault {
        let class = *self.rng.pick(&self.classes);
        let node = self.rng.index(self.nodes);
        let lasts = self.rng.between(self.lasts_max / 20, self.lasts_max);
        let (name, fault) = match class {
            Class::Crash => ("crash", self.crash(node, lasts)),
            Class::PowerCut => ("power_cut", self.power_cut()),
            Class::Pause => ("pause", Fault::Pause(node, lasts)),
            Class::Partition => ("partition", Fault::Cut(self.cut(node), lasts)),
            Class::Clock => {
                let offset = i64::try_from(self.rng.below(600_000)).expect("a small number");
                ("clock", Fault::Clock(node, offset - 300_000))
            }
            Class::SlowDisk => ("slow_disk", Fault::SlowDisk(node, lasts)),
            Class::FsyncError => ("fsync_error", Fault::FsyncError(node, lasts)),
            Class::BitRot => ("bit_rot", Fault::BitRot(self.rng.index(self.keys))),
        };
        *self.counts.entry(name).or_default() += 1;
        fault
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

    fn power_cut(&mut self) -> Fault {
        let all = self.rng.chance(500_000);
        let down = (0..self.nodes)
            .filter_map(|node| {
                let lasts = self.rng.between(self.lasts_max / 20, self.lasts_max);
                (all || self.rng.chance(500_000)).then_some((node, lasts))
            })
            .collect();
        Fault::Crash(down)
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

fn enabled(classes: &Classes) -> Vec<Class> {
    [
        (classes.crash, Class::Crash),
        (classes.power_cut, Class::PowerCut),
        (classes.pause, Class::Pause),
        (classes.partition, Class::Partition),
        (classes.clock, Class::Clock),
        (classes.slow_disk, Class::SlowDisk),
        (classes.fsync_error, Class::FsyncError),
        (classes.bit_rot, Class::BitRot),
    ]
    .into_iter()
    .filter_map(|(on, class)| on.then_some(class))
    .collect()
}
