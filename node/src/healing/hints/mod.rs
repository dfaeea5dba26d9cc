//! Hinted handoff: what is kept for others is given to them when they are back.
//!
//! Decides when which hints are handed over. The index is filled from the store when the node
//! starts, and whatever is in it is due, with or without traffic: for each replica that is up a few
//! at a time, as the governor says, and with a back-off when it is silent or takes no more. Hints
//! follow the ownership: if the replica they were meant for does not own the key any more, they go
//! to those who do. One is handed over, proven and deleted by `coordinator::hand`.
//!
//! Not decided here: when a hint is kept (`coordinator::write`), and how it is stored.

pub mod message;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use self::message::Kept;
use super::Found;
use crate::{
    api::Output,
    core::Core,
    event::Event,
    message::BucketId,
    replica::{Address, OpKey, Sum},
    store::{Command, Table, Ticket, format},
};

/// Hints that are handed over at the same time, at most and at least.
const BATCH_MAX: u32 = 64;
const BATCH_MIN: u32 = 8;
/// Keys looked at for one batch.
const LOOKED_AT_MAX: usize = 1_024;
const LOOKED_AT_MIN: usize = 64;
const TICK: Duration = Duration::from_millis(250);
/// With nothing to hand over it sleeps.
const NOTHING: Duration = Duration::from_hours(1);
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(20);
/// The rate that is told is that of about so long.
const METER: Duration = Duration::from_secs(5);
const PAGE_ITEMS: usize = 512;
const PAGE_BYTES: usize = 1 << 20;

/// How the handing over of one hint ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is deleted: all who are to have it have it on disk.
    Delivered,
    /// It has changed meanwhile, or the ring has.
    Changed,
    /// There was none that could be read.
    Gone,
    /// Somebody did not answer.
    Silent(NodeId),
    /// Somebody will not take it now, and says why.
    Refused(NodeId, String),
}

/// News of a hint on its way.
#[derive(Debug)]
pub(crate) struct HintNews {
    pub(crate) op: OpKey,
    pub(crate) outcome: Outcome,
}

/// A batch wants these handed over.
pub(crate) type Wanted = Vec<(NodeId, Address)>;

/// How it goes with one replica.
#[derive(Debug)]
struct Lane {
    /// Where the last batch ended.
    after: Option<Address>,
    again: Instant,
    wait: Duration,
    trouble: String,
    metered: u64,
    since: Instant,
    per_minute: u64,
}

impl Lane {
    const fn new(now: Instant) -> Self {
        Self {
            after: None,
            again: now,
            wait: BACK_OFF_MIN,
            trouble: String::new(),
            metered: 0,
            since: now,
            per_minute: 0,
        }
    }

    fn meter(&mut self, now: Instant) {
        let took = now.since(self.since);
        if METER <= took {
            let seconds = took.as_secs().max(1);
            self.per_minute = self.metered * 60 / seconds;
            self.metered = 0;
            self.since = now;
        }
    }
}

/// When hints are handed over.
#[derive(Debug)]
pub(crate) struct Hints {
    /// A page of the store that is being read.
    scan: Option<Ticket>,
    /// Where the next page begins.
    next: Bytes,
    lanes: BTreeMap<NodeId, Lane>,
    batch: BTreeMap<OpKey, NodeId>,
    begun: Instant,
    /// The batch has got rid of any.
    delivered: bool,
    next_tick: Instant,
}

/// What of a batch belongs to one replica.
#[derive(Clone, Copy, Debug)]
struct Share {
    keys: usize,
    looked_at: usize,
}

impl Share {
    fn among(lanes: usize, batch: usize) -> Self {
        let lanes = lanes.max(1);
        Self {
            keys: (batch / lanes).max(1),
            looked_at: (LOOKED_AT_MAX / lanes).max(LOOKED_AT_MIN),
        }
    }
}

impl Hints {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            scan: None,
            next: Bytes::from_static(&[0]),
            lanes: BTreeMap::new(),
            batch: BTreeMap::new(),
            begun: now,
            delivered: false,
            next_tick: now,
        }
    }

    /// When [`due`](Self::due) wants to be called.
    pub(crate) const fn poll_timeout(&self) -> Instant {
        self.next_tick
    }

    /// Looks through the store, or says which hints are to be handed over now.
    pub(crate) fn due(&mut self, core: &mut Core) -> Wanted {
        let now = core.now.mono;
        if now < self.next_tick {
            return Vec::new();
        }
        self.next_tick = now + TICK;
        if !core.replica.hints().is_complete() {
            self.look_through(core);
        }
        let kept: BTreeSet<NodeId> = core.replica.hints().owners().collect();
        self.lanes.retain(|owner, _| kept.contains(owner));
        if kept.is_empty() && core.replica.hints().is_complete() {
            self.next_tick = now + NOTHING;
        }
        if !self.batch.is_empty() {
            return Vec::new();
        }
        let mut wanted = Vec::new();
        let batch = core.governor.portion(BATCH_MAX, BATCH_MIN);
        let share = Share::among(kept.len(), batch);
        for owner in kept {
            let lane = self.lanes.entry(owner).or_insert_with(|| Lane::new(now));
            lane.meter(now);
            if lane.again <= now {
                lane.choose(core, owner, share, &mut wanted);
            }
        }
        self.begun = now;
        self.delivered = false;
        wanted
    }

    /// Something is kept now, or no more.
    pub(crate) fn changed(&mut self, now: Instant) {
        self.next_tick = self.next_tick.min(now + TICK);
    }

    /// An operation hands over a hint for this replica.
    pub(crate) fn began(&mut self, op: OpKey, owner: NodeId) {
        self.batch.insert(op, owner);
    }

    /// An operation has ended.
    pub(crate) fn news(&mut self, core: &mut Core, news: HintNews) {
        let Some(owner) = self.batch.remove(&news.op) else {
            return;
        };
        let now = core.now.mono;
        let lane = self.lanes.entry(owner).or_insert_with(|| Lane::new(now));
        match news.outcome {
            Outcome::Delivered => {
                core.event(Event::HintHanded { owner });
                lane.metered += 1;
                self.delivered = true;
                lane.wait = BACK_OFF_MIN;
                lane.trouble.clear();
            }
            Outcome::Changed => {}
            Outcome::Gone => core.event(Event::HintLost { owner }),
            Outcome::Silent(node) => {
                lane.trouble = format!("{} does not answer", core.name(node));
                lane.back_off(core);
            }
            Outcome::Refused(node, why) => {
                lane.trouble = format!("{} says: {why}", core.name(node));
                lane.back_off(core);
            }
        }
        if self.batch.is_empty() {
            let rest = core.governor.rest(now.since(self.begun));
            let least = if self.delivered { Duration::ZERO } else { TICK };
            self.next_tick = now + rest.max(least);
        }
    }

    /// A replica is back.
    pub(crate) fn peer_up(&mut self, core: &mut Core, peer: NodeId) {
        if let Some(lane) = self.lanes.get_mut(&peer) {
            lane.wait = BACK_OFF_MIN;
            lane.again = core.now.mono + core.jitter(BACK_OFF_MIN);
            self.next_tick = self.next_tick.min(lane.again);
        }
    }

    fn look_through(&mut self, core: &mut Core) {
        if self.scan.is_some() {
            return;
        }
        core.tickets += 1;
        let ticket = Ticket(core.tickets);
        self.scan = Some(ticket);
        core.outputs.push_back(Output::Store(Command::Scan {
            ticket,
            table: Table::Hints,
            start: self.next.clone(),
            end: Bytes::new(),
            items_max: PAGE_ITEMS,
            bytes_max: PAGE_BYTES,
        }));
    }

    /// A page has been read. False if it is not ours.
    pub(crate) fn scanned(
        &mut self,
        core: &mut Core,
        ticket: Ticket,
        items: Found<'_>,
        more: bool,
    ) -> bool {
        if self.scan != Some(ticket) {
            return false;
        }
        self.scan = None;
        let Ok(items) = items else {
            // What the store will not read now it may read later; nothing is taken in meanwhile.
            return true;
        };
        for (store_key, record) in items {
            let Some((owner, token, bucket, key)) = format::parse_hint_key(store_key) else {
                continue;
            };
            let address = Address {
                token,
                bucket: BucketId(bucket),
                key: store_key.slice_ref(key),
                hint_for: Some(NodeId::new(owner)),
            };
            let decoded = format::decode(bucket, key, record).ok();
            let index = core.replica.hints_mut();
            index.found(&address, record.len(), decoded.as_ref());
        }
        match items.last() {
            Some((last, _)) if more => {
                let mut next = last.to_vec();
                next.push(0);
                self.next = next.into();
                self.look_through(core);
            }
            Some(_) | None => {
                core.replica.hints_mut().completed();
                self.next_tick = core.now.mono;
            }
        }
        true
    }

    /// How it stands with each replica for which something is kept.
    pub(crate) fn kept(&self, core: &Core) -> Vec<(NodeId, Kept)> {
        let sums = core.replica.hints().sums();
        sums.map(|sum| (sum.owner, self.row(core, sum))).collect()
    }

    fn row(&self, core: &Core, sum: Sum) -> Kept {
        let lane = self.lanes.get(&sum.owner);
        let known = sum.oldest_ms.filter(|since| *since != 0);
        let down = core.decree.member(sum.owner).is_some() && !core.is_up(sum.owner);
        let trouble = match lane {
            _ if down => format!("{} is down", core.name(sum.owner)),
            Some(lane) => lane.trouble.clone(),
            None => String::new(),
        };
        Kept {
            count: sum.count as u64,
            bytes: sum.bytes as u64,
            oldest_ms: known.map_or(0, |since| core.now.wall_ms.saturating_sub(since)),
            per_minute: lane.map_or(0, |lane| lane.per_minute),
            trouble,
        }
    }
}

impl Lane {
    /// Takes the next keys whose new holders are all up.
    fn choose(&mut self, core: &Core, owner: NodeId, mut share: Share, wanted: &mut Wanted) {
        let index = core.replica.hints();
        let mut last = self.after.take();
        let mut blocked = None;
        for address in index.after(owner, last.clone().as_ref()) {
            if share.looked_at == 0 || share.keys == 0 {
                self.after = last;
                return;
            }
            share.looked_at -= 1;
            match targets(core, owner, address) {
                None => "its bucket is not known here yet".clone_into(&mut self.trouble),
                Some(to) => match to.iter().find(|node| !core.is_up(**node)) {
                    Some(down) => blocked = Some(*down),
                    None => {
                        share.keys -= 1;
                        wanted.push((owner, address.hint(owner)));
                    }
                },
            }
            last = Some(address.clone());
        }
        if let Some(down) = blocked {
            self.trouble = format!("{} is down", core.name(down));
        }
    }

    fn back_off(&mut self, core: &mut Core) {
        let now = core.now.mono;
        if self.again <= now {
            self.again = now + self.wait + core.jitter(self.wait);
            self.wait = (self.wait * 2).min(BACK_OFF_MAX);
        }
    }
}

/// Who has to have a hint before it may be deleted: the replica it was meant for, if that still
/// owns the key and will, otherwise everybody who does or will; nobody if the bucket was dropped.
/// None if the bucket is not known.
pub(crate) fn targets(core: &Core, owner: NodeId, address: &Address) -> Option<Vec<NodeId>> {
    if core.catalogue.is_dropped(address.bucket) {
        return Some(Vec::new());
    }
    let n = core.catalogue.replicas(address.bucket)?;
    let mut owners = core.owners(address);
    let others = core.others(address, n);
    let stays = owners.contains(&owner) && (others.is_empty() || others.contains(&owner));
    if stays {
        return Some(vec![owner]);
    }
    for node in others {
        if !owners.contains(&node) {
            owners.push(node);
        }
    }
    owners.retain(|node| !core.decree.dead.contains(node));
    Some(owners)
}
