//! Who may ask: the name a request used for us, and the token it carries.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header, uri::Authority},
};

use super::{Refusal, Web};
use crate::{message::Principal, shell::token::token_id};

impl Web {
    /// Whose token a request carries. Roles are checked by the node.
    pub(super) fn principal(&self, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let refuse = |message: &str| {
            let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "denied", message);
            Err(refusal.with(header::WWW_AUTHENTICATE, "Bearer realm=\"quorate\""))
        };
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return refuse(
                "this needs the header `Authorization: Bearer TOKEN`; `quorate tls token` makes \
                 tokens, and `quorate dev` has left one in its directory",
            );
        };
        let given = given.to_str().unwrap_or_default();
        let (scheme, token) = given.split_once(' ').unwrap_or((given, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return refuse("the only scheme of authorization here is Bearer");
        }
        let now = self.host.clock.now().wall_ms / 1_000;
        let token = token.trim();
        match self.tokens.open(token, now) {
            // Asked of good tokens only, so that a bad one learns nothing.
            Ok(_) if self.revoked.contains(&token_id(token)) => {
                refuse("the token has been taken back")
            }
            Ok(principal) => Ok(principal),
            Err(error) => refuse(&error.to_string()),
        }
    }
}

/// True if a request calls us by a name that only we can have.
pub(super) fn is_for_us(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let authority = request.uri().authority().map(Authority::as_str);
    host.to_str().is_ok_and(is_own_host) && authority.is_none_or(is_own_host)
}

/// An address, or `localhost`, with or without a port. A name could be anybody's.
fn is_own_host(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, _)) => address,
            None => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_ours() {
        for host in [
            "localhost",
            "LOCALHOST:8400",
            "127.0.0.1:8400",
            "[::1]:8400",
            "10.0.0.7",
        ] {
            assert!(is_own_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8400",
            "localhost.evil.example",
            "user@127.0.0.1",
            "[::1",
        ] {
            assert!(!is_own_host(host), "{host}");
        }
    }
}
