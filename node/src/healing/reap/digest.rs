//! What has to be the same at all owners: versions and clock of a key.
//!
//! Not the operation ids that are remembered, which each replica forgets at its own time. Of a
//! version it is the dot and whether the value is still there: one dot is one version, and a value
//! that has expired is removed by each replica at its own time.

use bytes::{BufMut as _, BytesMut};
use xxhash_rust::xxh3::xxh3_128;

use crate::causality::{Container, codec};

/// Equal for equal versions and clocks.
pub(crate) fn digest(container: &Container) -> u128 {
    let mut out = BytesMut::with_capacity(256);
    codec::put_clock(&mut out, container.clock());
    for (dot, sibling) in container.siblings() {
        out.put_u128_le(dot.actor.uuid.get());
        out.put_u64_le(dot.actor.epoch);
        out.put_u64_le(dot.n);
        out.put_u8(u8::from(sibling.value.is_some()));
    }
    xxh3_128(&out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::tests::sample::{minter, put};

    #[test]
    fn a_value_that_was_removed_makes_a_difference_and_remembered_ids_do_not() {
        let mut minter = minter(1);
        let one = put(None, &mut minter, 1, &[], Some("milk"));
        let two = put(Some(&one), &mut minter, 2, &[], None);
        assert_ne!(digest(&one), digest(&two));
        assert_eq!(digest(&one), digest(&one.clone()));
    }
}
