//! `quorate serve`: a node, from its configuration and the flags that change it.
//!
//! The members of a cluster are in the configuration for now, so nothing can be founded or joined
//! while running; the flags for that answer that they are not available yet.

use std::path::PathBuf;

use quorate_client::wire::ErrorCode;

use super::output::Failure;
use crate::shell;

/// Run a node.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The node's configuration.
    #[arg(long, env = "QUORATE_CONFIG")]
    config: PathBuf,
    /// Everything the node must not forget.
    #[arg(long, env = "QUORATE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen for QUIC, IP:PORT.
    #[arg(long, env = "QUORATE_LISTEN")]
    listen: Option<String>,
    /// Where to serve health and metrics, IP:PORT.
    #[arg(long, env = "QUORATE_HTTP")]
    http: Option<String>,
    /// The node's name.
    #[arg(long, env = "QUORATE_NAME")]
    name: Option<String>,
    /// The node's zone.
    #[arg(long, env = "QUORATE_ZONE")]
    zone: Option<String>,
    /// The node's weight.
    #[arg(long, env = "QUORATE_WEIGHT")]
    weight: Option<u32>,
    /// The address that others dial, HOST:PORT.
    #[arg(long, env = "QUORATE_ADVERTISE")]
    advertise: Option<String>,
    /// Join a running cluster through one of its members (not available yet).
    #[arg(long)]
    join: Vec<String>,
    /// Found a cluster (not available yet).
    #[arg(long)]
    bootstrap: bool,
    /// Partitions of the cluster that is founded (not available yet).
    #[arg(long)]
    partitions: Option<u32>,
    /// Name of the cluster that is founded (not available yet).
    #[arg(long)]
    cluster_name: Option<String>,
}

impl Serve {
    pub(crate) fn run(self, verbose: bool) -> Result<u8, Failure> {
        let later = [
            (!self.join.is_empty(), "--join"),
            (self.bootstrap, "--bootstrap"),
            (self.partitions.is_some(), "--partitions"),
            (self.cluster_name.is_some(), "--cluster-name"),
        ];
        if let Some((_, flag)) = later.iter().find(|(given, _)| *given) {
            let message = format!(
                "{flag} is not available yet in this release: the members and [cluster] are in the \
                 configuration, the same in every node's"
            );
            return Err(Failure::new(ErrorCode::NotAvailableYet, message));
        }
        let loaded = shell::load_config(&self.config);
        let mut config = loaded.map_err(|error| Failure::usage(error.to_string()))?;
        if let Some(data_dir) = self.data_dir {
            config.data_dir = data_dir;
        }
        for (given, field) in [
            (self.listen, &mut config.listen),
            (self.http, &mut config.http),
            (self.name, &mut config.name),
        ] {
            if let Some(given) = given {
                *field = given;
            }
        }
        config.zone = self.zone.or(config.zone);
        config.weight = self.weight.or(config.weight);
        config.advertise = self.advertise.or(config.advertise);
        match shell::serve(&config, verbose) {
            Ok(shell::ExitReason::Drained | shell::ExitReason::Cut) => Ok(0),
            Err(error) if error.exit_code() == 2 => Err(Failure::usage(error.to_string())),
            Err(error) => Err(Failure::new(ErrorCode::Internal, error.to_string())),
        }
    }
}
