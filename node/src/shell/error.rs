//! Why a node does not start, or stopped: what, where, and what now.

use std::{
    io,
    path::{Path, PathBuf},
};

use quorate_client::tls::{Role, TlsError};

use crate::{config::Problems, identity::IdentityError, store::OpenError};

/// Why a node does not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The configuration has problems.
    #[error("the configuration cannot be used: {0}")]
    Config(#[from] Problems),
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate is somebody else's.
    #[error(
        "{} is the certificate of {role} {found:?}, the configuration is of node {name:?}: use the \
         files of `quorate tls node --name {name}`",
        path.display()
    )]
    WrongCertificate {
        /// The certificate.
        path: PathBuf,
        /// Its role.
        role: Role,
        /// Its name.
        found: String,
        /// The configured name.
        name: String,
    },
    /// Others may read a secret.
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
    /// A file cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data directory cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The data directory cannot be this node's.
    #[error("{}: {source}", dir.display())]
    Identity {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// The data directory has another ring than the configuration.
    #[error(
        "the ring in {} differs from the configuration in: {}. The members of a running cluster \
         cannot be changed in its files: put back what was there",
        dir.display(),
        differences.join(", ")
    )]
    OtherRing {
        /// The directory.
        dir: PathBuf,
        /// What differs.
        differences: Vec<String>,
    },
    /// The store does not work.
    #[error(
        "the store in {} failed: {reason}. Nothing was acknowledged since; check the disk, then \
         start the node again",
        dir.display()
    )]
    Store {
        /// The directory.
        dir: PathBuf,
        /// What it said.
        reason: String,
    },
    /// Neither the data directory nor the configuration names a cluster.
    #[error(
        "{} is of no cluster yet: found one with --bootstrap, or join one with --join HOST:PORT of \
         any of its nodes",
        dir.display()
    )]
    NoCluster {
        /// The directory.
        dir: PathBuf,
    },
    /// No member let us in.
    #[error("cannot join the cluster: {}", problems.join("; "))]
    NotJoined {
        /// What each member said, or that it said nothing.
        problems: Vec<String>,
    },
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}. Stop what listens there, or change `{key}` in the \
         configuration"
    )]
    Bind {
        /// The address.
        address: String,
        /// The key of the configuration.
        key: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No thread, no runtime.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// The system is out of randomness.
    #[error("the system has no randomness to give")]
    NoRandomness,
}

impl ServeError {
    pub(super) fn store(dir: &Path, error: &impl std::fmt::Display) -> Self {
        Self::Store {
            dir: dir.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// The process's exit code: 2 if the operator has to change the configuration, else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::NoCluster { .. } => 2,
            Self::Tls(_)
            | Self::WrongCertificate { .. }
            | Self::KeyIsOpen { .. }
            | Self::Io { .. }
            | Self::Open(_)
            | Self::Identity { .. }
            | Self::OtherRing { .. }
            | Self::NotJoined { .. }
            | Self::Store { .. }
            | Self::Bind { .. }
            | Self::Start(_)
            | Self::NoRandomness => 1,
        }
    }
}
