//! Verifiers: is the other side's certificate one of this cluster's?
//!
//! Chain, validity and key usage are checked by webpki; on top of that comes what only we know: the
//! cluster id, the role and, where the dialling side knows whom it expects, the name. Host names
//! are not looked at: a certificate is trusted for what its URI says, wherever the node may be.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    TlsError,
    identity::{Identity, IdentityError, Role},
};

/// Why a certificate of the right authority is still not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unacceptable {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the certificate belongs to another cluster")]
    Cluster,
    #[error("a node was expected, the certificate says {0}")]
    NotANode(Role),
    #[error("node {expected} was expected, the certificate says {found}")]
    Name { expected: String, found: String },
}

impl From<Unacceptable> for Error {
    fn from(why: Unacceptable) -> Self {
        CertificateError::Other(OtherError(Arc::new(why))).into()
    }
}

/// Accepts nodes of one cluster, or one node of it.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    cluster: u128,
    expected_name: Option<String>,
}

impl ServerVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        cluster: u128,
        expected_name: Option<&str>,
    ) -> Self {
        Self {
            roots,
            provider,
            cluster,
            expected_name: expected_name.map(str::to_owned),
        }
    }

    fn check(&self, identity: Identity) -> Result<(), Unacceptable> {
        if identity.cluster != self.cluster {
            return Err(Unacceptable::Cluster);
        }
        if identity.role != Role::Node {
            return Err(Unacceptable::NotANode(identity.role));
        }
        match &self.expected_name {
            Some(expected) if *expected != identity.name => Err(Unacceptable::Name {
                expected: expected.clone(),
                found: identity.name,
            }),
            Some(_) | None => Ok(()),
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let identity = Identity::of(end_entity).map_err(Unacceptable::from)?;
        self.check(identity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Accepts anyone of one cluster. A verifier does not learn the ALPN, so whether the role fits it
/// is checked once the handshake is over, by [`peer_identity`](super::peer_identity).
#[derive(Debug)]
pub(super) struct ClientVerifier {
    webpki: Arc<dyn ClientCertVerifier>,
    cluster: u128,
}

impl ClientVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        cluster: u128,
    ) -> Result<Self, TlsError> {
        let webpki = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
        Ok(Self { webpki, cluster })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .webpki
            .verify_client_cert(end_entity, intermediates, now)?;
        let identity = Identity::of(end_entity).map_err(Unacceptable::from)?;
        if identity.cluster != self.cluster {
            return Err(Unacceptable::Cluster.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
