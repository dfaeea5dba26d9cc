//! The links between nodes, and between clients and nodes.
//!
//! A message is lost, delayed, doubled or overtaken as the options say; a cut link loses all of
//! them, a clogged one holds them back and then delivers all at once, a busy one sends them one
//! after the other, and a narrow one takes its time for every byte. Links are directed, and each
//! has a speed of its own. Clients talk over streams, so their requests and answers are lost or
//! late but never doubled.

use crate::{options::NetOptions, rng::Rng};

/// What happened to messages so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetCounts {
    /// Messages given to the network.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost on a cut link.
    pub cut: u64,
    /// Delivered twice.
    pub doubled: u64,
    /// Took the long way.
    pub late: u64,
    /// Arrived before one that was sent earlier.
    pub overtaking: u64,
    /// Waited for a clogged link.
    pub clogged: u64,
    /// Waited for others on a busy or narrow link.
    pub queued: u64,
    /// Lost since too much waited for its link.
    pub crowded: u64,
    /// Requests or answers of clients lost.
    pub client_lost: u64,
}

/// When the copies of one message arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// The message, unless it was lost.
    pub first: Option<u64>,
    /// Its copy, if it was doubled.
    pub second: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Link {
    cut: bool,
    clogged_until: u64,
    free_at: u64,
    slowness: u64,
    /// How many times as slow it is for the time being.
    burden: u64,
    last_arrival: u64,
}

/// What would wait longer than this for a link is dropped, as by a full queue.
const QUEUE_MAX: u64 = 1_000_000_000;

/// All links.
#[derive(Debug)]
pub struct Network {
    nodes: usize,
    links: Vec<Link>,
    options: NetOptions,
    rng: Rng,
    /// What happened so far.
    pub counts: NetCounts,
}

impl Network {
    /// Links between this many nodes.
    #[must_use]
    pub fn new(nodes: usize, options: NetOptions, seed: u64) -> Self {
        let mut speeds = Rng::new(seed, 0x0e71);
        let mut link = || Link {
            slowness: speeds.between(1, options.spread),
            burden: 1,
            ..Link::default()
        };
        Self {
            nodes,
            links: (0..nodes * nodes).map(|_| link()).collect(),
            options,
            rng: Rng::new(seed, 0x0e70),
            counts: NetCounts::default(),
        }
    }

    /// Sends a message of so many bytes from one node to another.
    pub fn send(&mut self, now: u64, from: usize, to: usize, bytes: usize) -> Arrivals {
        self.counts.sent += 1;
        let link = &self.links[from * self.nodes + to];
        if link.cut {
            self.counts.cut += 1;
            return Arrivals::default();
        }
        if now + QUEUE_MAX < link.free_at {
            self.counts.crowded += 1;
            return Arrivals::default();
        }
        if self.rng.chance(self.options.loss) {
            self.counts.lost += 1;
            return Arrivals::default();
        }
        let takes = self.options.busy + self.transmission(bytes);
        let first = Some(self.arrival(now, from, to, takes));
        let second = self.rng.chance(self.options.duplicate).then(|| {
            self.counts.doubled += 1;
            self.arrival(now, from, to, takes)
        });
        Arrivals { first, second }
    }

    /// How long a link takes to put so many bytes on the wire.
    fn transmission(&self, bytes: usize) -> u64 {
        let nanos = bytes as u64 * 1_000_000_000;
        nanos.checked_div(self.options.bandwidth).unwrap_or(0)
    }

    fn arrival(&mut self, now: u64, from: usize, to: usize, takes: u64) -> u64 {
        let (delay, tail) = self.delay();
        let link = &mut self.links[from * self.nodes + to];
        let counts = &mut self.counts;
        counts.late += u64::from(tail != 0);
        counts.queued += u64::from(now < link.free_at);
        counts.clogged += u64::from(now < link.clogged_until);
        link.free_at = link.free_at.max(now) + takes;
        let delay = delay * link.slowness * link.burden + tail;
        let at = link.free_at.max(link.clogged_until) + delay;
        if self.options.reorder {
            counts.overtaking += u64::from(at < link.last_arrival);
            link.last_arrival = at.max(link.last_arrival);
            return at;
        }
        link.last_arrival = at.max(link.last_arrival + 1);
        link.last_arrival
    }

    /// The usual delay, and what the long way adds to it.
    fn delay(&mut self) -> (u64, u64) {
        let delay = self.options.delay_min + self.rng.exponential(self.options.delay_mean);
        let long = self.rng.chance(self.options.tail);
        let tail = if long {
            self.rng.below(self.options.tail_max)
        } else {
            0
        };
        (delay, tail)
    }

    /// Sends something between a client and a node; none if it is lost.
    pub fn client_send(&mut self, now: u64) -> Option<u64> {
        if self.rng.chance(self.options.client_loss) {
            self.counts.client_lost += 1;
            return None;
        }
        let (delay, tail) = self.delay();
        Some(now + delay + tail)
    }

    /// Cuts or mends the link from one node to another.
    pub fn set_cut(&mut self, from: usize, to: usize, cut: bool) {
        self.links[from * self.nodes + to].cut = cut;
    }

    /// Holds back what one node sends to another until then.
    pub fn clog(&mut self, from: usize, to: usize, until: u64) {
        let link = &mut self.links[from * self.nodes + to];
        link.clogged_until = link.clogged_until.max(until);
    }

    /// Makes the links from and to that node, and no other, so many times as slow as they were.
    pub fn slow(&mut self, node: Option<usize>, times: u64) {
        let nodes = self.nodes;
        for (at, link) in self.links.iter_mut().enumerate() {
            let its = [Some(at / nodes), Some(at % nodes)].contains(&node);
            link.burden = if its { times } else { 1 };
        }
    }

    /// Mends every link.
    pub fn mend(&mut self) {
        for link in &mut self.links {
            link.cut = false;
            link.clogged_until = 0;
        }
    }

    /// Takes every fault away; only delays remain.
    pub fn heal(&mut self) {
        self.mend();
        for link in &mut self.links {
            link.free_at = 0;
            link.burden = 1;
        }
        self.options.bandwidth = 0;
        self.options.loss = 0;
        self.options.duplicate = 0;
        self.options.tail = 0;
        self.options.busy = 0;
        self.options.client_loss = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    #[test]
    fn a_cut_link_is_cut_in_one_direction() {
        let mut net = Network::new(3, Options::calm(1).net, 1);
        net.set_cut(0, 1, true);
        assert_eq!(net.send(5, 0, 1, 9), Arrivals::default());
        assert!(net.send(5, 1, 0, 9).first.is_some_and(|at| at > 5));
        net.heal();
        assert!(net.send(5, 0, 1, 9).first.is_some());
    }

    #[test]
    fn a_clogged_link_delivers_when_it_is_free_again() {
        let mut net = Network::new(2, Options::calm(1).net, 1);
        net.clog(0, 1, 1_000_000_000);
        assert!(
            net.send(5, 0, 1, 9)
                .first
                .is_some_and(|at| at > 1_000_000_000)
        );
        assert!(
            net.send(5, 1, 0, 9)
                .first
                .is_some_and(|at| at < 1_000_000_000)
        );
    }

    #[test]
    fn without_reordering_messages_arrive_in_order() {
        let mut options = Options::calm(1).net;
        options.delay_mean = 1_000_000;
        let mut net = Network::new(2, options, 1);
        let mut last = 0;
        for now in 0..1_000 {
            let at = net
                .send(now, 0, 1, 9)
                .first
                .expect("nothing is lost on a calm network");
            assert!(at > last);
            last = at;
        }
    }

    #[test]
    fn a_narrow_link_takes_its_time_for_every_byte_and_drops_what_it_cannot_hold() {
        let mut options = Options::calm(1).net;
        options.bandwidth = 1_000;
        let mut net = Network::new(2, options, 1);
        let at = net.send(0, 0, 1, 500).first;
        assert!(at.is_some_and(|at| 500_000_000 < at && at < 510_000_000));
        let at = net.send(0, 0, 1, 600).first;
        assert!(at.is_some_and(|at| 1_100_000_000 < at && at < 1_110_000_000));
        assert_eq!(net.send(0, 0, 1, 1), Arrivals::default());
        assert_eq!(net.counts.crowded, 1);
        assert!(net.send(0, 1, 0, 9).first.is_some_and(|at| at < 20_000_000));
    }
}
