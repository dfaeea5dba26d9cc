//! Everything that can differ between two runs, all drawn from the seed.
//!
//! Swarm testing: a seed decides not only how often a fault strikes but which classes of fault
//! exist at all, so that a rare combination is not drowned by a common one. The classes that
//! reach the disk obey a fault atlas (see `nemesis`): no seed damages all copies of a key, so
//! every failure of an oracle is a defect and never bad luck.

mod moments;

use std::time::Duration;

use quorate_node::{bucket::DEFAULT_BUCKET, limits::Limits};
use xxhash_rust::xxh3::xxh3_64;

use crate::rng::{Rng, nanos};

/// The classes of fault a run may contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each class of fault is there or not"
)]
pub struct Classes {
    /// Processes die and lose what they had not synced.
    pub crash: bool,
    /// Several processes die at one instant.
    pub power_cut: bool,
    /// Processes stand still for a while.
    pub pause: bool,
    /// Links are cut, in one or both directions.
    pub partition: bool,
    /// Wall clocks jump.
    pub clock: bool,
    /// A disk becomes slow for a while.
    pub slow_disk: bool,
    /// Stored records change by themselves.
    pub bit_rot: bool,
    /// A sync fails, which must stop the process.
    pub fsync_error: bool,
    /// A stored record is gone, and nothing says so.
    pub silent_loss: bool,
    /// The record of another key is found where one was stored.
    pub misdirected: bool,
    /// A disk takes no more writes for a while.
    pub disk_full: bool,
    /// Links hold what is sent for a while and then deliver it all at once.
    pub clog: bool,
    /// Partitions with one node between both sides, and nodes cut off one after the other.
    pub odd_partitions: bool,
    /// Many requests come at one instant.
    pub overload: bool,
    /// A record is damaged just when another replica of it has missed something and the third is
    /// cut off.
    pub ambush: bool,
    /// Several disks become slow, and soon their machines lose power: much is on its way to them.
    pub brownout: bool,
    /// Faults are aimed at the steps of a change of the ring.
    pub turning: bool,
    /// What one node sends to another is late, and everybody is up all the while.
    pub straggler: bool,
    /// Disks are slow when a directory is put back, so that it is told late that it is an old one.
    pub late_word: bool,
    /// A directory is lost just when writes that it has taken in wait for another replica.
    pub bereaved: bool,
    /// A directory is replaced, and opened twice, while somebody is away.
    pub unheard: bool,
    /// A process dies just when it is agreed that its directory is lost.
    pub broken_off: bool,
}

impl Classes {
    /// Whether single records are damaged or lost, at one replica of each key.
    #[must_use]
    pub const fn harm_records(&self) -> bool {
        self.bit_rot || self.silent_loss || self.misdirected
    }
}

/// Classes of fault that strike one whole directory. A seed draws them all but `lying_disk`, which
/// the product is not made for; a caller may ask for any by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each class of fault is there or not"
)]
pub struct Extras {
    /// A node's disk is replaced by an empty one.
    pub wipe: bool,
    /// A node's data directory goes back to an earlier state, as from a backup.
    pub restore: bool,
    /// A disk acknowledges a write and keeps the old version, or writes it over another key: a
    /// dot that was minted is then unknown to its own node, which no rule can see.
    pub lying_disk: bool,
    /// The end of a journal is gone although it was synced.
    pub damaged_journal: bool,
    /// A node is started on a copy of another's directory.
    pub clone: bool,
}

impl Extras {
    /// The usual run.
    pub const NONE: Self = Self {
        wipe: false,
        restore: false,
        lying_disk: false,
        damaged_journal: false,
        clone: false,
    };

    /// Their names, as [`parse`](Self::parse) reads them; nothing if there are none.
    #[must_use]
    pub fn names(self) -> String {
        let all = [
            (self.wipe, "wipe"),
            (self.restore, "restore"),
            (self.lying_disk, "lying_disk"),
            (self.damaged_journal, "damaged_journal"),
            (self.clone, "clone"),
        ];
        let on = all.into_iter().filter_map(|(on, name)| on.then_some(name));
        on.collect::<Vec<_>>().join(",")
    }

    /// Reads names with commas between them; none if one is unknown.
    #[must_use]
    pub fn parse(names: &str) -> Option<Self> {
        let mut extras = Self::NONE;
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match name {
                "wipe" => extras.wipe = true,
                "restore" => extras.restore = true,
                "lying_disk" => extras.lying_disk = true,
                "damaged_journal" => extras.damaged_journal = true,
                "clone" => extras.clone = true,
                _ => return None,
            }
        }
        Some(extras)
    }
}

/// Behaviour of every link between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetOptions {
    /// Least delay.
    pub delay_min: u64,
    /// Mean of the exponential part of the delay.
    pub delay_mean: u64,
    /// How often a message takes the long way, per million.
    pub tail: u32,
    /// Longest extra delay of such a message.
    pub tail_max: u64,
    /// Lost messages per million.
    pub loss: u32,
    /// Doubled messages per million.
    pub duplicate: u32,
    /// Whether one message may overtake another on the same link.
    pub reorder: bool,
    /// Lost requests and lost answers of clients per million.
    pub client_loss: u32,
    /// Delays of the slowest link as a multiple of those of the fastest.
    pub spread: u64,
    /// How long a link is busy with each message; zero for a link that is never busy.
    pub busy: u64,
    /// Bytes that a link carries in a second; zero for a link without a limit.
    pub bandwidth: u64,
}

/// Behaviour of every disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Least time of a group commit.
    pub sync_min: u64,
    /// Mean of the exponential part.
    pub sync_mean: u64,
    /// Slow commits per million.
    pub tail: u32,
    /// Longest extra time of such a commit.
    pub tail_max: u64,
    /// Commands that share a commit at most.
    pub group_max: usize,
    /// Mean time between a commit and the node's hearing of it; 0 if it is told at once.
    pub told_mean: u64,
    /// When a scan is answered.
    pub scans: Scans,
    /// Whether a read is answered at once, as by a real node; or when all is done that was asked
    /// before it, which nodes have to live with as well.
    pub reads_at_once: bool,
}

/// When a scan is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scans {
    /// At once with what is durable, as by a real node.
    AtOnce,
    /// When all is done that was asked before it.
    InTurn,
    /// Later, with what was durable when it was asked for: writes complete in between, as they do
    /// between the pages of a long scan.
    Later,
}

/// What clients do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadOptions {
    /// Clients.
    pub clients: usize,
    /// Mean time between two operations of all clients together.
    pub interval: u64,
    /// Keys that get half of the operations.
    pub hot_keys: usize,
    /// All keys.
    pub keys: usize,
    /// Gets among the operations, per million.
    pub gets: u32,
    /// Deletes among the writes, per million.
    pub deletes: u32,
    /// Writes that carry a context if the client has one, per million.
    pub contextual: u32,
    /// Writes with a precondition, per million.
    pub conditional: u32,
    /// How often a failed attempt is repeated, per million.
    pub retry: u32,
    /// How often a write that was acknowledged is sent once more, per million.
    pub needless_retry: u32,
    /// Requests that ask for quorums of their own, per million.
    pub own_quorum: u32,
    /// Least `w` such a request may ask for.
    pub w_min: u8,
    /// Largest ordinary value.
    pub value_max: usize,
    /// Values about as large as a value may be, per million writes.
    pub huge: u32,
    /// Writes that carry a context nobody gave out for that key, per million.
    pub forged: u32,
    /// Requests whose budget is next to nothing, per million.
    pub hasty: u32,
    /// Writes that are sent to a second node before the first one can have answered, per million.
    pub impatient: u32,
    /// Acknowledged writes whose operation id is then used for another write, per million.
    pub reuse: u32,
    /// Writes for which nobody may stand in, per million; matters where others may.
    pub strict: u32,
    /// Writes that a number of replicas must have themselves, per million.
    pub primary: u32,
    /// Puts whose values expire, per million.
    pub mortal: u32,
    /// The longest time such a value has.
    pub ttl_max_ms: u64,
    /// Gets that bring along what their client has seen of the key, per million.
    pub sessions: u32,
    /// Requests that are taken back before they can be answered, or just after, per million.
    pub fickle: u32,
    /// Budget of a request.
    pub timeout: Duration,
}

/// How often the nemesis strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NemesisOptions {
    /// Mean time between two faults.
    pub interval: u64,
    /// Longest time a fault lasts.
    pub lasts_max: u64,
    /// Damage to records that strikes a hot key, per million.
    pub hot: u32,
}

/// How busy the trees are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeOptions {
    /// About how often two replicas are compared.
    pub interval: Duration,
    /// Rest between two audits of a tree.
    pub audit_pause: Duration,
}

/// Which classes of fault a seed can draw. What a seed once meant is kept, for those that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// The first eight.
    First,
    /// Disks and links that misbehave more, clients that lie, changes of the ring.
    Second,
    /// Brownouts, narrow links, clients in a hurry, time.
    Third,
    /// Reaping, hints, directories that are lost.
    Fourth,
    /// Faults aimed at the steps of ring changes and at directories put back.
    Fifth,
    /// Directories that are lost while writes wait.
    Sixth,
    /// All there are.
    Newest,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where everything comes from.
    pub seed: u64,
    /// Simulated time with faults.
    pub duration: u64,
    /// Whether messages are encoded and decoded on their way.
    pub encode: bool,
    /// Nodes in the founding ring.
    pub nodes: usize,
    /// Nodes that have joined and own nothing at first.
    pub spare: usize,
    /// Mean time between two changes of the ring; none if it never changes.
    pub ring_interval: Option<u64>,
    /// Mean time between an operator's drainings of nodes; none if there are none.
    pub drain_interval: Option<u64>,
    /// Mean time between changes of buckets; none if there are none.
    pub bucket_interval: Option<u64>,
    /// Replicas of each key.
    pub replicas: u8,
    /// Classes of fault.
    pub classes: Classes,
    /// Links.
    pub net: NetOptions,
    /// Disks.
    pub disk: DiskOptions,
    /// Clients.
    pub workload: WorkloadOptions,
    /// Faults.
    pub nemesis: NemesisOptions,
    /// Trees.
    pub trees: TreeOptions,
    /// Maxima of every node.
    pub limits: Limits,
    /// How far all wall clocks are from the usual hour; no outcome may depend on it.
    pub wall_shift_ms: i64,
    /// Whether the last write wins in the bucket that clients use.
    pub lww: bool,
    /// Whether others may stand in for replicas in that bucket.
    pub sloppy: bool,
    /// Classes that no seed has by itself.
    pub extras: Extras,
    /// Faults that are drawn and not carried out.
    pub muted: Vec<&'static str>,
}

/// The bucket in which the last write wins.
pub const LWW_BUCKET: &str = "latest";

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const MB: u64 = 1_000_000;

impl Options {
    /// The options that belong to a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::of(seed, Generation::Newest)
    }

    /// The options that belonged to a seed when there were no more classes than these.
    #[must_use]
    pub fn of(seed: u64, generation: Generation) -> Self {
        match generation {
            Generation::First => Self::first_generation(seed).with_plain_reads(),
            Generation::Second => Self::second_generation(seed).with_plain_reads(),
            Generation::Third => Self::third_generation(seed).with_plain_reads(),
            Generation::Fourth => Self::fourth_generation(seed),
            Generation::Fifth => Self::fourth_generation(seed).with_aimed_faults(),
            Generation::Sixth => Self::of(seed, Generation::Fifth).with_moments(false),
            Generation::Newest => Self::of(seed, Generation::Fifth).with_moments(true),
        }
    }

    /// Reads that neither hedge nor leave values out.
    const fn with_plain_reads(mut self) -> Self {
        self.limits.hedge_min = self.limits.replica_limit_max;
        self.limits.whole_max = u32::MAX;
        self
    }

    fn fourth_generation(seed: u64) -> Self {
        Self::third_generation(seed)
            .with_reaping()
            .with_stand_ins()
            .with_manners()
            .with_brief_answers()
            .with_lost_directories()
    }

    /// In many runs replicas leave values out that are not large at all.
    fn with_brief_answers(mut self) -> Self {
        let mut rng = Rng::new(self.seed, 0x0a5d);
        let usual = Limits::default().whole_max;
        self.limits.whole_max = *rng.pick(&[usual, usual, 0, 0, 16, 200]);
        self
    }

    /// In some runs one node loses its directory, now and then.
    fn with_lost_directories(mut self) -> Self {
        let mut rng = Rng::new(self.seed, 0x0907);
        if !self.classes.harm_records() && rng.chance(500_000) {
            self.extras = Extras {
                wipe: rng.chance(500_000),
                restore: rng.chance(500_000),
                damaged_journal: rng.chance(500_000),
                clone: rng.chance(300_000),
                lying_disk: false,
            };
            if self.extras != Extras::NONE {
                self.workload.w_min = 2;
            }
            // With nothing else in the way much is reaped between a copy and its being put back.
            if self.extras.restore && rng.chance(400_000) {
                self.classes = Classes::default();
                self.ring_interval = None;
                self.nemesis.interval = self.nemesis.interval.max(3_000 * MS);
            }
        }
        self
    }

    /// In some runs faults are aimed at moments that chance rarely meets, mostly with nothing else
    /// in the way.
    fn with_aimed_faults(mut self) -> Self {
        let mut rng = Rng::new(self.seed, 0x0917);
        if rng.chance(500_000) {
            self.disk.scans = Scans::AtOnce;
        }
        if self.classes.harm_records() || !rng.chance(350_000) {
            return self;
        }
        if self.ring_interval.is_some() && rng.chance(200_000) {
            self.classes.turning = true;
            return self;
        }
        self.classes = Classes::default();
        self.net.loss = 0;
        self.nemesis.interval = rng.between(500, 2_500) * MS;
        self.nemesis.lasts_max = rng.between(1_000, 6_000) * MS;
        self.extras = Extras::NONE;
        self.ring_interval = None;
        match rng.below(5) {
            0 | 1 => {
                self.classes.turning = true;
                self.spare = self.spare.max(1 + rng.index(3));
                self.ring_interval = Some(rng.between(1_000, 4_000) * MS);
                self.sloppy |= rng.chance(600_000);
            }
            2 | 3 => {
                self.classes.late_word = true;
                self.nemesis.interval = rng.between(2_500, 6_000) * MS;
                self.extras.restore = true;
                self.workload.w_min = *rng.pick(&[1, 2]);
                self.workload.own_quorum = 500_000;
            }
            _ => self.classes.straggler = true,
        }
        let mut options = self.reaping_at_once(&mut rng);
        options.trees.audit_pause = Duration::from_millis(500);
        if !options.classes.late_word {
            options.workload.interval = 25 * MS;
        }
        options.workload.deletes = 400_000;
        options.workload.contextual = 950_000;
        options
    }

    fn third_generation(seed: u64) -> Self {
        let mut options = Self::second_generation(seed);
        let mut rng = Rng::new(seed, 0x0904);
        options.classes.brownout = rng.chance(250_000);
        options.net.bandwidth = *rng.pick(&[0, 0, 0, 30 * MB, 3 * MB, MB / 2]);
        options.workload.impatient = *rng.pick(&[0, 0, 20_000, 200_000]);
        options.workload.reuse = *rng.pick(&[0, 0, 10_000, 100_000]);
        options.trees = TreeOptions {
            interval: Duration::from_secs(*rng.pick(&[1, 2, 4, 8])),
            audit_pause: Duration::from_millis(*rng.pick(&[2_000, 8_000, 16_000, 16_000])),
        };
        // Large values and many siblings take most of the time and rarely show more.
        options.workload.value_max = *rng.pick(&[32, 32, 100, 100, 100, 300, 1_000]);
        options.workload.gets = *rng.pick(&[200_000, 500_000, 500_000, 700_000]);
        options.workload.contextual = *rng.pick(&[500_000, 800_000, 950_000, 950_000]);
        let mut rng = Rng::new(seed, 0x0905);
        options.lww = rng.chance(120_000);
        options.workload.mortal = *rng.pick(&[0, 0, 0, 20_000, 300_000]);
        options.workload.ttl_max_ms = *rng.pick(&[10, 1_000, 10_000]);
        options
    }

    /// In most runs tombstones are reaped: in some as soon as no client can repeat an operation any
    /// more, in others at once, and nobody repeats anything.
    fn with_reaping(mut self) -> Self {
        let mut rng = Rng::new(self.seed, 0x0909);
        let kind = rng.below(10);
        if kind < 3 {
            return self;
        }
        let work = &mut self.workload;
        work.deletes = *rng.pick(&[50_000, 300_000, 500_000]);
        if kind < 6 {
            let longest = Duration::from_nanos(self.nemesis.lasts_max);
            self.limits.tombstone_age = work.timeout * 6 + longest + Duration::from_secs(2);
            return self;
        }
        self.reaping_at_once(&mut rng)
    }

    /// Tombstones go as soon as all agree, and nobody repeats anything.
    fn reaping_at_once(mut self, rng: &mut Rng) -> Self {
        let work = &mut self.workload;
        self.limits.tombstone_age = Duration::from_millis(*rng.pick(&[0, 50, 300, 1_000]));
        self.limits.closed_epochs_min = *rng.pick(&[1, 1, 4, 16]);
        work.retry = 0;
        work.needless_retry = 0;
        work.impatient = 0;
        work.reuse = 0;
        self.trees.audit_pause = Duration::from_millis(*rng.pick(&[500, 1_000, 4_000]));
        work.keys = work.keys.min(work.hot_keys + 30);
        self
    }

    /// Clients bring along what they have seen and take requests back; operators drain nodes.
    fn with_manners(mut self) -> Self {
        let mut rng = Rng::new(self.seed, 0x0916);
        self.workload.sessions = *rng.pick(&[0, 100_000, 900_000]);
        self.workload.fickle = *rng.pick(&[0, 0, 10_000, 200_000]);
        let mut rng = Rng::new(self.seed, 0x0908);
        let drains = rng.chance(200_000);
        self.drain_interval = drains.then(|| rng.between(500, 4_000) * MS);
        let mut rng = Rng::new(self.seed, 0x0b0c);
        let defines = rng.chance(300_000);
        self.bucket_interval = defines.then(|| rng.between(300, 5_000) * MS);
        self
    }

    /// In many runs others stand in for replicas that are down.
    fn with_stand_ins(mut self) -> Self {
        let mut rng = Rng::new(self.seed, 0x0906);
        self.sloppy = rng.chance(600_000);
        self.workload.strict = *rng.pick(&[0, 0, 50_000, 300_000]);
        self.workload.primary = *rng.pick(&[0, 50_000, 300_000]);
        if self.sloppy && rng.chance(200_000) {
            self.limits.hint_bytes_max =
                usize::try_from(rng.between(2_000, 50_000)).expect("small");
        }
        self
    }

    /// Whether this node's wall clock may be wrong. Where it matters what time it is, that is only
    /// the first one's, and none while the ring changes: in a ring of two it could not be outvoted.
    #[must_use]
    pub const fn may_be_wrong(&self, node: usize) -> bool {
        let needs_time = self.lww || 0 < self.workload.mortal;
        !needs_time || (node == 0 && self.ring_interval.is_none())
    }

    /// The bucket that clients use.
    #[must_use]
    pub const fn bucket(&self) -> &'static str {
        if self.lww { LWW_BUCKET } else { DEFAULT_BUCKET }
    }

    fn second_generation(seed: u64) -> Self {
        let mut options = Self::first_generation(seed);
        // A stream of its own: what older seeds drew stays as it was.
        let mut rng = Rng::new(seed, 0x0902);
        let classes = &mut options.classes;
        classes.silent_loss = rng.chance(200_000);
        classes.misdirected = rng.chance(150_000);
        classes.disk_full = rng.chance(250_000);
        classes.clog = rng.chance(300_000);
        classes.odd_partitions = rng.chance(400_000);
        classes.overload = rng.chance(150_000);
        if classes.silent_loss || classes.misdirected {
            options.workload.w_min = 2;
        }
        options.net.spread = *rng.pick(&[1, 1, 4, 16]);
        options.net.busy = *rng.pick(&[0, 0, 0, 20 * US, 200 * US]);
        options.workload.huge = *rng.pick(&[0, 0, 0, 0, 0, 0, 0, 500]);
        options.workload.forged = *rng.pick(&[0, 0, 5_000, 50_000]);
        options.workload.hasty = *rng.pick(&[0, 0, 20_000, 200_000]);
        options.limits = limits(&mut rng);
        options.nemesis.hot = 500_000;
        classes_of_harm(&mut options, &mut rng);
        options.with_ring_changes()
    }

    /// In some runs the ring changes.
    fn with_ring_changes(mut self) -> Self {
        let mut rng = Rng::new(self.seed, 0x0903);
        // Which replica may be damaged follows from the key's place, which must stay the same.
        if !self.classes.harm_records() && rng.chance(400_000) {
            self.spare = 1 + rng.index(3);
            self.ring_interval = Some(rng.between(300, 3_000) * MS);
        }
        self
    }

    /// The same run with classes that no seed has by itself. One node's disk is enough for them:
    /// other damage to disks stays away, or it could hit the last copy.
    #[must_use]
    pub fn with_extras(mut self, extras: Extras) -> Self {
        if extras != Extras::NONE {
            self.extras = extras;
            self.classes.bit_rot = false;
            self.classes.silent_loss = false;
            self.classes.misdirected = false;
            self.workload.w_min = 2;
            self.ring_interval = None;
        }
        self
    }

    fn first_generation(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0x0901);
        let classes = classes(&mut rng);
        let w_min = if classes.bit_rot { 2 } else { 1 };
        Self {
            seed,
            duration: 30_000 * MS,
            encode: true,
            nodes: *rng.pick(&[5, 5, 5, 5, 3, 4, 6, 7]),
            spare: 0,
            ring_interval: None,
            drain_interval: None,
            bucket_interval: None,
            replicas: 3,
            classes,
            net: net(&mut rng),
            disk: DiskOptions {
                sync_min: 200 * US,
                sync_mean: rng.between(100, 900) * US,
                tail: *rng.pick(&[0, 1_000, 20_000]),
                tail_max: 60 * MS,
                group_max: *rng.pick(&[1, 4, 64, 64, 256]),
                told_mean: 0,
                scans: Scans::InTurn,
                reads_at_once: true,
            },
            workload: workload(&mut rng, w_min),
            nemesis: NemesisOptions {
                interval: rng.between(500, 5_000) * MS,
                lasts_max: rng.between(500, 8_000) * MS,
                hot: 0,
            },
            trees: TreeOptions {
                interval: Duration::from_secs(2),
                audit_pause: Duration::from_secs(2),
            },
            limits: Limits::default(),
            wall_shift_ms: 0,
            lww: false,
            sloppy: false,
            extras: Extras::NONE,
            muted: Vec::new(),
        }
    }

    /// The same without any fault but crashes of the caller's choosing: for scripted scenarios.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        let mut options = Self::first_generation(seed);
        options.nodes = 5;
        options.spare = 0;
        options.ring_interval = None;
        options.classes = Classes::default();
        options.net = NetOptions {
            delay_min: 200 * US,
            delay_mean: 100 * US,
            tail: 0,
            tail_max: 0,
            loss: 0,
            duplicate: 0,
            reorder: false,
            client_loss: 0,
            spread: 1,
            busy: 0,
            bandwidth: 0,
        };
        options.disk.tail = 0;
        options
    }

    /// Tells runs apart whose seeds are equal and whose options are not.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut same = self.clone();
        same.encode = true;
        xxh3_64(format!("{same:?}").as_bytes())
    }
}

fn classes(rng: &mut Rng) -> Classes {
    let mut on = |per_million| rng.chance(per_million);
    Classes {
        crash: on(700_000),
        power_cut: on(300_000),
        pause: on(400_000),
        partition: on(600_000),
        clock: on(400_000),
        slow_disk: on(300_000),
        bit_rot: on(250_000),
        fsync_error: on(200_000),
        ..Classes::default()
    }
}

fn classes_of_harm(options: &mut Options, rng: &mut Rng) {
    options.classes.ambush = options.classes.bit_rot && rng.chance(500_000);
}

/// Mostly those of the product; now and then so small that they are met all the time.
fn limits(rng: &mut Rng) -> Limits {
    let mut limits = Limits::default();
    // What is remembered hides what happens to disks; half of the runs remember nothing.
    if rng.chance(500_000) {
        limits.recent_bytes_max = 0;
    }
    if rng.chance(750_000) {
        return limits;
    }
    let mut small = |least, most| usize::try_from(rng.between(least, most)).expect("small");
    limits.requests_max = small(8, 64);
    limits.replica_keys_max = small(16, 64);
    limits.store_bytes_max = small(4_096, 65_536);
    limits.key_queue_max = small(4, 32);
    limits.repairs_max = small(32, 64);
    limits.recent_bytes_max = small(0, 65_536);
    limits
}

fn net(rng: &mut Rng) -> NetOptions {
    NetOptions {
        delay_min: rng.between(50, 500) * US,
        delay_mean: rng.between(50, 2_000) * US,
        tail: *rng.pick(&[0, 1_000, 10_000, 50_000]),
        tail_max: rng.between(10, 2_000) * MS,
        loss: *rng.pick(&[0, 0, 1_000, 10_000, 50_000]),
        duplicate: *rng.pick(&[0, 0, 1_000, 20_000]),
        reorder: rng.chance(700_000),
        client_loss: *rng.pick(&[0, 1_000, 20_000]),
        spread: 1,
        busy: 0,
        bandwidth: 0,
    }
}

fn workload(rng: &mut Rng, w_min: u8) -> WorkloadOptions {
    let hot_keys = *rng.pick(&[1, 2, 4, 8]);
    WorkloadOptions {
        clients: *rng.pick(&[1, 4, 12, 12, 24]),
        interval: 10 * MS,
        hot_keys,
        keys: hot_keys + rng.index(300),
        gets: *rng.pick(&[200_000, 400_000, 500_000, 700_000]),
        deletes: *rng.pick(&[0, 50_000, 300_000]),
        contextual: *rng.pick(&[500_000, 800_000, 950_000]),
        conditional: *rng.pick(&[0, 50_000]),
        retry: *rng.pick(&[0, 500_000, 900_000]),
        needless_retry: *rng.pick(&[0, 20_000, 200_000]),
        own_quorum: *rng.pick(&[0, 100_000, 500_000]),
        w_min,
        value_max: *rng.pick(&[32, 100, 1_000, 4_000]),
        timeout: Duration::from_millis(rng.between(300, 3_000)),
        huge: 0,
        forged: 0,
        hasty: 0,
        impatient: 0,
        reuse: 0,
        strict: 0,
        primary: 0,
        mortal: 0,
        ttl_max_ms: 10_000,
        sessions: 0,
        fickle: 0,
    }
}

impl WorkloadOptions {
    /// After this time a client gives up on an attempt.
    #[must_use]
    pub fn patience(&self) -> u64 {
        nanos(self.timeout) + nanos(self.timeout) / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_mean_equal_options() {
        assert_eq!(Options::from_seed(5), Options::from_seed(5));
        assert_ne!(Options::from_seed(5).hash(), Options::from_seed(6).hash());
    }
}
