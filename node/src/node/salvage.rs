//! How a node tells what it has set aside, drops what nobody wants back, and counts it.

use bytes::Bytes;
use quorate_client::wire::{ErrorBody, ErrorCode, HealingRequest};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Node, ring::Stored};
use crate::{
    api::Output,
    coordinator::{Operation, salvage::SalvageOp},
    core::Origin,
    healing::{
        care::{ASIDE_BYTES_MAX, ASIDE_ITEMS_MAX, CareMessage},
        merkle::forest::successor,
    },
    message::{Class, Message, RpcId},
    store::{
        Command, Table, Ticket, Unreadable, Write,
        aside::{ASIDE_END, ASIDE_PREFIX, Aside},
    },
};

/// Pages that are read for others at one time; one more is read to count.
const PAGES_MAX: usize = 8;

/// Who wants a page.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Peer(NodeId, RpcId),
    /// It is counted; so many records and bytes so far.
    Count(u64, u64),
}

/// The pages that are being read of what is set aside.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    pages: Vec<(Ticket, Reader)>,
}

impl Node {
    /// An operator wants to see what a node has set aside, or has it dropped.
    pub(crate) fn begin_salvage(
        &mut self,
        origin: Origin,
        request: &HealingRequest,
    ) -> Result<(), ErrorBody> {
        let invalid = |message: String| ErrorBody::new(ErrorCode::InvalidArgument, message);
        let node = NodeId::of_name(&request.node);
        if node != self.core.me && !self.core.knows(node) {
            let name = &request.node;
            let message = format!("there is no node {name:?}; see quorate cluster status");
            return Err(invalid(message));
        }
        let body = if request.verb == "salvage" {
            CareMessage::Aside {
                first: request.after.clone(),
            }
        } else {
            if ASIDE_ITEMS_MAX < request.ids.len() {
                let message = format!("at most {ASIDE_ITEMS_MAX} records are dropped at one time");
                return Err(invalid(message));
            }
            let keys = request.ids.clone();
            CareMessage::Discard { keys }
        };
        let key = self.core.op_key();
        let deadline = self.core.deadline(request.timeout_ms);
        let op = SalvageOp::start(&mut self.core, key, origin, (node, body), deadline);
        self.run(key, Operation::Salvage(Box::new(op)));
        Ok(())
    }

    /// A peer wants a page, for an operator.
    pub(super) fn show_aside(&mut self, from: NodeId, id: RpcId, first: Bytes) {
        self.read_page(first, Reader::Peer(from, id));
    }

    /// A peer wants some of it dropped, for an operator.
    pub(super) fn drop_aside(&mut self, from: NodeId, id: RpcId, keys: Vec<Bytes>) {
        let ours = keys.into_iter().filter(|key| Aside::parse(key).is_some());
        let writes: Vec<Write> = ours
            .take(ASIDE_ITEMS_MAX)
            .map(|key| Write::Delete {
                table: Table::Meta,
                key,
            })
            .collect();
        if writes.is_empty() {
            return self.discarded(from, id, 0);
        }
        let count = writes.len() as u64;
        self.store_ring(writes, Stored::Discarded(from, id, count));
    }

    /// It is dropped.
    pub(super) fn discarded(&mut self, to: NodeId, id: RpcId, count: u64) {
        self.core.upkeep.aside_changed = true;
        let body = CareMessage::Discarded { count };
        self.core
            .send(to, Class::Control, Message::Care { id, body });
    }

    /// When it is to be counted again.
    pub(super) fn salvage_wakes(&self) -> Option<Instant> {
        let counting = |(_, reader): &(_, Reader)| matches!(reader, Reader::Count(..));
        let due = self.core.upkeep.aside_changed && !self.salvage.pages.iter().any(counting);
        due.then_some(self.core.now.mono)
    }

    /// Counts what is set aside, if that has changed.
    pub(super) fn count_aside(&mut self) {
        if self.salvage_wakes().is_some() {
            self.core.upkeep.aside_changed = false;
            let first = Bytes::from_static(ASIDE_PREFIX);
            self.read_page(first, Reader::Count(0, 0));
        }
    }

    /// One too many is not read: who asks, asks again.
    fn read_page(&mut self, first: Bytes, reader: Reader) {
        let for_others = matches!(reader, Reader::Peer(..));
        if for_others && PAGES_MAX <= self.salvage.pages.len() {
            return;
        }
        self.core.tickets += 1;
        let ticket = Ticket(self.core.tickets);
        self.salvage.pages.push((ticket, reader));
        self.core.outputs.push_back(Output::Store(Command::Scan {
            ticket,
            table: Table::Meta,
            start: first.max(Bytes::from_static(ASIDE_PREFIX)),
            end: Bytes::from_static(ASIDE_END),
            items_max: ASIDE_ITEMS_MAX,
            bytes_max: ASIDE_BYTES_MAX,
        }));
    }

    /// A page of our own store has come. None if it was read for this.
    pub(super) fn salvage_scanned(
        &mut self,
        ticket: Ticket,
        page: Result<Vec<(Bytes, Bytes)>, Unreadable>,
        more: bool,
    ) -> Option<Result<Vec<(Bytes, Bytes)>, Unreadable>> {
        let mut pages = self.salvage.pages.iter();
        let Some(at) = pages.position(|(asked, _)| *asked == ticket) else {
            return Some(page);
        };
        let (_, reader) = self.salvage.pages.swap_remove(at);
        // What cannot be read cannot be told of, nor what lies behind it.
        let records = page.unwrap_or_default();
        let next = records.last().filter(|_| more);
        let next = next.map_or_else(Bytes::new, |(key, _)| successor(key));
        match reader {
            Reader::Peer(to, id) => {
                let body = CareMessage::AsideIs { records, next };
                self.core.send(to, Class::Bulk, Message::Care { id, body });
            }
            Reader::Count(count, bytes) => {
                let count = count + records.len() as u64;
                let size = records.iter().map(|(_, value)| value.len() as u64);
                let bytes = bytes + size.sum::<u64>();
                if next.is_empty() {
                    self.core.upkeep.aside = (count, bytes);
                } else {
                    self.read_page(next, Reader::Count(count, bytes));
                }
            }
        }
        None
    }

    /// Records that are set aside here, and their bytes, as of the last count.
    #[must_use]
    pub const fn set_aside(&self) -> (u64, u64) {
        self.core.upkeep.aside
    }
}
