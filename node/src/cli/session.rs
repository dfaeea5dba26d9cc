//! The connections of one command, or of all commands of a shell.
//!
//! A shell's command may name other nodes or another profile than the shell; each such target is
//! connected to once and kept.

use std::{path::PathBuf, time::Duration};

use clap::{ArgMatches, parser::ValueSource};
use quorate_client::{Client, Options, Profile, ProfileError};

use super::{
    Cli, Cluster, Command, RingCommand, healing,
    output::{Failure, Out},
    ring,
};

/// Whom to talk to, and how long to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) profile: Option<PathBuf>,
    nodes: Vec<String>,
    pin: bool,
    timeout: Option<Duration>,
}

impl From<&Cli> for Target {
    fn from(cli: &Cli) -> Self {
        Self {
            profile: cli.profile.clone(),
            nodes: cli.nodes.clone(),
            pin: cli.pin,
            timeout: cli.timeout,
        }
    }
}

impl Target {
    /// This target, changed by what one command line says itself.
    pub(crate) fn overridden(&self, cli: &Cli, matches: &ArgMatches) -> Self {
        let said = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        let line = Self::from(cli);
        let mut target = self.clone();
        if said("profile") {
            target.profile = line.profile;
        }
        if said("address") {
            target.nodes = line.nodes;
        }
        if said("pin") {
            target.pin = line.pin;
        }
        if said("timeout") {
            target.timeout = line.timeout;
        }
        target
    }

    async fn connect(&self) -> Result<Client, Failure> {
        let profile = match &self.profile {
            Some(path) => Profile::load(path),
            None => Profile::find(),
        };
        let mut profile = profile.map_err(|error| {
            let advice = match error {
                ProfileError::NotFound { .. } => {
                    "; `quorate dev` starts a cluster here and leaves one"
                }
                ProfileError::Read { .. }
                | ProfileError::Malformed { .. }
                | ProfileError::NoNodes { .. } => "",
            };
            Failure::usage(format!("{error}{advice}"))
        })?;
        if !self.nodes.is_empty() {
            profile.nodes.clone_from(&self.nodes);
        }
        let mut options = Options::default();
        if let Some(timeout) = self.timeout {
            options.timeout = timeout;
        }
        if self.pin {
            if 1 < self.nodes.len() {
                let message = format!("--pin needs one --node, not {}", self.nodes.len());
                return Err(Failure::usage(message));
            }
            options.pin = profile.nodes.first().cloned();
        }
        let client = Client::connect_with(&profile, &options).await;
        client.map_err(|error| Failure::from(error.body()))
    }
}

/// Connections that are made when they are needed.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) target: Target,
    clients: Vec<(Target, Client)>,
}

impl Session {
    pub(crate) fn new(cli: &Cli) -> Self {
        Self {
            target: Target::from(cli),
            clients: Vec::new(),
        }
    }

    /// Ends all connections in good order.
    pub(crate) async fn close(self) {
        for (_, client) in self.clients {
            client.close().await;
        }
    }

    /// The connection to `target`.
    async fn client(&mut self, target: &Target) -> Result<Client, Failure> {
        if let Some((_, client)) = self.clients.iter().find(|(known, _)| known == target) {
            return Ok(client.clone());
        }
        let client = target.connect().await?;
        self.clients.push((target.clone(), client.clone()));
        Ok(client)
    }

    /// Runs a command that needs a connection.
    pub(crate) async fn execute(
        &mut self,
        command: &Command,
        out: &mut Out,
    ) -> Result<u8, Failure> {
        let target = self.target.clone();
        self.execute_at(&target, command, out).await
    }

    /// Runs a command that needs a connection, with that target.
    pub(crate) async fn execute_at(
        &mut self,
        target: &Target,
        command: &Command,
        out: &mut Out,
    ) -> Result<u8, Failure> {
        if let Some(failure) = command.missing() {
            return Err(failure);
        }
        if matches!(
            command,
            Command::Serve(_)
                | Command::Dev(_)
                | Command::Tls(_)
                | Command::Shell
                | Command::Manual(_)
        ) {
            return Err(Failure::usage("this command does not work in a shell"));
        }
        let client = self.client(target).await?;
        match command {
            Command::Put(put) => put.run(&client, out).await.map(|()| 0),
            Command::Get(get) => get.run(&client, out).await,
            Command::Delete(delete) => delete.run(&client, out).await.map(|()| 0),
            Command::Keys(keys) => keys.run(&client, out).await.map(|()| 0),
            Command::Explain(explain) => explain.run(&client, out).await.map(|()| 0),
            Command::Import(import) => import.run(&client, target.timeout, out).await,
            Command::Export(export) => export.run(&client, out).await,
            Command::Bucket(bucket) => bucket.run(&client, out).await.map(|()| 0),
            Command::Cluster(Cluster::Status(status)) => status.run(&client, out).await.map(|()| 0),
            Command::Repair(repair) => repair.run(&client, target.timeout, out).await.map(|()| 0),
            Command::Hints(hints) => hints.run(&client, out).await.map(|()| 0),
            Command::Verify(verify) => verify.run(&client, out).await,
            Command::Scrub(scrub) => scrub.run(&client, target.timeout, out).await.map(|()| 0),
            Command::Drain(drain) => drain.run(&client, out).await.map(|()| 0),
            Command::Salvage(salvage) => salvage.run(&client, out).await,
            Command::Cluster(Cluster::Check(check)) => check.run(&client, out).await.map(|()| 0),
            Command::Cluster(Cluster::WaitConverged) => {
                let waited = healing::wait_converged(&client, target.timeout, out).await;
                waited.map(|()| 0)
            }
            Command::Ring(command) => ring(command, &client, target.timeout, out)
                .await
                .map(|()| 0),
            Command::Serve(_)
            | Command::Dev(_)
            | Command::Tls(_)
            | Command::Shell
            | Command::Manual(_)
            | Command::Other(_) => Ok(0),
        }
    }
}

async fn ring(
    command: &RingCommand,
    client: &Client,
    timeout: Option<Duration>,
    out: &mut Out,
) -> Result<(), Failure> {
    match command {
        RingCommand::Show(show) => show.run(client, out).await,
        RingCommand::Stage(stage) => stage.run(client, out).await,
        RingCommand::Plan => ring::plan(client, out).await,
        RingCommand::Commit(commit) => commit.run(client, out).await,
        RingCommand::Unstage => ring::word(client, "unstage", out).await,
        RingCommand::Abort => ring::word(client, "abort", out).await,
        RingCommand::Transfers(transfers) => transfers.run(client, out).await,
        RingCommand::Wait => ring::wait(client, timeout, out).await,
        RingCommand::Other(_) => Ok(()),
    }
}
