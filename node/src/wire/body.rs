//! The body of each message.
//!
//! The structs borrow: from the message when writing, from the frame when reading. What is absent
//! is left out.
#![expect(
    clippy::ref_option_ref,
    reason = "what serde's derive writes about options"
)]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_client::wire::{
    Condition, NodeStatus, Response, WriteRequest, decode_body,
    frame::{EncodeError, FrameReader},
};
use quorate_ring::RingEpoch;
use serde::{Deserialize, Serialize};

use super::{DecodeError, append_body, care, gossip, greet, hint, kind, reap, ring, tree};
use crate::message::{
    BucketId, Message, Principal, ReplicaState, Role, RpcId, ScannedKey, Verdict,
};

#[derive(Serialize, Deserialize)]
struct Replicate<'a> {
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
    #[serde(rename = "g", default, skip_serializing_if = "is_zero")]
    generation: u64,
}

const DURABLE: u8 = 1;
const STORED: u8 = 2;
const OVERLOADED: u8 = 3;
const FAILED: u8 = 4;

#[derive(Serialize, Deserialize)]
struct Replicated<'a> {
    #[serde(rename = "v")]
    verdict: u8,
    #[serde(rename = "d", borrow, default, skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct Fetch<'a> {
    #[serde(rename = "e")]
    epoch: u64,
    #[serde(rename = "b")]
    bucket: u64,
    #[serde(rename = "t")]
    token: u64,
    #[serde(rename = "k", borrow, with = "serde_bytes")]
    key: &'a [u8],
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    whole_max: Option<u32>,
}

const ABSENT: u8 = 1;
const PRESENT: u8 = 2;
const UNREADABLE: u8 = 3;
/// As [`PRESENT`], with empty values. A reader that has not asked for it does not know it.
const BRIEF: u8 = 4;

#[derive(Serialize, Deserialize)]
struct Fetched<'a> {
    #[serde(rename = "s")]
    state: u8,
    #[serde(rename = "r", borrow, default, skip_serializing_if = "is_empty")]
    #[serde(with = "serde_bytes")]
    record: &'a [u8],
    #[serde(rename = "x", default, skip_serializing_if = "is_false")]
    suspect: bool,
    #[serde(rename = "g", default, skip_serializing_if = "is_zero")]
    generation: u64,
}

#[derive(Serialize, Deserialize)]
struct Forward<'a> {
    #[serde(borrow)]
    name: &'a str,
    role: u8,
    budget_ns: u64,
    #[serde(borrow)]
    bucket: &'a str,
    #[serde(borrow, with = "serde_bytes")]
    key: &'a [u8],
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    #[serde(with = "serde_bytes")]
    value: Option<&'a [u8]>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    #[serde(with = "serde_bytes")]
    context: Option<&'a [u8]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    w: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pw: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sloppy: Option<bool>,
    #[serde(borrow, with = "serde_bytes")]
    op_id: &'a [u8],
    #[serde(default, skip_serializing_if = "is_false")]
    retry: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(default)]
    condition: Condition,
    timeout_ms: u32,
    #[serde(default, skip_serializing_if = "is_false")]
    stand_in: bool,
}

/// The answer as the frame that a client would get.
#[derive(Serialize, Deserialize)]
struct Forwarded<'a> {
    #[serde(borrow, with = "serde_bytes")]
    response: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct After<'a> {
    token: u64,
    #[serde(borrow, with = "serde_bytes")]
    key: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Scan<'a> {
    #[serde(default, skip_serializing_if = "is_zero")]
    epoch: u64,
    bucket: u64,
    first: u64,
    last: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    after: Option<After<'a>>,
    #[serde(borrow, with = "serde_bytes")]
    prefix: &'a [u8],
    limit: u32,
}

#[derive(Serialize, Deserialize)]
struct Item<'a> {
    #[serde(rename = "t")]
    token: u64,
    #[serde(rename = "k", borrow, with = "serde_bytes")]
    key: &'a [u8],
    #[serde(rename = "r", borrow, with = "serde_bytes")]
    record: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Scanned<'a> {
    #[serde(borrow)]
    items: Vec<Item<'a>>,
    more: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct Catalogue<'a> {
    #[serde(borrow, with = "serde_bytes")]
    catalogue: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct Members<'a> {
    #[serde(borrow, with = "serde_bytes")]
    members: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct CatalogueStored {
    hash: u64,
}

#[derive(Serialize, Deserialize)]
struct Status {
    catalogue_hash: u64,
}

#[derive(Serialize)]
struct StatusReport<'a> {
    status: &'a NodeStatus,
    #[serde(skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    catalogue: Option<&'a [u8]>,
    #[serde(skip_serializing_if = "is_zero")]
    wall_ms: u64,
}

#[derive(Deserialize)]
struct StatusReportOwned {
    status: NodeStatus,
    #[serde(default)]
    catalogue: Option<Bytes>,
    #[serde(default)]
    wall_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_empty(value: &[u8]) -> bool {
    value.is_empty()
}

/// One line per message: variant, number, fields, body.
macro_rules! append {
    ($message:expr, $out:expr; $($variant:ident $kind:ident { $($field:ident),* } => $body:expr;)*)
    => {
        match $message {
            $(Message::$variant { id, $($field),* } => {
                append_body($out, kind::$kind, *id, &$body)
            })*
            Message::Tree { id, body } => tree::append(*id, body, $out),
            Message::Hint { id, body } => hint::append(*id, body, $out),
            Message::Care { id, body } => care::append(*id, body, $out),
            Message::Reap { id, body } => reap::append(*id, body, $out),
            Message::Ring { id, message } => ring::append(message, *id, $out),
            Message::Gossip(message) => {
                append_body($out, kind::GOSSIP, RpcId(0), &gossip::body(message))
            }
        }
    };
}

pub(super) fn append(message: &Message, out: &mut BytesMut) -> Result<(), EncodeError> {
    append! { message, out;
        Replicate REPLICATE { epoch, bucket, token, key, record, generation } => Replicate {
            epoch: epoch.get(), bucket: bucket.0, token: *token, key, record,
            generation: *generation,
        };
        Replicated REPLICATED { verdict } => replicated(verdict);
        Fetch FETCH { epoch, bucket, token, key, whole_max } => Fetch {
            epoch: epoch.get(), bucket: bucket.0, token: *token, key, whole_max: *whole_max,
        };
        Fetched FETCHED { state, suspect, brief, generation } => {
            fetched((state, *brief), *suspect, *generation)
        };
        Forward FORWARD { principal, budget, write, stand_in } => Forward {
            stand_in: *stand_in, ..forward(principal, *budget, write)
        };
        Forwarded FORWARDED { response } => Forwarded { response: &frame_of(response)? };
        Scan SCAN { epoch, bucket, first, last, after, prefix, limit } => Scan {
            epoch: epoch.get(),
            bucket: bucket.0, first: *first, last: *last, prefix, limit: *limit,
            after: after.as_ref().map(|(token, key)| After { token: *token, key }),
        };
        Scanned SCANNED { items, more, error } => Scanned {
            items: items.iter().map(item).collect(), more: *more, error: error.as_deref(),
        };
        Catalogue CATALOGUE { catalogue } => Catalogue { catalogue };
        Members MEMBERS { members } => Members { members };
        Greet GREET { who, left, heard } => greet::greet(who, *left, heard);
        Greeted GREETED { uuid, number, mark, opinion, epoch, counts } => {
            greet::greeted(*uuid, (*number, *mark), *opinion, (*epoch, *counts))
        };
        CatalogueStored CATALOGUE_STORED { hash } => CatalogueStored { hash: *hash };
        Status STATUS { catalogue_hash } => Status { catalogue_hash: *catalogue_hash };
        StatusReport STATUS_REPORT { status, catalogue, wall_ms } => StatusReport {
            status, catalogue: catalogue.as_deref(), wall_ms: *wall_ms,
        };
    }
}

fn replicated(verdict: &Verdict) -> Replicated<'_> {
    let (verdict, detail) = code_of(verdict);
    Replicated { verdict, detail }
}

pub(super) fn code_of(verdict: &Verdict) -> (u8, Option<&str>) {
    match verdict {
        Verdict::Durable => (DURABLE, None),
        Verdict::Stored => (STORED, None),
        Verdict::Overloaded(limit) => (OVERLOADED, Some(limit.as_str())),
        Verdict::Failed(reason) => (FAILED, Some(reason.as_str())),
    }
}

pub(super) fn verdict_of(code: u8, detail: Option<&str>) -> Result<Verdict, DecodeError> {
    let detail = || detail.unwrap_or_default().to_owned();
    Ok(match code {
        DURABLE => Verdict::Durable,
        STORED => Verdict::Stored,
        OVERLOADED => Verdict::Overloaded(detail()),
        FAILED => Verdict::Failed(detail()),
        code => return Err(unknown("verdict", code)),
    })
}

fn fetched((state, brief): (&ReplicaState, bool), suspect: bool, generation: u64) -> Fetched<'_> {
    let (state, record) = match state {
        ReplicaState::Absent => (ABSENT, &[][..]),
        ReplicaState::Present(record) if brief => (BRIEF, &record[..]),
        ReplicaState::Present(record) => (PRESENT, &record[..]),
        ReplicaState::Unreadable => (UNREADABLE, &[][..]),
    };
    Fetched {
        state,
        record,
        suspect,
        generation,
    }
}

fn forward<'a>(principal: &'a Principal, budget: Duration, write: &'a WriteRequest) -> Forward<'a> {
    Forward {
        name: &principal.name,
        role: principal.role as u8,
        budget_ns: u64::try_from(budget.as_nanos()).unwrap_or(u64::MAX),
        bucket: &write.bucket,
        key: &write.key,
        value: write.value.as_deref(),
        context: write.context.as_deref(),
        w: write.w,
        pw: write.pw,
        sloppy: write.sloppy,
        op_id: &write.op_id,
        retry: write.retry,
        ttl_ms: write.ttl_ms,
        condition: write.condition,
        timeout_ms: write.timeout_ms,
        stand_in: false,
    }
}

fn frame_of(response: &Response) -> Result<BytesMut, EncodeError> {
    let mut out = BytesMut::new();
    response.append_to(&mut out, 0)?;
    Ok(out)
}

fn item(item: &ScannedKey) -> Item<'_> {
    Item {
        token: item.token,
        key: &item.key,
        record: &item.record,
    }
}

pub(super) fn decode(kind: u16, id: RpcId, frame: &Bytes) -> Result<Message, DecodeError> {
    Ok(match kind {
        kind::REPLICATE => {
            let body: Replicate<'_> = decode_body(frame)?;
            Message::Replicate {
                id,
                epoch: RingEpoch::new(body.epoch),
                bucket: BucketId(body.bucket),
                token: body.token,
                key: frame.slice_ref(body.key),
                record: frame.slice_ref(body.record),
                generation: body.generation,
            }
        }
        kind::REPLICATED => {
            let body: Replicated<'_> = decode_body(frame)?;
            let verdict = verdict_of(body.verdict, body.detail)?;
            Message::Replicated { id, verdict }
        }
        kind::FETCH => {
            let body: Fetch<'_> = decode_body(frame)?;
            Message::Fetch {
                id,
                epoch: RingEpoch::new(body.epoch),
                bucket: BucketId(body.bucket),
                token: body.token,
                key: frame.slice_ref(body.key),
                whole_max: body.whole_max,
            }
        }
        kind::FETCHED => {
            let body: Fetched<'_> = decode_body(frame)?;
            Message::Fetched {
                id,
                state: body.meaning(frame)?,
                suspect: body.suspect,
                brief: body.state == BRIEF,
                generation: body.generation,
            }
        }
        kind::FORWARD => decode_body::<Forward<'_>>(frame)?.meaning(id, frame)?,
        kind::FORWARDED => {
            let body: Forwarded<'_> = decode_body(frame)?;
            let response = read_response(frame.slice_ref(body.response))?;
            Message::Forwarded { id, response }
        }
        kind::SCAN => decode_body::<Scan<'_>>(frame)?.meaning(id, frame),
        kind::SCANNED => decode_body::<Scanned<'_>>(frame)?.meaning(id, frame),
        kind::GREET => greet::decode_greet(id, frame)?,
        kind::GREETED => greet::decode_greeted(id, frame)?,
        kind::GOSSIP => Message::Gossip(gossip::decode(frame)?),
        kind::RING_PREPARE..=kind::RING_PAGE => ring::decode(kind, id, frame)?,
        _ => decode_rare(kind, id, frame)?,
    })
}

fn decode_rare(kind: u16, id: RpcId, frame: &Bytes) -> Result<Message, DecodeError> {
    Ok(match kind {
        kind::CATALOGUE => Message::Catalogue {
            id,
            catalogue: frame.slice_ref(decode_body::<Catalogue<'_>>(frame)?.catalogue),
        },
        kind::MEMBERS => Message::Members {
            id,
            members: frame.slice_ref(decode_body::<Members<'_>>(frame)?.members),
        },
        kind::CATALOGUE_STORED => Message::CatalogueStored {
            id,
            hash: decode_body::<CatalogueStored>(frame)?.hash,
        },
        kind::STATUS => Message::Status {
            id,
            catalogue_hash: decode_body::<Status>(frame)?.catalogue_hash,
        },
        kind::STATUS_REPORT => {
            let body: StatusReportOwned = decode_body(frame)?;
            Message::StatusReport {
                id,
                status: Box::new(body.status),
                catalogue: body.catalogue,
                wall_ms: body.wall_ms,
            }
        }
        kind::REAP_VOTE..=kind::REAP_BEHIND => reap::decode(kind, id, frame)?,
        _ => {
            if let Some(body) = tree::decode(kind, frame) {
                return Ok(Message::Tree { id, body: body? });
            }
            if let Some(body) = hint::decode(kind, frame) {
                return Ok(Message::Hint { id, body: body? });
            }
            let body = care::decode(kind, frame)
                .ok_or(quorate_client::wire::DecodeError::UnknownKind { kind })?;
            Message::Care { id, body: body? }
        }
    })
}

fn read_response(bytes: Bytes) -> Result<Response, DecodeError> {
    let mut reader = FrameReader::new();
    reader.feed(bytes);
    let frame = reader.next_frame()?.ok_or(DecodeError::NotOneFrame)?;
    if !reader.is_at_boundary() {
        return Err(DecodeError::NotOneFrame);
    }
    Ok(Response::decode(frame.kind, &frame.body)?)
}

impl Fetched<'_> {
    fn meaning(&self, frame: &Bytes) -> Result<ReplicaState, DecodeError> {
        Ok(match self.state {
            ABSENT => ReplicaState::Absent,
            PRESENT | BRIEF => ReplicaState::Present(frame.slice_ref(self.record)),
            UNREADABLE => ReplicaState::Unreadable,
            code => return Err(unknown("replica state", code)),
        })
    }
}

impl Forward<'_> {
    fn meaning(&self, id: RpcId, frame: &Bytes) -> Result<Message, DecodeError> {
        let role = [Role::Read, Role::Write, Role::Admin]
            .into_iter()
            .find(|role| *role as u8 == self.role)
            .ok_or_else(|| unknown("role", self.role))?;
        Ok(Message::Forward {
            id,
            principal: Principal {
                name: self.name.to_owned(),
                role,
            },
            budget: Duration::from_nanos(self.budget_ns),
            write: WriteRequest {
                bucket: self.bucket.to_owned(),
                key: frame.slice_ref(self.key),
                value: self.value.map(|value| frame.slice_ref(value)),
                context: self.context.map(|context| frame.slice_ref(context)),
                w: self.w,
                pw: self.pw,
                sloppy: self.sloppy,
                op_id: frame.slice_ref(self.op_id),
                retry: self.retry,
                ttl_ms: self.ttl_ms,
                condition: self.condition,
                timeout_ms: self.timeout_ms,
            },
            stand_in: self.stand_in,
        })
    }
}

impl Scan<'_> {
    fn meaning(&self, id: RpcId, frame: &Bytes) -> Message {
        let after = self.after.as_ref();
        Message::Scan {
            id,
            epoch: RingEpoch::new(self.epoch),
            bucket: BucketId(self.bucket),
            first: self.first,
            last: self.last,
            after: after.map(|after| (after.token, frame.slice_ref(after.key))),
            prefix: frame.slice_ref(self.prefix),
            limit: self.limit,
        }
    }
}

impl Scanned<'_> {
    fn meaning(&self, id: RpcId, frame: &Bytes) -> Message {
        let items = self.items.iter().map(|item| ScannedKey {
            token: item.token,
            key: frame.slice_ref(item.key),
            record: frame.slice_ref(item.record),
        });
        Message::Scanned {
            id,
            items: items.collect(),
            more: self.more,
            error: self.error.map(str::to_owned),
        }
    }
}

pub(super) fn unknown(what: &'static str, code: u8) -> DecodeError {
    DecodeError::UnknownCode { what, code }
}
