//! The bytes of every message, and what happens to bytes that are none.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use quorate_client::wire::{
    BucketInfo, BucketOptions, BucketRequest, Condition, DecodeError, ErrorBody, ErrorCode,
    ExplainReply, ExplainRequest, FrameReader, GetReply, GetRequest, HealingReply, HealingRequest,
    Hello, HelloReply, KeyItem, KeysReply, KeysRequest, NodeStatus, PairStatus, ReplicaReport,
    Request, Response, RingReply, SeenKey, SessionToken, StatusReply, Version, WriteReply,
    WriteRequest, decode_body,
    frame::{self, kind},
};

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn frame_of(append: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    append(&mut out);
    out.freeze()
}

fn request_bytes(request: &Request) -> Bytes {
    frame_of(|out| request.append_to(out, 1).unwrap())
}

fn response_bytes(response: &Response) -> Bytes {
    frame_of(|out| response.append_to(out, 1).unwrap())
}

fn version() -> Version {
    Version {
        dot: "a:1".to_owned(),
        value: Some(bytes("v")),
        tombstone: false,
        written_at_ms: 5,
        op_id: bytes("0123456789abcdef"),
    }
}

fn write() -> WriteRequest {
    WriteRequest {
        bucket: "b".to_owned(),
        key: bytes("k"),
        value: Some(bytes("v")),
        context: Some(bytes("c")),
        w: Some(2),
        pw: None,
        sloppy: Some(true),
        op_id: bytes("0123456789abcdef"),
        retry: true,
        ttl_ms: Some(1000),
        condition: Condition::IfMatch,
        timeout_ms: 500,
    }
}

fn requests() -> Vec<(Request, &'static str)> {
    [requests_for_keys(), requests_for_buckets_and_nodes()].concat()
}

fn requests_for_keys() -> Vec<(Request, &'static str)> {
    vec![
        (
            Request::Get(GetRequest {
                bucket: "b".to_owned(),
                key: bytes("k"),
                r: Some(2),
                pr: None,
                seen: Vec::new(),
                timeout_ms: 500,
            }),
            "26000000010000010100000000000000\
             85a66275636b6574a162a36b6579c4016ba17202a27072c0aa74696d656f75745f6d73cd\
             01f4",
        ),
        (
            Request::Get(GetRequest {
                bucket: "b".to_owned(),
                key: bytes("k"),
                r: None,
                pr: None,
                seen: vec![bytes("c"), bytes("d")],
                timeout_ms: 500,
            }),
            "32000000010000010100000000000000\
             86a66275636b6574a162a36b6579c4016ba172c0a27072c0a47365656e92c40163c40164\
             aa74696d656f75745f6d73cd01f4",
        ),
        (
            Request::Put(write()),
            "7b000000020000010100000000000000\
         8ca66275636b6574a162a36b6579c4016ba576616c7565c40176a7636f6e74657874c401\
         63a17702a27077c0a6736c6f707079c3a56f705f6964c410303132333435363738396162\
         63646566a57265747279c3a674746c5f6d73cd03e8a9636f6e646974696f6ea56d617463\
         68aa74696d656f75745f6d73cd01f4",
        ),
        (
            Request::Delete(WriteRequest {
                value: None,
                condition: Condition::None,
                ..write()
            }),
            "78000000030000010100000000000000\
             8ca66275636b6574a162a36b6579c4016ba576616c7565c0a7636f6e74657874c40163a1\
             7702a27077c0a6736c6f707079c3a56f705f6964c4103031323334353637383961626364\
             6566a57265747279c3a674746c5f6d73cd03e8a9636f6e646974696f6ea46e6f6e65aa74\
             696d656f75745f6d73cd01f4",
        ),
    ]
}

#[test]
fn a_request_is_taken_back_under_its_id() {
    let bytes = frame_of(|out| frame::append_cancel(out, 1));
    let golden = "0100000029000001010000000000000080";
    assert_eq!(hex(&bytes), golden);
}

#[test]
fn what_a_session_has_seen_has_these_bytes() {
    let token = SessionToken {
        keys: vec![SeenKey {
            bucket: "b".to_owned(),
            key: bytes("k"),
            contexts: vec![bytes("c")],
            settled: true,
        }],
    };
    let bytes = frame_of(|out| token.append_to(out));
    let golden = "0181a46b6579739184a66275636b6574a162a36b6579c4016ba8636f6e746578747391\
                  c40163a7736574746c6564c3";
    assert_eq!(hex(&bytes), golden);
    assert_eq!(SessionToken::decode(&bytes), Some(token));
    for cut in 0..bytes.len() {
        assert_eq!(SessionToken::decode(&bytes[..cut]), None);
    }
}

fn requests_for_buckets_and_nodes() -> Vec<(Request, &'static str)> {
    vec![
        (
            Request::Keys(KeysRequest {
                bucket: "b".to_owned(),
                prefix: bytes("p"),
                cursor: bytes("c"),
                limit: 10,
                timeout_ms: 500,
            }),
            "33000000040000010100000000000000\
             85a66275636b6574a162a6707265666978c40170a6637572736f72c40163a56c696d6974\
             0aaa74696d656f75745f6d73cd01f4",
        ),
        (
            Request::Explain(ExplainRequest {
                bucket: "b".to_owned(),
                key: bytes("k"),
                timeout_ms: 500,
            }),
            "1f000000050000010100000000000000\
             83a66275636b6574a162a36b6579c4016baa74696d656f75745f6d73cd01f4",
        ),
        (
            Request::Bucket(BucketRequest {
                verb: "create".to_owned(),
                name: "b".to_owned(),
                options: BucketOptions {
                    n: Some(3),
                    mode: Some("lww".to_owned()),
                    ..BucketOptions::default()
                },
                timeout_ms: 500,
            }),
            "83000000060000010100000000000000\
             84a476657262a6637265617465a46e616d65a162a76f7074696f6e738ba16e03a172c0a1\
             77c0a27072c0a27077c0a6736c6f707079c0a46d6f6465a36c7777a674746c5f6d73c0af\
             76616c75655f62797465735f6d6178c0ad7369626c696e67735f7761726ec0ac7369626c\
             696e67735f6d6178c0aa74696d656f75745f6d73cd01f4",
        ),
        (
            Request::Ring,
            "01000000070000010100000000000000\
         80",
        ),
        (
            Request::Healing(HealingRequest {
                verb: "roots".to_owned(),
                bucket: "b".to_owned(),
                timeout_ms: 7,
                ..HealingRequest::default()
            }),
            "2100000017000001010000000000000083a476657262a5726f6f7473a6627563\
             6b6574a162aa74696d656f75745f6d7307",
        ),
        (
            Request::Status,
            "01000000080000010100000000000000\
         80",
        ),
    ]
}

fn bucket() -> BucketInfo {
    BucketInfo {
        name: "b".to_owned(),
        n: 3,
        r: 2,
        w: 2,
        pr: 0,
        pw: 0,
        sloppy: true,
        mode: "siblings".to_owned(),
        ttl_ms: 0,
        value_bytes_max: 1 << 20,
        siblings_warn: 25,
        siblings_max: 100,
    }
}

fn responses() -> Vec<(Response, &'static str)> {
    [answers_for_keys(), answers_for_buckets_and_nodes()].concat()
}

fn answers_for_keys() -> Vec<(Response, &'static str)> {
    vec![
        (
            Response::Got(GetReply {
                siblings: vec![version()],
                context: Some(bytes("c")),
                asked: 3,
                answered: 2,
                stand_ins: 0,
            }),
            "6b000000650000010100000000000000\
             84a87369626c696e67739185a3646f74a3613a31a576616c7565c40176a9746f6d627374\
             6f6e65c2ad7772697474656e5f61745f6d7305a56f705f6964c410303132333435363738\
             39616263646566a7636f6e74657874c40163a561736b656403a8616e73776572656402",
        ),
        (
            Response::Written(WriteReply {
                context: bytes("c"),
                siblings: vec![],
                durable_on: vec!["n1".to_owned()],
                stored_on: vec!["n1".to_owned(), "n2".to_owned()],
                primaries: 2,
                hinted: 0,
                op_id: bytes("0123456789abcdef"),
            }),
            "61000000660000010100000000000000\
             87a7636f6e74657874c40163a87369626c696e677390aa64757261626c655f6f6e91a26e\
             31a973746f7265645f6f6e92a26e31a26e32a97072696d617269657302a668696e746564\
             00a56f705f6964c41030313233343536373839616263646566",
        ),
        (
            Response::Keys(KeysReply {
                items: vec![KeyItem { key: bytes("k") }],
                cursor: Some(bytes("c")),
            }),
            "1a000000670000010100000000000000\
             82a56974656d739181a36b6579c4016ba6637572736f72c40163",
        ),
        (
            Response::Explained(ExplainReply {
                token: u64::MAX,
                partition: 7,
                replicas: vec![ReplicaReport {
                    node: "n1".to_owned(),
                    role: "primary".to_owned(),
                    state: "present".to_owned(),
                    versions: vec![],
                    clock: vec![("a".to_owned(), 1)],
                }],
                fallbacks: vec!["n4".to_owned()],
                hints: vec![],
            }),
            "6c000000680000010100000000000000\
             84a5746f6b656ecfffffffffffffffffa9706172746974696f6e07a87265706c69636173\
             9185a46e6f6465a26e31a4726f6c65a77072696d617279a57374617465a770726573656e\
             74a876657273696f6e7390a5636c6f636b9192a16101a966616c6c6261636b7391a26e34",
        ),
    ]
}

fn answers_for_buckets_and_nodes() -> Vec<(Response, &'static str)> {
    vec![
        (
            Response::Buckets(vec![bucket()]),
            "73000000690000010100000000000000\
         81a76275636b657473918ca46e616d65a162a16e03a17202a17702a2707200a2707700a6\
         736c6f707079c3a46d6f6465a87369626c696e6773a674746c5f6d7300af76616c75655f\
         62797465735f6d6178ce00100000ad7369626c696e67735f7761726e19ac7369626c696e\
         67735f6d617864",
        ),
        (
            Response::Ring(RingReply {
                ring: bytes("ring"),
                state: "stable".to_owned(),
            }),
            "190000006a0000010100000000000000\
             82a472696e67c40472696e67a57374617465a6737461626c65",
        ),
        (
            Response::Status(StatusReply {
                cluster_name: "dev".to_owned(),
                cluster_id: "00".to_owned(),
                epoch: 1,
                ring_state: "stable".to_owned(),
                nodes: vec![NodeStatus {
                    name: "n1".to_owned(),
                    ..NodeStatus::default()
                }],
            }),
            "e50000006b0000010100000000000000\
             85ac636c75737465725f6e616d65a3646576aa636c75737465725f6964a23030a565706f\
             636801aa72696e675f7374617465a6737461626c65a56e6f64657391de0010a46e616d65\
             a26e31a26964a0a761646472657373a0a57374617465a0a47a6f6e65a0a6776569676874\
             00b06f776e65645f6d696c6c696f6e74687300a565706f636800aa68696e74735f68656c\
             6400aa68696e74735f6f77656400a7636f727275707400ab626568696e645f6b65797300\
             aa6469736b5f627974657300a776657273696f6ea0ae757074696d655f7365636f6e6473\
             00aa72656275696c64696e67c2",
        ),
        (
            Response::Healing(HealingReply {
                reasons: vec!["r".to_owned()],
                pairs: vec![PairStatus::default()],
                ..HealingReply::default()
            }),
            "800000007b000001010000000000000084a9636f6e766572676564c2a7726561\
             736f6e7391a172a568696e747300a57061697273918aa46e6f6465a0a4706565\
             72a0a16e00a5657175616cc2a4646f6e65c2ad6167726565645f6d735f61676f\
             c0ab626568696e645f6b65797300aa6d6f7665645f6b65797300ab6d6f766564\
             5f627974657300a774726f75626c65a0",
        ),
        (
            Response::Error(ErrorBody {
                stored_on: vec!["n1".to_owned()],
                ..ErrorBody::overloaded("in_flight", "m")
            }),
            "390000006c0000010100000000000000\
             84a4636f6465aa6f7665726c6f61646564a76d657373616765a16da56c696d6974a9696e\
             5f666c69676874a973746f7265645f6f6e91a26e31",
        ),
    ]
}

#[test]
fn requests_have_these_bytes() {
    for (request, golden) in requests() {
        let encoded = request_bytes(&request);
        assert_eq!(hex(&encoded), golden, "{request:?}");
        let decoded = Request::decode(request.kind(), &encoded[frame::HEADER_BYTES..]).unwrap();
        assert_eq!(decoded, request);
    }
}

#[test]
fn answers_have_these_bytes() {
    for (response, golden) in responses() {
        let encoded = response_bytes(&response);
        assert_eq!(hex(&encoded), golden, "{response:?}");
        let decoded = Response::decode(response.kind(), &encoded[frame::HEADER_BYTES..]).unwrap();
        assert_eq!(decoded, response);
    }
}

#[test]
fn hello_and_its_answer_have_these_bytes() {
    let hello = Hello::new(7, "c1", 3);
    let encoded = frame_of(|out| frame::append(out, kind::HELLO, 0, &hello).unwrap());
    assert_eq!(
        hex(&encoded),
        "45000000e80300010000000000000000\
         85a970726f746f5f6d696e01a970726f746f5f6d617801a7636c7573746572c410000000\
         00000000000000000000000007a46e616d65a26331aa72696e675f65706f636803"
    );
    assert_eq!(decode_body::<Hello>(&encoded[16..]).unwrap(), hello);
    let reply = HelloReply::new(1, 7, "n1", 3);
    let encoded = frame_of(|out| frame::append(out, kind::HELLO_REPLY, 0, &reply).unwrap());
    assert_eq!(
        hex(&encoded),
        "36000000e90300010000000000000000\
     84a570726f746f01a7636c7573746572c41000000000000000000000000000000007a46e\
     6f6465a26e31aa72696e675f65706f636803"
    );
    assert_eq!(decode_body::<HelloReply>(&encoded[16..]).unwrap(), reply);
}

#[test]
fn every_kind_has_a_number_of_its_own() {
    let kinds = [
        (kind::GET, 1),
        (kind::PUT, 2),
        (kind::DELETE, 3),
        (kind::KEYS, 4),
        (kind::EXPLAIN, 5),
        (kind::BUCKET, 6),
        (kind::RING, 7),
        (kind::STATUS, 8),
        (kind::GOT, 101),
        (kind::WRITTEN, 102),
        (kind::KEYS_PAGE, 103),
        (kind::EXPLAINED, 104),
        (kind::BUCKETS, 105),
        (kind::RING_IS, 106),
        (kind::STATUS_IS, 107),
        (kind::ERROR, 108),
        (kind::HELLO, 1000),
        (kind::HELLO_REPLY, 1001),
    ];
    for (number, expected) in kinds {
        assert_eq!(number, expected);
    }
}

#[test]
fn bytes_travel_as_bytes_and_cost_almost_nothing() {
    let put = |size: usize| {
        request_bytes(&Request::Put(WriteRequest {
            value: Some(Bytes::from(vec![200; size])),
            ..write()
        }))
        .len()
    };
    let empty = put(0);
    assert_eq!(put(100) - empty, 100);
    assert_eq!(put(1000) - empty, 1000 + 1);
    assert_eq!(put(100_000) - empty, 100_000 + 3);
}

#[test]
fn an_unknown_kind_is_named() {
    assert!(matches!(
        Request::decode(kind::GOT, &[0x80]),
        Err(DecodeError::UnknownKind { kind: kind::GOT })
    ));
    assert!(matches!(
        Response::decode(9999, &[0x80]),
        Err(DecodeError::UnknownKind { kind: 9999 })
    ));
}

#[test]
fn bytes_after_the_body_are_refused() {
    for tail in [
        &[0xc0][..],
        &[0xc1],
        &[0x91],
        &[0xdd, 255, 255],
        &[0x00; 9],
        &[0xc2],
    ] {
        let mut body = vec![0x80];
        body.extend_from_slice(tail);
        assert!(
            matches!(
                Request::decode(kind::RING, &body),
                Err(DecodeError::TrailingBytes)
            ),
            "{tail:?}"
        );
    }
}

#[test]
fn unknown_fields_are_skipped_and_missing_ones_defaulted() {
    // {"bucket": "b", "key": bin "k", "timeout_ms": 5, "later": [1, {"x": nil}]}
    let body =
        b"\x84\xa6bucket\xa1b\xa3key\xc4\x01k\xaatimeout_ms\x05\xa5later\x92\x01\x81\xa1x\xc0";
    let expected = GetRequest {
        bucket: "b".to_owned(),
        key: bytes("k"),
        r: None,
        pr: None,
        seen: Vec::new(),
        timeout_ms: 5,
    };
    assert_eq!(
        Request::decode(kind::GET, body).unwrap(),
        Request::Get(expected)
    );
    // {"later": 1}
    assert_eq!(
        Request::decode(kind::STATUS, b"\x81\xa5later\x01").unwrap(),
        Request::Status
    );
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |depth: usize| {
        let mut body = b"\x81\xa5later".to_vec();
        body.extend(std::iter::repeat_n(0x91, depth));
        body.push(0xc0);
        Request::decode(kind::STATUS, &body)
    };
    assert!(nested(10).is_ok());
    assert!(matches!(nested(40), Err(DecodeError::Body(_))));
    assert!(matches!(nested(100_000), Err(DecodeError::Body(_))));
}

#[test]
fn announced_lengths_are_not_believed() {
    // A key of 4 GiB, a prefix as an array of 4 G numbers, 4 G siblings, and 4 G skipped elements:
    // each in a few bytes. Setting aside what they announce would take more memory than there is.
    let requests: [(u16, &[u8]); 3] = [
        (kind::GET, b"\x81\xa3key\xc6\xff\xff\xff\xff"),
        (kind::KEYS, b"\x81\xa6prefix\xdd\xff\xff\xff\xff"),
        (kind::STATUS, b"\x81\xa5later\xdd\xff\xff\xff\xff\x01"),
    ];
    for (kind, body) in requests {
        assert!(matches!(
            Request::decode(kind, body),
            Err(DecodeError::Body(_))
        ));
    }
    assert!(Response::decode(kind::GOT, b"\x81\xa8siblings\xdd\xff\xff\xff\xff").is_err());
    assert!(Response::decode(kind::BUCKETS, b"\xdf\xff\xff\xff\xff").is_err());
}

/// Every kind, known and unknown.
fn any_kind() -> impl Strategy<Value = u16> {
    prop_oneof![1_u16..=9, 101_u16..=109, any::<u16>()]
}

fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn any_write() -> impl Strategy<Value = WriteRequest> {
    (
        (".{0,20}", any_bytes(300), prop::option::of(any_bytes(3000))),
        prop::option::of(any_bytes(300)),
        any::<(Option<u8>, Option<u8>, Option<bool>, bool, Option<u64>, u32)>(),
        (any_bytes(17), 0_usize..3),
    )
        .prop_map(
            |((bucket, key, value), context, (w, pw, sloppy, retry, ttl_ms, timeout_ms), id)| {
                WriteRequest {
                    bucket,
                    key,
                    value,
                    context,
                    w,
                    pw,
                    sloppy,
                    op_id: id.0,
                    retry,
                    ttl_ms,
                    condition: [Condition::None, Condition::IfMatch, Condition::IfAbsent][id.1],
                    timeout_ms,
                }
            },
        )
}

fn any_got() -> impl Strategy<Value = GetReply> {
    let version = (
        ".{0,40}",
        prop::option::of(any_bytes(300)),
        any::<(bool, u64)>(),
    );
    (
        prop::collection::vec(version, 0..5),
        prop::option::of(any_bytes(300)),
        any::<(u8, u8, u8)>(),
    )
        .prop_map(
            |(siblings, context, (asked, answered, stand_ins))| GetReply {
                siblings: siblings
                    .into_iter()
                    .map(|(dot, value, (tombstone, written_at_ms))| Version {
                        dot,
                        value,
                        tombstone,
                        written_at_ms,
                        op_id: Bytes::new(),
                    })
                    .collect(),
                context,
                asked,
                answered,
                stand_ins,
            },
        )
}

proptest! {
    #[test]
    fn a_write_comes_back_as_it_went(write in any_write(), id in any::<u64>()) {
        let request = Request::Put(write);
        let mut out = BytesMut::new();
        request.append_to(&mut out, id).unwrap();
        let mut reader = FrameReader::new();
        reader.feed(out.freeze());
        let frame = reader.next_frame().unwrap().unwrap();
        prop_assert_eq!(frame.id, id);
        prop_assert_eq!(Request::decode(frame.kind, &frame.body).unwrap(), request);
    }

    #[test]
    fn an_answer_comes_back_as_it_went(got in any_got()) {
        let response = Response::Got(got);
        let encoded = response_bytes(&response);
        prop_assert_eq!(Response::decode(response.kind(), &encoded[16..]).unwrap(), response);
    }

    #[test]
    fn random_bodies_never_panic(
        kind in any_kind(),
        body in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let _ = Request::decode(kind, &body);
        let _ = Response::decode(kind, &body);
        let _ = decode_body::<Hello>(&body);
        let _ = decode_body::<HelloReply>(&body);
    }

    #[test]
    fn truncated_and_damaged_bodies_never_panic(
        which in 0_usize..16,
        cut in any::<prop::sample::Index>(),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let all: Vec<(u16, Bytes)> = requests()
            .iter()
            .map(|(request, _)| (request.kind(), request_bytes(request)))
            .chain(responses().iter().map(|(answer, _)| (answer.kind(), response_bytes(answer))))
            .collect();
        let (kind, encoded) = &all[which];
        let body = &encoded[16..];
        let cut = cut.index(body.len());
        prop_assert!(Request::decode(*kind, &body[..cut]).is_err());
        prop_assert!(Response::decode(*kind, &body[..cut]).is_err());
        let mut damaged = body.to_vec();
        let at = flip.0.index(damaged.len());
        damaged[at] ^= flip.1;
        let _ = Request::decode(*kind, &damaged);
        let _ = Response::decode(*kind, &damaged);
    }
}

#[test]
fn every_error_code_has_its_word_on_the_wire() {
    for code in [
        ErrorCode::InvalidArgument,
        ErrorCode::UnknownBucket,
        ErrorCode::BadContext,
        ErrorCode::NotAvailableYet,
        ErrorCode::NotFound,
        ErrorCode::UnknownOutcome,
        ErrorCode::Unavailable,
        ErrorCode::Overloaded,
        ErrorCode::Conflict,
        ErrorCode::TooManySiblings,
        ErrorCode::OpIdReused,
        ErrorCode::Denied,
        ErrorCode::Internal,
    ] {
        let encoded = response_bytes(&Response::Error(ErrorBody::new(code, "")));
        let word = code.as_str().as_bytes();
        assert!(encoded.windows(word.len()).any(|window| window == word));
    }
}
