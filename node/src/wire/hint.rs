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
    causality::codec::{self, Reader},
    healing::{
        hints::message::{HintMessage, Kept},
        message::Place,
    },
    message::{BucketId, RpcId},
};

#[derive(Serialize, Deserialize)]
struct Keep<'a> {
    e: u64,
    b: u64,
    t: u64,
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
    o: u64,
    #[serde(borrow, with = "serde_bytes")]
    r: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Hand<'a> {
    e: u64,
    b: u64,
    t: u64,
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    r: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Handed<'a> {
    v: u8,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    d: Option<&'a str>,
    #[serde(borrow, with = "serde_bytes")]
    c: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Ask<'a> {
    b: u64,
    t: u64,
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct One<'a> {
    o: u64,
    #[serde(borrow, with = "serde_bytes")]
    r: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Held<'a> {
    complete: bool,
    #[serde(borrow)]
    hints: Vec<One<'a>>,
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
        } => {
            let (e, o, r) = (epoch.get(), owner.get(), &record[..]);
            let (b, t, k) = (place.bucket.0, place.token, &place.key[..]);
            append_body(out, kind::HINT_KEEP, id, &Keep { e, b, t, k, o, r })
        }
        HintMessage::Hand {
            epoch,
            place,
            record,
        } => {
            let (e, r) = (epoch.get(), &record[..]);
            let (b, t, k) = (place.bucket.0, place.token, &place.key[..]);
            append_body(out, kind::HINT_HAND, id, &Hand { e, b, t, k, r })
        }
        HintMessage::Handed { verdict, clock } => {
            let (v, d) = code_of(verdict);
            let mut bytes = BytesMut::with_capacity(codec::clock_bytes(clock));
            codec::put_clock(&mut bytes, clock);
            append_body(out, kind::HINT_HANDED, id, &Handed { v, d, c: &bytes })
        }
        HintMessage::Ask { place } => {
            let (b, t, k) = (place.bucket.0, place.token, &place.key[..]);
            append_body(out, kind::HINT_ASK, id, &Ask { b, t, k })
        }
        HintMessage::Held { complete, hints } => {
            let one = |(owner, record): &'_ (NodeId, Bytes)| (owner.get(), record.clone());
            let hints: Vec<(u64, Bytes)> = hints.iter().map(one).collect();
            let hints = hints.iter().map(|(o, r)| One { o: *o, r }).collect();
            let complete = *complete;
            append_body(out, kind::HINT_HELD, id, &Held { complete, hints })
        }
        HintMessage::Count => append_body(out, kind::HINT_COUNT, id, &Count {}),
        HintMessage::Counted { complete, kept } => {
            let kept = kept.iter().map(|(owner, kept)| row(*owner, kept)).collect();
            let complete = *complete;
            append_body(out, kind::HINT_COUNTED, id, &Counted { complete, kept })
        }
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
        epoch: RingEpoch::new(body.e),
        place: place(frame, (body.b, body.t, body.k)),
        owner: NodeId::new(body.o),
        record: frame.slice_ref(body.r),
    })
}

fn hand(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Hand<'_> = decode_body(frame)?;
    Ok(HintMessage::Hand {
        epoch: RingEpoch::new(body.e),
        place: place(frame, (body.b, body.t, body.k)),
        record: frame.slice_ref(body.r),
    })
}

fn handed(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Handed<'_> = decode_body(frame)?;
    let verdict = verdict_of(body.v, body.d)?;
    let mut reader = Reader::new(body.c);
    let clock = reader.clock().map_err(|_| unknown("clock", 0))?;
    reader.end().map_err(|_| unknown("clock", 1))?;
    Ok(HintMessage::Handed { verdict, clock })
}

fn ask(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Ask<'_> = decode_body(frame)?;
    let place = place(frame, (body.b, body.t, body.k));
    Ok(HintMessage::Ask { place })
}

fn held(frame: &Bytes) -> Result<HintMessage, DecodeError> {
    let body: Held<'_> = decode_body(frame)?;
    let hints = body.hints.iter();
    Ok(HintMessage::Held {
        complete: body.complete,
        hints: hints
            .map(|one| (NodeId::new(one.o), frame.slice_ref(one.r)))
            .collect(),
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
