//! Answers to peers that compare: lists, records, merges.
//!
//! Sums are answered at once. What needs the store or the replica is an answer in the making, of
//! which there may be few; beyond that, questions are dropped, and asked again.

use bytes::Bytes;
use quorate_ring::NodeId;

use super::Desk;
use crate::{
    core::Core,
    event::Event,
    healing::{
        Found,
        merkle::leaves::{LeafScan, Room},
        message::{
            ASK_LEAVES_MAX, ASK_MAX, Branch, Differing, PARCEL_BYTES_MAX, PARCEL_KEYS_MAX, Place,
            Standing, TreeMessage,
        },
    },
    message::{Class, Message, ReplicaState, RpcId},
    replica::{Address, Caller, Done, Held, Job, Merge},
    store::{Ticket, format},
};

/// Entries of one list.
const ENTRIES_MAX: usize = 512;

/// An answer in the making.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) from: NodeId,
    pub(super) rpc: RpcId,
    making: Making,
}

#[derive(Debug)]
enum Making {
    Leaves {
        ticket: Ticket,
        scan: LeafScan,
    },
    Pull {
        open: usize,
        bytes: usize,
        records: Vec<(Place, ReplicaState, u64)>,
    },
    Push {
        open: usize,
        failed: u32,
    },
}

/// Which of the asked sums differ.
pub(super) fn sums(desk: &Desk<'_>, from: NodeId, n: u8, branches: &[Branch]) -> TreeMessage {
    let domain = desk.layout.domain((from, n));
    let trie = desk.forest.trie(n);
    let sum = |prefix| trie.map_or(0, |trie| trie.sum_within(prefix, domain));
    let differing = branches
        .iter()
        .take(ASK_MAX)
        .filter(|branch| sum(branch.prefix) != branch.sum)
        .map(|branch| Differing {
            prefix: branch.prefix,
            sums: branch.prefix.children().map(sum).collect(),
        });
    TreeMessage::Sums {
        standing: Standing::Ready,
        differing: differing.collect(),
    }
}

pub(super) fn send(core: &mut Core, to: NodeId, id: RpcId, body: TreeMessage) {
    core.send(to, Class::Bulk, Message::Tree { id, body });
}

impl Answer {
    /// Begins to list leaves; only those that both nodes hold.
    pub(super) fn leaves(
        core: &mut Core,
        desk: &mut Desk<'_>,
        asker: (NodeId, RpcId),
        n: u8,
        leaves: Vec<u32>,
        after: Option<&Place>,
    ) -> Option<Self> {
        let domain = desk.layout.domain((asker.0, n));
        let ours = |leaf: &u32| {
            let at = domain.partition_point(|span| span.end <= *leaf);
            domain.get(at).is_some_and(|span| span.first <= *leaf)
        };
        let mut leaves: Vec<u32> = leaves.into_iter().filter(ours).collect();
        leaves.truncate(ASK_LEAVES_MAX);
        let room = Room {
            entries: ENTRIES_MAX,
        };
        let ticket = desk.ticket(core);
        let (scan, command) = LeafScan::start(ticket, n, leaves, after, room);
        let Some(command) = command else {
            send(core, asker.0, asker.1, list(scan));
            return None;
        };
        desk.scan(core, command);
        Some(Self {
            from: asker.0,
            rpc: asker.1,
            making: Making::Leaves { ticket, scan },
        })
    }

    /// Begins to read records.
    pub(super) fn pull(
        core: &mut Core,
        asker: (NodeId, RpcId),
        task: u64,
        mut places: Vec<Place>,
    ) -> Self {
        places.truncate(PARCEL_KEYS_MAX);
        for place in &places {
            core.submit_for(Caller::Tree(task), &Address::from(place), Job::Read);
        }
        Self {
            from: asker.0,
            rpc: asker.1,
            making: Making::Pull {
                open: places.len(),
                bytes: 0,
                records: Vec::new(),
            },
        }
    }

    /// Begins to merge records.
    pub(super) fn push(
        core: &mut Core,
        asker: (NodeId, RpcId),
        task: u64,
        records: Vec<(Place, Bytes, u64)>,
    ) -> Self {
        let (mut open, mut failed) = (0, 0);
        for (place, bytes, generation) in records {
            let address = Address::from(&place);
            if generation < core.generation(place.token) {
                core.tell_behind(asker.0, place.token);
            }
            if !core.belongs_here(&address) {
                // The ring has changed since the comparison began; what is let go stays gone.
                failed += 1;
                continue;
            }
            let Ok(record) = format::decode(place.bucket.0, &place.key, &bytes) else {
                failed += 1;
                core.event(Event::DamagedMessage { from: asker.0 });
                continue;
            };
            let job = Job::Apply(Merge {
                incoming: record.container,
                bytes: (!record.suspect).then_some(bytes),
                heals: None,
                generation,
            });
            open += 1;
            core.submit_for(Caller::Tree(task), &address, job);
        }
        Self {
            from: asker.0,
            rpc: asker.1,
            making: Making::Push { open, failed },
        }
    }

    /// A job is done, under this write generation.
    pub(super) fn done(&mut self, address: &Address, done: Done, generation: u64) {
        match &mut self.making {
            Making::Pull {
                open,
                bytes,
                records,
            } => {
                *open = open.saturating_sub(1);
                let state = match done {
                    Done::Read(Held::Present(stored)) => {
                        ReplicaState::Present(stored.bytes.clone())
                    }
                    Done::Read(Held::Absent) => ReplicaState::Absent,
                    Done::Read(Held::Unreadable) => ReplicaState::Unreadable,
                    Done::Refused(_)
                    | Done::Stored { .. }
                    | Done::Reaping(_)
                    | Done::Coordinated { .. } => return,
                };
                let size = match &state {
                    ReplicaState::Present(bytes) => bytes.len(),
                    ReplicaState::Absent | ReplicaState::Unreadable => 0,
                };
                // What does not fit is asked for again; one record always fits.
                if records.is_empty() || *bytes + size <= PARCEL_BYTES_MAX {
                    *bytes += size;
                    records.push((Place::from(address), state, generation));
                }
            }
            Making::Push { open, failed } => {
                *open = open.saturating_sub(1);
                if !matches!(done, Done::Stored { .. }) {
                    *failed += 1;
                }
            }
            Making::Leaves { .. } => {}
        }
    }

    /// A page of a list. False if it is for somebody else.
    pub(super) fn scanned(
        &mut self,
        core: &mut Core,
        desk: &mut Desk<'_>,
        ticket: Ticket,
        page: (Found<'_>, bool),
    ) -> Option<bool> {
        let Making::Leaves { ticket: own, scan } = &mut self.making else {
            return None;
        };
        if *own != ticket {
            return None;
        }
        let hasher = desk.forest.hasher();
        let Some(command) = scan.scanned(ticket, page.0, page.1, hasher, &core.catalogue) else {
            for address in std::mem::take(&mut scan.damaged) {
                core.submit_for(Caller::Nobody, &address, Job::Read);
            }
            return Some(true);
        };
        desk.scan(core, command);
        Some(false)
    }

    /// The message, when nothing is open any more.
    pub(super) fn finished(&self) -> bool {
        match &self.making {
            Making::Leaves { .. } => false,
            Making::Pull { open, .. } | Making::Push { open, .. } => *open == 0,
        }
    }

    pub(super) fn into_message(self) -> TreeMessage {
        match self.making {
            Making::Leaves { scan, .. } => list(scan),
            Making::Pull { records, .. } => TreeMessage::Pulled { records },
            Making::Push { failed, .. } => TreeMessage::Pushed { failed },
        }
    }
}

fn list(scan: LeafScan) -> TreeMessage {
    TreeMessage::Leaves {
        // If a part could not be read, it seems that we lack its keys, which a push of them mends.
        entries: scan.entries,
        more: scan.more,
    }
}
