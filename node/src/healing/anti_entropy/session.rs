//! One comparison of a pair, at the node that leads it.
//!
//! Sums are compared from the root down; of leaves that differ both sides list keys and clocks; of
//! keys that differ records are pulled and merged here, then pushed and merged there, each in the
//! direction in which its clock says that something is missing. One question is open at a time. A
//! lost answer is asked for again; what a session has done stays done, so one that fails is
//! resumed by the next. After a pass that moved anything the roots are compared once more: a
//! replica that takes over a record may have something to add to it.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::Desk;
use crate::{
    core::Core,
    healing::{
        Found,
        governor::Work,
        merkle::{
            leaves::{LeafScan, Room, compare},
            trie::{Prefix, Trie},
        },
        message::{
            ASK_LEAVES_MAX, ASK_MAX, Branch, Differing, Entry, PARCEL_BYTES_MAX, PARCEL_KEYS_MAX,
            Place, Standing, TreeMessage,
        },
    },
    message::{Class, Message, ReplicaState, RpcId},
    replica::{Address, Caller, Done, Held, Job, Merge},
    store::{Ticket, format},
};

/// Comparisons of the roots in one session, while something is found.
const PASSES_MAX: u8 = 4;
/// How often a question is asked.
const TRIES_MAX: u32 = 4;
/// Most keys listed of a batch of leaves here.
const OWN_ENTRIES_MAX: usize = 1 << 20;

/// How a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Going,
    /// The roots were equal, or everything that differed was brought together.
    Agreed,
    Failed(&'static str),
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) moved_keys: u64,
    pub(super) moved_bytes: u64,
    /// Keys that differed and are not known to be brought together.
    pub(super) behind: u64,
    pub(super) passes: u8,
}

#[derive(Debug)]
struct Asked {
    rpc: RpcId,
    message: TreeMessage,
    sent: Instant,
    until: Instant,
    tries: u32,
}

#[derive(Debug)]
enum Phase {
    Compare,
    Leaves {
        own: Option<Vec<Entry>>,
        theirs: Vec<Entry>,
        complete: bool,
        /// A part of our own store could not be listed.
        blind: bool,
    },
    Move {
        pulls: VecDeque<Place>,
        pushes: VecDeque<Place>,
        /// Records on their way to the peer.
        parcel: Vec<(Place, Bytes, u64)>,
        parcel_bytes: usize,
        /// Keys of the parcel that are still being read here, or merges not yet stored.
        open: usize,
    },
}

/// One comparison.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: NodeId,
    pub(super) n: u8,
    pub(super) generation: u64,
    pub(super) begun: Instant,
    pub(super) tally: Tally,
    /// Names its jobs.
    id: u64,
    /// Parts known to differ, to be looked into.
    work: Vec<Prefix>,
    /// Leaves known to differ.
    leaves: Vec<u32>,
    batch: Vec<u32>,
    doubtful: Vec<u32>,
    phase: Phase,
    own_scan: Option<(Ticket, LeafScan)>,
    asked: Option<Asked>,
    /// It rests until then.
    rests: Instant,
    moved_in_pass: bool,
    failed_keys: u64,
}

impl Session {
    pub(super) fn new(id: u64, pair: (NodeId, u8), generation: u64, now: Instant) -> Self {
        Self {
            peer: pair.0,
            n: pair.1,
            generation,
            begun: now,
            tally: Tally::default(),
            id,
            work: vec![Prefix::ROOT],
            leaves: Vec::new(),
            batch: Vec::new(),
            doubtful: Vec::new(),
            phase: Phase::Compare,
            own_scan: None,
            asked: None,
            rests: now,
            moved_in_pass: false,
            failed_keys: 0,
        }
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Option<Instant> {
        match &self.asked {
            Some(asked) => Some(asked.until),
            None if self.is_waiting() => None,
            None => Some(self.rests),
        }
    }

    /// True while something here is not finished.
    const fn is_waiting(&self) -> bool {
        let open = match &self.phase {
            Phase::Move { open, .. } => *open,
            Phase::Compare | Phase::Leaves { .. } => 0,
        };
        self.asked.is_some() || self.own_scan.is_some() || 0 < open
    }

    /// Goes on if nothing is open and it has rested.
    pub(super) fn advance(&mut self, core: &mut Core, desk: &mut Desk<'_>) -> Outcome {
        let now = core.now.mono;
        if let Some(asked) = &mut self.asked
            && asked.until <= now
        {
            asked.tries += 1;
            if TRIES_MAX <= asked.tries {
                return Outcome::Failed("no answer");
            }
            asked.until = now + patience(core, self.peer, asked.tries);
            let (rpc, message) = (asked.rpc, asked.message.clone());
            self.send(core, rpc, message);
        }
        while !self.is_waiting() && self.rests <= now {
            let outcome = match &self.phase {
                Phase::Compare => self.compare(core, desk),
                Phase::Leaves { .. } => self.list(core, desk),
                Phase::Move { .. } => self.transfer(core),
            };
            if outcome != Outcome::Going {
                return outcome;
            }
        }
        Outcome::Going
    }

    fn compare(&mut self, core: &mut Core, desk: &mut Desk<'_>) -> Outcome {
        let many = ASK_LEAVES_MAX <= self.leaves.len();
        if self.work.is_empty() || many {
            if self.leaves.is_empty() {
                return self.end_pass();
            }
            let count = ASK_LEAVES_MAX.min(self.leaves.len());
            self.batch = self.leaves.drain(..count).collect();
            self.phase = Phase::Leaves {
                own: None,
                theirs: Vec::new(),
                complete: false,
                blind: false,
            };
            return Outcome::Going;
        }
        let from = self.work.len().saturating_sub(ASK_MAX);
        let trie = desk.forest.trie(self.n);
        let domain = desk.layout.domain((self.peer, self.n));
        let branches = self.work.drain(from..).map(|prefix| Branch {
            prefix,
            sum: trie.map_or(0, |trie| trie.sum_within(prefix, domain)),
        });
        let message = TreeMessage::Ask {
            epoch: core.ring.epoch(),
            n: self.n,
            branches: branches.collect(),
            doubtful: std::mem::take(&mut self.doubtful),
        };
        self.ask(core, message);
        Outcome::Going
    }

    /// Everything found has been dealt with.
    fn end_pass(&mut self) -> Outcome {
        if self.failed_keys != 0 {
            return Outcome::Failed("some records were refused");
        }
        self.tally.passes += 1;
        if !self.moved_in_pass || PASSES_MAX <= self.tally.passes {
            return Outcome::Agreed;
        }
        self.moved_in_pass = false;
        self.work.push(Prefix::ROOT);
        Outcome::Going
    }

    /// Lists the batch on both sides.
    fn list(&mut self, core: &mut Core, desk: &mut Desk<'_>) -> Outcome {
        let Phase::Leaves {
            own,
            theirs,
            complete,
            ..
        } = &mut self.phase
        else {
            return Outcome::Going;
        };
        if !*complete {
            let after = theirs.last().map(|entry| entry.place.clone());
            let message = TreeMessage::AskLeaves {
                epoch: core.ring.epoch(),
                n: self.n,
                leaves: self.batch.clone(),
                after,
            };
            self.ask(core, message);
            return Outcome::Going;
        }
        if own.is_none() {
            let room = Room {
                entries: OWN_ENTRIES_MAX,
            };
            let ticket = desk.ticket(core);
            let (scan, command) = LeafScan::start(ticket, self.n, self.batch.clone(), None, room);
            if let Some(command) = command {
                self.own_scan = Some((ticket, scan));
                desk.scan(core, command);
            } else {
                *own = Some(Vec::new());
            }
            return Outcome::Going;
        }
        self.settle(desk)
    }

    /// Both lists are there.
    fn settle(&mut self, desk: &mut Desk<'_>) -> Outcome {
        let Phase::Leaves {
            own: Some(own),
            theirs,
            blind,
            ..
        } = &self.phase
        else {
            return Outcome::Going;
        };
        let found = compare(own, theirs);
        for leaf in &self.batch {
            // Equal keys under different sums: one of the sums is wrong, or a write came between.
            if !found.leaves.contains(leaf) && !blind {
                desk.forest.doubt(*leaf);
                self.doubtful.push(*leaf);
            }
        }
        self.doubtful.truncate(ASK_LEAVES_MAX);
        self.tally.behind += found.keys;
        self.moved_in_pass |= 0 < found.keys;
        self.phase = Phase::Move {
            pulls: found.pulls.into(),
            pushes: found.pushes.into(),
            parcel: Vec::new(),
            parcel_bytes: 0,
            open: 0,
        };
        Outcome::Going
    }

    /// The next parcel, first from the peer, then to it.
    fn transfer(&mut self, core: &mut Core) -> Outcome {
        let Phase::Move {
            pulls,
            pushes,
            parcel,
            parcel_bytes,
            open,
        } = &mut self.phase
        else {
            return Outcome::Going;
        };
        if !pulls.is_empty() {
            let places = pulls.iter().take(PARCEL_KEYS_MAX).cloned().collect();
            self.ask(core, TreeMessage::Pull { places });
        } else if !parcel.is_empty()
            && (pushes.is_empty()
                || PARCEL_BYTES_MAX <= *parcel_bytes
                || PARCEL_KEYS_MAX <= parcel.len())
        {
            let records = parcel.clone();
            self.ask(core, TreeMessage::Push { records });
        } else if let Some(place) = pushes.pop_front() {
            *open += 1;
            let address = Address::from(&place);
            core.submit_for(Caller::Tree(self.id), &address, Job::Read);
        } else {
            self.phase = Phase::Compare;
        }
        Outcome::Going
    }

    fn ask(&mut self, core: &mut Core, message: TreeMessage) {
        let rpc = RpcId(core.op_key().0);
        let now = core.now.mono;
        self.asked = Some(Asked {
            rpc,
            message: message.clone(),
            sent: now,
            until: now + patience(core, self.peer, 0),
            tries: 0,
        });
        self.send(core, rpc, message);
    }

    fn send(&mut self, core: &mut Core, id: RpcId, message: TreeMessage) {
        self.tally.moved_bytes += message.weight() as u64;
        let message = Message::Tree { id, body: message };
        core.send(self.peer, Class::Bulk, message);
    }

    /// An answer has come; true if it is for this session.
    pub(super) fn expects(&self, from: NodeId, id: RpcId) -> bool {
        self.peer == from && self.asked.as_ref().is_some_and(|asked| asked.rpc == id)
    }

    pub(super) fn answer(
        &mut self,
        core: &mut Core,
        desk: &mut Desk<'_>,
        answer: TreeMessage,
    ) -> Outcome {
        let Some(asked) = self.asked.take() else {
            return Outcome::Going;
        };
        let now = core.now.mono;
        let took = now.since(asked.sent);
        self.rests = now + core.governor.rest_of(Work::Compare, took);
        self.tally.moved_bytes += answer.weight() as u64;
        match answer {
            TreeMessage::Sums {
                standing: Standing::Ready,
                differing,
            } => self.descend(desk, &differing),
            TreeMessage::Sums { standing, .. } => Outcome::Failed(match standing {
                Standing::OtherRing => "the rings differ",
                Standing::Building | Standing::Ready => "the peer is still building its tree",
            }),
            TreeMessage::Leaves { entries, more } => {
                if let Phase::Leaves {
                    theirs, complete, ..
                } = &mut self.phase
                {
                    let stuck = more && entries.is_empty();
                    theirs.extend(entries);
                    *complete = !more;
                    if stuck {
                        return Outcome::Failed("the peer cannot list");
                    }
                }
                Outcome::Going
            }
            TreeMessage::Pulled { records } => self.merge(core, records),
            TreeMessage::Pushed { failed } => {
                self.pushed(failed);
                Outcome::Going
            }
            TreeMessage::Ask { .. }
            | TreeMessage::AskLeaves { .. }
            | TreeMessage::Pull { .. }
            | TreeMessage::Push { .. }
            | TreeMessage::AskRoots { .. }
            | TreeMessage::Roots { .. } => Outcome::Failed("an answer of the wrong kind"),
        }
    }

    /// Looks which of the parts that differ there differ here.
    fn descend(&mut self, desk: &Desk<'_>, differing: &[Differing]) -> Outcome {
        let empty = Trie::default();
        let trie = desk.forest.trie(self.n).unwrap_or(&empty);
        let domain = desk.layout.domain((self.peer, self.n));
        for part in differing {
            if part.prefix.is_leaf() {
                continue;
            }
            for (child, sum) in part.prefix.children().zip(&part.sums) {
                if trie.sum_within(child, domain) == *sum {
                    continue;
                }
                if child.is_leaf() {
                    self.leaves.push(child.bits);
                } else {
                    self.work.push(child);
                }
            }
        }
        self.leaves.sort_unstable();
        self.leaves.dedup();
        Outcome::Going
    }

    fn merge(&mut self, core: &mut Core, records: Vec<(Place, ReplicaState, u64)>) -> Outcome {
        let Phase::Move { pulls, open, .. } = &mut self.phase else {
            return Outcome::Failed("an answer of the wrong kind");
        };
        let before = pulls.len();
        for (place, state, generation) in records {
            let Some(at) = pulls.iter().position(|wanted| *wanted == place) else {
                continue;
            };
            pulls.remove(at);
            let ReplicaState::Present(bytes) = state else {
                // It has gone, or cannot be read any more: the next comparison sees what is left.
                self.tally.behind = self.tally.behind.saturating_sub(1);
                continue;
            };
            let mine = core.belongs_here(&Address::from(&place));
            let decoded = format::decode(place.bucket.0, &place.key, &bytes).ok();
            let Some(record) = decoded.filter(|_| mine) else {
                self.failed_keys += 1;
                continue;
            };
            let job = Job::Apply(Merge {
                incoming: record.container,
                bytes: (!record.suspect).then_some(bytes),
                heals: None,
                generation,
            });
            if generation < core.generation(place.token) {
                core.tell_behind(self.peer, place.token);
            }
            *open += 1;
            core.submit_for(Caller::Tree(self.id), &Address::from(&place), job);
        }
        if before == pulls.len() {
            return Outcome::Failed("the peer has none of the records");
        }
        Outcome::Going
    }

    /// The replica has merged a record, or read one for the peer.
    pub(super) fn done(&mut self, address: &Address, done: Done, generation: u64) {
        let Phase::Move {
            parcel,
            parcel_bytes,
            open,
            pushes,
            ..
        } = &mut self.phase
        else {
            return;
        };
        *open = open.saturating_sub(1);
        match done {
            Done::Stored { .. } => {
                self.tally.moved_keys += 1;
                // What is pushed as well is not done yet.
                let goes_on = pushes.iter().any(|place| Address::from(place) == *address);
                self.tally.behind -= u64::from(!goes_on && 0 < self.tally.behind);
            }
            Done::Read(Held::Present(stored)) => {
                *parcel_bytes += stored.bytes.len();
                parcel.push((Place::from(address), stored.bytes.clone(), generation));
            }
            Done::Read(Held::Absent | Held::Unreadable) => {
                self.tally.behind = self.tally.behind.saturating_sub(1);
            }
            Done::Refused(_) => self.failed_keys += 1,
            Done::Coordinated { .. } | Done::Reaping(_) => {}
        }
    }

    fn pushed(&mut self, failed: u32) {
        let Phase::Move {
            parcel,
            parcel_bytes,
            ..
        } = &mut self.phase
        else {
            return;
        };
        let sent = parcel.len() as u64;
        let stored = sent.saturating_sub(u64::from(failed));
        parcel.clear();
        *parcel_bytes = 0;
        self.failed_keys += u64::from(failed);
        self.tally.moved_keys += stored;
        self.tally.behind = self.tally.behind.saturating_sub(stored);
    }

    /// A page of the list of our own keys. False if this session did not ask for it.
    pub(super) fn scanned(
        &mut self,
        core: &mut Core,
        desk: &mut Desk<'_>,
        ticket: Ticket,
        page: (Found<'_>, bool),
    ) -> bool {
        let Some((_, mut scan)) = self.own_scan.take_if(|(own, _)| *own == ticket) else {
            return false;
        };
        let hasher = desk.forest.hasher();
        if let Some(command) = scan.scanned(ticket, page.0, page.1, hasher, &core.catalogue) {
            self.own_scan = Some((ticket, scan));
            desk.scan(core, command);
            return true;
        }
        for address in scan.damaged {
            core.submit_for(Caller::Nobody, &address, Job::Read);
        }
        if let Phase::Leaves { own, blind, .. } = &mut self.phase {
            *own = Some(scan.entries);
            *blind = scan.blind;
        }
        true
    }
}

fn patience(core: &Core, peer: NodeId, tries: u32) -> Duration {
    // A parcel is synced before it is answered, and may wait behind others.
    (core.patience(peer) * 8).max(Duration::from_millis(500)) * (tries + 1)
}
