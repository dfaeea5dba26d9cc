//! The bodies of messages about hints. Those that come with every hint have names of one letter.

use bytes::{Bytes, BytesMut};
use quorate_client::wire::{decode_body, frame::EncodeError};
use quorate_ring::{NodeId, RingEpoch};
use serde::{Deserialize, Serialize};

use super::{
    DecodeError, append_body,
    body::{code_of, unknown, verdict_of},
    kind,
};
use crate::{
    causality::{
        Clock,
        codec::{self, Reader},
    },
    healing::{
        hints::message::{HintMessage, Kept},
        message::Place,
    },
    message::{BucketId, RpcId, Verdict},
};

#[derive(Serialize, Deserialize)]
struct Keep<'a> {
    #[serde(rename = "e")]
    epoch: u64,
    #[serde(rename = "b")]
    bucket: u64,
    #[serde(rename = "t")]
    token: u64,
    #[serde(rename = "k", borrow, with = "serde_bytes")]
    key: &'a [u8],
    #[serde(rename = "o")]
    owner: u64,
    #[serde(rename = "r", borrow, with = "serde_bytes")]
    record: &'a [u8],
    #[serde(rename = "g", default)]
    generation: u64,
}

#[derive(Serialize, Deserialize)]
struct Hand<'a> {
    #[serde(rename = "e")]
    epoch: u64,
    #[serde(rename = "b")]
    bucket: u64,
    #[serde(rename = "t")]
    token: u64,
    #[serde(rename = "k", borrow, with = "serde_bytes")]
    key: &'a [u8],
    #[serde(rename = "r", borrow, with = "serde_bytes")]
    record: &'a [u8],
    #[serde(rename = "g", default)]
    generation: u64,
}

#[derive(Serialize, Deserialize)]
struct Handed<'a> {
    #[serde(rename = "v")]
    verdict: u8,
    #[serde(rename = "d", borrow, default, skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(rename = "c", borrow, with = "serde_bytes")]
    clock: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Ask<'a> {
    #[serde(rename = "b")]
    bucket: u64,
    #[serde(rename = "t")]
    token: u64,
    #[serde(rename = "k", borrow, with = "serde_bytes")]
    key: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct One<'a> {
    #[serde(rename = "o")]
    owner: u64,
    #[serde(rename = "r", borrow, with = "serde_bytes")]
    record: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Held<'a> {
    complete: bool,
    #[serde(borrow)]
    hints: Vec<One<'a>>,
    #[serde(default)]
    generation: u64,
}

#[derive(Serialize, Deserialize)]
struct Count {}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    owner: u64,
    count: u64,
    bytes: u64,
    oldest_ms: u64,
    per_minute: u64,
    #[serde(borrow)]
    trouble: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Counted<'a> {
    complete: bool,
    #[serde(borrow)]
    kept: Vec<Row<'a>>,
}

pub(super) fn append(id: RpcId, body: &HintMessage, out: &mut BytesMut) -> Result<(), EncodeError> {
    match body {
        HintMessage::Keep {
            epoch,
            place,
            owner,
            record,
            generation,
        } => {
            let body = Keep {
                epoch: epoch.get(),
                bucket: place.bucket.0,
                token: place.token,
                key: &place.key,
                owner: owner.get(),
                record,
                generation: *generation,
            };
            append_body(out, kind::HINT_KEEP, id, &body)
        }
        HintMessage::Hand {
            epoch,
            place,
            record,
            generation,
        } => {
            let body = Hand {
                epoch: epoch.get(),
                bucket: place.bucket.0,
                token: place.token,
                key: &place.key,
                record,
                generation: *generation,
            };
            append_body(out, kind::HINT_HAND, id, &body)
        }
        HintMessage::Handed { verdict, clock } => append_receipt(id, verdict, clock, out),
        HintMessage::Ask { place } => {
            let body = Ask {
                bucket: place.bucket.0,
                token: place.token,
                key: &place.key,
            };
            append_body(out, kind::HINT_ASK, id, &body)
        }
        HintMessage::Held {
            complete,
            hints,
            generation,
        } => {
            let body = Held {
                complete: *complete,
                hints: hints.iter().map(one).collect(),
                generation: *generation,
            };
            append_body(out, kind::HINT_HELD, id, &body)
        }
        HintMessage::Count => append_body(out, kind::HINT_COUNT, id, &Count {}),
        HintMessage::Counted { complete, kept } => {
            let kept = kept.iter().map(|(owner, kept)| row(*owner, kept)).collect();
            let complete = *complete;
            append_body(out, kind::HINT_COUNTED, id, &Counted { complete, kept })
        }
    }
}

fn append_receipt(
    id: RpcId,
    verdict: &Verdict,
    clock: &Clock,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let (verdict, detail) = code_of(verdict);
    let mut bytes = BytesMut::with_capacity(codec::clock_bytes(clock));
    codec::put_clock(&mut bytes, clock);
    let body = Handed {
        verdict,
        detail,
        clock: &bytes,
    };
    append_body(out, kind::HINT_HANDED, id, &body)
}

fn one((owner, record): &(NodeId, Bytes)) -> One<'_> {
    One {
        owner: owner.get(),
        record,
    }
}

fn row(owner: NodeId, kept: &Kept) -> Row<'_> {
    Row {
        owner: owner.get(),
        count: kept.count,
        bytes: kept.bytes,
        oldest_ms: kept.oldest_ms,
        per_minute: kept.per_minute,
        trouble: &kept.trouble,
    }
}

/// None if the number is not one of ours.
pub(super) fn decode(kind: u16, frame: &Bytes) -> Option<Result<HintMessage, DecodeError>> {
    let read: fn(&Bytes) -> Result<HintMessage, DecodeError> = match kind {
        kind::HINT_KEEP => keep,
        kind::HINT_HAND => hand,
        kind::HINT_HANDED => handed,
        kind::HINT_ASK => ask,
        kind::HINT_HELD => held,
        kind::HINT_COUNT => count,
        kind::HINT_COUNTED => counted,
        _ => return None,
    };
    Some(read(frame))
}

fn place(frame: &Bytes, (bucket, token, key): (u64, u64, &[u8])) -> Place {
    Place {
        token,
        bucket: BucketId(bucket),
        key: frame.slice_ref(key),
    }
}

fn keep(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Keep<'_> = decode_body(frame)?;
    Ok(HintMessage::Keep {
        epoch: RingEpoch::new(body.epoch),
        place: place(frame, (body.bucket, body.token, body.key)),
        owner: NodeId::new(body.owner),
        record: frame.slice_ref(body.record),
        generation: body.generation,
    })
}

fn hand(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Hand<'_> = decode_body(frame)?;
    Ok(HintMessage::Hand {
        epoch: RingEpoch::new(body.epoch),
        place: place(frame, (body.bucket, body.token, body.key)),
        record: frame.slice_ref(body.record),
        generation: body.generation,
    })
}

fn handed(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Handed<'_> = decode_body(frame)?;
    let verdict = verdict_of(body.verdict, body.detail)?;
    let mut reader = Reader::new(body.clock);
    let clock = reader.clock().map_err(|_| unknown("clock", 0))?;
    reader.end().map_err(|_| unknown("clock", 1))?;
    Ok(HintMessage::Handed { verdict, clock })
}

fn ask(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Ask<'_> = decode_body(frame)?;
    let place = place(frame, (body.bucket, body.token, body.key));
    Ok(HintMessage::Ask { place })
}

fn held(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Held<'_> = decode_body(frame)?;
    let hints = body.hints.iter();
    Ok(HintMessage::Held {
        complete: body.complete,
        hints: hints
            .map(|one| (NodeId::new(one.owner), frame.slice_ref(one.record)))
            .collect(),
        generation: body.generation,
    })
}

fn count(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let Count {} = decode_body(frame)?;
    Ok(HintMessage::Count)
}

fn counted(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Counted<'_> = decode_body(frame)?;
    let kept = body.kept.iter().map(|row| {
        let kept = Kept {
            count: row.count,
            bytes: row.bytes,
            oldest_ms: row.oldest_ms,
            per_minute: row.per_minute,
            trouble: row.trouble.to_owned(),
        };
        (NodeId::new(row.owner), kept)
    });
    Ok(HintMessage::Counted {
        complete: body.complete,
        kept: kept.collect(),
    })
}

#[cfg(test)]
mod tests;
