//! Stories of replicas that differ and that nobody reads: only the comparison of trees can help.

use bytes::Bytes;
use quorate_node::{
    causality::{Context, Coordinated, Minter, OpId, Write, coordinate},
    store::format::{self, Record},
};
use quorate_ring::NodeUuid;
use quorate_sim::{Options, oracle::merkle, story::Story};

const KEY: u32 = 0;

/// Many keys, and nobody but the story writes them.
fn wide(seed: u64) -> Story {
    let mut options = Options::calm(seed);
    options.workload.keys = 1_000;
    Story::with(options)
}

/// All owners of a key hold the same, and every tree says so.
fn equal(story: &Story, keys: impl IntoIterator<Item = u32>) -> bool {
    let same = |key: u32| {
        let place = usize::try_from(key).expect("a small number");
        let owners = story.world.layout.owners[place].clone();
        let records: Vec<_> = owners
            .iter()
            .map(|&node| {
                let record = story.world.record(node, key);
                record.filter(|record| !record.suspect)
            })
            .collect();
        records.windows(2).all(|pair| pair[0] == pair[1])
    };
    keys.into_iter().all(same) && merkle::disagreement(&story.world.processes).is_none()
}

fn wait_until_equal(story: &mut Story, keys: std::ops::Range<u32>) {
    for _ in 0..300 {
        if equal(story, keys.clone()) {
            return;
        }
        story.wait(100);
    }
    let why = merkle::disagreement(&story.world.processes);
    panic!("the replicas still differ: {why:?}");
}

fn moved(story: &Story) -> u64 {
    let nodes = story.world.processes.iter();
    let pairs = nodes.flat_map(|process| {
        let node = process.machine.as_ref();
        node.map(|node| node.pairs()).unwrap_or_default()
    });
    pairs.map(|pair| pair.moved_keys).sum()
}

#[test]
fn one_side_of_a_partition_wrote_a_thousand_keys() {
    let mut story = wide(21);
    let away = story.owner(KEY, 2);
    story.world.isolate(away);
    let mut missed = 0;
    for key in 0..1_000 {
        let (a, b) = (story.owner(key, 0), story.owner(key, 1));
        let node = if a == away { b } else { a };
        story.put(node, key, None);
        let owners = (0..3).map(|place| story.owner(key, place));
        missed += u64::from(owners.into_iter().any(|owner| owner == away));
    }
    assert!(100 < missed);
    story.world.network.mend();
    wait_until_equal(&mut story, 0..1_000);
    let moved = moved(&story);
    assert!(missed <= moved + 20, "{moved} moved of {missed} missed");
    story.end();
}

#[test]
fn an_old_partition_copied_back_is_brought_up_to_date() {
    let mut story = wide(22);
    for key in 0..50 {
        let node = story.owner(key, 0);
        story.put(node, key, None);
    }
    wait_until_equal(&mut story, 0..50);
    let victim = story.owner(KEY, 1);
    let old: Vec<_> = (0..50).map(|key| story.world.stored(victim, key)).collect();
    for key in 0..50 {
        let node = story.owner(key, 0);
        let seen = story.get(node, key, 2).seen();
        story.put(node, key, Some(seen));
    }
    wait_until_equal(&mut story, 0..50);
    // Only the records go back; who the node is stays in another place.
    for (key, old) in (0..).zip(old) {
        if let Some(old) = old {
            story.world.go_back(victim, key, old);
        }
    }
    assert!(!equal(&story, 0..50));
    wait_until_equal(&mut story, 0..50);
    story.end();
}

#[test]
fn silently_lost_records_come_back() {
    let mut story = wide(23);
    for key in 0..50 {
        let node = story.owner(key, 0);
        story.put(node, key, None);
    }
    wait_until_equal(&mut story, 0..50);
    let before = moved(&story);
    let victim = story.owner(KEY, 1);
    let lost = (0..50).filter(|key| story.world.lose(victim, *key)).count() as u64;
    assert!(10 < lost);
    wait_until_equal(&mut story, 0..50);
    // Each comes back at least once; the copies that came back have something to add.
    let moved = moved(&story) - before;
    assert!(
        lost <= moved && moved <= 4 * lost,
        "{moved} moved for {lost} lost"
    );
    story.end();
}

#[test]
fn a_rotten_record_is_mended_without_being_read() {
    for seed in 0..6 {
        let mut story = wide(30 + seed);
        let (a, victim) = (story.owner(KEY, 0), story.owner(KEY, 1));
        story.put(a, KEY, None);
        wait_until_equal(&mut story, 0..1);
        assert!(story.world.damage(victim, KEY));
        wait_until_equal(&mut story, 0..1);
        story.end();
    }
}

#[test]
fn replicas_that_agree_send_each_other_no_key() {
    let mut story = wide(24);
    for key in 0..300 {
        let node = story.owner(key, 0);
        story.put(node, key, None);
    }
    wait_until_equal(&mut story, 0..300);
    story.wait(5_000);
    let before = moved(&story);
    story.wait(20_000);
    assert_eq!(moved(&story), before);
    let bytes = |story: &Story| -> u64 {
        let nodes = story.world.processes.iter();
        let pairs = nodes.flat_map(|process| process.machine.iter().flat_map(|node| node.pairs()));
        pairs.map(|pair| pair.moved_bytes).sum()
    };
    let start = bytes(&story);
    story.wait(20_000);
    // Ten pairs, about ten rounds each.
    let each = (bytes(&story) - start) / 100;
    assert!(each < 1_024, "{each} bytes for a pair that agrees");
    story.end();
}

/// A record of 100 bytes under its store key.
fn record_of(minter: &mut Minter, bucket: u64, number: u64) -> (Bytes, Bytes) {
    let key = format!("key-{number}");
    let token = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let write = Write {
        op: OpId {
            principal: 1,
            id: u128::from(number),
        },
        request_hash: 1,
        context: Context::default(),
        value: Some(vec![7; 100].into()),
        written_at_ms: 1,
        expires_at_ms: None,
        stamp: None,
        now_ms: 1,
    };
    let Coordinated::Minted { container, .. } = coordinate(None, minter, write) else {
        panic!("a fresh minter mints");
    };
    let suspect = false;
    let record = format::encode(bucket, key.as_bytes(), &Record { container, suspect });
    (format::object_key(token, bucket, key.as_bytes()), record)
}

#[test]
#[ignore = "a measurement; it takes a minute and a gigabyte"]
fn the_cost_of_comparing_a_million_keys() {
    const MILLION: u64 = 1_000_000;
    let mut options = Options::calm(40);
    (options.nodes, options.replicas, options.workload.keys) = (2, 2, 1);
    let mut story = Story::with(options);
    let leads = |story: &Story, node: usize| {
        let machine = story.world.processes[node].machine.as_ref();
        machine.is_some_and(|node| node.pairs().iter().any(|pair| pair.leads))
    };
    let behind = usize::from(leads(&story, 0));
    let bucket = story.world.layout.bucket.0;
    let mut minter = Minter::new(NodeUuid::new(99), 1, u64::MAX);
    for node in 0..2 {
        story.world.rotted.insert((node, KEY));
        story.world.crash(node, None);
    }
    let mut keys = Vec::new();
    for number in 0..MILLION {
        let (key, record) = record_of(&mut minter, bucket, number);
        for process in &mut story.world.processes {
            process.disk.overwrite(&key, record.clone());
        }
        keys.push(key);
    }
    story.world.start(1 - behind);
    for missing in [0, 1, 100, 10_000] {
        story.world.crash(behind, None);
        for key in keys.iter().step_by(37).take(missing) {
            assert!(story.world.processes[behind].disk.lose(key));
        }
        story.world.start(behind);
        let ready = |story: &Story| {
            let mut nodes = story.world.processes.iter();
            nodes.all(|p| p.machine.as_ref().is_some_and(|node| node.is_tree_ready()))
        };
        let reading = std::time::Instant::now();
        while !ready(&story) {
            story.wait(10);
        }
        let reading = reading.elapsed();
        let cost = |story: &Story| -> (u64, u64) {
            let leader = story.world.processes[1 - behind].machine.as_ref();
            let pairs = leader.map(|node| node.pairs()).unwrap_or_default();
            (pairs[0].moved_keys, pairs[0].moved_bytes)
        };
        let (keys, bytes) = cost(&story);
        let (wall, now) = (std::time::Instant::now(), story.world.now);
        loop {
            story.wait(50);
            let equal = merkle::disagreement(&story.world.processes).is_none();
            if equal && cost(&story).1 != bytes {
                break;
            }
        }
        let simulated = (story.world.now - now) / 1_000_000;
        let (moved, spent) = cost(&story);
        eprintln!(
            "{missing} keys differ: {} moved, {} bytes, {simulated} ms with the wait for its turn, \
             {:?} of a core; reading a node's records took {reading:?}",
            moved - keys,
            spent - bytes,
            wall.elapsed(),
        );
    }
}
