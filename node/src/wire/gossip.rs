//! The bodies of membership messages. Small: they must fit into a datagram.

use quorate_client::wire::decode_body;
use quorate_gossip::{Kind, Message, State, UPDATES_MAX, Update};
use quorate_ring::{NodeId, NodeUuid};
use serde::{Deserialize, Serialize};

use super::DecodeError;

const PING: u8 = 1;
const ACK: u8 = 2;
const PING_REQUEST: u8 = 3;

#[derive(Serialize, Deserialize)]
pub(super) struct Body {
    #[serde(rename = "k")]
    kind: u8,
    #[serde(rename = "n")]
    number: u64,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    target: Option<u64>,
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
    let (kind, number, target) = match message.kind {
        Kind::Ping(number) => (PING, number, None),
        Kind::Ack(number) => (ACK, number, None),
        Kind::PingRequest { number, target } => (PING_REQUEST, number, Some(target.get())),
    };
    Body {
        kind,
        number,
        target,
        me: row(&message.me),
        updates: message.updates.iter().map(row).collect(),
    }
}

/// News beyond the maximum is skipped: news may be lost.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    let body: Body = decode_body(bytes)?;
    let kind = match (body.kind, body.target) {
        (PING, _) => Kind::Ping(body.number),
        (ACK, _) => Kind::Ack(body.number),
        (PING_REQUEST, Some(target)) => Kind::PingRequest {
            number: body.number,
            target: NodeId::new(target),
        },
        (code, _) => return Err(unknown("gossip", code)),
    };
    let updates = body.updates.iter().take(UPDATES_MAX).map(update);
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
