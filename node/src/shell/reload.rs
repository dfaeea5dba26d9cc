//! SIGHUP: certificates and revoked tokens are read again, and nothing else is.
//!
//! Connections that exist go on under the certificates they were made with; new ones, in both
//! directions, use the new ones. What cannot be used changes nothing and is logged: a node must not
//! die of a file that is being replaced.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, RwLock},
};

use quinn::Endpoint;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{LoadError, ServeError, boot, host::Host, load_config};

/// Ids of tokens that are not accepted any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Revoked(Arc<RwLock<BTreeSet<String>>>);

impl Revoked {
    pub(super) fn new(ids: &[String]) -> Self {
        let revoked = Self::default();
        revoked.set(ids);
        revoked
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.0
            .read()
            .expect("a panic ends the process")
            .contains(id)
    }

    fn set(&self, ids: &[String]) {
        let ids = ids.iter().map(|id| id.to_ascii_lowercase()).collect();
        *self.0.write().expect("a panic ends the process") = ids;
    }
}

/// What is read again, and who is told.
pub(super) struct Reload {
    pub(super) file: PathBuf,
    /// The name the node has, whatever the file says now.
    pub(super) name: String,
    pub(super) host: Arc<Host>,
    pub(super) endpoint: Endpoint,
    pub(super) revoked: Revoked,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Tls(#[from] quorate_client::tls::TlsError),
    #[error("the certificate belongs to another cluster")]
    OtherCluster,
}

impl Reload {
    /// At every signal, until the node stops.
    pub(super) async fn run(self, ended: CancellationToken) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            tracing::warn!("SIGHUP cannot be watched: certificates are read at the start only");
            return;
        };
        while let Some(Some(())) = ended.run_until_cancelled(hangup.recv()).await {
            match self.reload() {
                Ok(()) => tracing::info!("certificates and revoked tokens were read again"),
                Err(error) => tracing::error!(%error, "nothing was read again"),
            }
        }
    }

    fn reload(&self) -> Result<(), Unusable> {
        let mut config = load_config(&self.file)?;
        config.name.clone_from(&self.name);
        config.validate().map_err(ServeError::from)?;
        let credentials = boot::credentials(&config)?;
        if credentials.identity().cluster != self.host.cluster {
            return Err(Unusable::OtherCluster);
        }
        let server = credentials.server_config()?;
        self.host.renew(Arc::new(credentials))?;
        self.endpoint.set_server_config(Some(server));
        self.revoked.set(&config.revoked_tokens);
        Ok(())
    }
}
