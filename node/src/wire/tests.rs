//! What was written is read; what nobody wrote is refused.

use std::time::Duration;

use proptest::prelude::*;
use quorate_client::wire::{
    Condition, ErrorBody, ErrorCode, NodeStatus, Response, WriteRequest,
    frame::{BODY_BYTES_MAX, HEADER_BYTES},
};
use quorate_gossip::{Kind, Message as Gossip, State, Update};
use quorate_ring::{NodeId, NodeUuid, RingEpoch};

use super::*;
use crate::{
    identity::Lives,
    message::{BucketId, Principal, ReplicaState, Role, ScannedKey, Verdict},
    register::{Introduction, Opinion, Trace},
};

const ID: RpcId = RpcId(0x0102);
const KEY: Bytes = Bytes::from_static(b"key");
const RECORD: Bytes = Bytes::from_static(b"\x00record");

fn update(node: u64, state: State) -> Update {
    Update {
        node: NodeId::new(node),
        uuid: NodeUuid::new(0xabcd),
        boot: 2,
        incarnation: 5,
        state,
    }
}

fn write() -> WriteRequest {
    WriteRequest {
        bucket: "default".to_owned(),
        key: KEY,
        value: Some(Bytes::from_static(b"value")),
        context: Some(Bytes::from_static(b"context")),
        w: Some(2),
        pw: Some(0),
        sloppy: Some(true),
        op_id: Bytes::from_static(&[7; 16]),
        retry: true,
        ttl_ms: Some(60_000),
        condition: Condition::IfMatch,
        timeout_ms: 5_000,
    }
}

/// At least one message of each kind, with every shape its fields can take.
pub(super) fn samples() -> Vec<Message> {
    let mut all = hot();
    all.extend(rare());
    all.extend(gossip());
    all.extend(greetings());
    all.extend(brief());
    all
}

fn brief() -> [Message; 2] {
    let ask = Message::Fetch {
        id: ID,
        epoch: RingEpoch::FIRST,
        bucket: BucketId(1),
        token: 3,
        key: KEY,
        whole_max: Some(4_096),
    };
    let answer = Message::Fetched {
        id: ID,
        state: ReplicaState::Present(RECORD),
        suspect: false,
        brief: true,
        generation: 0,
    };
    [ask, answer]
}

fn hot() -> Vec<Message> {
    let verdicts = [
        Verdict::Durable,
        Verdict::Stored,
        Verdict::Overloaded("store_queue_bytes".to_owned()),
        Verdict::Failed("poisoned".to_owned()),
    ];
    let states = [
        ReplicaState::Absent,
        ReplicaState::Present(RECORD),
        ReplicaState::Unreadable,
    ];
    let mut all = vec![
        Message::Replicate {
            id: ID,
            epoch: RingEpoch::FIRST,
            bucket: BucketId(1),
            token: u64::MAX,
            key: KEY,
            record: RECORD,
            generation: 0,
        },
        Message::Fetch {
            id: ID,
            epoch: RingEpoch::FIRST,
            bucket: BucketId(1),
            token: 3,
            key: KEY,
            whole_max: None,
        },
    ];
    all.extend(verdicts.map(|verdict| Message::Replicated { id: ID, verdict }));
    all.extend(states.map(|state| Message::Fetched {
        id: ID,
        suspect: state == ReplicaState::Absent,
        state,
        brief: false,
        generation: 0,
    }));
    all
}

fn rare() -> Vec<Message> {
    let error = ErrorBody::new(ErrorCode::Conflict, "no");
    let report = |catalogue| Message::StatusReport {
        id: ID,
        status: Box::new(NodeStatus {
            name: "n1".to_owned(),
            weight: 4,
            ..NodeStatus::default()
        }),
        catalogue,
        wall_ms: 0,
    };
    vec![
        Message::Forward {
            id: ID,
            principal: Principal {
                name: "ann".to_owned(),
                role: Role::Write,
            },
            budget: Duration::from_millis(4_999),
            write: write(),
            stand_in: false,
        },
        Message::Forwarded {
            id: ID,
            response: Response::Error(error),
        },
        Message::Scan {
            id: ID,
            epoch: RingEpoch::new(0),
            bucket: BucketId(1),
            first: 0,
            last: u64::MAX,
            after: Some((9, KEY)),
            prefix: Bytes::from_static(b"k"),
            limit: 100,
        },
        Message::Scanned {
            id: ID,
            items: vec![ScannedKey {
                token: 9,
                key: KEY,
                record: RECORD,
            }],
            more: true,
            error: None,
        },
        Message::Scanned {
            id: ID,
            items: Vec::new(),
            more: false,
            error: Some("unreadable".to_owned()),
        },
        Message::Catalogue {
            id: ID,
            catalogue: RECORD,
        },
        Message::Members {
            id: ID,
            members: Bytes::from_static(b"members"),
        },
        Message::CatalogueStored { id: ID, hash: 11 },
        Message::Status {
            id: ID,
            catalogue_hash: 11,
        },
        report(Some(RECORD)),
        report(None),
    ]
}

fn gossip() -> Vec<Message> {
    let message = |kind, updates| {
        Message::Gossip(Gossip {
            kind,
            me: update(1, State::Up),
            updates,
        })
    };
    let request = Kind::PingRequest {
        number: 8,
        target: NodeId::new(2),
    };
    let page = Kind::Push {
        first: NodeId::new(1),
        last: NodeId::new(9),
    };
    vec![
        message(Kind::Ping(8), Vec::new()),
        message(Kind::Ack(8), vec![update(2, State::Suspect)]),
        message(request, vec![update(3, State::Down)]),
        message(Kind::Nack(8), Vec::new()),
        message(page, vec![update(2, State::Up)]),
        message(Kind::Pull, vec![update(2, State::Down)]),
    ]
}

fn greetings() -> Vec<Message> {
    let lives = Lives::default().and(0x11).and(0x22);
    let (uuid, boot) = (NodeUuid::new(0xabcd), 2);
    let who = Introduction { uuid, boot, lives };
    let trace = Trace {
        node: NodeId::new(3),
        uuid: NodeUuid::new(0xef),
        number: 7,
        mark: 8,
        burnt: true,
    };
    let greet = |left, heard| Message::Greet {
        id: RpcId(0),
        who,
        left,
        heard,
    };
    vec![
        greet(None, Vec::new()),
        greet(Some(NodeUuid::new(1)), vec![trace]),
        Message::Greeted {
            id: RpcId(0),
            uuid,
            number: 2,
            mark: 0x22,
            opinion: Opinion::Refused,
            epoch: RingEpoch::new(4),
            counts: false,
        },
        Message::Greeted {
            id: RpcId(0),
            uuid,
            number: 3,
            mark: 0x33,
            opinion: Opinion::Welcome,
            epoch: RingEpoch::new(5),
            counts: true,
        },
    ]
}

#[test]
fn every_message_survives_its_bytes() {
    for message in samples() {
        assert_eq!(decode(&encode(&message).unwrap()).unwrap(), message);
    }
}

#[test]
fn bytes_are_bytes_on_the_wire_and_not_arrays_of_numbers() {
    let record = Bytes::from(vec![200; 1_000]);
    let message = Message::Replicate {
        id: ID,
        epoch: RingEpoch::FIRST,
        bucket: BucketId(1),
        token: u64::MAX,
        key: KEY,
        record,
        generation: 0,
    };
    assert_eq!(encode(&message).unwrap().len(), 1_000 + 46);
}

#[test]
fn keys_and_records_are_slices_of_the_frame() {
    let bytes = encode(&samples()[0]).unwrap();
    let Message::Replicate { key, record, .. } = decode(&bytes).unwrap() else {
        panic!("the first sample is a Replicate");
    };
    let range = bytes.as_ptr_range();
    assert!(range.contains(&key.as_ptr()) && range.contains(&record.as_ptr()));
}

#[test]
fn a_cut_or_padded_frame_is_refused() {
    for message in samples() {
        let whole = encode(&message).unwrap();
        for end in 0..whole.len() {
            assert!(decode(&whole.slice(..end)).is_err());
            // The header made to fit what is left of the body.
            if HEADER_BYTES <= end {
                let mut cut = BytesMut::from(&whole[..end]);
                let length = u32::try_from(end - HEADER_BYTES).unwrap();
                cut[..4].copy_from_slice(&length.to_le_bytes());
                assert!(decode(&cut.freeze()).is_err(), "{message:?} cut at {end}");
            }
        }
        let mut padded = BytesMut::from(&whole[..]);
        padded.extend_from_slice(&[0xc0]);
        let length = u32::try_from(padded.len() - HEADER_BYTES).unwrap();
        padded[..4].copy_from_slice(&length.to_le_bytes());
        assert!(decode(&padded.freeze()).is_err(), "{message:?} padded");
    }
}

#[test]
fn names_from_a_later_release_are_skipped() {
    #[derive(serde::Serialize)]
    struct Later {
        v: u8,
        later: Vec<u8>,
    }
    let mut out = BytesMut::new();
    let body = Later {
        v: 1,
        later: vec![1, 2, 3],
    };
    append_body(&mut out, kind::REPLICATED, ID, &body).unwrap();
    let verdict = Verdict::Durable;
    assert_eq!(
        decode(&out.freeze()).unwrap(),
        Message::Replicated { id: ID, verdict }
    );
}

#[derive(serde::Serialize)]
struct NewVerdict {
    v: u8,
}

#[test]
fn unknown_kinds_and_codes_are_errors() {
    let mut out = BytesMut::new();
    append_body(&mut out, 999, ID, &()).unwrap();
    assert!(matches!(
        decode(&out.freeze()),
        Err(DecodeError::Body(
            quorate_client::wire::DecodeError::UnknownKind { kind: 999 }
        ))
    ));
    let mut out = BytesMut::new();
    append_body(&mut out, kind::REPLICATED, ID, &NewVerdict { v: 9 }).unwrap();
    assert!(matches!(
        decode(&out.freeze()),
        Err(DecodeError::UnknownCode { code: 9, .. })
    ));
}

#[test]
fn a_record_over_the_limit_is_refused_and_the_buffer_left_alone() {
    let message = Message::Catalogue {
        id: ID,
        catalogue: Bytes::from(vec![0; BODY_BYTES_MAX]),
    };
    let mut out = BytesMut::from(&b"before"[..]);
    assert!(append(&message, &mut out).is_err());
    assert_eq!(&out[..], b"before");
}

/// Lengths that promise up to 4 GiB, and nesting, in every place of every kind's body.
#[test]
fn hostile_lengths_are_refused() {
    let hostile: [&[u8]; 6] = [
        b"\xc6\xff\xff\xff\xff",              // bin of 4 GiB
        b"\xdd\xff\xff\xff\xff",              // array of 4 G items
        b"\xdf\xff\xff\xff\xff",              // map of 4 G entries
        b"\x81\xa5items\xdd\xff\xff\xff\xff", // the items of a scan
        b"\x81\xa1u\xdd\xff\xff\xff\xff",     // the news of gossip
        &[0x91; 4_000],                       // arrays in arrays
    ];
    for kind in (200..=240).chain([0, 999, u16::MAX]) {
        for body in hostile {
            let frame = Frame {
                kind,
                flags: 0,
                id: 1,
                body: Bytes::from_static(body),
            };
            assert!(decode_frame(&frame).is_err());
        }
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let replicate = (any::<(u64, u64, u64, u64, u64)>(), bytes(), bytes()).prop_map(
        |((id, epoch, bucket, token, generation), key, record)| Message::Replicate {
            id: RpcId(id),
            epoch: RingEpoch::new(epoch),
            bucket: BucketId(bucket),
            token,
            key,
            record,
            generation,
        },
    );
    let fetched = (any::<(u64, bool, u8, u64)>(), bytes());
    let fetched = fetched.prop_map(
        |((id, suspect, state, generation), record)| Message::Fetched {
            id: RpcId(id),
            suspect,
            brief: state % 3 == 1 && generation % 2 == 1,
            generation,
            state: match state % 3 {
                0 => ReplicaState::Absent,
                1 => ReplicaState::Present(record),
                _ => ReplicaState::Unreadable,
            },
        },
    );
    let scanned = (any::<(u64, bool)>(), any::<Option<String>>());
    let items = prop::collection::vec((any::<u64>(), bytes(), bytes()), 0..5);
    let scanned = (scanned, items).prop_map(|(((id, more), error), items)| Message::Scanned {
        id: RpcId(id),
        items: items
            .into_iter()
            .map(|(token, key, record)| ScannedKey { token, key, record })
            .collect(),
        more,
        error,
    });
    let forward = (any::<(u64, u32, u32)>(), any::<String>(), bytes());
    let forward = forward.prop_map(|((id, budget, timeout_ms), name, value)| Message::Forward {
        id: RpcId(id),
        principal: Principal {
            name,
            role: Role::Admin,
        },
        budget: Duration::from_micros(u64::from(budget)),
        write: WriteRequest {
            value: Some(value),
            timeout_ms,
            ..WriteRequest::default()
        },
        stand_in: timeout_ms % 2 == 0,
    });
    prop_oneof![replicate, fetched, scanned, forward]
}

proptest! {
    #[test]
    fn any_message_survives_its_bytes(message in messages()) {
        prop_assert_eq!(decode(&encode(&message).unwrap()).unwrap(), message);
    }

    #[test]
    fn random_bytes_never_panic(
        kind in 195_u16..235,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let body = Bytes::from(body);
        let _ = decode(&body);
        let _ = decode_frame(&Frame { kind, flags: 0, id: 1, body });
    }

    #[test]
    fn a_flipped_byte_never_panics(
        which in any::<usize>(),
        at in any::<usize>(),
        to in any::<u8>(),
    ) {
        let samples = samples();
        let message = &samples[which % samples.len()];
        let mut bytes = BytesMut::from(&encode(message).unwrap()[..]);
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = decode(&bytes.freeze());
    }
}
