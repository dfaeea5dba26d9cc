//! The clients that are connected, as far as they are told something without asking.
//!
//! That is the ring, and where its members are: who routes by an old one costs every request a hop,
//! and would notice only by asking now and then. It is told on the stream that the answers take,
//! under the id that no question has. Nobody waits for it, and a client that does not keep up
//! misses it: it will hear of the next one, or ask when it connects again.

use std::sync::{Arc, Mutex, Weak};

use bytes::BytesMut;
use quorate_client::wire::Response;

use super::lane::Lane;

/// First streams of all clients.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<Vec<Weak<Lane>>>);

impl Clients {
    /// A client has said hello on this lane.
    pub(super) fn add(&self, lane: &Arc<Lane>) {
        let mut lanes = self.0.lock().expect("a panic ends the process");
        // Those who have left are forgotten whenever the list would have to grow.
        if lanes.len() == lanes.capacity() {
            lanes.retain(|lane| 0 < lane.strong_count());
        }
        lanes.push(Arc::downgrade(lane));
    }

    /// Says something to everyone.
    pub(super) fn tell(&self, response: &Response) {
        let mut frame = BytesMut::new();
        if let Err(error) = response.append_to(&mut frame, 0) {
            tracing::warn!(%error, "clients cannot be told the ring");
            return;
        }
        let lanes = self.0.lock().expect("a panic ends the process");
        for lane in lanes.iter().filter_map(Weak::upgrade) {
            // One that is gone or full is none to wait for.
            let _ = lane.push(|buffer| {
                buffer.extend_from_slice(&frame);
                Ok(())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_client::wire::RingReply;

    #[test]
    fn everyone_who_is_there_is_told_and_nobody_else_is_remembered() {
        let clients = Clients::default();
        let lane = || {
            let lane = Arc::new(Lane::new(1 << 20));
            lane.open();
            lane
        };
        let stays = lane();
        clients.add(&stays);
        for _ in 0..100 {
            clients.add(&lane());
        }
        clients.tell(&Response::Ring(RingReply::default()));
        assert!(0 < stays.backlog());
        assert!(clients.0.lock().unwrap().len() < 10);
    }
}
