//! The bodies of membership messages. Probes and their answers are small: they must fit into a
//! datagram. A page of rows may be larger; then it goes by the control lane.

use quorate_client::wire::decode_body;
use quorate_gossip::{Kind, Message, State, Update};
use quorate_ring::{NodeId, NodeUuid};
use serde::{Deserialize, Serialize};

use super::DecodeError;

const PING: u8 = 1;
const ACK: u8 = 2;
const PING_REQUEST: u8 = 3;
const NACK: u8 = 4;
const PUSH: u8 = 5;
const PULL: u8 = 6;

#[derive(Serialize, Deserialize)]
pub(super) struct Body {
    #[serde(rename = "k")]
    kind: u8,
    #[serde(rename = "n")]
    number: u64,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    target: Option<u64>,
    /// The last member of a page; the first is the number.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
    #[serde(rename = "m")]
    me: Row,
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    updates: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(rename = "n")]
    node: u64,
    #[serde(rename = "d")]
    uuid: u128,
    #[serde(rename = "b")]
    boot: u64,
    #[serde(rename = "i")]
    incarnation: u64,
    #[serde(rename = "s")]
    state: u8,
}

pub(super) fn body(message: &Message) -> Body {
    let (kind, number) = match message.kind {
        Kind::Ping(number) => (PING, number),
        Kind::Ack(number) => (ACK, number),
        Kind::PingRequest { number, .. } => (PING_REQUEST, number),
        Kind::Nack(number) => (NACK, number),
        Kind::Push { first, .. } => (PUSH, first.get()),
        Kind::Pull => (PULL, 0),
    };
    let (mut target, mut last) = (None, None);
    match message.kind {
        Kind::PingRequest { target: to, .. } => target = Some(to.get()),
        Kind::Push { last: end, .. } => last = Some(end.get()),
        Kind::Ping(_) | Kind::Ack(_) | Kind::Nack(_) | Kind::Pull => {}
    }
    Body {
        kind,
        number,
        target,
        last,
        me: row(&message.me),
        updates: message.updates.iter().map(row).collect(),
    }
}

/// News beyond the maximum is skipped: news may be lost.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    let body: Body = decode_body(bytes)?;
    let number = body.number;
    let kind = match (body.kind, body.target, body.last) {
        (PING, _, _) => Kind::Ping(number),
        (ACK, _, _) => Kind::Ack(number),
        (PING_REQUEST, Some(target), _) => Kind::PingRequest {
            number,
            target: NodeId::new(target),
        },
        (NACK, _, _) => Kind::Nack(number),
        (PUSH, _, Some(last)) => Kind::Push {
            first: NodeId::new(number),
            last: NodeId::new(last),
        },
        (PULL, _, _) => Kind::Pull,
        (code, _, _) => return Err(unknown("gossip", code)),
    };
    let updates = body.updates.iter().take(kind.updates_max()).map(update);
    Ok(Message {
        kind,
        me: update(&body.me)?,
        updates: updates.collect::<Result<_, _>>()?,
    })
}

fn row(update: &Update) -> Row {
    Row {
        node: update.node.get(),
        uuid: update.uuid.get(),
        boot: update.boot,
        incarnation: update.incarnation,
        state: update.state as u8,
    }
}

fn update(row: &Row) -> Result<Update, DecodeError> {
    let state = [State::Up, State::Suspect, State::Down]
        .into_iter()
        .find(|state| *state as u8 == row.state)
        .ok_or_else(|| unknown("member state", row.state))?;
    Ok(Update {
        node: NodeId::new(row.node),
        uuid: NodeUuid::new(row.uuid),
        boot: row.boot,
        incarnation: row.incarnation,
        state,
    })
}

fn unknown(what: &'static str, code: u8) -> DecodeError {
    DecodeError::UnknownCode { what, code }
}
