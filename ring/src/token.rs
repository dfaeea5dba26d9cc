//! Tokens: where on the ring a key lies.
//!
//! The token of (bucket, key) is the low 64 bits of murmur3 x64 128 over the bucket's length in
//! bytes (u16, little-endian), the bucket's name and the key, with the cluster's 32-bit seed. The
//! length keeps ("ab", "c") apart from ("a", "bc"). The seed separates clusters and defends
//! nothing: murmur3 can be made to collide for any seed, so keys aimed at one partition are a
//! matter of admission, not of hashing.

use std::{
    fmt,
    io::{Cursor, Read},
};

/// A point on the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// Wraps a token read from the wire or from disk.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The token of a key.
    ///
    /// # Panics
    ///
    /// If the bucket's name is longer than 65,535 bytes; names are checked long before.
    #[must_use]
    pub fn of(seed: u32, bucket: &str, key: &[u8]) -> Self {
        let length = u16::try_from(bucket.len()).expect("bucket names are short");
        let length = length.to_le_bytes();
        let mut bytes = Cursor::new(&length[..])
            .chain(Cursor::new(bucket.as_bytes()))
            .chain(Cursor::new(key));
        Self::hash(&mut bytes, seed)
    }

    fn hash(bytes: &mut impl Read, seed: u32) -> Self {
        let hash = murmur3::murmur3_x64_128(bytes, seed).expect("reading from memory cannot fail");
        #[expect(clippy::cast_possible_truncation, reason = "the low half is the token")]
        Self(hash as u64)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur3_gives_the_published_answer() {
        let hash = murmur3::murmur3_x64_128(&mut Cursor::new(b"hello"), 0).unwrap();
        assert_eq!(hash, 0x5b1e_906a_48ae_1d19_cbd8_a7b3_41bd_9b02);
        assert_eq!(
            Token::hash(&mut Cursor::new(b"hello"), 0).get(),
            0xcbd8_a7b3_41bd_9b02
        );
    }

    #[test]
    fn a_token_is_the_hash_of_length_bucket_and_key() {
        for (bucket, key) in [
            ("b", &b"k"[..]),
            ("default", b""),
            ("a-long-bucket-name", &[7; 100]),
        ] {
            let mut bytes = vec![u8::try_from(bucket.len()).unwrap(), 0];
            bytes.extend_from_slice(bucket.as_bytes());
            bytes.extend_from_slice(key);
            let whole = Token::hash(&mut Cursor::new(&bytes), 42);
            assert_eq!(Token::of(42, bucket, key), whole);
        }
    }

    #[test]
    fn buckets_and_seeds_separate_keys() {
        assert_ne!(Token::of(1, "ab", b"c"), Token::of(1, "a", b"bc"));
        assert_ne!(Token::of(1, "a", b"b"), Token::of(2, "a", b"b"));
    }
}
