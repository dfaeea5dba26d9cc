//! The bodies of introductions and their answers.

use quorate_client::wire::decode_body;
use quorate_ring::{NodeId, NodeUuid, RingEpoch};
use serde::{Deserialize, Serialize};

use super::DecodeError;
use crate::{
    identity::Lives,
    message::{Message, RpcId},
    register::{Introduction, Opinion, Trace},
};

#[derive(Serialize, Deserialize)]
pub(super) struct Greet {
    uuid: u128,
    boot: u64,
    number: u64,
    marks: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<u128>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heard: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(rename = "n")]
    node: u64,
    #[serde(rename = "d")]
    uuid: u128,
    #[serde(rename = "l")]
    number: u64,
    #[serde(rename = "m")]
    mark: u64,
    #[serde(rename = "b")]
    burnt: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Greeted {
    uuid: u128,
    number: u64,
    mark: u64,
    opinion: u8,
    epoch: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    counts: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !*value
}

pub(super) fn greet(who: &Introduction, left: Option<NodeUuid>, heard: &[Trace]) -> Greet {
    Greet {
        uuid: who.uuid.get(),
        boot: who.boot,
        number: who.lives.newest().0,
        marks: who.lives.marks().to_vec(),
        left: left.map(NodeUuid::get),
        heard: heard.iter().map(row).collect(),
    }
}

pub(super) fn greeted(
    uuid: NodeUuid,
    (number, mark): (u64, u64),
    opinion: Opinion,
    (epoch, counts): (RingEpoch, bool),
) -> Greeted {
    Greeted {
        uuid: uuid.get(),
        number,
        mark,
        opinion: opinion as u8,
        epoch: epoch.get(),
        counts,
    }
}

fn row(trace: &Trace) -> Row {
    Row {
        node: trace.node.get(),
        uuid: trace.uuid.get(),
        number: trace.number,
        mark: trace.mark,
        burnt: trace.burnt,
    }
}

pub(super) fn decode_greet(id: RpcId, frame: &[u8]) -> Result<Message, DecodeError> {
    let body: Greet = decode_body(frame)?;
    let lives = Lives::of(body.number, &body.marks);
    let lives = lives.ok_or_else(|| DecodeError::UnknownCode {
        what: "number of lives",
        code: u8::try_from(body.marks.len()).unwrap_or(u8::MAX),
    })?;
    let trace = |row: Row| Trace {
        node: NodeId::new(row.node),
        uuid: NodeUuid::new(row.uuid),
        number: row.number,
        mark: row.mark,
        burnt: row.burnt,
    };
    Ok(Message::Greet {
        id,
        who: Introduction {
            uuid: NodeUuid::new(body.uuid),
            boot: body.boot,
            lives,
        },
        left: body.left.map(NodeUuid::new),
        heard: body.heard.into_iter().map(trace).collect(),
    })
}

pub(super) fn decode_greeted(id: RpcId, frame: &[u8]) -> Result<Message, DecodeError> {
    let body: Greeted = decode_body(frame)?;
    let opinion = [Opinion::Welcome, Opinion::Another, Opinion::Refused]
        .into_iter()
        .find(|known| *known as u8 == body.opinion)
        .ok_or(DecodeError::UnknownCode {
            what: "opinion",
            code: body.opinion,
        })?;
    Ok(Message::Greeted {
        id,
        uuid: NodeUuid::new(body.uuid),
        number: body.number,
        mark: body.mark,
        opinion,
        epoch: RingEpoch::new(body.epoch),
        counts: body.counts,
    })
}
