//! The outside world: sockets, files, clocks, threads, signals.
//!
//! Everything that waits is here, and nothing that decides: the [`Node`](crate::node::Node) is told
//! what happened and says what to do. One thread runs the network and the node, so that a request
//! passes no queue between its packet and its answer's; a second one runs the store, whose commits
//! block. Two processors are busy then, and no request waits for a lock.
//!
//! | task | its end means |
//! |---|---|
//! | acceptor, links, timer, http | the node is stopping |
//! | a connection's reader or writer | that connection is over |
//! | completions | the store's thread has ended |
//! | the store's thread | the node is stopping, or its disk failed: exit 1 |
//!
//! A panic in any of them ends the process.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the shell is where the outside world is"
)]

mod accept;
mod boot;
mod clients;
mod clock;
mod error;
mod feed;
mod frames;
mod host;
mod http;
mod join;
mod lane;
mod link;
mod metrics;
mod process;
mod reload;
mod report;
mod store_thread;
pub(crate) mod telemetry;
pub(crate) mod token;

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use quinn::{Endpoint, TokioRuntime};
use quorate_client::{
    transport::{self, close},
    wire::Hello,
};
use quorate_ring::NodeId;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::{interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    accept::{Acceptor, code},
    boot::Booted,
    clock::Clock,
    host::{Dialler, Disk, Host, Parts},
    http::Web,
    join::Asker,
    link::Link,
    metrics::Metrics,
    reload::{Reload, Revoked},
    store_thread::{StoreJoin, StoreThread},
    token::TokenKey,
};
use crate::config::{NodeConfig, ParseError};

pub use error::ServeError;

const LOG: &str = "info,fjall=warn,lsm_tree=warn";
const LOG_VERBOSE: &str = "info,fjall=warn,lsm_tree=warn,quorate_node=debug,quorate_client=debug";
/// How long a handshake and the hello may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a graceful stop waits for requests in progress.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it waits for the others to take note of the close.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
const DISK_BYTES_EVERY: Duration = Duration::from_secs(2);

/// How a node that ran came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Told to stop; everything in progress was answered.
    Drained,
    /// Told to stop twice, or some requests took too long: they were not answered.
    Cut,
}

/// How to stop a node from within its process. Signals do the same.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    gently: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// Finish what is in progress, then end.
    pub fn gently(&self) {
        self.gently.cancel();
    }

    /// End.
    pub fn now(&self) {
        self.gently.cancel();
        self.now.cancel();
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a configuration.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong, with the line.
        source: ParseError,
    },
}

/// Reads a configuration file. Not validated yet: flags may still change it.
pub fn load_config(path: &Path) -> Result<NodeConfig, LoadError> {
    let text = fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    let dir = path.parent().unwrap_or_else(|| Path::new(""));
    let parsed = NodeConfig::parse(&text, dir).map_err(|source| LoadError::Parse {
        path: path.to_owned(),
        source,
    });
    let file = Some(path.to_owned());
    parsed.map(|config| NodeConfig { file, ..config })
}

/// Runs a node as this process: logs to standard error (decisions too if `verbose`), ends at
/// SIGTERM or SIGINT, and aborts at a panic.
pub fn serve(config: &NodeConfig, verbose: bool) -> Result<ExitReason, ServeError> {
    telemetry::init(if verbose { LOG_VERBOSE } else { LOG });
    run(config, &Stop::default(), Process::Own)
}

/// Runs a node within a process that does other things too, until it is told to stop.
pub fn serve_within(config: &NodeConfig, stop: &Stop) -> Result<ExitReason, ServeError> {
    run(config, stop, Process::Shared)
}

/// Whose the process is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Process {
    Own,
    Shared,
}

fn run(config: &NodeConfig, stop: &Stop, process: Process) -> Result<ExitReason, ServeError> {
    let clock = Clock::start();
    let booted = boot::boot(config, clock)?;
    if process == Process::Own {
        telemetry::abort_on_panic();
    }
    let sockets = Sockets::bind(config)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Start)?;
    let reason = runtime.block_on(Box::pin(live(
        config, booted, sockets, clock, stop, process,
    )))?;
    // Connections that did not end by themselves end here.
    runtime.shutdown_timeout(GOODBYE_TIMEOUT);
    tracing::info!(?reason, "stopped");
    Ok(reason)
}

/// Bound before anything is said to anybody.
struct Sockets {
    quic: UdpSocket,
    http: TcpListener,
}

impl Sockets {
    fn bind(config: &NodeConfig) -> Result<Self, ServeError> {
        let refused = |address: &str, key| {
            let address = address.to_owned();
            move |source| ServeError::Bind {
                address,
                key,
                source,
            }
        };
        let parse = |address: &str| address.parse::<SocketAddr>().map_err(std::io::Error::other);
        let quic = parse(&config.listen)
            .and_then(transport::bind)
            .map_err(refused(&config.listen, "listen"))?;
        let http = parse(&config.http).and_then(|address| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let http = http.map_err(refused(&config.http, "http"))?;
        Ok(Self { quic, http })
    }
}

/// Everything, put together and not yet running.
struct Server {
    host: Arc<Host>,
    endpoint: Endpoint,
    http: tokio::net::TcpListener,
    tokens: TokenKey,
    revoked: Revoked,
    links: mpsc::UnboundedReceiver<Arc<Link>>,
    asker: Option<Asker>,
    me: NodeId,
    store: StoreThread,
}

async fn live(
    config: &NodeConfig,
    booted: Booted,
    sockets: Sockets,
    clock: Clock,
    stop: &Stop,
    process: Process,
) -> Result<ExitReason, ServeError> {
    let server = assemble(config, booted, sockets, clock)?;
    let (host, endpoint) = (server.host.clone(), server.endpoint.clone());
    let tasks = TaskTracker::new();
    let ended = CancellationToken::new();
    if process == Process::Own {
        tasks.spawn(signals(stop.clone()));
        if let Some(file) = config.file.clone() {
            let reload = Reload {
                file,
                name: config.name.clone(),
                host: host.clone(),
                endpoint: endpoint.clone(),
                revoked: server.revoked.clone(),
            };
            tasks.spawn(reload.run(ended.clone()));
        }
    }
    let (completing, thread) = server.spawn(&tasks, stop, &ended);
    tracing::info!(
        name = config.name,
        listen = config.listen,
        http = config.http,
        "serving"
    );
    let reason = until_stopped(&host, stop).await;
    endpoint.close(code(close::SHUTDOWN), b"the node stops");
    let _ = timeout(GOODBYE_TIMEOUT, endpoint.wait_idle()).await;
    ended.cancel();
    host.close_store();
    // The thread flushes, and then lets go of its end of the channel.
    let _ = completing.await;
    let flushed = thread.join().expect("a panic ends the process");
    let flush_failure = || flushed.err().map(|error| error.to_string());
    if let Some(reason) = host.failure().or_else(flush_failure) {
        let error = ServeError::store(&config.data_dir, &reason);
        tracing::error!("{error}");
        return Err(error);
    }
    Ok(reason)
}

fn assemble(
    config: &NodeConfig,
    booted: Booted,
    sockets: Sockets,
    clock: Clock,
) -> Result<Server, ServeError> {
    let endpoint = Endpoint::new(
        booted.keys.endpoint_config(),
        Some(booted.credentials.server_config()?),
        sockets.quic,
        Arc::new(TokioRuntime),
    )
    .map_err(ServeError::Start)?;
    let http = tokio::net::TcpListener::from_std(sockets.http).map_err(ServeError::Start)?;
    let cluster = booted.credentials.identity().cluster;
    let (links, made) = mpsc::unbounded_channel();
    let dialler = Dialler {
        hello: Hello::new(cluster, &config.name, booted.ring.epoch().get()),
        credentials: booted.credentials.into(),
        links,
    };
    let metrics = Metrics::new(&config.name);
    let durability = config.store_durability();
    let (commands, store) = store_thread::start(booted.engine, durability, metrics.syncs.clone())
        .map_err(ServeError::Start)?;
    let host = Arc::new(Host::new(Parts {
        node: booted.node,
        store: commands,
        dialler,
        clock,
        metrics,
        cluster,
        name: config.name.clone(),
        disk_bytes: store.disk_bytes.clone(),
        disk: Disk {
            dir: config.data_dir.clone(),
            free_min: config.disk_free_min,
        },
    }));
    Ok(Server {
        host,
        endpoint,
        http,
        tokens: booted.tokens,
        revoked: Revoked::new(&config.revoked_tokens),
        links: made,
        asker: booted.asker,
        me: booted.me,
        store,
    })
}

impl Server {
    /// Starts every task; gives back what has to end last.
    fn spawn(
        self,
        tasks: &TaskTracker,
        stop: &Stop,
        ended: &CancellationToken,
    ) -> (JoinHandle<()>, StoreJoin) {
        let host = self.host;
        let running = run_links(
            self.links,
            self.endpoint.clone(),
            tasks.clone(),
            ended.clone(),
        );
        tasks.spawn(running);
        if let Some(asker) = self.asker {
            tasks.spawn(asker.remind(host.clone(), ended.clone()));
        }
        let acceptor = Acceptor {
            host: host.clone(),
            me: self.me,
            tasks: tasks.clone(),
            stop: stop.gently.clone(),
            connections: Arc::new(AtomicUsize::new(0)),
            handshakes: Arc::new(AtomicUsize::new(0)),
        };
        tasks.spawn(acceptor.run(self.endpoint));
        let tokens = (self.tokens, self.revoked);
        let web = Web::new(host.clone(), tokens, tasks.clone(), ended.clone());
        tasks.spawn(web.serve(self.http));
        tasks.spawn(disk_bytes_ticker(host.clone(), ended.clone()));
        let (timing, ended) = (host.clone(), ended.clone());
        tasks.spawn(async move { timing.run_timer(ended).await });
        let completions = self.store.completions;
        let completing = tasks.spawn(async move { host.run_completions(completions).await });
        (completing, self.store.thread)
    }
}

/// Runs every link from when it is made until another one replaces it.
async fn run_links(
    mut links: mpsc::UnboundedReceiver<Arc<Link>>,
    endpoint: Endpoint,
    tasks: TaskTracker,
    ended: CancellationToken,
) {
    while let Some(Some(link)) = ended.run_until_cancelled(links.recv()).await {
        let (endpoint, ended) = (endpoint.clone(), ended.clone());
        tasks.spawn(async move {
            // Biased: the end comes before anything else.
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                () = link.is_replaced() => {}
                () = link.run(endpoint) => {}
            }
        });
    }
}

/// Waits for the end and sees that what is in progress gets there first.
async fn until_stopped(host: &Host, stop: &Stop) -> ExitReason {
    // Biased: a failed store ends it at once, whatever else happens.
    tokio::select! {
        biased;
        () = host.failed.cancelled() => return ExitReason::Cut,
        () = stop.gently.cancelled() => {}
    }
    tracing::info!(in_flight = host.in_flight(), "stopping");
    host.refuse_requests();
    let drained = async {
        while host.in_flight() != 0 {
            sleep(Duration::from_millis(5)).await;
        }
        // The last answers are on their way to the sockets.
        sleep(Duration::from_millis(20)).await;
    };
    tokio::select! {
        biased;
        () = host.failed.cancelled() => ExitReason::Cut,
        () = stop.now.cancelled() => ExitReason::Cut,
        drained = timeout(DRAIN_TIMEOUT, drained) => match drained {
            Ok(()) => ExitReason::Drained,
            Err(_) => ExitReason::Cut,
        },
    }
}

async fn disk_bytes_ticker(host: Arc<Host>, ended: CancellationToken) {
    let mut ticks = interval(DISK_BYTES_EVERY);
    while ended.run_until_cancelled(ticks.tick()).await.is_some() {
        host.note_disk_bytes();
    }
}

/// The first signal stops gently, the second at once.
async fn signals(stop: Stop) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::warn!("signals cannot be watched: stopping gently is not possible");
        return;
    };
    for then in [Stop::gently, Stop::now] {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        then(&stop);
    }
}
