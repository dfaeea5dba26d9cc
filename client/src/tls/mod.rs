//! Mutual TLS: who we are, whom we accept, and who has connected.
//!
//! There is no way to talk to a node without certificates of its cluster. Clients and nodes share
//! the authority and are told apart by the role in their certificate, which must fit the protocol
//! they ask for: `quorate/1` is for people and programs, `quorate-peer/1` for nodes among
//! themselves. TLS 1.3 only; no early data, which could be replayed; no resumption, which would
//! skip the check of the certificate. The crypto provider is always named, never taken from the
//! process. What a role may do is decided by the node.

mod identity;
mod verify;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use quinn::crypto::rustls::{
    HandshakeData, NoInitialCipherSuite, QuicClientConfig, QuicServerConfig,
};
use rustls::{
    RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::NoServerSessionStorage,
    version::TLS13,
};

pub use identity::{Identity, IdentityError, Role};

use crate::transport;

/// The name sent to the other side; names of hosts are not what is trusted.
pub const SERVER_NAME: &str = "quorate";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// Requests of people and programs.
    Client,
    /// Messages between nodes.
    Peer,
}

impl Alpn {
    /// The name negotiated in the handshake.
    #[must_use]
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::Client => b"quorate/1",
            Self::Peer => b"quorate-peer/1",
        }
    }

    /// Whether the dialling side may have this role.
    const fn admits(self, role: Role) -> bool {
        match self {
            Self::Client => !matches!(role, Role::Node),
            Self::Peer => matches!(role, Role::Node),
        }
    }
}

/// What is wrong with certificates, keys or the other side.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} does not hold {expected} in PEM: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// A certificate or a private key.
        expected: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// Others may read a private key.
    #[error(
        "{} can be read by others than its owner (mode {mode:03o}): run chmod 600 on it",
        path.display()
    )]
    KeyIsOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A certificate that names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Certificates and key that do not go together, or an unusable one.
    #[error("the certificates cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// An unusable authority.
    #[error("the certificate authority cannot be used: {0}")]
    Authority(#[from] rustls::server::VerifierBuilderError),
    /// The provider lacks what QUIC starts with.
    #[error("the crypto provider does not do QUIC: {0}")]
    Provider(#[from] NoInitialCipherSuite),
    /// The other side's role does not fit the protocol it asked for.
    #[error("a certificate with role {role} may not speak {}", protocol(*alpn))]
    RoleDoesNotFit {
        /// The role.
        role: Role,
        /// The protocol.
        alpn: Alpn,
    },
    /// The handshake left neither protocol nor certificate.
    #[error("the connection has no certificate or no protocol")]
    Nobody,
}

fn protocol(alpn: Alpn) -> &'static str {
    match alpn {
        Alpn::Client => "quorate/1",
        Alpn::Peer => "quorate-peer/1",
    }
}

/// Our certificate and key, and the authority whose certificates we accept.
#[derive(Debug)]
pub struct Credentials {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    identity: Identity,
    provider: Arc<CryptoProvider>,
}

impl Credentials {
    /// Reads authority, certificate (with intermediates, if any) and private key, each PEM.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, if others than its owner can read the key, or if the
    /// certificate names nobody.
    pub fn load(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let authorities = certificates(ca)?;
        let chain = certificates(certificate)?;
        refuse_open_key(key)?;
        let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|source| TlsError::Pem {
            path: key.to_owned(),
            expected: "a private key",
            source,
        })?;
        Self::new(authorities, chain, key)
    }

    /// Takes authority, certificate and key as they are.
    pub fn new(
        authorities: Vec<CertificateDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        let identity = Identity::of(chain.first().ok_or(TlsError::Nobody)?)?;
        Ok(Self {
            roots: Arc::new(roots),
            chain,
            key,
            identity,
            provider: Arc::new(ring::default_provider()),
        })
    }

    /// Whom our own certificate names.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// For dialling a node; with `expected_name`, that node and no other.
    pub fn client_config(
        &self,
        alpn: Alpn,
        expected_name: Option<&str>,
    ) -> Result<quinn::ClientConfig, TlsError> {
        let verifier = verify::ServerVerifier::new(
            self.roots.clone(),
            self.provider.clone(),
            self.identity.cluster,
            expected_name,
        );
        let mut tls = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        tls.alpn_protocols = vec![alpn.name().to_vec()];
        tls.resumption = Resumption::disabled();
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(Arc::new(match alpn {
            Alpn::Client => transport::client(),
            Alpn::Peer => transport::peer(),
        }));
        Ok(config)
    }

    /// For accepting clients and nodes on one port. Ask [`peer_identity`] who came, and close
    /// the connection if it answers with an error.
    pub fn server_config(&self) -> Result<quinn::ServerConfig, TlsError> {
        let verifier = verify::ClientVerifier::new(
            self.roots.clone(),
            self.provider.clone(),
            self.identity.cluster,
        )?;
        let mut tls = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        tls.alpn_protocols = vec![Alpn::Client.name().to_vec(), Alpn::Peer.name().to_vec()];
        tls.max_early_data_size = 0;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        let crypto = Arc::new(QuicServerConfig::try_from(tls)?);
        let mut config = quinn::ServerConfig::with_crypto(crypto);
        config.transport_config(Arc::new(transport::server()));
        config.migration(false);
        Ok(config)
    }
}

/// Who is at the other end of an established connection and what for, once its role fits that.
pub fn peer_identity(connection: &quinn::Connection) -> Result<(Identity, Alpn), TlsError> {
    let protocol = connection
        .handshake_data()
        .and_then(|data| data.downcast::<HandshakeData>().ok())
        .and_then(|data| data.protocol)
        .ok_or(TlsError::Nobody)?;
    let alpn = [Alpn::Client, Alpn::Peer]
        .into_iter()
        .find(|alpn| alpn.name() == protocol)
        .ok_or(TlsError::Nobody)?;
    let chain = connection
        .peer_identity()
        .and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(TlsError::Nobody)?;
    let identity = Identity::of(chain.first().ok_or(TlsError::Nobody)?)?;
    let role = identity.role;
    let fits = match connection.side() {
        quinn::Side::Client => role == Role::Node,
        quinn::Side::Server => alpn.admits(role),
    };
    if fits {
        Ok((identity, alpn))
    } else {
        Err(TlsError::RoleDoesNotFit { role, alpn })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    certificates
        .and_then(|all| {
            if all.is_empty() {
                Err(pem::Error::NoItemsFound)
            } else {
                Ok(all)
            }
        })
        .map_err(|source| TlsError::Pem {
            path: path.to_owned(),
            expected: "a certificate",
            source,
        })
}

#[cfg(unix)]
fn refuse_open_key(path: &Path) -> Result<(), TlsError> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = fs::metadata(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    let others = mode & 0o077;
    if others != 0 {
        return Err(TlsError::KeyIsOpen {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open_key(_path: &Path) -> Result<(), TlsError> {
    Ok(())
}
