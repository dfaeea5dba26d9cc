//! What a session has seen, for another process of the same user.
//!
//! A version byte, then one `MessagePack` map. Nodes never see it: they are given the contexts in
//! it, one key at a time.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::decode_body;

const VERSION: u8 = 1;

/// A session's knowledge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionToken {
    /// The key used last comes last.
    pub keys: Vec<SeenKey>,
}

/// What was seen of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenKey {
    /// Name of the bucket.
    pub bucket: String,
    /// The key.
    pub key: Bytes,
    /// Sealed contexts.
    pub contexts: Vec<Bytes>,
    /// Replicas have it, not only fallbacks.
    pub settled: bool,
}

impl SessionToken {
    /// Appends the token's bytes.
    ///
    /// # Panics
    ///
    /// Never: memory takes everything.
    pub fn append_to(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        let body = rmp_serde::to_vec_named(self).expect("memory takes everything");
        out.extend_from_slice(&body);
    }

    /// Reads a token; none if that is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, body) = bytes.split_first()?;
        (*version == VERSION).then(|| decode_body(body).ok())?
    }
}
