//! The chapters say what is so: bytes, tokens, rings and metrics in them are the code's own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and one of texts reads files"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use quorate_client::wire::{
    Frame, FrameReader, Hello, HelloReply, Request, Response, decode_body,
    frame::{self, kind},
};
use quorate_node::wire;
use quorate_ring::{Member, NodeId, Partition, Partitions, Ring, Token};

const PROTOCOL: &str = include_str!("../src/docs/protocol.md");
const OPERATIONS: &str = include_str!("../src/docs/operations.md");
const GOLDEN: [&str; 3] = [
    include_str!("../../client/tests/wire.rs"),
    include_str!("../src/wire/golden.rs"),
    include_str!("../src/wire/hint/tests.rs"),
];

/// What lies between fences of that kind.
fn blocks<'a>(text: &'a str, fence: &str) -> Vec<&'a str> {
    let parts = text.split(fence).skip(1);
    parts
        .map(|part| part.split("\n```").next().unwrap())
        .collect()
}

/// The bytes of a block of hex with comments after semicolons; none if it is something else.
fn bytes_of(block: &str) -> Option<Vec<u8>> {
    let lines = block.lines().map(|line| line.split(';').next().unwrap());
    let text: String = lines
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    if text.len() < 16 || !text.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    Some((0..text.len()).step_by(2).map(byte).collect())
}

fn hex(bytes: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15];
    let digits = bytes.iter().flat_map(digits);
    digits
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}

fn vectors() -> Vec<Vec<u8>> {
    let blocks = blocks(PROTOCOL, "```text\n");
    let bytes = blocks.into_iter().filter_map(bytes_of);
    bytes.filter(|bytes| !bytes.starts_with(b"QRNG")).collect()
}

/// What the code makes of the message in a frame.
fn encoded_again(frame: &Frame) -> Bytes {
    let mut out = BytesMut::new();
    match frame.kind {
        kind::HELLO => {
            let hello: Hello = decode_body(&frame.body).unwrap();
            frame::append(&mut out, frame.kind, frame.id, &hello).unwrap();
        }
        kind::HELLO_REPLY => {
            let reply: HelloReply = decode_body(&frame.body).unwrap();
            frame::append(&mut out, frame.kind, frame.id, &reply).unwrap();
        }
        kind::CANCEL => frame::append_cancel(&mut out, frame.id),
        kind::PEER_FIRST..=kind::PEER_LAST => {
            let message = wire::decode_frame(frame).unwrap();
            wire::append(&message, &mut out).unwrap();
        }
        number => match Request::decode(number, &frame.body) {
            Ok(request) => request.append_to(&mut out, frame.id).unwrap(),
            Err(_) => {
                let response = Response::decode(number, &frame.body).unwrap();
                response.append_to(&mut out, frame.id).unwrap();
            }
        },
    }
    out.freeze()
}

#[test]
fn every_frame_in_the_protocol_is_what_the_code_writes() {
    let golden: String = GOLDEN.concat();
    let golden: String = golden.split("\\\n").map(str::trim_start).collect();
    let vectors = vectors();
    let mut kinds = Vec::new();
    for bytes in &vectors {
        let mut reader = FrameReader::new();
        reader.feed(Bytes::copy_from_slice(bytes));
        let frame = reader.next_frame().unwrap();
        let frame = frame.unwrap_or_else(|| panic!("not a whole frame: {}", hex(bytes)));
        assert!(reader.is_at_boundary(), "kind {}", frame.kind);
        assert_eq!(
            hex(&encoded_again(&frame)),
            hex(bytes),
            "kind {}",
            frame.kind
        );
        assert!(
            golden.contains(&hex(bytes)),
            "kind {} is not golden",
            frame.kind
        );
        kinds.push(frame.kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert!(20 <= kinds.len(), "{kinds:?}");
}

/// The rows of the table with that heading.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let table = PROTOCOL.split(heading).nth(1).unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &str| -> Vec<String> {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect()
    };
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(3 <= rows.len(), "{heading}");
    rows
}

#[test]
fn tokens_and_ids_in_the_protocol_are_the_rings() {
    for row in rows("| seed | bucket | key | token | of 256 |") {
        let token = Token::of(row[0].parse().unwrap(), &row[1], row[2].as_bytes());
        let partition = Partitions::new(256).unwrap().of(token);
        assert_eq!(
            [&row[3], &row[4]],
            [&token.to_string(), &partition.0.to_string()]
        );
    }
    for row in rows("| name | id |") {
        assert_eq!(row[1], NodeId::of_name(&row[0]).to_string());
    }
}

#[test]
fn the_ring_in_the_protocol_is_the_code_s() {
    let member =
        |n: u8| Member::new(&format!("n{n}"), &format!("10.0.0.{n}:7400"), "default", 1).unwrap();
    let members = vec![member(1), member(2), member(3)];
    let ring = Ring::founding(members, Partitions::new(8).unwrap(), 42, 2).unwrap();
    let shown = blocks(PROTOCOL, "```text\n")
        .into_iter()
        .filter_map(bytes_of);
    let shown: Vec<_> = shown.filter(|bytes| bytes.starts_with(b"QRNG")).collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(hex(&shown[0]), hex(&ring.to_bytes()));

    // As the chapter says it is read: lists of two, after everything else, of indices by id.
    let lists = &shown[0][shown[0].len() - 2 * 8 * 2..];
    let mut members: Vec<_> = (1..=3).map(member).collect();
    members.sort_by_key(|member| member.id);
    for partition in 0..8 {
        let at = |place: usize| usize::from(lists[(partition * 2 + place) * 2]);
        let owners = [members[at(0)].id, members[at(1)].id];
        let number = u32::try_from(partition).unwrap();
        assert_eq!(ring.list(Partition(number)).owners(2), owners);
    }
}

fn sources_under(dir: &Path, found: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_under(&path, found);
        } else {
            found.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_metric_in_the_chapters_exists() {
    let mut sources = String::new();
    let shell = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/shell");
    sources_under(&shell, &mut sources);
    let words = OPERATIONS.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut metrics: Vec<&str> = words
        .filter_map(|word| word.strip_prefix("quorate_"))
        .collect();
    metrics.sort_unstable();
    metrics.dedup();
    assert!(20 <= metrics.len(), "{metrics:?}");
    for metric in metrics {
        let series = metric.strip_suffix("_bucket").unwrap_or(metric);
        let known = ["", "_total", "_seconds", "_info"].iter().any(|end| {
            let name = series.strip_suffix(end);
            name.is_some_and(|name| sources.contains(&format!("\"{name}\"")))
        });
        assert!(known, "there is no metric quorate_{metric}");
    }
}
