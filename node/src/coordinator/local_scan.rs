//! This node's share of a listing, read from the store page by page.

use bytes::Bytes;
use quorate_ring::NodeId;

use crate::{
    core::Core,
    message::{BucketId, Class, Message, RpcId, ScannedKey},
    store::{
        Command, Table, Ticket, Unreadable,
        format::{self, Record},
    },
};

/// Records read from the store at once.
const STEP_ITEMS: usize = 1_024;
/// Bytes read from the store at once.
const STEP_BYTES: usize = 4 << 20;
/// Most keys in one answer.
const ANSWER_ITEMS: usize = 1_000;
/// An answer is cut off at about this size.
const ANSWER_BYTES: usize = 1 << 20;

/// A scan that a peer, or this node itself, has asked for.
#[derive(Debug)]
pub(crate) struct LocalScan {
    caller: NodeId,
    rpc: RpcId,
    bucket: BucketId,
    prefix: Bytes,
    limit: usize,
    end: Bytes,
    items: Vec<ScannedKey>,
    bytes: usize,
}

impl LocalScan {
    /// Begins with the message; the command must be handed to the store.
    pub(crate) fn start(
        caller: NodeId,
        ticket: Ticket,
        message: Message,
    ) -> Option<(Self, Command)> {
        let Message::Scan {
            id,
            bucket,
            first,
            last,
            after,
            prefix,
            limit,
            ..
        } = message
        else {
            return None;
        };
        let start = match &after {
            Some((token, key)) => successor(&format::object_key(*token, bucket.0, key)),
            None => format::object_key(first, 0, b""),
        };
        let end = last
            .checked_add(1)
            .map_or_else(Bytes::new, |end| format::object_key(end, 0, b""));
        let scan = Self {
            caller,
            rpc: id,
            bucket,
            prefix,
            limit: (limit as usize).clamp(1, ANSWER_ITEMS),
            end: end.clone(),
            items: Vec::new(),
            bytes: 0,
        };
        Some((scan, step(ticket, start, end)))
    }

    /// A page has come; the next command, or none when the answer has been sent.
    pub(crate) fn handle(
        &mut self,
        core: &mut Core,
        ticket: Ticket,
        page: Result<Vec<(Bytes, Bytes)>, Unreadable>,
        more: bool,
    ) -> Option<Command> {
        let page = match page {
            Ok(page) => page,
            Err(unreadable) => {
                self.finish(core, false, Some(unreadable.reason));
                return None;
            }
        };
        let last = page.last().map(|(key, _)| key.clone());
        for (store_key, value) in page {
            if self.limit <= self.items.len() || ANSWER_BYTES <= self.bytes {
                self.finish(core, true, None);
                return None;
            }
            self.take(&store_key, &value);
        }
        match last {
            Some(last) if more => Some(step(ticket, successor(&last), self.end.clone())),
            Some(_) | None => {
                self.finish(core, false, None);
                None
            }
        }
    }

    /// A record that cannot be read is left out: the other replicas speak for the key.
    fn take(&mut self, store_key: &Bytes, value: &Bytes) {
        let Some((token, bucket, key)) = format::parse_object_key(store_key) else {
            return;
        };
        if bucket != self.bucket.0 || !key.starts_with(&self.prefix) {
            return;
        }
        let Ok(record) = format::decode(bucket, key, value) else {
            return;
        };
        let record = Record {
            container: record.container.without_values(),
            ..record
        };
        let record = format::encode(bucket, key, &record);
        self.bytes += key.len() + record.len();
        let key = Bytes::copy_from_slice(key);
        self.items.push(ScannedKey { token, key, record });
    }

    fn finish(&mut self, core: &mut Core, more: bool, error: Option<String>) {
        let items = std::mem::take(&mut self.items);
        let message = Message::Scanned {
            id: self.rpc,
            items,
            more,
            error,
        };
        core.send(self.caller, Class::Data, message);
    }
}

fn step(ticket: Ticket, start: Bytes, end: Bytes) -> Command {
    Command::Scan {
        ticket,
        table: Table::Objects,
        start,
        end,
        items_max: STEP_ITEMS,
        bytes_max: STEP_BYTES,
    }
}

/// The smallest key above `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
