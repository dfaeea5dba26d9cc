//! `quorate serve`: a node, from its configuration and the flags that change it.
//!
//! The first node founds its cluster, the others join through any member; a few that begin together
//! may be listed in the configuration of each instead.

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
    /// Join a running cluster through this member, HOST:PORT; may be given several times.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "bootstrap")]
    join: Vec<String>,
    /// Found a cluster, unless the data directory is of one already.
    #[arg(long)]
    bootstrap: bool,
    /// Partitions of the cluster that is founded: a power of two, 256 if not given.
    #[arg(long, requires = "bootstrap")]
    partitions: Option<u32>,
    /// Name of the cluster that is founded.
    #[arg(long, requires = "bootstrap")]
    cluster_name: Option<String>,
}

impl Serve {
    pub(crate) fn run(self, verbose: bool) -> Result<u8, Failure> {
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
        config.bootstrap = self.bootstrap;
        if !self.join.is_empty() {
            config.join = self.join;
        }
        config.cluster.partitions = self.partitions.unwrap_or(config.cluster.partitions);
        if let Some(name) = self.cluster_name {
            config.cluster.name = name;
        }
        match shell::serve(&config, verbose) {
            Ok(shell::ExitReason::Drained | shell::ExitReason::Cut) => Ok(0),
            Err(error) if error.exit_code() == 2 => Err(Failure::usage(error.to_string())),
            Err(error) => Err(Failure::new(ErrorCode::Internal, error.to_string())),
        }
    }
}
