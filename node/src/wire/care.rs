//! The bodies of messages about a node's care for its own data.

use bytes::{Bytes, BytesMut};
use quorate_client::wire::{decode_body, frame::EncodeError};
use serde::{Deserialize, Serialize};

use super::{DecodeError, append_body, kind};
use crate::{
    healing::{
        care::{CareMessage, ScrubProgress, Seen},
        message::Place,
    },
    message::{BucketId, RpcId},
};

#[derive(Serialize, Deserialize)]
struct Scrub {
    begin: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Scrubbing {
    wished: u64,
    fulfilled: u64,
    passes: u64,
    running: bool,
    reached: u32,
    records: u64,
    bytes: u64,
    damaged: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms_ago: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Inspect<'a> {
    #[serde(borrow, with = "serde_bytes")]
    first: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    end: &'a [u8],
    look: u32,
}

/// Without a hash the record cannot be read.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    t: u64,
    b: u64,
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    h: Option<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    x: bool,
}

#[derive(Serialize, Deserialize)]
struct Inspected<'a> {
    look: u32,
    #[serde(borrow)]
    i: Vec<Record<'a>>,
    bytes: u64,
    #[serde(borrow, with = "serde_bytes")]
    next: &'a [u8],
    #[serde(
        borrow,
        default,
        skip_serializing_if = "<[u8]>::is_empty",
        with = "serde_bytes"
    )]
    blind: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Drain {
    on: bool,
}

#[derive(Serialize, Deserialize)]
struct Aside<'a> {
    #[serde(borrow, with = "serde_bytes")]
    first: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct AsideRecord<'a> {
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    v: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct AsideIs<'a> {
    #[serde(borrow)]
    i: Vec<AsideRecord<'a>>,
    #[serde(borrow, with = "serde_bytes")]
    next: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Discard<'a> {
    #[serde(borrow)]
    keys: Vec<&'a serde_bytes::Bytes>,
}

#[derive(Serialize, Deserialize)]
struct Discarded {
    count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

pub(super) fn append(
    id: RpcId,
    message: &CareMessage,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    match message {
        CareMessage::Scrub { begin } => {
            append_body(out, kind::CARE_SCRUB, id, &Scrub { begin: *begin })
        }
        CareMessage::Scrubbing(progress) => {
            append_body(out, kind::CARE_SCRUBBING, id, &scrubbing(progress))
        }
        CareMessage::Inspect { first, end, look } => {
            let look = *look;
            append_body(out, kind::CARE_INSPECT, id, &Inspect { first, end, look })
        }
        CareMessage::Inspected {
            look,
            records,
            bytes,
            next,
            blind_until,
        } => {
            let body = Inspected {
                look: *look,
                i: records.iter().map(record).collect(),
                bytes: *bytes,
                next,
                blind: blind_until,
            };
            append_body(out, kind::CARE_INSPECTED, id, &body)
        }
        CareMessage::Drain { on } => append_body(out, kind::CARE_DRAIN, id, &Drain { on: *on }),
        CareMessage::Drained { on } => append_body(out, kind::CARE_DRAINED, id, &Drain { on: *on }),
        CareMessage::Aside { first } => append_body(out, kind::CARE_ASIDE, id, &Aside { first }),
        CareMessage::AsideIs { records, next } => {
            let records = records.iter();
            let i = records.map(|(k, v)| AsideRecord { k, v }).collect();
            append_body(out, kind::CARE_ASIDE_IS, id, &AsideIs { i, next })
        }
        CareMessage::Discard { keys } => {
            let keys = keys.iter().map(|key| serde_bytes::Bytes::new(key));
            let keys = keys.collect();
            append_body(out, kind::CARE_DISCARD, id, &Discard { keys })
        }
        CareMessage::Discarded { count } => {
            let count = *count;
            append_body(out, kind::CARE_DISCARDED, id, &Discarded { count })
        }
    }
}

fn scrubbing(progress: &ScrubProgress) -> Scrubbing {
    Scrubbing {
        wished: progress.wished,
        fulfilled: progress.fulfilled,
        passes: progress.passes,
        running: progress.running,
        reached: progress.reached_millionths,
        records: progress.records,
        bytes: progress.bytes,
        damaged: progress.damaged,
        ended_ms_ago: progress.ended_ms_ago,
    }
}

fn record(seen: &Seen) -> Record<'_> {
    Record {
        t: seen.place.token,
        b: seen.place.bucket.0,
        k: &seen.place.key,
        h: seen.hash,
        x: seen.suspect,
    }
}

/// The message of that kind; none if the kind is not about care.
pub(super) fn decode(kind: u16, frame: &Bytes) -> Option<Result<CareMessage, DecodeError>> {
    let read = match kind {
        kind::CARE_SCRUB => |frame: &Bytes| {
            let Scrub { begin } = decode_body(frame)?;
            Ok(CareMessage::Scrub { begin })
        },
        kind::CARE_SCRUBBING => progress,
        kind::CARE_INSPECT => inspect,
        kind::CARE_INSPECTED => inspected,
        kind::CARE_DRAIN => |frame: &Bytes| {
            let Drain { on } = decode_body(frame)?;
            Ok(CareMessage::Drain { on })
        },
        kind::CARE_DRAINED => |frame: &Bytes| {
            let Drain { on } = decode_body(frame)?;
            Ok(CareMessage::Drained { on })
        },
        kind::CARE_ASIDE => |frame: &Bytes| {
            let Aside { first } = decode_body(frame)?;
            let first = frame.slice_ref(first);
            Ok(CareMessage::Aside { first })
        },
        kind::CARE_ASIDE_IS => aside_is,
        kind::CARE_DISCARD => |frame: &Bytes| {
            let Discard { keys } = decode_body(frame)?;
            let keys = keys.into_iter().map(|key| frame.slice_ref(key));
            let keys = keys.collect();
            Ok(CareMessage::Discard { keys })
        },
        kind::CARE_DISCARDED => |frame: &Bytes| {
            let Discarded { count } = decode_body(frame)?;
            Ok(CareMessage::Discarded { count })
        },
        _ => return None,
    };
    Some(read(frame))
}

fn progress(frame: &Bytes) -> Result<CareMessage, DecodeError> {
    let body: Scrubbing = decode_body(frame)?;
    Ok(CareMessage::Scrubbing(ScrubProgress {
        wished: body.wished,
        fulfilled: body.fulfilled,
        passes: body.passes,
        running: body.running,
        reached_millionths: body.reached,
        records: body.records,
        bytes: body.bytes,
        damaged: body.damaged,
        ended_ms_ago: body.ended_ms_ago,
    }))
}

fn aside_is(frame: &Bytes) -> Result<CareMessage, DecodeError> {
    let body: AsideIs<'_> = decode_body(frame)?;
    let record = |record: &AsideRecord<'_>| (frame.slice_ref(record.k), frame.slice_ref(record.v));
    Ok(CareMessage::AsideIs {
        records: body.i.iter().map(record).collect(),
        next: frame.slice_ref(body.next),
    })
}

fn inspect(frame: &Bytes) -> Result<CareMessage, DecodeError> {
    let body: Inspect<'_> = decode_body(frame)?;
    Ok(CareMessage::Inspect {
        first: frame.slice_ref(body.first),
        end: frame.slice_ref(body.end),
        look: body.look,
    })
}

fn inspected(frame: &Bytes) -> Result<CareMessage, DecodeError> {
    let body: Inspected<'_> = decode_body(frame)?;
    let seen = |record: &Record<'_>| Seen {
        place: Place {
            token: record.t,
            bucket: BucketId(record.b),
            key: frame.slice_ref(record.k),
        },
        hash: record.h,
        suspect: record.x,
    };
    Ok(CareMessage::Inspected {
        look: body.look,
        records: body.i.iter().map(seen).collect(),
        bytes: body.bytes,
        next: frame.slice_ref(body.next),
        blind_until: frame.slice_ref(body.blind),
    })
}

#[cfg(test)]
mod tests;
