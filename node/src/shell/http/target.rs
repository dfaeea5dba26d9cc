//! Which bucket and key a path names.
//!
//! A key is bytes: what no URL can hold is written as `%XX`. Everything after the bucket's slash is
//! the key, further slashes included.

use axum::http::Uri;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::Refusal;

/// A bucket, and a key unless the path ends with the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) bucket: String,
    pub(super) key: Option<Bytes>,
}

impl Target {
    /// Reads what follows `prefix` in a path.
    pub(super) fn of(uri: &Uri, prefix: &str) -> Result<Self, Refusal> {
        let path = uri.path().strip_prefix(prefix).unwrap_or_default();
        let (bucket, key) = match path.split_once('/') {
            Some((bucket, key)) => (bucket, Some(key)),
            None => (path, None),
        };
        let broken = || Refusal::bad("a % in a path is followed by two hex digits");
        let bucket = String::from_utf8(decode(bucket).ok_or_else(broken)?);
        let key = key.map(|key| decode(key).ok_or_else(broken)).transpose()?;
        Ok(Self {
            bucket: bucket.map_err(|_| Refusal::bad("a bucket's name is text"))?,
            key: key.map(Bytes::from),
        })
    }

    /// The key, which must be there.
    pub(super) fn key(&self) -> Result<Bytes, Refusal> {
        let key = self.key.clone();
        key.ok_or_else(|| Refusal::bad("this needs a key: /kv/BUCKET/KEY"))
    }
}

/// Undoes percent-encoding; a `+` is a plus.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

/// The parameters after the `?`; one that nobody knows is refused rather than ignored.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    let query = axum::extract::Query::<T>::try_from_uri(uri);
    match query {
        Ok(query) => Ok(query.0),
        Err(error) => Err(Refusal::bad(error.body_text())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Result<Target, Refusal> {
        Target::of(&path.parse().unwrap(), "/kv/")
    }

    #[test]
    fn a_key_is_any_bytes() {
        let target = of("/kv/b%20c/a/b%00%ff+?r=1").unwrap();
        assert_eq!(target.bucket, "b c");
        assert_eq!(target.key.unwrap(), &b"a/b\x00\xff+"[..]);
        assert_eq!(of("/kv/b").unwrap().key, None);
        assert_eq!(of("/kv/b/").unwrap().key, Some(Bytes::new()));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for path in ["/kv/b/%", "/kv/b/%f", "/kv/b/%zz", "/kv/%ff/k"] {
            assert!(of(path).is_err(), "{path}");
        }
    }
}
