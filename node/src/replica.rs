//! What this node holds, and the one place where it changes.
//!
//! All work on a key passes through its entry, in order: a read of the store when the key is first
//! touched, then every merge and every mint on the state in memory, then one write for all that
//! changed. So a dot is always minted from everything merged before it, without a lock and without
//! waiting for the disk. Reads answer from the state that is durable, never from one that a power
//! cut could take back.
//!
//! A record that cannot be read is neither present nor absent: it never mints and never speaks for
//! the key; what is merged over it is marked *suspect* until all other replicas have been asked.
//!
//! Not decided here: who may ask, how many copies are enough, where a key lives.

mod address;
mod admission;
mod answer;
mod coordinate;
mod damage;
mod expiry;
mod handover;
mod held;
mod hints;
mod job;
mod mending;
mod naming;
mod reap;
mod recent;
mod withdraw;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    sync::Arc,
};

use bytes::Bytes;
use quorate_ring::{NodeId, NodeUuid};

pub(crate) use self::{
    address::Address,
    answer::fetched,
    damage::{Damage, DamageId},
    held::{Held, Stored},
    hints::Sum,
    reap::Reaping,
};
use self::{answer::refusal, damage::Damages, expiry::expire, hints::HintIndex, recent::Recent};
use crate::{
    causality::{Container, Dot, Minter, Rule, Stamp, Write as VersionWrite, receive},
    identity::Identity,
    limits::Limits,
    message::{BucketId, RpcId},
    store::{
        Command, Ticket, Unreadable, Write,
        format::{self, Record},
    },
};

/// Names an operation of this node; also the [`RpcId`] under which it asks its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OpKey(pub(crate) u64);

/// Bits of an [`RpcId`] that name the operation; the others tell its rounds apart.
const OP_BITS: u32 = 56;

impl OpKey {
    /// The operation that a question or an answer belongs to, and of which of its rounds it is.
    pub(crate) const fn of(id: RpcId) -> (Self, u8) {
        (Self(id.0 & ((1 << OP_BITS) - 1)), (id.0 >> OP_BITS) as u8)
    }

    /// The name of the operation's questions in a round.
    pub(crate) const fn rpc(self, round: u8) -> RpcId {
        RpcId(self.0 | (round as u64) << OP_BITS)
    }
}

/// A record that has been written, with what was there before.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) address: Address,
    pub(crate) old: Held,
    pub(crate) new: Held,
}

/// Who gets the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Op(OpKey),
    Peer(NodeId, RpcId),
    /// A peer that reads, and how many bytes of values it wants at most.
    Reader(NodeId, RpcId, Option<u32>),
    /// A comparison of trees, or an answer to one.
    Tree(u64),
    /// A holder that hands over a hint; it waits for the receipt.
    Holder(NodeId, RpcId),
    /// The same, when what it handed over is stored and the receipt is made out.
    Receipt(NodeId, RpcId),
    /// Somebody wants to know all hints of a key.
    Inquiry(u64),
    /// An answer to one who wants to reap.
    Reap(u64),
    /// A repair that nothing waits for.
    Nobody,
}

/// A write to coordinate.
#[derive(Debug)]
pub(crate) struct Intent {
    pub(crate) write: VersionWrite,
    /// What a quorum of replicas holds, when the caller has asked one.
    pub(crate) base: Option<Container>,
    /// The write generation under which they were asked.
    pub(crate) generation: u64,
    /// Live versions from which a write that replaces none of them is refused.
    pub(crate) siblings_max: usize,
    /// Where the last write wins: the greatest stamp that is believed at present.
    pub(crate) stamp_max: Option<Stamp>,
    /// Space runs out here: what brings new data is refused, a delete is not.
    pub(crate) disk_low: bool,
    /// Checked on the merged state just before minting.
    pub(crate) precondition: Precondition,
}

/// What must hold before a write is minted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    None,
    /// The live versions are exactly covered by the write's context, and there is one.
    Match,
    /// There is no live value.
    Absent,
}

/// Something to do with one key.
#[derive(Debug)]
pub(crate) enum Job {
    /// The durable state.
    Read,
    /// The same, but what is on the disk counts and not what is remembered.
    Look,
    /// The state in memory, which the next write is made from.
    Latest,
    Apply(Merge),
    /// The same, and synced however lax this node's durability is: a hint goes for it.
    Settle(Merge),
    Coordinate(Box<Intent>),
    /// Turn the values whose time was over by then into what a delete leaves.
    Expire {
        before_ms: u64,
    },
    /// Delete the record if it is still this one and nothing is under way with it: it belongs to
    /// others, and they have it. Without bytes: if there is none that can be read.
    Drop(Bytes),
    /// Put the record where nothing finds it but a person, if it is still this one: it is so old
    /// that what it says may have been reaped, and nobody takes it in.
    SetAside(Bytes, u64),
    /// Delete the record, whatever it is: its bucket is no more.
    Remove,
    /// Do what all owners have agreed on, if the record is still the one they agreed about.
    Reap(Reaping),
}

/// A state to merge into what is held.
#[derive(Debug)]
pub(crate) struct Merge {
    pub(crate) incoming: Container,
    /// The record it was read from: if nothing but it is left after merging, it is stored as it is.
    pub(crate) bytes: Option<Bytes>,
    /// Every other replica's state is in it, asked for after this damage was found: that heals it.
    pub(crate) heals: Option<DamageId>,
    /// The write generation of whoever read or minted it, when it did.
    pub(crate) generation: u64,
}

/// Why a job did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The local record cannot be read; ask the others and come back with a base.
    Unreadable,
    OpIdReused,
    TooManySiblings(usize),
    PreconditionFailed,
    EqualDotsDiffer,
    /// What was to be merged was read before something was reaped: read it again.
    OldGeneration,
    Limit(&'static str),
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Done {
    Read(Held),
    /// A version was minted (or found: `dot` is none). Not durable yet: [`Done::Stored`] follows.
    Coordinated {
        dot: Option<Dot>,
        rule: Option<Rule>,
        stored: Arc<Stored>,
    },
    Stored {
        durable: bool,
    },
    /// This record is being reaped. [`Done::Stored`] follows.
    Reaping(Arc<Stored>),
    Refused(Refusal),
}

#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    state: Held,
    callers: Vec<Caller>,
}

#[derive(Debug)]
struct Entry {
    loading: bool,
    /// The state is remembered, not read: what is on disk may have been damaged since.
    remembered: bool,
    queue: VecDeque<(Caller, Job)>,
    latest: Held,
    durable: Held,
    writes: VecDeque<InFlight>,
}

impl Entry {
    /// Whoever sends what is remembered here already may know better: it counts as stored only if
    /// it is still on disk.
    fn has_to_look(&self, job: &Job) -> bool {
        if !self.remembered || !self.writes.is_empty() {
            return false;
        }
        match (job, self.latest.container()) {
            (Job::Look, _) => true,
            (Job::Apply(merge) | Job::Settle(merge), Some(held)) => {
                held.clock().dominates(merge.incoming.clock())
            }
            _ => false,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Pending {
    Key,
    Lease { uuid: NodeUuid, end: u64 },
}

/// Local state of keys, by entry.
#[derive(Debug)]
pub(crate) struct Replica {
    identity: Identity,
    minter: Minter,
    /// True if what is held here counts for reads of others.
    counts: bool,
    /// Writes so far.
    written: u64,
    extending: bool,
    /// True if a completed write is on disk for good (`durability = sync`).
    durable_writes: bool,
    entries: BTreeMap<Address, Box<Entry>>,
    recent: Recent,
    hints: HintIndex,
    tickets: BTreeMap<Ticket, (Pending, Address, usize)>,
    store_bytes: usize,
    commands: VecDeque<Command>,
    done: VecDeque<(Caller, Address, Done)>,
    damaged: VecDeque<Damage>,
    damages: Damages,
    changes: VecDeque<Change>,
}

impl Replica {
    pub(crate) fn new(identity: Identity, durable_writes: bool, limits: &Limits) -> Self {
        Self {
            minter: Minter::new(identity.uuid, identity.lease_start, identity.lease_end),
            identity,
            counts: false,
            written: 0,
            extending: false,
            durable_writes,
            entries: BTreeMap::new(),
            recent: Recent::new(limits.recent_bytes_max),
            hints: HintIndex::new(limits.hint_bytes_max),
            tickets: BTreeMap::new(),
            store_bytes: 0,
            commands: VecDeque::new(),
            done: VecDeque::new(),
            damaged: VecDeque::new(),
            damages: Damages::new(limits.damages_max),
            changes: VecDeque::new(),
        }
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// True if what is held here counts for reads of others.
    pub(crate) const fn counts(&self) -> bool {
        self.counts
    }

    pub(crate) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    pub(crate) fn poll_done(&mut self) -> Option<(Caller, Address, Done)> {
        self.done.pop_front()
    }

    /// Records that were found to need the other replicas.
    pub(crate) fn poll_damaged(&mut self) -> Option<Damage> {
        self.damaged.pop_front()
    }

    /// The damage of a record, if it is known to be damaged.
    pub(crate) fn damage(&self, address: &Address) -> Option<DamageId> {
        self.damages.id(address)
    }

    /// How many damaged records are kept in mind.
    pub(crate) fn damages(&self) -> usize {
        self.damages.len()
    }

    /// Records that have been written.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The last completed state of each key in work whose token lies in the range, except for keys
    /// that are still being read.
    pub(crate) fn durable(
        &self,
        tokens: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (&Address, &Held)> {
        let first = Address {
            token: *tokens.start(),
            bucket: BucketId(0),
            key: Bytes::new(),
            hint_for: None,
        };
        let entries = self.entries.range(first..);
        entries
            .take_while(move |(address, _)| address.token <= *tokens.end())
            .filter(|(address, entry)| !entry.loading && !address.is_hint())
            .map(|(address, entry)| (address, &entry.durable))
    }

    /// What these bytes, read from the store, say of that key: what was decoded before, if it was
    /// from the same bytes.
    pub(crate) fn decoded(&self, address: &Address, bytes: &Bytes) -> Held {
        match self.recent.same(address, bytes) {
            Some(stored) => Held::Present(Arc::clone(stored)),
            None => Held::decode(address.bucket.0, &address.key, bytes),
        }
    }

    /// True if a completed write is on disk for good.
    pub(crate) const fn writes_are_durable(&self) -> bool {
        self.durable_writes
    }

    /// (keys with work, bytes on their way to the store).
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.entries.len(), self.store_bytes)
    }

    /// Queues a job; its [`Done`] comes out of [`poll_done`](Self::poll_done).
    pub(crate) fn submit(
        &mut self,
        limits: &Limits,
        tickets: &mut u64,
        address: Address,
        caller: Caller,
        job: Job,
    ) {
        let writes = !matches!(job, Job::Read | Job::Look | Job::Latest);
        if writes && limits.store_bytes_max <= self.store_bytes {
            return self.refuse(caller, address, "store_queue_bytes");
        }
        if let Some(entry) = self.entries.get_mut(&address) {
            if entry.loading {
                if limits.key_queue_max <= entry.queue.len() {
                    return self.refuse(caller, address, "key_queue");
                }
                entry.queue.push_back((caller, job));
            } else {
                entry.queue.push_back((caller, job));
                self.work(tickets, address);
            }
            return;
        }
        if limits.replica_keys_max <= self.entries.len() {
            return self.refuse(caller, address, "replica_keys");
        }
        let remembered = self.recent.find(&address).map(Held::Present);
        let held = remembered.clone().unwrap_or(Held::Absent);
        let entry = Entry {
            loading: remembered.is_none(),
            remembered: remembered.is_some(),
            queue: VecDeque::from([(caller, job)]),
            latest: held.clone(),
            durable: held,
            writes: VecDeque::new(),
        };
        self.entries.insert(address.clone(), Box::new(entry));
        if remembered.is_some() {
            self.work(tickets, address);
        } else {
            self.load_key(tickets, address);
        }
    }

    fn load_key(&mut self, tickets: &mut u64, address: Address) {
        let ticket = next_ticket(tickets);
        self.commands.push_back(Command::Read {
            ticket,
            table: address.table(),
            key: address.store_key(),
        });
        self.tickets.insert(ticket, (Pending::Key, address, 0));
    }

    /// Answers that a limit is met, and does nothing.
    pub(crate) fn refuse(&mut self, caller: Caller, address: Address, limit: &'static str) {
        self.refuse_for(caller, address, Refusal::Limit(limit));
    }

    /// Answers why, and does nothing.
    pub(crate) fn refuse_for(&mut self, caller: Caller, address: Address, why: Refusal) {
        self.done.push_back((caller, address, Done::Refused(why)));
    }

    /// A read this replica asked for is complete. False if the ticket is not ours.
    pub(crate) fn handle_read(
        &mut self,
        tickets: &mut u64,
        ticket: Ticket,
        value: Result<Option<Bytes>, Unreadable>,
    ) -> bool {
        let Some((_, address, _)) = self.tickets.remove(&ticket) else {
            return false;
        };
        let mut held = match value {
            Ok(None) => Held::Absent,
            Ok(Some(bytes)) => self.decoded(&address, &bytes),
            Err(_) => Held::Unreadable,
        };
        if address.is_hint() && matches!(held, Held::Unreadable) {
            // Nothing is left of it, and nobody asks a hint what the key's state is.
            self.damaged.push_back(Damage::Unreadable(address.clone()));
            held = Held::Absent;
        }
        if let Some(entry) = self.entries.get_mut(&address) {
            if held.is_suspect() && !address.is_hint() {
                let address = address.clone();
                let damage = match held {
                    Held::Unreadable => Damage::Unreadable(address),
                    Held::Absent | Held::Present(_) => Damage::Suspect(address),
                };
                self.damages.found(&damage);
                let id = self.damages.id(damage.address());
                let healing =
                    |(_, job): &(_, Job)| matches!(job, Job::Apply(merge) if merge.heals == id);
                if !entry.queue.iter().any(healing) {
                    self.damaged.push_back(damage);
                }
            }
            entry.loading = false;
            entry.remembered = false;
            entry.latest = held.clone();
            entry.durable = held;
        }
        self.work(tickets, address);
        true
    }

    /// A write this replica asked for is complete. False if the ticket is not ours.
    pub(crate) fn handle_written(&mut self, ticket: Ticket, durable: bool) -> bool {
        let Some((pending, address, bytes)) = self.tickets.remove(&ticket) else {
            return false;
        };
        self.store_bytes -= bytes;
        self.hints.ended(&address, bytes);
        match pending {
            Pending::Lease { uuid, end } => self.lease_stored(uuid, end),
            Pending::Key => {
                let Some(entry) = self.entries.get_mut(&address) else {
                    return true;
                };
                while let Some(write) = entry.writes.pop_front() {
                    let last = write.ticket == ticket;
                    let new = write.state;
                    self.hints.written(&address, &new);
                    let old = std::mem::replace(&mut entry.durable, new.clone());
                    let changed = address.clone();
                    self.changes.push_back(Change {
                        address: changed,
                        old,
                        new,
                    });
                    for caller in write.callers {
                        let done = Done::Stored { durable };
                        self.done.push_back((caller, address.clone(), done));
                    }
                    if last {
                        break;
                    }
                }
                self.retire(&address);
            }
        }
        true
    }

    /// The disk is full and a write was refused before anything of it was done. What was merged or
    /// minted in memory is forgotten, and since a dot minted there may have been sent already, no
    /// key goes on under an epoch of before. False if the ticket is not ours.
    pub(crate) fn handle_full(&mut self, ticket: Ticket) -> bool {
        let Some((pending, address, bytes)) = self.tickets.remove(&ticket) else {
            return false;
        };
        self.store_bytes -= bytes;
        self.hints.ended(&address, bytes);
        self.renew_epochs();
        if matches!(pending, Pending::Lease { .. }) {
            self.extending = false;
        }
        if let Some(entry) = self.entries.get_mut(&address)
            && let Some(at) = entry.writes.iter().position(|w| w.ticket == ticket)
            && let Some(refused) = entry.writes.remove(at)
        {
            if entry.writes.is_empty() {
                entry.latest = entry.durable.clone();
            }
            for caller in refused.callers {
                let done = Done::Refused(Refusal::Limit("disk_full"));
                self.done.push_back((caller, address.clone(), done));
            }
            self.retire(&address);
        }
        true
    }

    fn retire(&mut self, address: &Address) {
        if let Some(entry) = self.entries.get(address)
            && !entry.loading
            && entry.queue.is_empty()
            && entry.writes.is_empty()
        {
            if let Held::Present(stored) = &entry.durable
                && !stored.record.suspect
            {
                self.recent.keep(address, stored);
            } else {
                self.recent.forget(address);
            }
            self.entries.remove(address);
        }
    }

    /// Does everything queued for a loaded key, then writes once if anything changed.
    fn work(&mut self, tickets: &mut u64, address: Address) {
        let Some(mut entry) = self.entries.remove(&address) else {
            return;
        };
        let mut callers = Vec::new();
        let mut changed = false;
        let mut sync = false;
        while let Some((caller, job)) = entry.queue.pop_front() {
            if address.is_hint()
                && let Some(limit) = self.hints.refuses(&job)
            {
                self.refuse(caller, address.clone(), limit);
                continue;
            }
            if !changed && entry.has_to_look(&job) {
                entry.queue.push_front((caller, job));
                entry.loading = true;
                self.load_key(tickets, address.clone());
                break;
            }
            let waits = self.perform(
                tickets,
                &mut entry,
                &address,
                (caller, job),
                (changed, &mut sync),
            );
            match waits {
                Waits::No => {}
                Waits::ForNextWrite => {
                    changed = true;
                    callers.push(caller);
                }
                Waits::ForWhatIsThere if changed => callers.push(caller),
                Waits::ForWhatIsThere => match entry.writes.back_mut() {
                    Some(write) => write.callers.push(caller),
                    None => {
                        let durable = self.durable_writes || address.is_hint();
                        let done = Done::Stored { durable };
                        self.done.push_back((caller, address.clone(), done));
                    }
                },
            }
        }
        if changed && let Held::Present(stored) = &entry.latest {
            if stored.record.suspect {
                self.damages.written(&address);
            } else {
                self.damages.healed(&address);
            }
            let state = entry.latest.clone();
            let ticket = self.put(tickets, &address, &stored.bytes, sync);
            entry.writes.push_back(InFlight {
                ticket,
                state,
                callers,
            });
        }
        self.extend_lease(tickets);
        self.entries.insert(address.clone(), entry);
        self.retire(&address);
    }

    /// Does one job on a loaded key; `changed` if its state differs from what is on its way to
    /// disk, `sync` if that has to be synced whatever the node's durability is.
    fn perform(
        &mut self,
        tickets: &mut u64,
        entry: &mut Entry,
        address: &Address,
        (caller, job): (Caller, Job),
        (changed, sync): (bool, &mut bool),
    ) -> Waits {
        match job {
            Job::Read | Job::Look => {
                let done = Done::Read(entry.durable.clone());
                self.done.push_back((caller, address.clone(), done));
                Waits::No
            }
            Job::Latest => {
                let done = Done::Read(entry.latest.clone());
                self.done.push_back((caller, address.clone(), done));
                Waits::No
            }
            Job::Apply(merge) => self.apply(entry, address, caller, merge),
            Job::Settle(merge) => {
                let waits = self.apply(entry, address, caller, merge);
                let present = entry.latest.container().is_some();
                self.insist(waits, present, sync)
            }
            Job::Coordinate(intent) => self.coordinate(entry, address, caller, *intent),
            Job::Expire { before_ms } => expire(entry, address, before_ms),
            Job::Drop(record) => {
                let idle = !changed && entry.writes.is_empty();
                self.drop_record(tickets, entry, address, caller, (idle, &record));
                Waits::No
            }
            Job::SetAside(record, now_ms) => {
                let idle = !changed && entry.writes.is_empty();
                let what = (idle, &record, now_ms);
                self.set_aside(tickets, entry, address, caller, what);
                Waits::No
            }
            Job::Remove => {
                if !changed {
                    self.remove(tickets, entry, address);
                }
                Waits::No
            }
            Job::Reap(agreed) => {
                let idle = !changed && entry.writes.is_empty();
                self.reap(tickets, entry, address, caller, (idle, agreed));
                Waits::No
            }
        }
    }

    fn put(&mut self, tickets: &mut u64, address: &Address, bytes: &Bytes, sync: bool) -> Ticket {
        let write = Write::Put {
            table: address.table(),
            key: address.store_key(),
            value: bytes.clone(),
        };
        let mut writes = vec![write];
        if sync {
            writes.push(hints::receipt());
        }
        self.write(tickets, address, writes)
    }

    fn write(&mut self, tickets: &mut u64, address: &Address, writes: Vec<Write>) -> Ticket {
        let ticket = next_ticket(tickets);
        self.written += 1;
        let size = writes.iter().map(Write::bytes).sum();
        self.store_bytes += size;
        self.hints.begun(address, size);
        self.commands.push_back(Command::Write { ticket, writes });
        self.tickets
            .insert(ticket, (Pending::Key, address.clone(), size));
        ticket
    }

    fn apply(
        &mut self,
        entry: &mut Entry,
        address: &Address,
        caller: Caller,
        merge: Merge,
    ) -> Waits {
        let local = entry.latest.container();
        let received = match receive(local, merge.incoming, &mut self.minter) {
            Ok(received) => received,
            Err(error) => {
                let done = Done::Refused(refusal(&error));
                self.done.push_back((caller, address.clone(), done));
                return Waits::No;
            }
        };
        let heals = merge.heals.is_some() && merge.heals == self.damages.id(address);
        let suspect = entry.latest.is_suspect() && !heals;
        if !received.changed && suspect == entry.latest.is_suspect() {
            return Waits::ForWhatIsThere;
        }
        entry.latest = match merge.bytes {
            Some(bytes) if !suspect && received.as_sent => {
                let container = received.container;
                let record = Record { container, suspect };
                Held::Present(Arc::new(Stored::new(record, bytes)))
            }
            Some(_) | None => hold(address, received.container, suspect),
        };
        Waits::ForNextWrite
    }
}

enum Waits {
    No,
    ForNextWrite,
    ForWhatIsThere,
}

fn next_ticket(tickets: &mut u64) -> Ticket {
    *tickets += 1;
    Ticket(*tickets)
}

fn hold(address: &Address, container: Container, suspect: bool) -> Held {
    let record = Record { container, suspect };
    let bytes = format::encode(address.bucket.0, &address.key, &record);
    Held::Present(Arc::new(Stored::new(record, bytes)))
}
