//! Scans beside writes, and damage that cannot even be listed.

use std::collections::BTreeSet;

use quorate_ring::NodeUuid;

use super::*;
use crate::{
    causality::{Actor, Clock, Container, Dot, OpId, Sibling},
    identity::{Identity, Lives},
    limits::Limits,
    store::{Bounds, Engine as _, MemoryEngine, Persist, Write, format::Record, memory::Rot},
};

const BUCKET: &str = "default";

struct Bench {
    engine: MemoryEngine,
    forest: Forest,
    replica: Replica,
    catalogue: Catalogue,
    secret: ContextKey,
    tickets: u64,
}

fn record(n: u64) -> Record {
    let uuid = NodeUuid::new(7);
    let dot = Dot {
        actor: Actor { uuid, epoch: 1 },
        n,
    };
    let sibling = Sibling {
        value: Some(Bytes::from(format!("{n:0>100}"))),
        op: OpId {
            principal: 1,
            id: u128::from(n),
        },
        request_hash: 1,
        written_at_ms: 1,
        expires_at_ms: None,
        stamp: None,
    };
    let mut clock = Clock::new();
    clock.insert(dot);
    let parts = Container::from_parts(vec![(dot, sibling)], clock, Vec::new());
    let container = parts.expect("the clock covers the version");
    let suspect = false;
    Record { container, suspect }
}

impl Bench {
    fn new() -> Self {
        let secret = ContextKey::new([1; 32]);
        let identity = Identity {
            cluster: 1,
            node: NodeId::new(1),
            uuid: NodeUuid::new(7),
            boot: 1,
            lease_start: 1,
            lease_end: 1_000,
            rebuilding: false,
            lives: Lives::default(),
        };
        Self {
            engine: MemoryEngine::new(),
            forest: Forest::new(&secret, NodeId::new(1)),
            replica: Replica::new(identity, true, &Limits::default()),
            catalogue: Catalogue::founding(3),
            secret,
            tickets: 0,
        }
    }

    fn address(&self, token: u64) -> Address {
        Address {
            token,
            bucket: self.catalogue.find(BUCKET).unwrap().id,
            key: Bytes::copy_from_slice(&token.to_be_bytes()),
            hint_for: None,
        }
    }

    /// Writes a record; the tree hears of it if `told`.
    fn put(&mut self, token: u64, n: u64, told: bool) {
        let address = self.address(token);
        let value = format::encode(address.bucket.0, &address.key, &record(n));
        let key = address.store_key();
        let old = match self.engine.get(Table::Objects, &key) {
            Ok(None) => Held::Absent,
            Ok(Some(old)) => Held::decode(address.bucket.0, &address.key, &old),
            Err(_) => Held::Unreadable,
        };
        let new = Held::decode(address.bucket.0, &address.key, &value);
        let write = Write::Put {
            table: Table::Objects,
            key,
            value,
        };
        self.engine.commit(&[write], Persist::Now).unwrap();
        if told {
            let change = Change { address, old, new };
            self.forest.changed(&change, &self.catalogue);
        }
    }

    fn rot(&mut self, token: u64, rot: Rot) {
        use rand::SeedableRng as _;
        let key = self.address(token).store_key();
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(token);
        assert!(self.engine.rot_key(&mut rng, Table::Objects, &key, rot));
    }

    /// One page, with `between` happening after it was read and before it arrives.
    fn page(&mut self, command: Command, between: impl FnOnce(&mut Self)) -> Progress {
        let Command::Scan {
            ticket,
            table,
            start,
            end,
            items_max,
            bytes_max,
        } = command
        else {
            unreachable!("a forest only scans")
        };
        let bounds = Bounds {
            start,
            end,
            items_max,
            bytes_max,
        };
        let page = self.engine.scan(table, &bounds);
        between(self);
        let more = page.as_ref().is_ok_and(|page| page.more);
        let items = page.map(|page| page.items);
        self.forest
            .scanned(ticket, &items, more, &self.replica, &self.catalogue)
    }

    /// Scans until the end of the token space; counts pages and corrected leaves.
    fn round(&mut self) -> (u64, u64) {
        let (mut pages, mut corrected) = (0, 0);
        loop {
            self.tickets += 1;
            let mut next = self.forest.begin(Ticket(self.tickets), true);
            let mut over = false;
            while let Some(command) = next {
                pages += 1;
                let progress = self.page(command, |_| {});
                corrected += progress.corrected;
                over |= progress.round;
                next = progress.next;
            }
            if over {
                return (pages, corrected);
            }
        }
    }

    fn check(&self) {
        let page = self
            .engine
            .scan(Table::Objects, &Bounds::everything())
            .unwrap();
        let secret = (&self.secret, NodeId::new(1));
        let differs = self.forest.differs(secret, &page.items, &self.catalogue);
        assert_eq!(differs, None);
    }
}

/// Tokens all over the space, some in one leaf.
fn tokens() -> impl Iterator<Item = u64> + Clone {
    (0..600_u64).map(|n| (n % 300) << 55 | (n / 300) << 3)
}

#[test]
fn what_is_stored_is_built_and_then_kept_in_step() {
    let mut bench = Bench::new();
    for (n, token) in (1..).zip(tokens()) {
        bench.put(token, n, false);
    }
    assert!(!bench.forest.is_built());
    bench.round();
    assert!(bench.forest.is_sure());
    bench.check();
    for (n, token) in (1_000..).zip(tokens().step_by(7)) {
        bench.put(token, n, true);
    }
    bench.check();
    assert_eq!(bench.round().1, 0, "the audit finds nothing to correct");
}

#[test]
fn writes_beside_a_scan_are_counted_once() {
    for told_late in [false, true] {
        let mut bench = Bench::new();
        for (n, token) in (1..).zip(tokens()) {
            bench.put(token, n, false);
        }
        let mut tokens = tokens().cycle();
        let mut n = 1_000;
        for round in 0..20 {
            bench.tickets += 1;
            let next = bench.forest.begin(Ticket(bench.tickets), true);
            let mut next = next.or_else(|| panic!("round {round} has nothing to scan"));
            while let Some(command) = next {
                let mut several = || {
                    n += 1;
                    (tokens.nth(13).unwrap(), n)
                };
                let (before, between) = (several(), several());
                if !told_late {
                    bench.put(before.0, before.1, true);
                }
                let built = bench.forest.is_built();
                let progress = bench.page(command, |bench| {
                    bench.put(between.0, between.1, true);
                });
                assert!(!built || progress.corrected == 0, "all of it is right");
                next = progress.next;
            }
        }
        assert!(bench.forest.is_built());
        bench.check();
    }
}

#[test]
fn what_was_lost_rotten_or_copied_back_is_noticed_by_the_audit() {
    let mut bench = Bench::new();
    for (n, token) in (1..).zip(tokens()) {
        bench.put(token, n, false);
    }
    bench.round();
    bench.rot(5 << 55, Rot::Remove);
    bench.rot(7 << 55, Rot::Flip);
    bench.put(9 << 55, 5_000, false);
    assert_eq!(bench.round().1, 3);
    bench.check();
    let absent = Trie::default();
    let trie = bench.forest.trie(3).unwrap_or(&absent);
    assert_ne!(trie.leaf(leaf_of(7 << 55)), 0, "unreadable is not absent");
}

#[test]
fn a_leaf_that_cannot_be_listed_is_found_quickly_and_differs() {
    let mut bench = Bench::new();
    for (n, token) in (1..).zip(tokens()) {
        bench.put(token, n, false);
    }
    bench.round();
    let leaf = leaf_of(200 << 55);
    let sound = bench.forest.trie(3).map(|trie| trie.leaf(leaf));
    bench.rot(200 << 55, Rot::Unreadable);
    let (pages, corrected) = bench.round();
    assert_eq!(corrected, 1);
    assert!(pages < 60, "{pages}");
    let blind = bench.forest.trie(3).map(|trie| trie.leaf(leaf));
    assert!(blind != sound && blind != Some(0));
    bench.put(200 << 55, 7_000, true);
    let doubts: BTreeSet<u32> = bench.forest.doubts.clone();
    assert_eq!(doubts, BTreeSet::from([leaf]), "its old sum is not known");
    bench.round();
    bench.check();
}

/// Twenty thousand records of 100 bytes, each written twenty times, to a replica whose store is
/// memory. How long that takes is what the test's runner says.
fn write_400_000_times(told: bool) {
    const KEYS: u64 = 20_000;
    let mut bench = Bench::new();
    bench.round();
    for n in 1..=20 {
        for key in 0..KEYS {
            bench.put(key * (u64::MAX / KEYS), n, told);
        }
    }
}

#[test]
#[ignore = "measures"]
fn writes_without_a_tree_take_so_long() {
    write_400_000_times(false);
}

#[test]
#[ignore = "measures"]
fn writes_with_a_tree_take_so_long() {
    write_400_000_times(true);
}
