//! A node that only passes messages on.
//!
//! Built as a node of the cluster is: one thread, one endpoint, a stream for each direction to each
//! peer, and one writer a stream that takes all that has gathered. Asked by a client, it sends a
//! copy to its peers and answers at the first acknowledgement.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream, TokioRuntime};
use quorate_client::{
    tls::{Alpn, Credentials},
    transport::EndpointKeys,
    wire::{
        Frame, FrameReader,
        frame::{HEADER_BYTES, Header},
    },
};
use tokio::{
    sync::Notify,
    task::{LocalSet, spawn_local},
    time::sleep,
};

use super::{Failure, Shape};

const REQUEST: u16 = 1;
const ANSWER: u16 = 2;
const COPY: u16 = 3;
const ACK: u16 = 4;
/// Says who has dialled.
const NUMBER: u16 = 5;
const CHUNKS: usize = 64;
const AGAIN: Duration = Duration::from_millis(20);

/// Frames on their way to one stream.
#[derive(Debug, Default)]
pub(super) struct Lane {
    buffer: RefCell<BytesMut>,
    filled: Notify,
}

impl Lane {
    /// Adds a frame of so many bytes in all.
    fn push(&self, kind: u16, id: u64, bytes: usize) {
        let mut buffer = self.buffer.borrow_mut();
        let idle = buffer.is_empty();
        let length = bytes.saturating_sub(HEADER_BYTES);
        let header = Header {
            length: u32::try_from(length).unwrap_or(0),
            kind,
            flags: 0,
            id,
        };
        buffer.extend_from_slice(&header.encode());
        let end = buffer.len() + length;
        buffer.resize(end, 0x5a);
        if idle {
            self.filled.notify_one();
        }
    }

    /// Asks for an operation.
    pub(super) fn ask(&self, id: u64, shape: Shape) {
        self.push(REQUEST, id, shape.request);
    }

    pub(super) async fn write_to(self: Rc<Self>, mut stream: SendStream) {
        loop {
            let chunk = self.buffer.borrow_mut().split().freeze();
            if chunk.is_empty() {
                self.filled.notified().await;
            } else if stream.write_chunk(chunk).await.is_err() {
                return;
            }
        }
    }
}

/// Hands out each frame of a stream until it ends.
pub(super) async fn read_from(mut stream: RecvStream, mut take: impl FnMut(&Frame)) {
    let mut reader = FrameReader::new();
    let mut chunks = vec![Bytes::new(); CHUNKS];
    while let Ok(Some(count)) = stream.read_chunks(&mut chunks).await {
        for chunk in &mut chunks[..count] {
            reader.feed(std::mem::take(chunk));
        }
        while let Ok(Some(frame)) = reader.next_frame() {
            take(&frame);
        }
    }
}

struct Node {
    number: usize,
    shape: Shape,
    /// To each peer, in turn from the next one on; none to itself.
    peers: RefCell<BTreeMap<usize, Rc<Lane>>>,
    waiting: RefCell<BTreeMap<u64, (Rc<Lane>, u64)>>,
    next: Cell<u64>,
}

/// Serves until the process ends.
pub(super) fn serve(
    number: usize,
    socket: UdpSocket,
    credentials: &Credentials,
    addresses: &[SocketAddr],
    shape: Shape,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let node = Rc::new(Node {
        number,
        shape,
        peers: RefCell::default(),
        waiting: RefCell::default(),
        next: Cell::new(0),
    });
    let served = async {
        let endpoint = Endpoint::new(
            EndpointKeys::random()?.endpoint_config(),
            Some(credentials.server_config()?),
            socket,
            Arc::new(TokioRuntime),
        )?;
        let config = credentials.client_config(Alpn::Peer, None)?;
        for (peer, address) in addresses.iter().enumerate() {
            if peer != number {
                let (node, endpoint) = (node.clone(), endpoint.clone());
                let (config, address) = (config.clone(), *address);
                spawn_local(async move { node.dial(&endpoint, config, peer, address).await });
            }
        }
        while let Some(incoming) = endpoint.accept().await {
            let node = node.clone();
            spawn_local(async move {
                if let Ok(connection) = incoming.await {
                    node.accept(connection).await;
                }
            });
        }
        Ok(())
    };
    LocalSet::new().block_on(&runtime, served)
}

impl Node {
    async fn dial(
        self: Rc<Self>,
        endpoint: &Endpoint,
        config: quinn::ClientConfig,
        peer: usize,
        address: SocketAddr,
    ) {
        loop {
            let connecting = endpoint.connect_with(config.clone(), address, "quorate");
            if let Ok(connecting) = connecting
                && let Ok(connection) = connecting.await
                && let Ok(stream) = connection.open_uni().await
            {
                let lane = Rc::new(Lane::default());
                lane.push(NUMBER, self.number as u64, HEADER_BYTES);
                self.peers.borrow_mut().insert(peer, lane.clone());
                lane.write_to(stream).await;
            }
            sleep(AGAIN).await;
        }
    }

    async fn accept(self: Rc<Self>, connection: Connection) {
        loop {
            tokio::select! {
                Ok((send, receive)) = connection.accept_bi() => {
                    let (lane, node) = (Rc::new(Lane::default()), self.clone());
                    spawn_local(lane.clone().write_to(send));
                    spawn_local(read_from(receive, move |frame| node.asked(frame, &lane)));
                }
                Ok(receive) = connection.accept_uni() => {
                    let (node, mut from) = (self.clone(), usize::MAX);
                    spawn_local(read_from(receive, move |frame| node.told(frame, &mut from)));
                }
                else => return,
            }
        }
    }

    fn asked(&self, frame: &Frame, lane: &Rc<Lane>) {
        let id = self.next.get();
        self.next.set(id + 1);
        let asker = (lane.clone(), frame.id);
        self.waiting.borrow_mut().insert(id, asker);
        for peer in self.peers.borrow().values().take(self.shape.others) {
            peer.push(COPY, id, self.shape.copy);
        }
    }

    fn told(&self, frame: &Frame, from: &mut usize) {
        match frame.kind {
            NUMBER => *from = usize::try_from(frame.id).unwrap_or(usize::MAX),
            COPY => {
                if let Some(peer) = self.peers.borrow().get(from) {
                    peer.push(ACK, frame.id, self.shape.ack);
                }
            }
            // The second finds nobody waiting.
            _ => {
                if let Some((lane, id)) = self.waiting.borrow_mut().remove(&frame.id) {
                    lane.push(ANSWER, id, self.shape.answer);
                }
            }
        }
    }
}
