//! Certificates made on the spot.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses what it needs"
)]
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "tests")]

pub mod server;

use quorate_client::tls::{Credentials, Identity, Role};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The cluster of most tests.
pub const CLUSTER: u128 = 0xabcd;

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate with these URIs and usages, changed as `change` likes.
    pub fn issue(
        &self,
        uris: &[String],
        usages: &[ExtendedKeyUsagePurpose],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        for uri in uris {
            let uri = uri.as_str().try_into().unwrap();
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.extended_key_usages = usages.to_vec();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// Credentials as `quorate tls` would make them, accepting this authority.
    pub fn credentials(&self, cluster: u128, role: Role, name: &str) -> Credentials {
        self.changed_credentials(cluster, role, name, |_| {})
    }

    pub fn changed_credentials(
        &self,
        cluster: u128,
        role: Role,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Credentials {
        let name = name.to_owned();
        let uri = Identity {
            cluster,
            role,
            name,
        }
        .to_uri();
        let (certificate, key) = self.issue(&[uri], usages(role), change);
        credentials_of(self, &certificate, &key)
    }
}

pub fn credentials_of(
    trusted: &Authority,
    certificate: &rcgen::Certificate,
    key: &KeyPair,
) -> Credentials {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Credentials::new(vec![trusted.der()], vec![certificate.der().clone()], key).unwrap()
}

pub fn usages(role: Role) -> &'static [ExtendedKeyUsagePurpose] {
    match role {
        Role::Node => &[
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
        Role::Read | Role::Write | Role::Admin => &[ExtendedKeyUsagePurpose::ClientAuth],
    }
}
