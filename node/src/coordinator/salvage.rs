//! Asks one node what it has set aside, a page at a time, or has it drop some of that.
//!
//! Nothing is merged here. Who wants a value back writes it like any other, and has the record
//! dropped afterwards.

use bytes::Bytes;
use quorate_client::wire::{AsidePage, AsideRow, ErrorBody, ErrorCode, HealingReply, Response};
use quorate_gossip::Instant;
use quorate_ring::NodeId;

use super::{Answer, Flow, write::version};
use crate::{
    core::{Core, Origin},
    healing::care::CareMessage,
    message::{BucketId, Class, Message, RpcId},
    replica::OpKey,
    store::{
        aside::{self, Aside},
        format,
    },
};

#[derive(Debug)]
pub(crate) struct SalvageOp {
    origin: Origin,
    node: NodeId,
    deadline: Instant,
}

impl SalvageOp {
    /// Asks `node` for a page of what it has set aside, or has it drop some of that.
    pub(crate) fn start(
        core: &mut Core,
        key: OpKey,
        origin: Origin,
        (node, body): (NodeId, CareMessage),
        deadline: Instant,
    ) -> Self {
        let id = RpcId(key.0);
        core.send(node, Class::Control, Message::Care { id, body });
        Self {
            origin,
            node,
            deadline,
        }
    }

    pub(crate) fn wait(&self) -> Flow {
        Flow::Until(self.deadline)
    }

    pub(crate) fn answer(&mut self, core: &mut Core, from: NodeId, answer: Answer) -> Flow {
        let Answer::Other(message) = answer else {
            return self.wait();
        };
        let Message::Care { body, .. } = *message else {
            return self.wait();
        };
        let page = match body {
            CareMessage::AsideIs { records, next } if from == self.node => AsidePage {
                rows: records.iter().filter_map(|item| row(core, item)).collect(),
                next: (!next.is_empty()).then_some(next),
                discarded: 0,
            },
            CareMessage::Discarded { count } if from == self.node => AsidePage {
                discarded: count,
                ..AsidePage::default()
            },
            CareMessage::AsideIs { .. }
            | CareMessage::Discarded { .. }
            | CareMessage::Aside { .. }
            | CareMessage::Discard { .. }
            | CareMessage::Scrub { .. }
            | CareMessage::Scrubbing(_)
            | CareMessage::Inspect { .. }
            | CareMessage::Inspected { .. }
            | CareMessage::Drain { .. }
            | CareMessage::Drained { .. } => return self.wait(),
        };
        let reply = HealingReply {
            aside: Some(Box::new(page)),
            ..HealingReply::default()
        };
        core.reply(self.origin, Response::Healing(reply));
        Flow::Over
    }

    pub(crate) fn timeout(&mut self, core: &mut Core) -> Flow {
        if core.now.mono < self.deadline {
            return self.wait();
        }
        let message = format!("{} does not answer; ask again", core.name(self.node));
        let error = ErrorBody::new(ErrorCode::Unavailable, message);
        core.reply(self.origin, Response::Error(error));
        Flow::Over
    }
}

/// What people see of a record; none if it is not one.
fn row(core: &Core, (store_key, value): &(Bytes, Bytes)) -> Option<AsideRow> {
    let aside = Aside::parse(store_key)?;
    let bucket = core.catalogue.name(BucketId(aside.bucket));
    let mut row = AsideRow {
        id: store_key.clone(),
        bucket: bucket.unwrap_or_default().to_owned(),
        key: aside.key.clone(),
        since_ms: aside.since_ms,
        bytes: value.len() as u64,
        damaged: true,
        ..AsideRow::default()
    };
    if aside.hint_for != 0 {
        row.hint_for = core.name(NodeId::new(aside.hint_for));
    }
    if let Some((why, record)) = aside::unwrap(value) {
        why.as_str().clone_into(&mut row.why);
        if let Ok(record) = format::decode(aside.bucket, &aside.key, &record) {
            let now = core.time_ms();
            for (dot, sibling) in record.container.siblings() {
                // A value whose time is over is none.
                let live = sibling.expires_at_ms.is_none_or(|at| now < at);
                let ttl = sibling.expires_at_ms.map(|at| at.saturating_sub(now));
                row.versions.push(version(dot, sibling, live));
                row.ttls_ms.push(ttl);
            }
            row.damaged = false;
        }
    }
    Some(row)
}
