//! Lists records for an operator who wants all of them looked at: from the disk, whatever is
//! remembered of them, with their checksums checked.
//!
//! One page for each question, and nothing is kept for the next one. Where the engine cannot even
//! list what there is, it looks for the next key that can be listed by leaps that double; what lies
//! between is reported as a whole.
//!
//! Not decided here: what is to be thought of it (`coordinator::verify`).

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_ring::NodeId;

use super::{
    Found,
    care::{CareMessage, INSPECT_BYTES_MAX, INSPECT_ITEMS_MAX, Seen},
    merkle::{
        forest::{edge, successor},
        hash::Hasher,
        trie::{LEAVES, leaf_of},
    },
    message::Place,
};
use crate::{
    api::Output,
    core::Core,
    message::{BucketId, Class, Message, RpcId},
    replica::Held,
    store::{Command, Table, Ticket, format},
};

/// Pages in the making.
pub(crate) const INSPECTIONS_MAX: usize = 8;

#[derive(Debug)]
struct Inspection {
    asker: (NodeId, RpcId),
    look: u32,
    start: Bytes,
    end: Bytes,
    /// Leaves to leap over if this page cannot be listed either.
    leap: u32,
    /// Nothing before `start` could be listed.
    blind: bool,
}

/// The pages that this node is reading.
#[derive(Debug, Default)]
pub(crate) struct Inspections {
    running: BTreeMap<Ticket, Inspection>,
}

impl Inspections {
    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// Begins a page. One too many is not begun: who asks, asks again.
    pub(crate) fn start(&mut self, core: &mut Core, asker: (NodeId, RpcId), message: CareMessage) {
        let CareMessage::Inspect { first, end, look } = message else {
            return;
        };
        if INSPECTIONS_MAX <= self.running.len() {
            return;
        }
        let page = Inspection {
            asker,
            look,
            start: first,
            end,
            leap: 1,
            blind: false,
        };
        self.read(core, page);
    }

    fn read(&mut self, core: &mut Core, page: Inspection) {
        core.tickets += 1;
        let ticket = Ticket(core.tickets);
        core.outputs.push_back(Output::Store(Command::Scan {
            ticket,
            table: Table::Objects,
            start: page.start.clone(),
            end: page.end.clone(),
            items_max: INSPECT_ITEMS_MAX,
            bytes_max: INSPECT_BYTES_MAX,
        }));
        self.running.insert(ticket, page);
    }

    /// A scan is complete. False if it was not asked for here.
    pub(crate) fn scanned(
        &mut self,
        core: &mut Core,
        ticket: Ticket,
        items: Found<'_>,
        more: bool,
    ) -> bool {
        let Some(mut page) = self.running.remove(&ticket) else {
            return false;
        };
        let Ok(items) = items else {
            let leaf = format::parse_object_key(&page.start).map_or(0, |key| leaf_of(key.0));
            let to = leaf.saturating_add(page.leap).min(LEAVES);
            let start = edge(to);
            page.blind = true;
            page.leap = page.leap.saturating_mul(2);
            if start.is_empty() || (!page.end.is_empty() && page.end <= start) {
                let until = page.end.clone();
                answer(core, &page, Vec::new(), 0, (Bytes::new(), until));
            } else {
                page.start = start;
                self.read(core, page);
            }
            return true;
        };
        let mut hasher = Hasher::new(&core.context_key, core.me);
        let records = items.iter().filter_map(|item| see(item, &mut hasher));
        let records: Vec<Seen> = records.collect();
        let bytes = items.iter().map(|(key, value)| key.len() + value.len());
        let next = match items.last() {
            Some((key, _)) if more => successor(key),
            Some(_) | None => Bytes::new(),
        };
        let until = if page.blind {
            page.start.clone()
        } else {
            Bytes::new()
        };
        answer(core, &page, records, bytes.sum::<usize>(), (next, until));
        true
    }
}

/// A page that could not be listed to its very end is blind until there, or until a key that is
/// greater than all if it had none.
fn answer(
    core: &mut Core,
    page: &Inspection,
    records: Vec<Seen>,
    bytes: usize,
    ends: (Bytes, Bytes),
) {
    let (next, mut blind_until) = ends;
    if page.blind && blind_until.is_empty() {
        blind_until = Bytes::from_static(&[u8::MAX; 17]);
    }
    let (to, id) = page.asker;
    let body = CareMessage::Inspected {
        look: page.look,
        records,
        bytes: bytes as u64,
        next,
        blind_until,
    };
    core.send(to, Class::Bulk, Message::Care { id, body });
}

fn see((store_key, value): &(Bytes, Bytes), hasher: &mut Hasher) -> Option<Seen> {
    let (token, bucket, key) = format::parse_object_key(store_key)?;
    let place = Place {
        token,
        bucket: BucketId(bucket),
        key: store_key.slice_ref(key),
    };
    let held = Held::decode(bucket, key, value);
    let suspect = matches!(&held, Held::Present(stored) if stored.record.suspect);
    let hash = held
        .container()
        .map(|container| hasher.state(bucket, key, container));
    Some(Seen {
        place,
        hash,
        suspect,
    })
}
