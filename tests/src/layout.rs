//! Where the run's keys live, worked out once with the product's own ring.

use std::sync::Arc;

use bytes::Bytes;
use quorate_client::wire::BucketOptions;
use quorate_node::{
    bucket::{Catalogue, DEFAULT_BUCKET},
    message::BucketId,
    store::format,
};
use quorate_ring::{Member, NodeId, Partitions, Ring, Token};

use crate::options::{LWW_BUCKET, Options};

const PARTITIONS: u32 = 64;
const TOKEN_SEED: u32 = 0x5175;
const REPLICAS_MAX: u8 = 5;

/// The ring, and for every key of the run what follows from it.
#[derive(Debug)]
pub struct Layout {
    ring: Arc<Ring>,
    /// The bucket all keys are in.
    pub bucket: BucketId,
    /// Names of all nodes.
    pub names: Vec<String>,
    /// Per key: its replicas, in order of preference, as indexes of nodes.
    pub owners: Vec<Vec<usize>>,
    /// Per key: the names of its replicas.
    pub owner_names: Vec<Vec<String>>,
    /// Per key: under what it is stored.
    pub store_keys: Vec<Bytes>,
}

impl Layout {
    /// The layout of these keys on the first of these nodes.
    ///
    /// # Panics
    ///
    /// If the product cannot make a ring of the nodes.
    #[must_use]
    pub fn new(names: &[String], options: &Options, keys: &[Bytes]) -> Self {
        let ring = found(&names[..options.nodes]);
        let bucket = catalogue(&ring, options.sloppy)
            .find(options.bucket())
            .expect("both buckets exist from the start");
        let mut layout = Self {
            bucket: bucket.id,
            names: names.to_vec(),
            owners: Vec::new(),
            owner_names: Vec::new(),
            store_keys: Vec::new(),
            ring: Arc::new(ring),
        };
        for key in keys {
            layout.place(key, options);
        }
        layout
    }

    fn place(&mut self, key: &Bytes, options: &Options) {
        let token = Token::of(self.ring.seed(), options.bucket(), key);
        let preference = self.ring.preference(token);
        let owners: Vec<usize> = preference
            .owners(usize::from(options.replicas))
            .iter()
            .map(|id| self.index(*id))
            .collect();
        let names = owners.iter().map(|&node| self.names[node].clone());
        self.owner_names.push(names.collect());
        self.owners.push(owners);
        self.store_keys
            .push(format::object_key(token.get(), self.bucket.0, key));
    }

    fn index(&self, id: NodeId) -> usize {
        let names = &mut self.names.iter();
        names
            .position(|name| NodeId::of_name(name) == id)
            .expect("the ring has no other members")
    }

    /// The ring is another one now: keys have other replicas. Who was one before may still be named
    /// by answers that are under way.
    pub fn follow(&mut self, ring: &Ring, replicas: u8) {
        for (at, stored) in self.store_keys.iter().enumerate() {
            let (token, ..) = format::parse_object_key(stored).expect("made here");
            let preference = ring.preference(Token::new(token));
            let owners = preference.owners(usize::from(replicas));
            self.owners[at] = owners.iter().map(|id| self.index(*id)).collect();
            for node in self.owners[at].clone() {
                if !self.owner_names[at].contains(&self.names[node]) {
                    self.owner_names[at].push(self.names[node].clone());
                }
            }
        }
    }

    /// The members of a ring of these nodes.
    #[must_use]
    pub fn member(name: &str) -> Member {
        Member::new(name, "127.0.0.1:7400", "default", 1).expect("the simulator's names are good")
    }

    /// The ring itself.
    #[must_use]
    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring)
    }
}

/// The buckets of every run: the default one, and one in which the last write wins; in both,
/// others may stand in for replicas or not.
///
/// # Panics
///
/// If the product refuses to make it.
#[must_use]
pub fn catalogue(ring: &Ring, sloppy: bool) -> Catalogue {
    let mut catalogue = Catalogue::founding(ring.replicas_limit());
    let options = BucketOptions {
        mode: Some("lww".to_owned()),
        sloppy: Some(sloppy),
        ..BucketOptions::default()
    };
    let most = ring.replicas_max();
    let author = NodeId::of_name("n1");
    catalogue
        .create(author, LWW_BUCKET, &options, most)
        .expect("a bucket of that name and mode can be made");
    let options = BucketOptions {
        sloppy: Some(sloppy),
        ..BucketOptions::default()
    };
    catalogue
        .set(author, DEFAULT_BUCKET, &options, most)
        .expect("the first bucket may be changed");
    catalogue
}

fn found(names: &[String]) -> Ring {
    let members = names.iter().map(|name| Layout::member(name));
    let partitions = Partitions::new(PARTITIONS).expect("a power of two in range");
    Ring::founding(members.collect(), partitions, TOKEN_SEED, REPLICAS_MAX)
        .expect("a few distinct members make a ring")
}
