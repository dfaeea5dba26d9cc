//! How long it takes to find a key's nodes, and to place a cluster.

#![allow(missing_docs, reason = "criterion generates the entry point")]

use criterion::{Criterion, criterion_group, criterion_main};
use quorate_ring::{Member, Partitions, Ring, Token};

fn ring(nodes: usize, partitions: u32) -> Ring {
    let member = |at| Member::new(&format!("n{at}"), "127.0.0.1:1", "z", 1).expect("well formed");
    let partitions = Partitions::new(partitions).expect("a power of two");
    Ring::founding((0..nodes).map(member).collect(), partitions, 7, 5).expect("has members")
}

fn lookup(c: &mut Criterion) {
    let ring = ring(100, 4096);
    let keys: Vec<String> = (0..1024).map(|n| format!("user:{n:012}")).collect();
    let mut next = 0;
    c.bench_function("hash a key and find its preference list", |b| {
        b.iter(|| {
            next = (next + 1) % keys.len();
            let token = Token::of(ring.seed(), "default", keys[next].as_bytes());
            ring.preference(token).owners(3)[0]
        });
    });
    c.bench_function("place 30 nodes on 1024 partitions", |b| {
        b.iter(|| self::ring(30, 1024));
    });
}

criterion_group!(benches, lookup);
criterion_main!(benches);
