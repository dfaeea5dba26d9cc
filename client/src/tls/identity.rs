//! Who a certificate names.
//!
//! A certificate carries exactly one URI `quorate://<cluster id>/<role>/<name>`. It is read here;
//! whether the certificate can be trusted is decided by the verifiers, before this is asked.

use std::fmt;

use quorate_ring::NAME_BYTES_MAX;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// Scheme of the URI, with its slashes.
const SCHEME: &str = "quorate://";

/// What a certificate's owner may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read keys.
    Read,
    /// Read and write keys.
    Write,
    /// Everything a person may do.
    Admin,
    /// Be a member of the cluster.
    Node,
}

impl Role {
    /// The word in the certificate.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Node => "node",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::Admin, Self::Node]
            .into_iter()
            .find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the URI in a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: u128,
    /// What the owner may do.
    pub role: Role,
    /// The owner; for a node its name in the ring.
    pub name: String,
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate at all.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// No URI of ours, or several.
    #[error("the certificate names {0} identities of the form quorate://, it must be one")]
    NotOne(usize),
    /// A URI of ours that is malformed.
    #[error("{0:?} is not of the form quorate://<32 hex digits>/<role>/<name>")]
    Malformed(String),
}

impl Identity {
    /// Reads the identity in a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| IdentityError::Unreadable)?;
        let ours: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| {
                let GeneralName::URI(uri) = name else {
                    return None;
                };
                uri.starts_with(SCHEME).then_some(*uri)
            })
            .collect();
        match ours[..] {
            [uri] => Self::from_uri(uri),
            _ => Err(IdentityError::NotOne(ours.len())),
        }
    }

    /// Reads the URI itself.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Malformed(uri.chars().take(120).collect());
        let rest = uri.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let mut parts = rest.split('/');
        let (Some(cluster), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if cluster.len() != 32 || !cluster.bytes().all(lower_hex) || !is_name(name) {
            return Err(malformed());
        }
        Ok(Self {
            cluster: u128::from_str_radix(cluster, 16).map_err(|_| malformed())?,
            role: Role::from_word(role).ok_or_else(malformed)?,
            name: name.to_owned(),
        })
    }

    /// The URI to put into a certificate.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("{SCHEME}{:032x}/{}/{}", self.cluster, self.role, self.name)
    }
}

/// The rule of the ring for names of members, here for every name.
fn is_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_comes_back_as_it_went() {
        for role in [Role::Read, Role::Write, Role::Admin, Role::Node] {
            let identity = Identity {
                cluster: 0xabc,
                role,
                name: "n1".to_owned(),
            };
            assert_eq!(Identity::from_uri(&identity.to_uri()), Ok(identity));
        }
    }

    #[test]
    fn odd_uris_are_refused() {
        let id = "00000000000000000000000000000abc";
        for uri in [
            format!("quorate://{id}/node"),
            format!("quorate://{id}/node/"),
            format!("quorate://{id}/node/n1/x"),
            format!("quorate://{id}/owner/n1"),
            format!("quorate://{id}/node/*"),
            format!("quorate://{id}/node/{}", "n".repeat(65)),
            format!("quorate://{}/node/n1", &id[1..]),
            format!("quorate://+{}/node/n1", &id[1..]),
            format!("quorate://{}/node/n1", id.to_uppercase()),
            format!("other://{id}/node/n1"),
        ] {
            assert!(
                matches!(Identity::from_uri(&uri), Err(IdentityError::Malformed(_))),
                "{uri}"
            );
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_name_nobody() {
        let none = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!(Identity::of(&none), Err(IdentityError::Unreadable));
    }
}
