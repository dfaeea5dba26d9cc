//! The bodies of messages about trees. Names are short: a comparison has many parts.

use bytes::{Bytes, BytesMut};
use quorate_client::wire::{decode_body, frame::EncodeError};
use quorate_ring::{NodeId, RingEpoch};
use serde::{Deserialize, Serialize};

use super::{DecodeError, append_body, kind};
use crate::{
    causality::codec::{self, Reader},
    healing::{
        merkle::trie::Prefix,
        message::{Branch, Differing, Entry, Holds, PairReport, Place, Standing, TreeMessage},
    },
    message::{BucketId, ReplicaState, RpcId},
};

/// Depth, bits and sum.
type Part = (u8, u32, u64);

#[derive(Serialize, Deserialize)]
struct Ask {
    e: u64,
    n: u8,
    b: Vec<Part>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    d: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct Sums {
    s: u8,
    d: Vec<(u8, u32, Vec<u64>)>,
}

#[derive(Serialize, Deserialize)]
struct Key<'a> {
    t: u64,
    b: u64,
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
}

#[derive(Serialize, Deserialize)]
struct AskLeaves<'a> {
    e: u64,
    n: u8,
    l: Vec<u32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    a: Option<Key<'a>>,
}

/// Without a clock the record cannot be read.
#[derive(Serialize)]
struct LeafKey<'a> {
    t: u64,
    b: u64,
    #[serde(with = "serde_bytes")]
    k: &'a [u8],
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<Bytes>,
    h: u64,
}

#[derive(Deserialize)]
struct LeafKeyBorrowed<'a> {
    t: u64,
    b: u64,
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
    #[serde(borrow, default, with = "serde_bytes")]
    c: Option<&'a [u8]>,
    h: u64,
}

#[derive(Serialize)]
struct Leaves<'a> {
    i: Vec<LeafKey<'a>>,
    m: bool,
}

#[derive(Deserialize)]
struct LeavesBorrowed<'a> {
    #[serde(borrow)]
    i: Vec<LeafKeyBorrowed<'a>>,
    m: bool,
}

#[derive(Serialize, Deserialize)]
struct Keys<'a> {
    #[serde(borrow)]
    i: Vec<Key<'a>>,
}

const ABSENT: u8 = 1;
const PRESENT: u8 = 2;
const UNREADABLE: u8 = 3;

#[derive(Serialize, Deserialize)]
struct Held<'a> {
    t: u64,
    b: u64,
    #[serde(borrow, with = "serde_bytes")]
    k: &'a [u8],
    s: u8,
    #[serde(borrow, with = "serde_bytes")]
    r: &'a [u8],
    #[serde(default, skip_serializing_if = "is_zero")]
    g: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[derive(Serialize, Deserialize)]
struct Records<'a> {
    #[serde(borrow)]
    i: Vec<Held<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Pushed {
    f: u32,
}

#[derive(Serialize, Deserialize)]
struct AskRoots {
    compare: bool,
}

#[derive(Serialize, Deserialize)]
struct Pair {
    peer: u64,
    n: u8,
    root: u64,
    leads: bool,
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agreed_ms_ago: Option<u64>,
    behind_keys: u64,
    moved_keys: u64,
    moved_bytes: u64,
    trouble: String,
}

#[derive(Serialize, Deserialize)]
struct Roots {
    ready: bool,
    hints: u64,
    generation: u64,
    pairs: Vec<Pair>,
}

pub(super) fn append(
    id: RpcId,
    message: &TreeMessage,
    out: &mut BytesMut,
) -> Result<(), EncodeError> {
    match message {
        TreeMessage::Ask {
            epoch,
            n,
            branches,
            doubtful,
        } => {
            let part = |b: &Branch| (b.prefix.depth, b.prefix.bits, b.sum);
            let b = branches.iter().map(part).collect();
            let (e, n, d) = (epoch.get(), *n, doubtful.clone());
            let body = Ask { e, n, b, d };
            append_body(out, kind::TREE_ASK, id, &body)
        }
        TreeMessage::Sums {
            standing,
            differing,
        } => {
            let part = |d: &Differing| (d.prefix.depth, d.prefix.bits, d.sums.clone());
            let d = differing.iter().map(part).collect();
            let s = *standing as u8;
            let body = Sums { s, d };
            append_body(out, kind::TREE_SUMS, id, &body)
        }
        TreeMessage::AskLeaves {
            epoch,
            n,
            leaves,
            after,
        } => {
            let (e, n, l) = (epoch.get(), *n, leaves.clone());
            let a = after.as_ref().map(key);
            let body = AskLeaves { e, n, l, a };
            append_body(out, kind::TREE_ASK_LEAVES, id, &body)
        }
        TreeMessage::Leaves { entries, more } => {
            let body = Leaves {
                i: entries.iter().map(leaf_key).collect(),
                m: *more,
            };
            append_body(out, kind::TREE_LEAVES, id, &body)
        }
        TreeMessage::Pull { .. }
        | TreeMessage::Pulled { .. }
        | TreeMessage::Push { .. }
        | TreeMessage::Pushed { .. } => append_records(id, message, out),
        TreeMessage::AskRoots { compare } => {
            let compare = *compare;
            append_body(out, kind::TREE_ASK_ROOTS, id, &AskRoots { compare })
        }
        TreeMessage::Roots {
            ready,
            hints,
            generation,
            pairs,
        } => {
            let (ready, hints, generation) = (*ready, *hints, *generation);
            let pairs = pairs.iter().map(pair).collect();
            let body = Roots {
                ready,
                hints,
                generation,
                pairs,
            };
            append_body(out, kind::TREE_ROOTS, id, &body)
        }
    }
}

fn append_records(id: RpcId, message: &TreeMessage, out: &mut BytesMut) -> Result<(), EncodeError> {
    match message {
        TreeMessage::Pull { places } => {
            let i = places.iter().map(key).collect();
            append_body(out, kind::TREE_PULL, id, &Keys { i })
        }
        TreeMessage::Pulled { records } => {
            let i = records.iter().map(held);
            append_body(out, kind::TREE_PULLED, id, &Records { i: i.collect() })
        }
        TreeMessage::Push { records } => {
            let i = records.iter().map(|(place, record, g)| Held {
                t: place.token,
                b: place.bucket.0,
                k: &place.key,
                s: PRESENT,
                r: record,
                g: *g,
            });
            append_body(out, kind::TREE_PUSH, id, &Records { i: i.collect() })
        }
        TreeMessage::Pushed { failed } => {
            append_body(out, kind::TREE_PUSHED, id, &Pushed { f: *failed })
        }
        TreeMessage::Ask { .. }
        | TreeMessage::Sums { .. }
        | TreeMessage::AskLeaves { .. }
        | TreeMessage::Leaves { .. }
        | TreeMessage::AskRoots { .. }
        | TreeMessage::Roots { .. } => append(id, message, out),
    }
}

fn key(place: &Place) -> Key<'_> {
    Key {
        t: place.token,
        b: place.bucket.0,
        k: &place.key,
    }
}

fn leaf_key(entry: &Entry) -> LeafKey<'_> {
    let (c, h) = match &entry.holds {
        Holds::Record { clock, hash } => {
            let mut out = BytesMut::with_capacity(codec::clock_bytes(clock));
            codec::put_clock(&mut out, clock);
            (Some(out.freeze()), *hash)
        }
        Holds::Unreadable => (None, 0),
    };
    LeafKey {
        t: entry.place.token,
        b: entry.place.bucket.0,
        k: &entry.place.key,
        c,
        h,
    }
}

fn held((place, state, g): &(Place, ReplicaState, u64)) -> Held<'_> {
    let (s, r) = match state {
        ReplicaState::Absent => (ABSENT, &[][..]),
        ReplicaState::Present(record) => (PRESENT, &record[..]),
        ReplicaState::Unreadable => (UNREADABLE, &[][..]),
    };
    Held {
        t: place.token,
        b: place.bucket.0,
        k: &place.key,
        s,
        r,
        g: *g,
    }
}

fn pair(report: &PairReport) -> Pair {
    Pair {
        peer: report.peer.get(),
        n: report.n,
        root: report.root,
        leads: report.leads,
        generation: report.generation,
        agreed_ms_ago: report.agreed_ms_ago,
        behind_keys: report.behind_keys,
        moved_keys: report.moved_keys,
        moved_bytes: report.moved_bytes,
        trouble: report.trouble.clone(),
    }
}

/// The message of that kind; none if the kind is not about trees.
pub(super) fn decode(kind: u16, frame: &Bytes) -> Option<Result<TreeMessage, DecodeError>> {
    let read = match kind {
        kind::TREE_ASK => ask,
        kind::TREE_SUMS => sums,
        kind::TREE_ASK_LEAVES => ask_leaves,
        kind::TREE_LEAVES => leaves,
        kind::TREE_PULL => pull,
        kind::TREE_PULLED => pulled,
        kind::TREE_PUSH => push,
        kind::TREE_PUSHED => pushed,
        kind::TREE_ASK_ROOTS => ask_roots,
        kind::TREE_ROOTS => roots,
        _ => return None,
    };
    Some(read(frame))
}

fn unknown(what: &'static str, code: impl Into<u32>) -> DecodeError {
    let code = u8::try_from(code.into()).unwrap_or(u8::MAX);
    DecodeError::UnknownCode { what, code }
}

fn prefix(depth: u8, bits: u32) -> Result<Prefix, DecodeError> {
    Prefix::new(depth, bits).ok_or_else(|| unknown("prefix of depth", depth))
}

fn ask(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let body: Ask = decode_body(frame)?;
    let branch = |(depth, bits, sum): Part| {
        let prefix = prefix(depth, bits)?;
        Ok(Branch { prefix, sum })
    };
    let branches = body.b.into_iter().map(branch);
    Ok(TreeMessage::Ask {
        epoch: RingEpoch::new(body.e),
        n: body.n,
        branches: branches.collect::<Result<_, DecodeError>>()?,
        doubtful: body.d,
    })
}

fn sums(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let body: Sums = decode_body(frame)?;
    let standing = [Standing::Ready, Standing::Building, Standing::OtherRing]
        .into_iter()
        .find(|standing| *standing as u8 == body.s)
        .ok_or_else(|| unknown("standing of a tree", body.s))?;
    let differing = body.d.into_iter().map(|(depth, bits, sums)| {
        let prefix = prefix(depth, bits)?;
        Ok(Differing { prefix, sums })
    });
    Ok(TreeMessage::Sums {
        standing,
        differing: differing.collect::<Result<_, DecodeError>>()?,
    })
}

fn place(frame: &Bytes, key: &Key<'_>) -> Place {
    Place {
        token: key.t,
        bucket: BucketId(key.b),
        key: frame.slice_ref(key.k),
    }
}

fn ask_leaves(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let body: AskLeaves<'_> = decode_body(frame)?;
    Ok(TreeMessage::AskLeaves {
        epoch: RingEpoch::new(body.e),
        n: body.n,
        leaves: body.l,
        after: body.a.as_ref().map(|after| place(frame, after)),
    })
}

fn leaves(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let body: LeavesBorrowed<'_> = decode_body(frame)?;
    let entry = |item: LeafKeyBorrowed<'_>| {
        let holds = match item.c {
            None => Holds::Unreadable,
            Some(bytes) => {
                let mut reader = Reader::new(bytes);
                let clock = reader.clock().map_err(|_| unknown("clock", 0_u8))?;
                reader.end().map_err(|_| unknown("clock", 1_u8))?;
                let hash = item.h;
                Holds::Record { clock, hash }
            }
        };
        let place = Place {
            token: item.t,
            bucket: BucketId(item.b),
            key: frame.slice_ref(item.k),
        };
        Ok(Entry { place, holds })
    };
    Ok(TreeMessage::Leaves {
        entries: body
            .i
            .into_iter()
            .map(entry)
            .collect::<Result<_, DecodeError>>()?,
        more: body.m,
    })
}

fn pull(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let body: Keys<'_> = decode_body(frame)?;
    let places = body.i.iter().map(|key| place(frame, key)).collect();
    Ok(TreeMessage::Pull { places })
}

fn records(frame: &Bytes) -> Result<Vec<(Place, ReplicaState, u64)>, DecodeError> {
    let body: Records<'_> = decode_body(frame)?;
    let record = |item: Held<'_>| {
        let state = match item.s {
            ABSENT => ReplicaState::Absent,
            PRESENT => ReplicaState::Present(frame.slice_ref(item.r)),
            UNREADABLE => ReplicaState::Unreadable,
            code => return Err(unknown("replica state", code)),
        };
        let place = Place {
            token: item.t,
            bucket: BucketId(item.b),
            key: frame.slice_ref(item.k),
        };
        Ok((place, state, item.g))
    };
    body.i.into_iter().map(record).collect()
}

fn pulled(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let records = records(frame)?;
    Ok(TreeMessage::Pulled { records })
}

fn push(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let records = records(frame)?
        .into_iter()
        .map(|(place, state, generation)| match state {
            ReplicaState::Present(bytes) => Ok((place, bytes, generation)),
            ReplicaState::Absent | ReplicaState::Unreadable => {
                Err(unknown("replica state", ABSENT))
            }
        });
    Ok(TreeMessage::Push {
        records: records.collect::<Result<_, _>>()?,
    })
}

fn pushed(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let failed = decode_body::<Pushed>(frame)?.f;
    Ok(TreeMessage::Pushed { failed })
}

fn ask_roots(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let compare = decode_body::<AskRoots>(frame)?.compare;
    Ok(TreeMessage::AskRoots { compare })
}

fn roots(frame: &Bytes) -> Result<TreeMessage, DecodeError> {
    let body: Roots = decode_body(frame)?;
    let pairs = body.pairs.into_iter().map(|pair| PairReport {
        peer: NodeId::new(pair.peer),
        n: pair.n,
        root: pair.root,
        leads: pair.leads,
        generation: pair.generation,
        agreed_ms_ago: pair.agreed_ms_ago,
        behind_keys: pair.behind_keys,
        moved_keys: pair.moved_keys,
        moved_bytes: pair.moved_bytes,
        trouble: pair.trouble,
    });
    Ok(TreeMessage::Roots {
        ready: body.ready,
        hints: body.hints,
        generation: body.generation,
        pairs: pairs.collect(),
    })
}

#[cfg(test)]
mod tests;
