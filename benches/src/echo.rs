//! What the transport alone takes: three nodes that store nothing and understand nothing, and send
//! each other as many messages of the same sizes as a put or a get does.
//!
//! Same library, same settings, same certificates, streams and frames as the cluster, and nothing
//! else: what a node of the cluster takes beyond this is its own doing. The nodes are threads of
//! this process, so each one's processor time is known by itself.

mod node;

use std::{
    cell::Cell,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use quinn::{Endpoint, TokioRuntime};
use quorate_client::{
    tls::{Alpn, Credentials},
    transport::{self, EndpointKeys},
    wire::{ErrorBody, ErrorCode},
};
use tokio::{
    task::{LocalSet, spawn_local},
    time::{interval, sleep},
};

use self::node::{Lane, read_from};
use crate::options::Echo;

/// Nodes, as many as copies.
const NODES: usize = 3;
const WARM_UP: Duration = Duration::from_secs(1);

/// The messages of one operation, by their bytes.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    request: usize,
    /// From the node that is asked to each of `others`.
    copy: usize,
    others: usize,
    /// From each of them back; the first one lets the answer go.
    ack: usize,
    answer: usize,
}

/// With a value of 100 bytes, N=3, R=2 and W=2, as the wire format has them.
const SHAPES: [Shape; 2] = [
    Shape {
        name: "put",
        request: 360,
        copy: 350,
        others: 2,
        ack: 21,
        answer: 330,
    },
    Shape {
        name: "get",
        request: 80,
        copy: 80,
        others: 1,
        ack: 300,
        answer: 360,
    },
];

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs both shapes and says what they took.
pub(crate) fn run(options: &Echo) -> Result<(), ErrorBody> {
    for shape in SHAPES {
        let measured = measure(shape, options);
        let said = measured.and_then(|text| Ok(io::stdout().lock().write_all(text.as_bytes())?));
        said.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
    }
    Ok(())
}

fn measure(shape: Shape, options: &Echo) -> Result<String, Failure> {
    let (started, all_started) = mpsc::channel();
    let mut nodes = Vec::new();
    let mut sockets = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..NODES {
        let socket = transport::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        addresses.push(socket.local_addr()?);
        sockets.push(socket);
    }
    for (number, socket) in sockets.into_iter().enumerate() {
        let tls = options.dir.join(format!("node{}/tls", number + 1));
        let credentials = credentials(&tls, "node")?;
        let (started, addresses) = (started.clone(), addresses.clone());
        let spawned = thread::Builder::new().name(format!("echo {number}"));
        nodes.push(spawned.spawn(move || {
            let place = fs::read_link("/proc/thread-self")?;
            started.send(Path::new("/proc").join(place).join("schedstat"))?;
            node::serve(number, socket, &credentials, &addresses, shape)
        })?);
    }
    drop(started);
    let places: Vec<PathBuf> = all_started.iter().take(NODES).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let figures = runtime.block_on(load(shape, options, &addresses, &places))?;
    // Their runtimes end with the process; nothing of them is worth waiting for.
    drop(nodes);
    Ok(figures)
}

fn credentials(dir: &Path, name: &str) -> Result<Credentials, Failure> {
    let file = |ending| dir.join(format!("{name}.{ending}"));
    let loaded = Credentials::load(&dir.join("ca.pem"), &file("pem"), &file("key"));
    loaded.map_err(|error| format!("{error}; certificates are taken from `quorate dev`").into())
}

/// Clients in a closed loop, or operations at a rate, spread over the nodes.
async fn load(
    shape: Shape,
    options: &Echo,
    addresses: &[SocketAddr],
    places: &[PathBuf],
) -> Result<String, Failure> {
    let credentials = credentials(&options.dir.join("client"), "client")?;
    let endpoint = Endpoint::new(
        EndpointKeys::random()?.endpoint_config(),
        None,
        transport::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?,
        Arc::new(TokioRuntime),
    )?;
    let done = Rc::new(Cell::new(0_u64));
    let measured = async {
        let config = credentials.client_config(Alpn::Client, None)?;
        let mut lanes = Vec::new();
        for address in addresses {
            let connecting = endpoint.connect_with(config.clone(), *address, "quorate")?;
            let (send, receive) = connecting.await?.open_bi().await?;
            let lane = Rc::new(Lane::default());
            spawn_local(lane.clone().write_to(send));
            let (done, again) = (done.clone(), options.rate.is_none().then(|| lane.clone()));
            spawn_local(read_from(receive, move |frame| {
                done.set(done.get() + 1);
                if let Some(lane) = &again {
                    lane.ask(frame.id, shape);
                }
            }));
            lanes.push(lane);
        }
        match options.rate {
            Some(rate) => drop(spawn_local(at_rate(rate, lanes, shape))),
            None => (0..options.clients)
                .zip(lanes.iter().cycle())
                .for_each(|(client, lane)| lane.ask(client as u64, shape)),
        }
        sleep(WARM_UP).await;
        let (begun, before, used) = (Instant::now(), done.get(), cpu(places)?);
        sleep(options.duration).await;
        let (ops, used) = (done.get() - before, cpu(places)?.saturating_sub(used));
        Ok(text(shape, ops, begun.elapsed(), used))
    };
    LocalSet::new().run_until(measured).await
}

/// Asks for what is due each millisecond, whatever comes back.
async fn at_rate(rate: u64, lanes: Vec<Rc<Lane>>, shape: Shape) {
    let begun = Instant::now();
    let mut ticks = interval(Duration::from_millis(1));
    let mut ids = 0..;
    let mut turns = lanes.iter().cycle();
    loop {
        ticks.tick().await;
        let due = u128::from(rate) * begun.elapsed().as_micros() / 1_000_000;
        while ids.start < due
            && let (Some(id), Some(lane)) = (ids.next(), turns.next())
        {
            lane.ask(u64::try_from(id).unwrap_or(0), shape);
        }
    }
}

/// Processor time of all nodes so far.
fn cpu(places: &[PathBuf]) -> Result<Duration, Failure> {
    let mut all = Duration::ZERO;
    for place in places {
        let stat = fs::read_to_string(place)?;
        let nanos = stat.split(' ').next().ok_or("no time in schedstat")?;
        all += Duration::from_nanos(nanos.parse()?);
    }
    Ok(all)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn text(shape: Shape, ops: u64, took: Duration, used: Duration) -> String {
    let per_op = used.as_secs_f64() * 1e6 / ops.max(1) as f64;
    format!(
        "echo of a {}: {:.0} op/s, processor {per_op:.1} us per op in all nodes together\n",
        shape.name,
        ops as f64 / took.as_secs_f64(),
    )
}
