//! What a group commit, a read and a scan cost on this machine's disk.
//!
//! Run with `TMPDIR` on the disk to be measured. The disk's own `fdatasync` is printed first: a
//! group cannot be faster. Not measured here: queues, threads, and the network.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quorate_node::store::{
    Bounds, Command, Durability, Engine, FjallEngine, FjallOptions, MemoryEngine, Persist, Table,
    Ticket, Worker, Write, fdatasync_probe,
};

const VALUE_BYTES: usize = 100;

fn put(number: u64) -> Write {
    // Spread over the table as tokens are.
    let token = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Write::Put {
        table: Table::Objects,
        key: Bytes::copy_from_slice(&token.to_be_bytes()),
        value: Bytes::from(vec![0x5a; VALUE_BYTES]),
    }
}

fn group(next: &mut u64, commands: usize) -> Vec<Command> {
    (0..commands)
        .map(|_| {
            *next += 1;
            Command::Write {
                ticket: Ticket(*next),
                writes: vec![put(*next)],
            }
        })
        .collect()
}

fn commits<E: Engine>(c: &mut Criterion, name: &str, engine: E, durability: Durability) {
    let mut worker = Worker::new(engine, durability);
    let mut next = 0;
    let mut benches = c.benchmark_group(name);
    benches
        .measurement_time(Duration::from_secs(3))
        .sample_size(30);
    for commands in [1, 64, 256] {
        benches.throughput(Throughput::Elements(commands as u64));
        benches.bench_function(format!("{commands} puts"), |bencher| {
            bencher.iter_batched(
                || group(&mut next, commands),
                |group| black_box(worker.execute(group)),
                BatchSize::PerIteration,
            );
        });
    }
}

fn open(dir: &tempfile::TempDir) -> FjallEngine {
    FjallEngine::open(dir.path(), FjallOptions::default())
        .expect("a fresh directory opens")
        .0
}

fn group_commit(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is a directory for temporary files");
    let p50 = fdatasync_probe(dir.path()).expect("the disk takes writes");
    eprintln!("fdatasync of 4 KiB, p50: {p50:?}");
    commits(c, "commit/synced", open(&dir), Durability::Sync);
    let dir = tempfile::tempdir().expect("there is a directory for temporary files");
    commits(c, "commit/unsynced", open(&dir), Durability::Memory);
    commits(
        c,
        "commit/memory engine",
        MemoryEngine::new(),
        Durability::Sync,
    );
}

fn reads(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("there is a directory for temporary files");
    let mut engine = open(&dir);
    let keys = 500_000;
    let numbers: Vec<u64> = (0..keys).collect();
    for part in numbers.chunks(1000) {
        let writes: Vec<Write> = part.iter().map(|number| put(*number)).collect();
        engine
            .commit(&writes, Persist::Later)
            .expect("the disk takes writes");
    }
    let reader = engine.reader();
    let mut number = 0;
    c.bench_function("read/one of 500,000", |bencher| {
        bencher.iter(|| {
            number = (number + 7919) % keys;
            black_box(reader.get(Table::Objects, put(number).key()))
        });
    });
    let bounds = Bounds {
        items_max: 100,
        ..Bounds::everything()
    };
    c.bench_function("read/scan of 100", |bencher| {
        bencher.iter(|| black_box(reader.scan(Table::Objects, &bounds)));
    });
}

criterion_group!(benches, group_commit, reads);
criterion_main!(benches);
