//! A context opens where it was sealed, unchanged, and nowhere else.

use proptest::prelude::*;

use super::sample;
use crate::causality::{BadContext, Context, ContextKey, OpId, SEEN_MAX};

const CLUSTER: u128 = 0xc1;
const BUCKET: u64 = 3;
const KEY: &[u8] = b"key";

fn secret() -> ContextKey {
    ContextKey::new([42; 32])
}

fn context() -> impl Strategy<Value = Context> {
    let op = (0..3_u64, any::<u128>()).prop_map(|(principal, id)| OpId { principal, id });
    let seen = prop::collection::vec(op, 0..6);
    (sample::clock(), seen).prop_map(|(clock, seen)| Context::new(clock, seen))
}

#[test]
fn a_secret_is_not_printed() {
    assert_eq!(format!("{:?}", secret()), "ContextKey(..)");
}

#[test]
fn a_context_keeps_its_bytes_while_its_format_is_1() {
    let held = sample::put(None, &mut sample::minter(1), 1, &[], Some("one"));
    let token = secret().seal(CLUSTER, BUCKET, KEY, &held.context());
    let hex = token.iter().map(|byte| format!("{byte:02x}"));
    let golden = include_str!("../../../../tests/fixtures/format-v1/context.hex");
    assert_eq!(hex.collect::<String>(), golden.trim_end());
}

#[test]
fn a_context_names_a_bounded_number_of_operations() {
    let seen = (0..1_000).map(sample::op).collect();
    let context = Context::new(crate::causality::Clock::new(), seen);
    assert_eq!(context.seen.len(), SEEN_MAX);
}

#[test]
fn an_unknown_format_is_named() {
    let mut token = secret()
        .seal(CLUSTER, BUCKET, KEY, &Context::default())
        .to_vec();
    token[0] = 3;
    let refused = secret().open(CLUSTER, BUCKET, KEY, &token);
    assert_eq!(refused, Err(BadContext::UnknownFormat(3)));
}

proptest! {
    #[test]
    fn a_sealed_context_opens_for_its_key(
        context in context(),
        key in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let token = secret().seal(CLUSTER, BUCKET, &key, &context);
        prop_assert_eq!(secret().open(CLUSTER, BUCKET, &key, &token), Ok(context));
    }

    #[test]
    fn a_context_opens_nowhere_else(
        context in context(),
        key in prop::collection::vec(any::<u8>(), 0..8),
        other in prop::collection::vec(any::<u8>(), 0..8),
        offset in 1..100_u64,
    ) {
        prop_assume!(key != other);
        let token = secret().seal(CLUSTER, BUCKET, &key, &context);
        let elsewhere = u128::from(offset);
        let open = |cluster, bucket, key: &[u8]| secret().open(cluster, bucket, key, &token);
        prop_assert_eq!(open(CLUSTER, BUCKET, &other), Err(BadContext::OtherKey));
        prop_assert_eq!(open(CLUSTER, BUCKET + offset, &key), Err(BadContext::NotOurs));
        prop_assert_eq!(open(CLUSTER + elsewhere, BUCKET, &key), Err(BadContext::NotOurs));
        let forger = ContextKey::new([43; 32]);
        let forged = forger.seal(CLUSTER, BUCKET, &key, &context);
        let refused = secret().open(CLUSTER, BUCKET, &key, &forged);
        prop_assert_eq!(refused, Err(BadContext::NotOurs));
    }

    #[test]
    fn an_edited_or_cut_or_longer_context_is_refused(
        context in context(),
        at: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let token = secret().seal(CLUSTER, BUCKET, KEY, &context);
        let index = at.index(token.len());
        let refused = |token: &[u8]| secret().open(CLUSTER, BUCKET, KEY, token).is_err();
        prop_assert!(refused(&token[..index]));
        let mut edited = token.to_vec();
        edited[index] ^= 1 << bit;
        prop_assert!(refused(&edited));
        let mut longer = token.to_vec();
        longer.insert(index, bit);
        prop_assert!(refused(&longer));
    }

    #[test]
    fn random_bytes_are_no_context(token in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(secret().open(CLUSTER, BUCKET, KEY, &token).is_err());
    }
}
