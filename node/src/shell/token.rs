//! Bearer tokens for HTTP: who may do what, for people without a certificate at hand.
//!
//! A token is a name, a role and perhaps an end, authenticated with a key that every node derives
//! from the cluster's secret. So all nodes accept it without having heard of it, and nothing is
//! stored. That also means that every node has to be told which ones are taken back
//! (`revoked_tokens` in node.toml, by id); give them an end, so that the list can be short.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{ServeError, boot};
use crate::message::{Principal, Role};

/// Every token begins with this, so that people and scanners know one when they see it.
const PREFIX: &str = "quorate1.";
/// Authenticates tokens; another purpose needs another string.
const PURPOSE: &str = "quorate 2026 http token mac";
const MAC_BYTES: usize = 32;
/// Role, then the end in Unix seconds.
const HEAD_BYTES: usize = 9;
const TOKEN_CHARS_MAX: usize = 512;

/// Names a token to those who may not have it: 16 hex digits.
pub(crate) fn token_id(token: &str) -> String {
    let hash = blake3::hash(token.as_bytes()).to_hex();
    hash[..16].to_owned()
}

/// Makes and checks the tokens of one cluster.
#[derive(Clone)]
pub(crate) struct TokenKey([u8; 32]);

/// Why a token is not accepted. Says no more than its holder may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    #[error("that is no token of this cluster")]
    Foreign,
    #[error("the token has expired")]
    Expired,
}

impl TokenKey {
    /// From the cluster's secret.
    pub(super) fn of(secret: &[u8; 32]) -> Self {
        Self(blake3::derive_key(PURPOSE, secret))
    }

    /// From the file with the cluster's secret.
    pub(crate) fn load(path: &Path) -> Result<Self, ServeError> {
        Ok(Self::of(&boot::cluster_key(path)?))
    }

    /// A token for `principal`, until `expires` (Unix seconds) or for ever.
    pub(crate) fn seal(&self, principal: &Principal, expires: Option<u64>) -> String {
        let mut bytes = vec![principal.role as u8];
        bytes.extend(expires.unwrap_or(0).to_le_bytes());
        bytes.extend(principal.name.as_bytes());
        let mac = blake3::keyed_hash(&self.0, &bytes);
        bytes.extend(mac.as_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Whose token it is.
    pub(super) fn open(&self, token: &str, now: u64) -> Result<Principal, BadToken> {
        let text = token.strip_prefix(PREFIX).ok_or(BadToken::Foreign)?;
        if TOKEN_CHARS_MAX < text.len() {
            return Err(BadToken::Foreign);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text);
        let bytes = bytes.map_err(|_| BadToken::Foreign)?;
        let body = bytes.len().checked_sub(MAC_BYTES);
        let (body, mac) = bytes.split_at(body.ok_or(BadToken::Foreign)?);
        let mac: [u8; MAC_BYTES] = mac.try_into().map_err(|_| BadToken::Foreign)?;
        // Hashes compare in constant time.
        if blake3::keyed_hash(&self.0, body) != blake3::Hash::from_bytes(mac) {
            return Err(BadToken::Foreign);
        }
        let (head, name) = body.split_at_checked(HEAD_BYTES).ok_or(BadToken::Foreign)?;
        let role = [Role::Read, Role::Write, Role::Admin]
            .into_iter()
            .find(|role| *role as u8 == head[0]);
        let end: [u8; 8] = head[1..].try_into().map_err(|_| BadToken::Foreign)?;
        let end = u64::from_le_bytes(end);
        if end != 0 && end <= now {
            return Err(BadToken::Expired);
        }
        Ok(Principal {
            name: String::from_utf8(name.to_vec()).map_err(|_| BadToken::Foreign)?,
            role: role.ok_or(BadToken::Foreign)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal() -> Principal {
        Principal {
            name: "grafana".to_owned(),
            role: Role::Write,
        }
    }

    #[test]
    fn a_token_says_who_may_do_what() {
        let key = TokenKey::of(&[7; 32]);
        let token = key.seal(&principal(), None);
        assert_eq!(key.open(&token, u64::MAX), Ok(principal()));
        assert_eq!(
            TokenKey::of(&[8; 32]).open(&token, 0),
            Err(BadToken::Foreign)
        );
    }

    #[test]
    fn a_token_ends_when_it_says() {
        let key = TokenKey::of(&[7; 32]);
        let token = key.seal(&principal(), Some(100));
        assert_eq!(key.open(&token, 99), Ok(principal()));
        assert_eq!(key.open(&token, 100), Err(BadToken::Expired));
    }

    #[test]
    fn a_changed_token_is_no_token() {
        let key = TokenKey::of(&[7; 32]);
        let token = key.seal(&principal(), Some(100));
        let bytes = URL_SAFE_NO_PAD.decode(&token[PREFIX.len()..]).unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let bad = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bad));
            assert_eq!(key.open(&bad, 0), Err(BadToken::Foreign), "byte {at}");
        }
        for at in 0..token.len() {
            assert_eq!(key.open(&token[..at], 0), Err(BadToken::Foreign));
        }
    }
}
