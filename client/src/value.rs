//! What callers hold between operations: contexts and operation ids.
//!
//! Both are opaque here. A context says what its holder has seen of a key; only nodes can read it.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;

/// What has been seen of a key. Hand it back with the next write of that key, and the write
/// replaces exactly what was seen.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let written = client.put("default", "k", "first").send().await?;
/// client.put("default", "k", "second").context(&written.context).send().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Context(Bytes);

impl Context {
    /// Wraps the bytes of an answer.
    #[must_use]
    pub const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The bytes to send.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// A form without blanks or quotes, for command lines and json.
    ///
    /// ```
    /// # use quorate_client::Context;
    /// let context = Context::from_text("AAEC_w")?;
    /// assert_eq!(context.to_text(), "AAEC_w");
    /// # Ok::<(), quorate_client::TextError>(())
    /// ```
    #[must_use]
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    /// Reads [`to_text`](Self::to_text)'s form.
    pub fn from_text(text: &str) -> Result<Self, TextError> {
        match URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')) {
            Ok(bytes) => Ok(Self(bytes.into())),
            Err(_) => Err(TextError::Context),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} bytes)", self.0.len())
    }
}

/// Names one write. A write that is sent again under the same id is applied once.
///
/// ```
/// use quorate_client::OpId;
///
/// let id = OpId::from_bytes(*b"order 2026-00017");
/// assert_eq!(id.to_string().parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId([u8; 16]);

impl OpId {
    /// Wraps 16 bytes: random, or derived from whatever makes the operation the same.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for OpId {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TextError::OpId);
        }
        u128::from_str_radix(text, 16)
            .map(|id| Self(id.to_be_bytes()))
            .map_err(|_| TextError::OpId)
    }
}

/// Why a text is not what it should be.
///
/// ```
/// use quorate_client::{Context, OpId, TextError};
///
/// assert_eq!(Context::from_text("not one"), Err(TextError::Context));
/// assert_eq!("7".parse::<OpId>(), Err(TextError::OpId));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not the text of a context.
    #[error("a context is text as an earlier answer gave it (base64url)")]
    Context,
    /// Not the text of a session.
    #[error("a session is text as Session::to_text gave it (base64url)")]
    Session,
    /// Not the text of an operation id.
    #[error("an operation id is 32 hex digits")]
    OpId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_survives_its_text() {
        for bytes in [&b""[..], b"a", b"\xff\xfe\xfd", &[7; 100]] {
            let context = Context::from_bytes(Bytes::copy_from_slice(bytes));
            assert_eq!(Context::from_text(&context.to_text()), Ok(context));
        }
        assert_eq!(Context::from_text("a b"), Err(TextError::Context));
    }

    #[test]
    fn an_operation_id_survives_its_text() {
        let id = OpId::from_bytes(*b"0123456789abcdef");
        assert_eq!(id.to_string(), "30313233343536373839616263646566");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in [
            "",
            "12",
            "+0313233343536373839616263646566",
            "3031323334353637383961626364656g",
        ] {
            assert_eq!(bad.parse::<OpId>(), Err(TextError::OpId));
        }
    }
}
