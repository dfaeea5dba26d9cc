//! Messages about the ring, as bytes.
//!
//! One body serves them all: each kind uses the fields it needs and leaves the others out.

use bytes::{Bytes, BytesMut};
use quorate_client::wire::{decode_body, frame::EncodeError};
use quorate_ring::RingEpoch;
use serde::{Deserialize, Serialize};

use super::{DecodeError, append_body, kind};
use crate::{
    agreement::{Ballot, Vote},
    message::{BucketId, Message, RpcId},
    ring_message::{Item, Progress, RingMessage},
};

const PROMISE: u8 = 1;
const ACCEPTED: u8 = 2;
const REFUSED: u8 = 3;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct BallotBody {
    round: u64,
    high: u64,
    low: u64,
    boot: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct ProgressBody {
    high: u64,
    low: u64,
    staged: u64,
    done: u32,
    total: u32,
    bytes: u64,
    disk: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    free: u64,
    clean: bool,
    #[serde(default)]
    draining: bool,
}

#[derive(Serialize, Deserialize)]
struct ItemBody<'a> {
    #[serde(rename = "b")]
    bucket: u64,
    #[serde(rename = "t")]
    token: u64,
    #[serde(rename = "k", borrow, with = "serde_bytes")]
    key: &'a [u8],
    #[serde(rename = "r", borrow, with = "serde_bytes")]
    record: &'a [u8],
    #[serde(rename = "g", default, skip_serializing_if = "is_zero")]
    generation: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ballot: Option<BallotBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<BallotBody>,
    #[serde(skip_serializing_if = "is_zero")]
    code: u64,
    #[serde(borrow, skip_serializing_if = "<[u8]>::is_empty", with = "serde_bytes")]
    value: &'a [u8],
    #[serde(borrow, skip_serializing_if = "<[u8]>::is_empty", with = "serde_bytes")]
    next: &'a [u8],
    #[serde(skip_serializing_if = "is_zero")]
    first: u64,
    #[serde(skip_serializing_if = "is_zero")]
    last: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressBody>,
    #[serde(borrow, skip_serializing_if = "Vec::is_empty")]
    items: Vec<ItemBody<'a>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    share: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
fn halves(number: u128) -> (u64, u64) {
    ((number >> 64) as u64, number as u64)
}

fn whole(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

impl From<Ballot> for BallotBody {
    fn from(ballot: Ballot) -> Self {
        let (high, low) = halves(ballot.uuid);
        Self {
            round: ballot.round,
            high,
            low,
            boot: ballot.boot,
        }
    }
}

impl From<BallotBody> for Ballot {
    fn from(body: BallotBody) -> Self {
        Self {
            round: body.round,
            uuid: whole(body.high, body.low),
            boot: body.boot,
        }
    }
}

impl From<&Progress> for ProgressBody {
    fn from(progress: &Progress) -> Self {
        let (high, low) = halves(progress.uuid);
        Self {
            high,
            low,
            staged: progress.staged,
            done: progress.done,
            total: progress.total,
            bytes: progress.bytes,
            disk: progress.disk_bytes,
            free: progress.disk_free,
            clean: progress.clean,
            draining: progress.draining,
        }
    }
}

fn body(message: &RingMessage) -> (u16, Body<'_>) {
    let none = Body::default();
    match message {
        RingMessage::Prepare { epoch, ballot } => {
            (kind::RING_PREPARE, asking(*epoch, *ballot, &[]))
        }
        RingMessage::Propose {
            epoch,
            ballot,
            value,
        } => (kind::RING_PROPOSE, asking(*epoch, *ballot, value)),
        RingMessage::Voted {
            epoch,
            ballot,
            vote,
        } => (kind::RING_VOTED, voting(*epoch, *ballot, vote)),
        RingMessage::Decree(value) => (kind::RING_DECREE, Body { value, ..none }),
        RingMessage::Stale(value) => (kind::RING_STALE, Body { value, ..none }),
        RingMessage::Want => (kind::RING_WANT, none),
        RingMessage::Beat(progress) => {
            let epoch = progress.epoch;
            let progress = Some(progress.into());
            let body = Body {
                epoch,
                progress,
                ..none
            };
            (kind::RING_BEAT, body)
        }
        RingMessage::Staged(value) => (kind::RING_STAGED, Body { value, ..none }),
        RingMessage::StagedIs(hash) => (
            kind::RING_STAGED_IS,
            Body {
                code: *hash,
                ..none
            },
        ),
        RingMessage::Pull {
            epoch,
            first,
            last,
            after,
        } => {
            let body = Body {
                epoch: epoch.get(),
                first: *first,
                last: *last,
                value: after,
                ..none
            };
            (kind::RING_PULL, body)
        }
        RingMessage::Page {
            after,
            items,
            next,
            error,
            share,
        } => {
            let body = Body {
                value: after,
                items: items.iter().map(item).collect(),
                next,
                error: error.as_deref(),
                share: u64::from(*share),
                ..none
            };
            (kind::RING_PAGE, body)
        }
    }
}

fn asking(epoch: RingEpoch, ballot: Ballot, value: &[u8]) -> Body<'_> {
    Body {
        epoch: epoch.get(),
        ballot: Some(ballot.into()),
        value,
        ..Body::default()
    }
}

fn voting(epoch: RingEpoch, ballot: Ballot, vote: &Vote) -> Body<'_> {
    let (code, other, value) = match vote {
        Vote::Promise(None) => (PROMISE, None, &[][..]),
        Vote::Promise(Some((ballot, value))) => (PROMISE, Some(*ballot), &value[..]),
        Vote::Accepted => (ACCEPTED, None, &[][..]),
        Vote::Refused(ballot) => (REFUSED, Some(*ballot), &[][..]),
    };
    Body {
        other: other.map(BallotBody::from),
        code: u64::from(code),
        ..asking(epoch, ballot, value)
    }
}

fn item(item: &Item) -> ItemBody<'_> {
    ItemBody {
        bucket: item.bucket.0,
        token: item.token,
        key: &item.key,
        record: &item.record,
        generation: item.generation,
    }
}

pub(super) fn append(
    message: &RingMessage,
    id: RpcId,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let (kind, body) = body(message);
    append_body(out, kind, id, &body)
}

pub(super) fn decode(kind: u16, id: RpcId, frame: &Bytes) -> Result<Message, DecodeError> {
    let body: Body<'_> = decode_body(frame)?;
    let slice = |part: &[u8]| {
        if part.is_empty() {
            Bytes::new()
        } else {
            frame.slice_ref(part)
        }
    };
    let epoch = RingEpoch::new(body.epoch);
    let ballot = body.ballot.map(Ballot::from).unwrap_or_default();
    let message = match kind {
        kind::RING_PREPARE => RingMessage::Prepare { epoch, ballot },
        kind::RING_PROPOSE => RingMessage::Propose {
            epoch,
            ballot,
            value: slice(body.value),
        },
        kind::RING_VOTED => RingMessage::Voted {
            epoch,
            ballot,
            vote: vote(&body, slice)?,
        },
        kind::RING_DECREE => RingMessage::Decree(slice(body.value)),
        kind::RING_STALE => RingMessage::Stale(slice(body.value)),
        kind::RING_WANT => RingMessage::Want,
        kind::RING_BEAT => RingMessage::Beat(progress(&body)),
        kind::RING_STAGED => RingMessage::Staged(slice(body.value)),
        kind::RING_STAGED_IS => RingMessage::StagedIs(body.code),
        kind::RING_PULL => RingMessage::Pull {
            epoch,
            first: body.first,
            last: body.last,
            after: slice(body.value),
        },
        kind::RING_PAGE => RingMessage::Page {
            after: slice(body.value),
            items: body
                .items
                .iter()
                .map(|item| Item {
                    bucket: BucketId(item.bucket),
                    token: item.token,
                    key: slice(item.key),
                    record: slice(item.record),
                    generation: item.generation,
                })
                .collect(),
            next: slice(body.next),
            error: body.error.map(str::to_owned),
            share: u32::try_from(body.share).unwrap_or(0),
        },
        _ => return Err(quorate_client::wire::DecodeError::UnknownKind { kind }.into()),
    };
    Ok(Message::Ring { id, message })
}

fn vote(body: &Body<'_>, slice: impl Fn(&[u8]) -> Bytes) -> Result<Vote, DecodeError> {
    let other = body.other.map(Ballot::from);
    let code = u8::try_from(body.code).unwrap_or(u8::MAX);
    Ok(match code {
        PROMISE => Vote::Promise(other.map(|ballot| (ballot, slice(body.value)))),
        ACCEPTED => Vote::Accepted,
        REFUSED => Vote::Refused(other.unwrap_or_default()),
        code => return Err(DecodeError::UnknownCode { what: "vote", code }),
    })
}

fn progress(body: &Body<'_>) -> Progress {
    let Some(progress) = body.progress else {
        return Progress::default();
    };
    Progress {
        epoch: body.epoch,
        uuid: whole(progress.high, progress.low),
        staged: progress.staged,
        done: progress.done,
        total: progress.total,
        bytes: progress.bytes,
        disk_bytes: progress.disk,
        disk_free: progress.free,
        clean: progress.clean,
        draining: progress.draining,
    }
}
