//! A lane: frames for one stream, packed while they wait.
//!
//! Whoever has something to say encodes it straight into the lane's buffer; one writer takes all
//! that has gathered and hands it to the stream at once. The buffer is bounded: what does not fit
//! is refused, and the caller decides what that means.

use std::sync::{Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use quinn::{SendStream, WriteError};
use quorate_client::wire::EncodeError;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Grown by as much at a time, so that a busy lane seldom asks for memory.
const BUFFER_BYTES: usize = 32 << 10;

/// Frames that wait for their stream.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<State>,
    filled: Notify,
    emptied: Notify,
    given_up: CancellationToken,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    buffer: BytesMut,
    /// Taken by the writer and not yet accepted by the stream.
    taken: usize,
    open: bool,
}

/// Why a frame was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is no stream.
    Closed,
    /// The lane is at its maximum.
    Full,
    /// The message cannot be a frame.
    Encode(EncodeError),
}

impl Lane {
    /// A lane without a stream.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            given_up: CancellationToken::new(),
            bytes_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic ends the process")
    }

    /// Appends what `encode` writes, and wakes the writer.
    pub(super) fn push(
        &self,
        encode: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
    ) -> Result<(), Refused> {
        let mut state = self.state();
        if !state.open {
            return Err(Refused::Closed);
        }
        if self.bytes_max <= state.buffer.len() + state.taken {
            return Err(Refused::Full);
        }
        if state.buffer.capacity() == state.buffer.len() {
            state.buffer.reserve(BUFFER_BYTES);
        }
        let idle = state.buffer.is_empty();
        encode(&mut state.buffer).map_err(Refused::Encode)?;
        drop(state);
        if idle {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Bytes that the stream has not accepted yet.
    pub(super) fn backlog(&self) -> usize {
        let state = self.state();
        state.buffer.len() + state.taken
    }

    /// Waits until at most `bytes` wait, or there is no stream to wait for.
    pub(super) async fn drained(&self, bytes: usize) {
        loop {
            let emptied = self.emptied.notified();
            {
                let state = self.state();
                if !state.open || state.buffer.len() + state.taken <= bytes {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// Writes to `stream` for as long as it lives. One writer at a time.
    pub(super) async fn write_to(&self, stream: &mut SendStream) -> WriteError {
        self.state().open = true;
        loop {
            let chunk = self.take();
            if chunk.is_empty() {
                self.filled.notified().await;
                continue;
            }
            if let Err(error) = stream.write_chunk(chunk).await {
                self.close();
                return error;
            }
            self.state().taken = 0;
            self.emptied.notify_waiters();
        }
    }

    /// Forgets what waits, and refuses more until there is a stream again.
    pub(super) fn close(&self) {
        *self.state() = State::default();
        self.emptied.notify_waiters();
    }

    /// Says that the other side does not keep up and the connection must go.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Waits for [`give_up`](Self::give_up).
    pub(super) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }

    /// Lets frames in before the writer has started.
    pub(super) fn open(&self) {
        self.state().open = true;
    }

    fn take(&self) -> Bytes {
        let mut state = self.state();
        state.taken = state.buffer.len();
        state.buffer.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(lane: &Lane, bytes: &[u8]) -> Result<(), Refused> {
        lane.push(|buffer| {
            buffer.extend_from_slice(bytes);
            Ok(())
        })
    }

    #[test]
    fn frames_pack_until_the_lane_is_full() {
        let lane = Lane::new(4);
        assert!(matches!(push(&lane, b"ab"), Err(Refused::Closed)));
        lane.open();
        push(&lane, b"ab").unwrap();
        push(&lane, b"cd").unwrap();
        assert!(matches!(push(&lane, b"ef"), Err(Refused::Full)));
        assert_eq!(lane.take(), &b"abcd"[..]);
        assert!(matches!(push(&lane, b"ef"), Err(Refused::Full)));
    }

    #[test]
    fn a_closed_lane_forgets() {
        let lane = Lane::new(4);
        lane.open();
        push(&lane, b"ab").unwrap();
        lane.close();
        assert_eq!(lane.backlog(), 0);
        assert!(matches!(push(&lane, b"cd"), Err(Refused::Closed)));
    }
}
