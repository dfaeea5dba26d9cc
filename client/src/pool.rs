//! All connections of a client, and the ring that says which one to use.
//!
//! Nodes are dialled when they are wanted. One task looks after the lanes: it notices silent nodes
//! and dials lost ones again, so that requests rarely have to wait for either. The number and the
//! bytes of unfinished operations are bounded here, for all lanes together.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use quinn::{Endpoint, TokioRuntime};
use quorate_ring::Ring;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    client::Options,
    dial,
    error::ConnectError,
    lane::Lane,
    latency::Hedging,
    link::{DialError, Link},
    retry::Budget,
    routing::{Preference, scatter},
    table::{Dice, Route, Table},
    tls::Credentials,
    transport::{self, EndpointKeys, close},
    value::OpId,
    wire::{Request, Response, RingReply, decode_body},
};

/// Memory for unfinished operations, in KiB: what a value, and thirty thousand callers, may take.
const OPERATIONS_KIB: usize = 128 << 10;
/// What the smallest operation counts for.
const OPERATION_KIB_MIN: usize = 4;
/// Time for one connection to come about.
const DIAL_LIMIT: Duration = Duration::from_secs(1);
/// Head start of each address of the profile over the next.
const SEED_HEAD_START: Duration = Duration::from_millis(200);
/// Time for one answer about the ring.
const RING_LIMIT: Duration = Duration::from_secs(2);
/// How often lanes are looked after.
const CARE_PERIOD: Duration = Duration::from_millis(50);
/// Operation ids made from one draw of randomness.
const OP_IDS: usize = 64;

/// Which node a request about a key goes to.
///
/// ```
/// use quorate_client::{Options, Routing};
///
/// let options = Options { routing: Routing::Random, ..Options::default() };
/// assert_ne!(options, Options::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// A replica of the key: the one that will answer soonest.
    #[default]
    Replica,
    /// Any node, as behind a load balancer that knows no ring. To compare with.
    Random,
}

#[derive(Debug)]
struct OpIds {
    bytes: [u8; 16 * OP_IDS],
    used: usize,
}

/// Shared by all clones of a client.
#[derive(Debug)]
pub(crate) struct Pool {
    credentials: Credentials,
    endpoint: Endpoint,
    /// Addresses of the profile; asked when the ring's own are of no use.
    seeds: Vec<Arc<Link>>,
    pinned: Option<Arc<Link>>,
    pub(crate) routing: Routing,
    table: ArcSwapOption<Table>,
    installing: Mutex<()>,
    pub(crate) operations: Semaphore,
    pub(crate) budget: Budget,
    hedging: Mutex<Hedging>,
    op_ids: Mutex<OpIds>,
    seeds_drawn: AtomicU64,
    tracker: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Pool {
    /// Connects to the first node that answers and learns the ring from it.
    pub(crate) async fn connect(
        credentials: Credentials,
        nodes: &[String],
        options: &Options,
    ) -> Result<Arc<Self>, ConnectError> {
        let stop = CancellationToken::new();
        let link = |address: &str| Arc::new(Link::new(None, address.to_owned()));
        let pool = Arc::new(Self {
            credentials,
            endpoint: endpoint()?,
            seeds: nodes.iter().map(|address| link(address)).collect(),
            pinned: options.pin.as_deref().map(link),
            routing: options.routing,
            table: ArcSwapOption::empty(),
            installing: Mutex::new(()),
            operations: Semaphore::new(OPERATIONS_KIB),
            budget: Budget::new(),
            hedging: Mutex::new(Hedging::new()),
            op_ids: Mutex::new(OpIds {
                bytes: [0; 16 * OP_IDS],
                used: 16 * OP_IDS,
            }),
            seeds_drawn: AtomicU64::new(draw_seed()?),
            tracker: TaskTracker::new(),
            stop: stop.clone(),
            _stop_on_drop: stop.drop_guard(),
        });
        match timeout(options.timeout, pool.clone().bootstrap()).await {
            Ok(result) => result?,
            Err(_) => return Err(pool.unreachable()),
        }
        let care = look_after(Arc::downgrade(&pool), pool.stop.clone());
        pool.tracker.spawn(care);
        Ok(pool)
    }

    async fn bootstrap(self: Arc<Self>) -> Result<(), ConnectError> {
        if let Some(pinned) = &self.pinned {
            return match self.dial(pinned).await {
                Ok(_) => Ok(()),
                Err(error) if error.denied => {
                    let node = pinned.label();
                    Err(ConnectError::Denied(format!("{node}: {error}")))
                }
                Err(_) => Err(self.unreachable()),
            };
        }
        let lane = self.clone().first_seed().await?;
        let ring = self.fetch_ring(&lane).await.map_err(ConnectError::Ring)?;
        self.install(ring);
        self.adopt(lane);
        Ok(())
    }

    /// Tries the addresses of the profile, each with a head start over the next.
    async fn first_seed(self: Arc<Self>) -> Result<Arc<Lane>, ConnectError> {
        let mut dials = JoinSet::new();
        let mut denied = None;
        let mut seeds = self.seeds.iter();
        let mut next = seeds.next();
        loop {
            if let Some(seed) = next.take() {
                let (pool, seed) = (self.clone(), seed.clone());
                dials.spawn(async move {
                    let dialled = pool.dial(&seed).await;
                    dialled.map_err(|error| (seed.label(), error))
                });
            }
            tokio::select! {
                biased;
                done = dials.join_next() => match done {
                    Some(Ok(Ok(lane))) => return Ok(lane),
                    Some(Ok(Err((node, error)))) => {
                        if error.denied {
                            denied.get_or_insert_with(|| format!("{node}: {error}"));
                        }
                        next = seeds.next();
                    }
                    Some(Err(_)) => next = seeds.next(),
                    None => return Err(denied.map_or_else(
                        || self.unreachable(),
                        ConnectError::Denied,
                    )),
                },
                () = sleep(SEED_HEAD_START), if seeds.len() > 0 => next = seeds.next(),
            }
        }
    }

    fn unreachable(&self) -> ConnectError {
        let why = |link: &Arc<Link>| match link.last_error() {
            Some(error) => format!("{}: {error}", link.label()),
            None => format!("{}: no answer in time", link.label()),
        };
        let tried = self.pinned.iter().chain(&self.seeds);
        ConnectError::Unreachable {
            tried: match &self.pinned {
                Some(pinned) => vec![why(pinned)],
                None => tried.map(why).collect(),
            },
        }
    }

    /// The lane to a node, made if there is none.
    pub(crate) async fn dial(self: &Arc<Self>, link: &Link) -> Result<Arc<Lane>, DialError> {
        if let Some(lane) = link.lane() {
            return Ok(lane);
        }
        let _turn = link.dialling.lock().await;
        if let Some(lane) = link.lane() {
            return Ok(lane);
        }
        if let Some(error) = link.resting(Instant::now()) {
            return Err(error);
        }
        let epoch = self.epoch();
        let open = dial::open(&self.endpoint, &self.credentials, link, epoch);
        let opened = timeout(DIAL_LIMIT, open).await.unwrap_or_else(|_| {
            Err(DialError {
                message: format!("no connection within {} s", DIAL_LIMIT.as_secs()),
                denied: false,
            })
        });
        match opened {
            Ok(opened) => {
                let lane = Lane::start(
                    opened.connection,
                    opened.reply.node,
                    opened.streams,
                    opened.reader,
                    Arc::downgrade(self),
                );
                link.opened(lane.clone());
                if epoch != 0 && epoch < opened.reply.ring_epoch {
                    self.tracker.spawn(refresh(self.clone(), lane.clone()));
                }
                Ok(lane)
            }
            Err(error) => {
                tracing::debug!(node = link.label(), %error, "cannot connect");
                link.failed(error.clone(), Instant::now(), self.seed());
                // It may be elsewhere by now; another member knows.
                if let Some(lane) = self.any_lane() {
                    self.tracker.spawn(refresh(self.clone(), lane));
                }
                Err(error)
            }
        }
    }

    /// The best node for a request among those not in `tried`.
    pub(crate) fn choose(
        &self,
        route: Route<'_>,
        preference: Preference,
        tried: &[Arc<Link>],
    ) -> Option<Arc<Link>> {
        if let Some(pinned) = &self.pinned {
            return tried.is_empty().then(|| pinned.clone());
        }
        let table = self.table.load();
        let table = table.as_ref()?;
        let dice = Dice {
            now: Instant::now(),
            word: scatter(self.seed()),
        };
        let chosen = table.choose(&self.seeds, route, preference, tried, dice);
        chosen.cloned()
    }

    /// When reads are worth a second request, and whether they may have one.
    pub(crate) fn hedging<T>(&self, with: impl FnOnce(&mut Hedging) -> T) -> T {
        with(&mut self.hedging.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A node tells its ring by itself: it has a new one.
    pub(crate) fn told_ring(&self, node: &str, body: &[u8]) {
        let reply = decode_body::<RingReply>(body).map_err(|error| error.to_string());
        let ring = reply
            .and_then(|reply| Ring::from_bytes(&reply.ring).map_err(|error| error.to_string()));
        match ring {
            Ok(ring) => {
                tracing::debug!(node, epoch = %ring.epoch(), "the node tells its ring");
                self.install(ring);
            }
            Err(error) => tracing::warn!(node, error, "the node tells a ring that is none"),
        }
    }

    /// Runs a task that `close` waits for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Whether more than one node can be asked.
    pub(crate) const fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// Asks one node for its ring.
    async fn fetch_ring(&self, lane: &Arc<Lane>) -> Result<Ring, String> {
        let mut waiting = lane
            .send(&Request::Ring)
            .map_err(|error| format!("{error:?}"))?;
        let frame = timeout(RING_LIMIT, waiting.answer())
            .await
            .map_err(|_| format!("{} does not answer", lane.node()))?
            .ok_or_else(|| format!("{} closed the connection", lane.node()))?;
        let response = Response::decode(frame.kind, &frame.body).map_err(|e| e.to_string())?;
        if let Response::Ring(reply) = &response {
            return Ring::from_bytes(&reply.ring).map_err(|error| error.to_string());
        }
        if let Response::Error(body) = response {
            return Err(body.message);
        }
        let kind = response.kind();
        Err(format!("{} answered with kind {kind}", lane.node()))
    }

    /// Routes by `ring` from now on, unless a newer one is known. Of one number the last one heard
    /// of counts: its members have moved.
    pub(crate) fn install(&self, ring: Ring) {
        let _turn = self
            .installing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let old = self.table.load_full();
        if old.as_ref().is_none_or(|old| old.is_behind(&ring)) {
            let table = Table::new(ring, old.as_deref());
            self.table.store(Some(Arc::new(table)));
        }
    }

    /// Gives a lane made by address to the member it turned out to lead to.
    fn adopt(&self, lane: Arc<Lane>) {
        let table = self.table.load();
        if let Some(link) = table.as_ref().and_then(|table| table.link(lane.node())) {
            link.opened(lane);
        }
    }

    fn epoch(&self) -> u64 {
        self.table.load().as_ref().map_or(0, |table| table.epoch())
    }

    /// A lane to a member of the ring, whichever is there.
    fn any_lane(&self) -> Option<Arc<Lane>> {
        let table = self.table.load();
        let mut lanes = table.iter().flat_map(|table| table.links());
        lanes.find_map(|link| link.lane())
    }

    fn links(&self) -> Vec<Arc<Link>> {
        let table = self.table.load();
        let members = table.iter().flat_map(|table| table.links());
        let all = members.chain(&self.seeds).chain(&self.pinned);
        all.cloned().collect()
    }

    /// Ends all connections in good order.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        // Before waiting for the tasks: a lane that is just being made must end as well.
        self.endpoint.close(close::SHUTDOWN.into(), b"");
        self.tracker.close();
        self.tracker.wait().await;
        self.endpoint.wait_idle().await;
    }

    /// Operation ids are random.
    pub(crate) fn op_id(&self) -> OpId {
        let mut ids = self.op_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.used == ids.bytes.len() {
            ids.used = 0;
            transport::fill_random(&mut ids.bytes)
                .expect("the system had randomness when the client was made");
        }
        let mut id = [0; 16];
        id.copy_from_slice(&ids.bytes[ids.used..ids.used + 16]);
        ids.used += 16;
        OpId::from_bytes(id)
    }

    /// A number for a generator of pauses, another each time.
    pub(crate) fn seed(&self) -> u64 {
        self.seeds_drawn.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for link in self.links() {
            if let Some(lane) = link.lane() {
                lane.close(close::SHUTDOWN);
            }
        }
    }
}

/// What an operation whose key and value have `bytes` counts for in [`Pool::operations`].
pub(crate) fn cost_kib(bytes: usize) -> u32 {
    let kib = OPERATION_KIB_MIN + bytes.div_ceil(1024);
    u32::try_from(kib.min(OPERATIONS_KIB)).expect("the total fits")
}

fn endpoint() -> Result<Endpoint, ConnectError> {
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    let socket = transport::bind(any).or_else(|_| {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        transport::bind(any)
    })?;
    let config = EndpointKeys::random()?.endpoint_config();
    let runtime = Arc::new(TokioRuntime);
    Ok(Endpoint::new(config, None, socket, runtime)?)
}

fn draw_seed() -> Result<u64, ConnectError> {
    let mut seed = [0; 8];
    transport::fill_random(&mut seed)?;
    Ok(u64::from_le_bytes(seed))
}

/// Learns the ring from a node that knows a newer one.
async fn refresh(pool: Arc<Pool>, lane: Arc<Lane>) {
    match pool.fetch_ring(&lane).await {
        Ok(ring) => pool.install(ring),
        Err(error) => tracing::debug!(node = lane.node(), error, "cannot learn the newer ring"),
    }
}

/// Looks after lanes until the client is gone.
async fn look_after(pool: Weak<Pool>, stop: CancellationToken) {
    let mut ticks = interval(CARE_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Biased: a client that is gone needs no care.
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            now = ticks.tick() => {
                let Some(pool) = pool.upgrade() else {
                    return;
                };
                care(&pool, now);
            }
        }
    }
}

fn care(pool: &Arc<Pool>, now: Instant) {
    for link in pool.links() {
        if let Some(lane) = link.lane() {
            lane.watch(now);
        } else if link.wants_dial(now) {
            let pool = pool.clone();
            pool.tracker.clone().spawn(async move {
                // The link remembers what went wrong.
                drop(pool.dial(&link).await);
            });
        }
    }
}
