//! What a node knows when it begins: that it has heard of nobody, and may not speak for itself yet.

use std::collections::{BTreeMap, VecDeque};

use quorate_gossip::{Gossip, Instant};
use quorate_ring::{Decree, NodeUuid};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::{Node, Options, ring::rings};
use crate::{
    api::Moment,
    bucket::Catalogue,
    core::{Behind, Core, Upkeep, Voice},
    healing::{governor::Governor, reap::Queue},
    hedging::Hedging,
    hybrid::Hybrid,
    peers::Peers,
    places::Places,
    replica::Replica,
};

impl Node {
    pub(super) fn core(options: Options, catalogue: Catalogue, now: Moment) -> Core {
        let decree = options.stored_ring.in_force(&options.ring);
        let (ring, other) = rings(&decree);
        let mut dice = Pcg64Mcg::seed_from_u64(options.seed);
        let gossip = gossip_of(&options, &decree, dice.random(), now.mono);
        let mut replica = Replica::new(options.identity, options.durable_writes, &options.limits);
        replica.mint_apart(NodeUuid::new(dice.random()));
        Core {
            me: options.me,
            decree,
            ring,
            other,
            ring_news: VecDeque::new(),
            hint_news: VecDeque::new(),
            outsiders: BTreeMap::new(),
            places: Places::default(),
            cluster: options.cluster,
            cluster_name: options.cluster_name,
            context_key: options.context_key,
            limits: options.limits,
            catalogue,
            peers: Peers::default(),
            hedging: Hedging::default(),
            gossip,
            replica,
            now,
            started: now.mono,
            voice: Voice::Unheard,
            sets_aside: false,
            unvouched: Vec::new(),
            peers_asked: false,
            outputs: VecDeque::new(),
            loopback: VecDeque::new(),
            notices: VecDeque::new(),
            repairs: BTreeMap::new(),
            repair_rpcs: BTreeMap::new(),
            requests: 0,
            request_bytes: 0,
            upkeep: Upkeep {
                aside_changed: true,
                ..Upkeep::default()
            },
            disk_low: false,
            tickets: 0,
            hybrid: Hybrid::new(),
            governor: Governor::default(),
            behind: Behind::default(),
            generations: options.stored_ring.generations(),
            lapsed: Queue::default(),
            next_op: dice.random::<u64>() >> 9,
            rng: dice,
        }
    }
}

fn gossip_of(options: &Options, decree: &Decree, seed: u64, now: Instant) -> Gossip {
    let Options {
        gossip,
        me,
        identity,
        ..
    } = options;
    let life = (identity.uuid, identity.boot);
    Gossip::new(gossip.clone(), *me, life, decree.concerned(), seed, now)
}
