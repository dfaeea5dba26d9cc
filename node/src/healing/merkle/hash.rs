//! What a record adds to its leaf: a keyed hash of its bucket, key, versions and clock.
//!
//! Operation ids that were superseded are left out: every node forgets them at its own time. A
//! record without any history adds nothing, as if it were absent. One that cannot be read adds
//! something that no other node can have, so that it never looks absent and never equal; one whose
//! history is doubted adds that on top. Of a version that expires the value is left out, and its
//! request's hash stands for it: each replica removes the value at its own time.

use std::fmt;

use bytes::{BufMut as _, BytesMut};
use quorate_ring::NodeId;
use xxhash_rust::xxh3::xxh3_64_with_secret;

use crate::{
    causality::{Container, ContextKey, Stamp, codec},
    replica::Held,
};

const SECRET_BYTES: usize = 192;
/// Longer values are hashed by themselves instead of being copied.
const INLINE_MAX: usize = 512;

/// Hashes records under the cluster's secret.
pub(crate) struct Hasher {
    secret: [u8; SECRET_BYTES],
    me: NodeId,
    scratch: BytesMut,
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

impl Hasher {
    pub(crate) fn new(cluster: &ContextKey, me: NodeId) -> Self {
        let mut secret = [0; SECRET_BYTES];
        cluster.derive("leaf hashes", &mut secret);
        Self {
            secret,
            me,
            scratch: BytesMut::new(),
        }
    }

    /// What a key's state adds to its leaf.
    pub(crate) fn held(&mut self, bucket: u64, key: &[u8], held: &Held) -> u64 {
        match held {
            Held::Absent => 0,
            Held::Unreadable => self.doubt(bucket, key),
            Held::Present(stored) => *stored.sum.get_or_init(|| {
                let state = self.state(bucket, key, &stored.record.container);
                if stored.record.suspect {
                    state.wrapping_add(self.doubt(bucket, key))
                } else {
                    state
                }
            }),
        }
    }

    /// Versions and clock of a key. Zero if there are none.
    pub(crate) fn state(&mut self, bucket: u64, key: &[u8], container: &Container) -> u64 {
        if container.clock().is_empty() {
            return 0;
        }
        self.begin(bucket, key);
        codec::put_clock(&mut self.scratch, container.clock());
        for (dot, sibling) in container.siblings() {
            let lasts = sibling.expires_at_ms.is_none();
            let value = sibling.value.as_ref().filter(|_| lasts);
            let out = &mut self.scratch;
            out.put_u128_le(dot.actor.uuid.get());
            out.put_u64_le(dot.actor.epoch);
            out.put_u64_le(dot.n);
            out.put_u64_le(sibling.op.principal);
            out.put_u128_le(sibling.op.id);
            out.put_u64_le(sibling.request_hash);
            out.put_u64_le(sibling.written_at_ms);
            out.put_u64_le(sibling.expires_at_ms.map_or(0, |at| at.saturating_add(1)));
            out.put_u64_le(sibling.stamp.map_or(0, Stamp::get));
            out.put_u64_le(value.map_or(u64::MAX, |value| value.len() as u64));
            match value {
                Some(value) if value.len() <= INLINE_MAX => out.put_slice(value),
                Some(value) => out.put_u64_le(xxh3_64_with_secret(value, &self.secret)),
                None => {}
            }
        }
        self.finish()
    }

    /// What only this node can add.
    pub(crate) fn doubt(&mut self, bucket: u64, key: &[u8]) -> u64 {
        self.begin(bucket, key);
        self.scratch.put_u64_le(self.me.get());
        self.finish()
    }

    /// What only this node can add, for a leaf in which not even the keys can be read.
    pub(crate) fn doubt_of_leaf(&mut self, leaf: u32) -> u64 {
        self.doubt(u64::MAX, &leaf.to_le_bytes())
    }

    fn begin(&mut self, bucket: u64, key: &[u8]) {
        self.scratch.clear();
        self.scratch.put_u64_le(bucket);
        self.scratch.put_u64_le(key.len() as u64);
        self.scratch.put_slice(key);
    }

    fn finish(&mut self) -> u64 {
        xxh3_64_with_secret(&self.scratch, &self.secret).max(1)
    }
}
