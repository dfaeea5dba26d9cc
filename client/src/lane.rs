//! One live connection to one node: a long stream with many frames each way.
//!
//! Callers encode straight into the lane's outgoing buffer and wait on a slot of their own; one
//! task writes whatever has gathered in one go, another reads and hands out answers by request id.
//! A node that takes nothing in is not sent more than a lane may hold: its callers are refused and
//! go elsewhere, so that one node cannot use up the memory of all. Who gives up waiting takes the
//! request back, and the node drops what it has not begun. The lane does not reconnect: once
//! closed, it stays closed, and everyone who waits is told.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    pending::Pending,
    pool::Pool,
    transport::close,
    wire::{
        EncodeError, Frame, FrameReader, Request,
        frame::{append_cancel, kind},
    },
};

/// Bytes that may wait to be written; one request may always.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Requests that one node may owe answers to: more than a node takes from everybody together.
const REQUESTS_MAX: usize = 16_384;

/// Chunks taken from the stream at once.
const READ_CHUNKS: usize = 32;
/// Silence, while answers are awaited, after which the node is asked for a sign of life.
const QUIET: Duration = Duration::from_millis(200);
/// Silence after which the node is taken for dead. Even a busy node's transport acknowledges the
/// question within a few milliseconds.
const DEAD: Duration = Duration::from_millis(700);

/// Why a request did not get onto the lane; it has certainly not been sent.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The connection is gone.
    Closed,
    /// The node owes too much, or takes in too little: the limit's name.
    Full(&'static str),
    /// The request cannot be put into a frame.
    Encode(EncodeError),
}

#[derive(Debug)]
struct Shared {
    out: BytesMut,
    pending: Pending<oneshot::Sender<Frame>>,
    closed: bool,
    heard: Heard,
}

/// When the node's transport was last heard.
#[derive(Debug)]
struct Heard {
    datagrams: u64,
    at: Instant,
    asked: bool,
}

/// A live connection.
#[derive(Debug)]
pub(crate) struct Lane {
    connection: Connection,
    node: String,
    shared: Mutex<Shared>,
    outgoing: Notify,
    pool: Weak<Pool>,
}

impl Lane {
    /// Starts the two tasks of a lane on a stream that has said Hello. `reader` holds what came
    /// after the answer.
    pub(crate) fn start(
        connection: Connection,
        node: String,
        (send, receive): (SendStream, RecvStream),
        reader: FrameReader,
        pool: Weak<Pool>,
    ) -> Arc<Self> {
        let lane = Arc::new(Self {
            connection,
            node,
            shared: Mutex::new(Shared {
                out: BytesMut::new(),
                pending: Pending::new(),
                closed: false,
                heard: Heard {
                    datagrams: 0,
                    at: Instant::now(),
                    asked: false,
                },
            }),
            outgoing: Notify::new(),
            pool: pool.clone(),
        });
        if let Some(pool) = pool.upgrade() {
            pool.spawn(lane.clone().write(send));
            pool.spawn(lane.clone().read(receive, reader));
        }
        lane
    }

    /// The node's name, as it said in Hello.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Queues a request. It is on its way unless this fails.
    pub(crate) fn send(self: &Arc<Self>, request: &Request) -> Result<Waiting, SendError> {
        let (sender, receiver) = oneshot::channel();
        let (id, first) = {
            let mut shared = self.lock();
            if shared.closed {
                return Err(SendError::Closed);
            }
            if WAITING_BYTES_MAX < shared.out.len() {
                return Err(SendError::Full("lane_bytes"));
            }
            if REQUESTS_MAX <= shared.pending.len() {
                return Err(SendError::Full("lane_requests"));
            }
            let first = shared.out.is_empty();
            let id = shared.pending.insert(sender);
            if let Err(error) = request.append_to(&mut shared.out, id) {
                shared.pending.take(id);
                return Err(SendError::Encode(error));
            }
            (id, first)
        };
        if first {
            self.outgoing.notify_one();
        }
        Ok(Waiting {
            lane: self.clone(),
            id,
            receiver,
            answered: false,
        })
    }

    /// Nobody waits for this answer any more: frees its slot and tells the node.
    fn cancel(&self, id: u64) {
        let mut shared = self.lock();
        let waited = shared.pending.take(id).is_some();
        if waited && !shared.closed {
            let first = shared.out.is_empty();
            append_cancel(&mut shared.out, id);
            drop(shared);
            if first {
                self.outgoing.notify_one();
            }
        }
    }

    /// Closes the connection and tells everyone who waits.
    pub(crate) fn close(&self, code: u32) {
        let waiting = {
            let mut shared = self.lock();
            shared.closed = true;
            shared.out = BytesMut::new();
            shared.pending.drain()
        };
        self.connection.close(code.into(), b"");
        self.outgoing.notify_one();
        // Each learns of it by its sender being dropped.
        drop(waiting);
    }

    /// To be called often: closes the lane if the node owes answers and its transport is silent.
    /// A node that was killed says nothing, and QUIC alone would take half a minute to mind.
    pub(crate) fn watch(self: &Arc<Self>, now: Instant) {
        let datagrams = self.connection.stats().udp_rx.datagrams;
        let silence = {
            let mut shared = self.lock();
            if shared.closed {
                return;
            }
            let idle = shared.pending.is_empty();
            let heard = &mut shared.heard;
            if idle || datagrams != heard.datagrams {
                *heard = Heard {
                    datagrams,
                    at: now,
                    asked: false,
                };
                return;
            }
            let silence = now.duration_since(heard.at);
            if silence < QUIET || (heard.asked && silence < DEAD) {
                return;
            }
            heard.asked = true;
            silence
        };
        if silence >= DEAD {
            tracing::debug!(node = self.node, ?silence, "the node is silent, closing");
            self.close(close::REPLACED);
        } else if let Err(error) = self.send(&Request::Ring) {
            // Any small question would do; its answer is not needed.
            tracing::trace!(node = self.node, ?error, "cannot ask for a sign of life");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(self: Arc<Self>, mut send: SendStream) {
        loop {
            self.outgoing.notified().await;
            let out = {
                let mut shared = self.lock();
                if shared.closed {
                    return;
                }
                shared.out.split().freeze()
            };
            if let Err(error) = send.write_chunk(out).await {
                tracing::debug!(node = self.node, %error, "cannot write to the node");
                self.close(close::SHUTDOWN);
                return;
            }
        }
    }

    async fn read(self: Arc<Self>, mut receive: RecvStream, mut reader: FrameReader) {
        let mut chunks = [const { Bytes::new() }; READ_CHUNKS];
        let mut frames = Vec::new();
        let code = loop {
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(node = self.node, %error, "the node sent no frame");
                        self.close(close::PROTOCOL);
                        return;
                    }
                }
            }
            self.hand_out(&mut frames);
            match receive.read_chunks(&mut chunks).await {
                Ok(Some(count)) => {
                    let full = chunks.iter_mut().take(count);
                    full.for_each(|chunk| reader.feed(std::mem::take(chunk)));
                }
                Ok(None) => break close::SHUTDOWN,
                Err(error) => {
                    tracing::debug!(node = self.node, %error, "the connection is gone");
                    break close::SHUTDOWN;
                }
            }
        };
        self.close(code);
    }

    fn hand_out(&self, frames: &mut Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        // Nobody has asked under this id.
        let told = frames.extract_if(.., |frame| frame.id == 0);
        for frame in told.filter(|frame| frame.kind == kind::RING_IS) {
            if let Some(pool) = self.pool.upgrade() {
                pool.told_ring(&self.node, &frame.body);
            }
        }
        let takers: Vec<_> = {
            let mut shared = self.lock();
            frames
                .drain(..)
                .filter_map(|frame| Some((shared.pending.take(frame.id)?, frame)))
                .collect()
        };
        for (taker, frame) in takers {
            // A caller that has just given up does not mind.
            drop(taker.send(frame));
        }
    }
}

/// A request that is on its way. Dropping it takes the request back.
#[derive(Debug)]
pub(crate) struct Waiting {
    lane: Arc<Lane>,
    id: u64,
    receiver: oneshot::Receiver<Frame>,
    answered: bool,
}

impl Waiting {
    /// The answer; `None` if the connection went away first. Cancel-safe.
    pub(crate) async fn answer(&mut self) -> Option<Frame> {
        let answer = (&mut self.receiver).await.ok();
        self.answered = true;
        answer
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            self.lane.cancel(self.id);
        }
    }
}
