//! The bytes of records: fixed for ever, and read without trust.

use proptest::prelude::*;

use super::*;
use crate::causality::{Minter, tests::sample};

const GOLDEN: &str = include_str!("../../../../tests/fixtures/format-v1/record.hex");
const BUCKET: u64 = 7;
const KEY: &[u8] = b"key";

fn golden() -> Record {
    let first = sample::put(None, &mut sample::minter(1), 1, &[], Some("hello"));
    let mut other = Minter::new(sample::uuid(2), 300, 400);
    let second = sample::put(None, &mut other, 2, &[], None);
    let mut container = first.clone();
    container.sync(&second).unwrap();
    let mut next = sample::write(3, Some("replaces hello"));
    next.context = first.context();
    next.expires_at_ms = Some(1_800_000_000_000);
    Record {
        container: sample::coordinated(Some(&container), &mut sample::minter(1), next),
        suspect: true,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

/// A header and a checksum that fit the body, whatever it is.
fn sealed(body: &[u8]) -> Bytes {
    let mut out = vec![MAGIC, RECORD_VERSION, 0, 0, 0, 0, 0];
    out.extend_from_slice(body);
    let crc = checksum(BUCKET, KEY, &out);
    out[3..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    Bytes::from(out)
}

#[test]
fn a_record_keeps_its_bytes_for_ever() {
    let record = golden();
    let bytes = encode(BUCKET, KEY, &record);
    assert_eq!(hex(&bytes), GOLDEN.trim_end());
    assert_eq!(decode(BUCKET, KEY, &bytes), Ok(record));
}

#[test]
fn every_flipped_bit_and_every_truncation_is_noticed() {
    let bytes = encode(BUCKET, KEY, &golden());
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(BUCKET, KEY, &Bytes::from(damaged)).is_err());
    }
    for length in 0..bytes.len() {
        assert!(decode(BUCKET, KEY, &bytes.slice(..length)).is_err());
    }
}

#[test]
fn a_newer_format_is_named() {
    let mut bytes = encode(BUCKET, KEY, &golden()).to_vec();
    bytes[1] = 9;
    let refused = decode(BUCKET, KEY, &Bytes::from(bytes));
    assert_eq!(refused, Err(CorruptRecord::UnknownVersion(9)));
}

#[test]
fn a_value_is_part_of_the_record_it_was_read_from() {
    let bytes = encode(BUCKET, KEY, &golden());
    let record = decode(BUCKET, KEY, &bytes).unwrap();
    let mut values = record
        .container
        .siblings()
        .filter_map(|(_, s)| s.value.as_ref());
    let inside = bytes.as_ptr_range();
    assert!(values.all(|value| inside.contains(&value.as_ptr())));
}

#[test]
fn other_shapes_of_the_same_content_are_refused() {
    // An empty record is three zero counts.
    assert_eq!(
        decode(BUCKET, KEY, &sealed(&[0, 0, 0])),
        Ok(Record::default())
    );
    let uuid = [7; 16];
    let clock = |entries: &[u8]| [&[1][..], &uuid, entries, &[0, 0]].concat();
    let malformed = Err(CorruptRecord::Malformed);
    for (body, why) in [
        (vec![0, 0, 0, 0], "trailing byte"),
        (vec![0x80, 0, 0, 0], "overlong count"),
        (clock(&[0]), "a node without epochs"),
        (clock(&[1, 5, 0]), "a counter of zero"),
        (clock(&[2, 5, 1, 0, 1]), "one epoch twice"),
        (
            [&[2][..], &uuid, &[1, 5, 1], &uuid, &[1, 6, 1], &[0, 0]].concat(),
            "split node",
        ),
        (
            vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0],
            "more entries than bytes",
        ),
    ] {
        assert_eq!(decode(BUCKET, KEY, &sealed(&body)), malformed, "{why}");
    }
    assert!(decode(BUCKET, KEY, &sealed(&clock(&[2, 5, 1, 1, 1]))).is_ok());
    let one = [&[0, 0, 1, 9][..], &[3; 8], &[1], &[4; 24], &[0]].concat();
    assert!(decode(BUCKET, KEY, &sealed(&one)).is_ok());
}

#[test]
fn an_object_key_sorts_by_token_and_reads_back() {
    let low = object_key(1, u64::MAX, b"z");
    let high = object_key(2, 0, b"");
    assert!(low < high);
    assert_eq!(parse_object_key(&low), Some((1, u64::MAX, &b"z"[..])));
    assert_eq!(parse_object_key(&high), Some((2, 0, &b""[..])));
    assert_eq!(parse_object_key(&low[..15]), None);
}

fn record() -> impl Strategy<Value = Record> {
    (sample::container(), any::<bool>())
        .prop_map(|(container, suspect)| Record { container, suspect })
}

proptest! {
    #[test]
    fn a_record_reads_back_as_it_was(
        record in record(),
        bucket: u64,
        key in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let bytes = encode(bucket, &key, &record);
        prop_assert_eq!(decode(bucket, &key, &bytes), Ok(record));
    }

    #[test]
    fn a_flipped_bit_or_a_missing_end_is_noticed(
        record in record(),
        at: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let bytes = encode(BUCKET, KEY, &record);
        let index = at.index(bytes.len());
        prop_assert!(decode(BUCKET, KEY, &bytes.slice(..index)).is_err());
        let mut damaged = bytes.to_vec();
        damaged[index] ^= 1 << bit;
        prop_assert!(decode(BUCKET, KEY, &Bytes::from(damaged)).is_err());
    }

    #[test]
    fn the_record_of_another_key_or_bucket_is_damaged(
        record in record(),
        bucket: u64,
        other_bucket: u64,
        key in prop::collection::vec(any::<u8>(), 0..20),
        other_key in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let bytes = encode(bucket, &key, &record);
        if bucket != other_bucket {
            prop_assert!(decode(other_bucket, &key, &bytes).is_err());
        }
        if key != other_key {
            prop_assert!(decode(bucket, &other_key, &bytes).is_err());
        }
    }

    #[test]
    fn random_bytes_are_refused_and_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        prop_assert!(decode(BUCKET, KEY, &Bytes::from(bytes)).is_err());
    }

    #[test]
    fn a_random_body_with_a_fitting_checksum_is_refused_or_canonical(
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = sealed(&body);
        if let Ok(record) = decode(BUCKET, KEY, &bytes) {
            prop_assert_eq!(encode(BUCKET, KEY, &record), bytes);
        }
    }

    #[test]
    fn an_edited_body_with_a_fitting_checksum_is_refused_or_canonical(
        record in record(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = encode(BUCKET, KEY, &record)[HEADER_BYTES..].to_vec();
        for (at, byte) in edits {
            let index = at.index(body.len());
            body[index] = byte;
        }
        let bytes = sealed(&body);
        if let Ok(record) = decode(BUCKET, KEY, &bytes) {
            prop_assert_eq!(encode(BUCKET, KEY, &record), bytes);
        }
    }
}
