//! Setting aside all that a directory holds, because it may be older than what was reaped since.
//!
//! A directory that was restored, rolled back, copied or cut short, or whose node comes back into
//! the ring with what it held when it left, may hold what everybody else has deleted and forgotten.
//! So all of it goes out of the way, in batches, each of which is on disk before the next is read;
//! a process that is started in between goes on. Meanwhile this node reads no record for anybody
//! and takes none in. When it is through it holds nothing, has forgotten whatever it remembered of
//! records, and is filled again like any other that has lost its directory.
//!
//! What nobody else owns stays where it is: it can only have been forgotten by this node itself.
//! What the store cannot read stays too. It speaks for no key, so it brings nothing back.
//!
//! Not decided here: when a directory is refused (`standing`), and how it is filled (`rebuilding`).

use std::time::Duration;

use bytes::Bytes;
use quorate_gossip::Instant;
use quorate_ring::Phase;

use super::{
    Node,
    rebuilding::Rebuild,
    ring::{Stored, meta},
};
use crate::{
    api::Output,
    coordinator::{Flow, Operation},
    core::{Notice, SETTING_ASIDE},
    event::Event,
    healing::{
        anti_entropy::AntiEntropy,
        care::CareMessage,
        hints::{Hints, message::HintMessage},
        merkle::{
            forest::{edge, successor},
            trie::{LEAVES, leaf_of},
        },
        reap::{META_GENERATIONS_KEY, Queue},
    },
    message::{BucketId, Message},
    replica::{Address, Done, OpKey, Refusal},
    ring_message::RingMessage,
    store::{
        Command, Table, Ticket, Unreadable, Write,
        aside::{self, Aside, Why},
        format,
    },
};

/// Records that are moved in one write.
const BATCH_ITEMS: usize = 256;
const BATCH_BYTES: usize = 512 << 10;
/// Before a write is tried again for which there was no room.
const NO_ROOM: Duration = Duration::from_secs(1);
/// Nothing is to be done.
const NEVER: Duration = Duration::from_hours(24 * 365);

#[derive(Debug)]
enum Step {
    /// It is not on disk yet that everything is to be set aside.
    Beginning,
    /// Work on records goes on that was begun before.
    Draining,
    /// The next page is due, from that key of that table on.
    Due(Table, Bytes),
    Reading(Table, Bytes, Ticket),
    /// A batch is being written; where it goes on afterwards, or none if that was all.
    Writing(Option<(Table, Bytes)>),
}

/// What is being set aside.
#[derive(Debug)]
pub(super) struct Asides {
    run: Option<(Why, Step)>,
    records: u64,
    next: Instant,
}

impl Asides {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            run: None,
            records: 0,
            next: now + NEVER,
        }
    }

    /// When there is something to do that nothing else begins.
    pub(super) const fn wakes(&self) -> Instant {
        self.next
    }

    /// The write that goes with whatever makes it necessary.
    pub(super) fn beginning(&self) -> Option<Write> {
        self.run.as_ref().map(|(why, _)| aside::begin(*why))
    }

    /// That write is on disk.
    pub(super) fn is_written(&mut self) {
        if let Some((_, step @ Step::Beginning)) = &mut self.run {
            *step = Step::Draining;
        }
    }
}

impl Node {
    /// From now on nothing that is held is read; the write that has to be durable before it is
    /// moved. None if nobody else has anything: then what is here is all there is.
    pub(super) fn begin_setting_aside(&mut self, why: Why) -> Option<Write> {
        let voters = &self.core.decree.voters;
        if voters.len() == 1 && voters[0].node == self.core.me {
            return None;
        }
        if self.asides.run.is_none() {
            self.asides.run = Some((why, Step::Beginning));
            self.asides.records = 0;
        }
        self.core.sets_aside = true;
        self.stop_what_is_under_way();
        self.asides.beginning()
    }

    /// Nobody hears any more of what was read or stored here before.
    fn stop_what_is_under_way(&mut self) {
        self.scans.clear();
        self.desk.moves.stop_transfers();
        self.rebuild = Rebuild::default();
        self.refuse_unvouched();
        for running in self.running.values_mut() {
            running.operation.forget_copy(self.core.me);
        }
        let running = self.running.iter();
        let pulls = running.filter(|(_, running)| matches!(running.operation, Operation::Pull(_)));
        let pulls: Vec<OpKey> = pulls.map(|(key, _)| *key).collect();
        for key in pulls {
            self.settle(key, Flow::Over, None);
        }
    }

    /// What is here does not stay here, so nobody may count it.
    fn refuse_unvouched(&mut self) {
        for (key, _) in std::mem::take(&mut self.core.unvouched) {
            let done = Done::Refused(Refusal::Limit(SETTING_ASIDE));
            self.core.notices.push_back((key, Notice::Local(done)));
        }
    }

    /// An earlier process was not through with it, or found at its start that it has to be done.
    pub(super) fn go_on_setting_aside(&mut self, unfinished: Option<Why>) {
        let Some(why) = unfinished else {
            return;
        };
        if self.begin_setting_aside(why).is_some() {
            self.asides.is_written();
        } else {
            self.store_ring(vec![aside::end()], Stored::Progress);
        }
    }

    /// A node that comes back into the ring with what it held when it left it leaves that behind.
    pub(super) fn leave_behind(&mut self) {
        let core = &self.core;
        let old = core.decree.old.as_ref();
        let comes = core.decree.phase == Phase::Moving
            && core.decree.ring.member(core.me).is_some()
            && old.is_some_and(|old| old.member(core.me).is_none());
        if comes && core.generations.is_away() && !core.sets_aside {
            let writes = self.begin_setting_aside(Why::Away);
            self.store_ring(writes.into_iter().collect(), Stored::Aside);
            self.stand();
        }
    }

    pub(super) fn aside_timeout(&mut self) {
        self.count_aside();
        if self.asides.next <= self.core.now.mono {
            self.asides.next = self.core.now.mono + NEVER;
            self.read_aside();
        }
    }

    /// Begins when no work on a record is left.
    pub(super) fn set_aside_more(&mut self) {
        if let Some((_, step @ Step::Draining)) = &mut self.asides.run
            && self.core.replica.load() == (0, 0)
        {
            *step = Step::Due(Table::Objects, Bytes::from_static(&[0]));
            self.read_aside();
        }
    }

    fn read_aside(&mut self) {
        let Some((_, step)) = &mut self.asides.run else {
            return;
        };
        let Step::Due(table, start) = step else {
            return;
        };
        self.core.tickets += 1;
        let ticket = Ticket(self.core.tickets);
        let (table, start) = (*table, start.clone());
        *step = Step::Reading(table, start.clone(), ticket);
        self.core.outputs.push_back(Output::Store(Command::Scan {
            ticket,
            table,
            start,
            end: Bytes::new(),
            items_max: BATCH_ITEMS,
            bytes_max: BATCH_BYTES,
        }));
    }

    /// A page of our own store has come. None if it was read to be set aside.
    pub(super) fn aside_scanned(
        &mut self,
        ticket: Ticket,
        page: Result<Vec<(Bytes, Bytes)>, Unreadable>,
        more: bool,
    ) -> Option<Result<Vec<(Bytes, Bytes)>, Unreadable>> {
        let (why, table, start) = match &self.asides.run {
            Some((why, Step::Reading(table, start, asked))) if *asked == ticket => {
                (*why, *table, start.clone())
            }
            Some(_) | None => return Some(page),
        };
        let then = match &page {
            Ok(page) => page.last().filter(|_| more).map(|(key, _)| successor(key)),
            Err(_) => past_the_unreadable(table, &start),
        };
        let then = then.map(|start| (table, start));
        let hints = (Table::Hints, Bytes::from_static(&[0]));
        let then = match then {
            None if table == Table::Objects => Some(hints),
            then => then,
        };
        let mut writes = Vec::new();
        for (store_key, record) in page.unwrap_or_default() {
            writes.extend(self.out_of_the_way(why, table, &store_key, &record));
        }
        self.asides.records += writes.len() as u64 / 2;
        if then.is_none() {
            // It holds nothing of before any more, wherever it was.
            self.core.generations.come_back();
            let generations = self.core.generations.to_bytes();
            writes.push(meta(META_GENERATIONS_KEY, generations));
            writes.push(aside::end());
        }
        self.write_aside(writes, then);
        None
    }

    fn write_aside(&mut self, writes: Vec<Write>, then: Option<(Table, Bytes)>) {
        if let Some((_, step)) = &mut self.asides.run {
            *step = Step::Writing(then);
        }
        if writes.is_empty() {
            return self.aside_written();
        }
        self.store_ring(writes, Stored::Aside);
    }

    /// The writes that move a record; none if it stays.
    fn out_of_the_way(
        &self,
        why: Why,
        table: Table,
        store_key: &Bytes,
        record: &Bytes,
    ) -> Vec<Write> {
        let parsed = match table {
            Table::Hints => format::parse_hint_key(store_key),
            Table::Objects | Table::Meta => format::parse_object_key(store_key)
                .map(|(token, bucket, key)| (0, token, bucket, key)),
        };
        let Some((hint_for, token, bucket, key)) = parsed else {
            return Vec::new();
        };
        let address = Address {
            token,
            bucket: BucketId(bucket),
            key: store_key.slice_ref(key),
            hint_for: None,
        };
        if table == Table::Objects && self.core.owners(&address) == [self.core.me] {
            return Vec::new();
        }
        let aside = Aside {
            token,
            bucket,
            key: address.key,
            hint_for,
            since_ms: self.core.now.wall_ms,
        };
        vec![
            Write::Put {
                table: Table::Meta,
                key: aside.store_key(),
                value: aside::wrap(why, record),
            },
            Write::Delete {
                table,
                key: store_key.clone(),
            },
        ]
    }

    /// What was asked for last is on disk.
    pub(super) fn aside_written(&mut self) {
        let Some((_, step)) = &mut self.asides.run else {
            return;
        };
        match step {
            Step::Beginning => *step = Step::Draining,
            Step::Writing(Some((table, start))) => {
                *step = Step::Due(*table, start.clone());
                self.read_aside();
            }
            Step::Writing(None) => self.begin_empty(),
            Step::Draining | Step::Due(..) | Step::Reading(..) => {}
        }
    }

    /// There was no room: it is read again and tried again.
    pub(super) fn aside_not_written(&mut self) {
        let again = Step::Due(Table::Objects, Bytes::from_static(&[0]));
        match &mut self.asides.run {
            Some((_, step @ Step::Writing(_))) => *step = again,
            Some((why, Step::Beginning)) => {
                let why = *why;
                return self.store_ring(vec![aside::begin(why)], Stored::Aside);
            }
            Some(_) | None => return,
        }
        self.asides.next = self.core.now.mono + NO_ROOM;
    }

    /// Nothing is held any more: what was remembered of it is forgotten, and what goes on reads
    /// everything again.
    fn begin_empty(&mut self) {
        let Some((why, _)) = self.asides.run.take() else {
            return;
        };
        let now = self.core.now.mono;
        self.core.event(Event::SetAside {
            records: self.asides.records,
            why: why.as_str(),
        });
        // Some of it was on its way to the disk when this began.
        self.refuse_unvouched();
        self.core.sets_aside = false;
        self.core.upkeep.aside_changed = true;
        self.core.replica.forget_all(&self.core.limits);
        self.core.lapsed = Queue::default();
        self.healing = Box::new(AntiEntropy::new(&self.core));
        self.hints = Hints::new(now);
        for slot in 0..=u8::MAX {
            self.core.forget_repairs(slot);
            self.refresh(slot);
        }
        self.stand();
        self.standing_soon();
        self.desk.next_beat = now;
    }
}

/// Where to go on behind something that the store cannot read; none if there is nothing behind it.
fn past_the_unreadable(table: Table, start: &Bytes) -> Option<Bytes> {
    let (token, ..) = format::parse_object_key(start).unwrap_or((0, 0, &[]));
    let next = leaf_of(token) + 1;
    (table == Table::Objects && next < LEAVES).then(|| edge(next))
}

/// True for questions that nobody but the store can answer.
pub(super) const fn reads_the_store(message: &Message) -> bool {
    matches!(
        message,
        Message::Scan { .. }
            | Message::Tree { .. }
            | Message::Ring {
                message: RingMessage::Pull { .. },
                ..
            }
            | Message::Hint {
                body: HintMessage::Ask { .. },
                ..
            }
            | Message::Care {
                body: CareMessage::Inspect { .. },
                ..
            }
    )
}
