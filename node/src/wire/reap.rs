//! Messages about tombstones that may go, as bytes. One body serves them all.

use bytes::{Bytes, BytesMut};
use quorate_client::wire::{decode_body, frame::EncodeError};
use quorate_ring::RingEpoch;
use serde::{Deserialize, Serialize};

use super::{DecodeError, append_body, kind};
use crate::{
    healing::{
        message::Place,
        reap::{Candidate, Goal, ReapMessage, Standing},
    },
    message::{BucketId, Message, RpcId},
};

#[derive(Serialize, Deserialize)]
struct Key<'a> {
    t: u64,
    b: u64,
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
    /// The digest's halves.
    h: u64,
    l: u64,
    w: u8,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(rename = "e", skip_serializing_if = "is_zero")]
    epoch: u64,
    #[serde(rename = "s")]
    slot: u8,
    #[serde(rename = "g", skip_serializing_if = "is_zero")]
    generation: u64,
    #[serde(rename = "c", skip_serializing_if = "is_zero")]
    code: u64,
    #[serde(rename = "i", borrow, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Key<'a>>,
    #[serde(rename = "a", skip_serializing_if = "Vec::is_empty")]
    agreed: Vec<bool>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
fn keys(candidates: &[Candidate]) -> Vec<Key<'_>> {
    candidates
        .iter()
        .map(|candidate| Key {
            t: candidate.place.token,
            b: candidate.place.bucket.0,
            k: &candidate.place.key,
            h: (candidate.digest >> 64) as u64,
            l: candidate.digest as u64,
            w: candidate.goal as u8,
        })
        .collect()
}

/// What is asked about a slot.
fn about(epoch: RingEpoch, slot: u8, generation: u64, candidates: &[Candidate]) -> Body<'_> {
    Body {
        epoch: epoch.get(),
        slot,
        generation,
        keys: keys(candidates),
        ..Body::default()
    }
}

fn body(message: &ReapMessage) -> (u16, Body<'_>) {
    let none = Body::default();
    match message {
        ReapMessage::Vote {
            epoch,
            slot,
            candidates,
        } => (kind::REAP_VOTE, about(*epoch, *slot, 0, candidates)),
        ReapMessage::Voted {
            standing,
            generation,
            agreed,
        } => {
            let body = Body {
                code: *standing as u64,
                generation: *generation,
                agreed: agreed.clone(),
                ..none
            };
            (kind::REAP_VOTED, body)
        }
        ReapMessage::Fence {
            epoch,
            slot,
            generation,
        } => (kind::REAP_FENCE, about(*epoch, *slot, *generation, &[])),
        ReapMessage::Fenced { standing } => {
            let code = *standing as u64;
            (kind::REAP_FENCED, Body { code, ..none })
        }
        ReapMessage::Commit {
            epoch,
            slot,
            generation,
            candidates,
        } => {
            let body = about(*epoch, *slot, *generation, candidates);
            (kind::REAP_COMMIT, body)
        }
        ReapMessage::Committed { done } => {
            let code = u64::from(*done);
            (kind::REAP_COMMITTED, Body { code, ..none })
        }
        ReapMessage::Behind { slot, generation } => {
            let body = Body {
                slot: *slot,
                generation: *generation,
                ..none
            };
            (kind::REAP_BEHIND, body)
        }
    }
}

pub(super) fn append(
    id: RpcId,
    message: &ReapMessage,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    let (kind, body) = body(message);
    append_body(out, kind, id, &body)
}

pub(super) fn decode(kind: u16, id: RpcId, frame: &Bytes) -> Result<Message, DecodeError> {
    let body: Body<'_> = decode_body(frame)?;
    let epoch = RingEpoch::new(body.epoch);
    let (slot, generation) = (body.slot, body.generation);
    let message = match kind {
        kind::REAP_VOTE => ReapMessage::Vote {
            epoch,
            slot,
            candidates: candidates(&body, frame)?,
        },
        kind::REAP_VOTED => ReapMessage::Voted {
            standing: standing(body.code)?,
            generation,
            agreed: body.agreed,
        },
        kind::REAP_FENCE => ReapMessage::Fence {
            epoch,
            slot,
            generation,
        },
        kind::REAP_FENCED => ReapMessage::Fenced {
            standing: standing(body.code)?,
        },
        kind::REAP_COMMIT => ReapMessage::Commit {
            epoch,
            slot,
            generation,
            candidates: candidates(&body, frame)?,
        },
        kind::REAP_COMMITTED => ReapMessage::Committed {
            done: u32::try_from(body.code).unwrap_or(u32::MAX),
        },
        kind::REAP_BEHIND => ReapMessage::Behind { slot, generation },
        _ => return Err(quorate_client::wire::DecodeError::UnknownKind { kind }.into()),
    };
    Ok(Message::Reap { id, body: message })
}

fn unknown(what: &'static str, code: u64) -> DecodeError {
    let code = u8::try_from(code).unwrap_or(u8::MAX);
    DecodeError::UnknownCode { what, code }
}

fn standing(code: u64) -> Result<Standing, DecodeError> {
    let mut all = Standing::ALL.into_iter();
    all.find(|standing| *standing as u64 == code)
        .ok_or_else(|| unknown("standing of a member", code))
}

fn candidates(body: &Body<'_>, frame: &Bytes) -> Result<Vec<Candidate>, DecodeError> {
    let candidate = |key: &Key<'_>| {
        let goal = match key.w {
            1 => Goal::Reap,
            2 => Goal::Compact,
            code => return Err(unknown("goal", code.into())),
        };
        Ok(Candidate {
            place: Place {
                token: key.t,
                bucket: BucketId(key.b),
                key: frame.slice_ref(key.k),
            },
            digest: u128::from(key.h) << 64 | u128::from(key.l),
            goal,
        })
    };
    body.keys.iter().map(candidate).collect()
}

#[cfg(test)]
mod tests;
