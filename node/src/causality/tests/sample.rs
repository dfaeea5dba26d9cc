//! Small containers and writes for tests.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use quorate_ring::NodeUuid;

use crate::causality::{
    Actor, Clock, Container, Context, Coordinated, Dot, Minter, OpId, RecentOp, Sibling, Write,
    coordinate,
};

/// Unix milliseconds at which tests take place.
pub(crate) const NOW_MS: u64 = 1_750_000_000_000;

pub(crate) fn uuid(node: u8) -> NodeUuid {
    NodeUuid::new(u128::from(node) << 96 | 0xabcd)
}

/// A node's first process.
pub(crate) fn minter(node: u8) -> Minter {
    Minter::new(uuid(node), 1, 10_001)
}

pub(crate) fn op(id: u128) -> OpId {
    OpId {
        principal: 0x5eed,
        id,
    }
}

/// A blind write whose request hash tells its value.
pub(crate) fn write(id: u128, value: Option<&str>) -> Write {
    let value = value.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    Write {
        op: op(id),
        request_hash: value.as_ref().map_or(1, |value| 2 + value.len() as u64),
        context: Context::default(),
        value,
        written_at_ms: NOW_MS,
        expires_at_ms: None,
        stamp: None,
        now_ms: NOW_MS,
    }
}

/// The state after a write that must be given a dot.
pub(crate) fn coordinated(
    local: Option<&Container>,
    minter: &mut Minter,
    write: Write,
) -> Container {
    let Coordinated::Minted { container, .. } = coordinate(local, minter, write) else {
        panic!("the write was not given a dot");
    };
    container
}

/// The state after a write by someone who has seen `seen`.
pub(crate) fn put(
    local: Option<&Container>,
    minter: &mut Minter,
    id: u128,
    seen: &[&Container],
    value: Option<&str>,
) -> Container {
    let mut write = write(id, value);
    let mut read = Container::new();
    for container in seen {
        read.sync(container).expect("samples do not conflict");
    }
    write.context = read.context();
    coordinated(local, minter, write)
}

fn op_id() -> impl Strategy<Value = OpId> {
    (0..3_u64, any::<u128>()).prop_map(|(principal, id)| OpId { principal, id })
}

/// Any clock, of up to four nodes with up to three epochs each.
pub(crate) fn clock() -> impl Strategy<Value = Clock> {
    let number = || prop_oneof![1..10_u64, 1..=u64::MAX];
    let entries = prop::collection::btree_map((0..4_u8, number()), number(), 0..8);
    entries.prop_map(|entries| {
        let actor = |(node, epoch)| Actor {
            uuid: uuid(node),
            epoch,
        };
        let entries = entries.into_iter().map(|(key, n)| (actor(key), n));
        Clock::from_sorted(entries.collect()).expect("a map is sorted")
    })
}

fn sibling() -> impl Strategy<Value = Sibling> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from));
    let times = (any::<u64>(), prop::option::of(any::<u64>()));
    (value, op_id(), any::<u64>(), times).prop_map(|(value, op, request_hash, times)| Sibling {
        value,
        op,
        request_hash,
        written_at_ms: times.0,
        expires_at_ms: times.1,
        stamp: None,
    })
}

/// Any well-formed container, whether or not a history leads to it.
pub(crate) fn container() -> impl Strategy<Value = Container> {
    let live = prop::collection::vec(
        (any::<prop::sample::Index>(), any::<u64>(), sibling()),
        0..5,
    );
    let recent = prop::collection::btree_map(op_id(), (any::<u64>(), any::<u64>()), 0..5);
    (clock(), live, recent).prop_map(|(clock, live, recent)| {
        let entries: Vec<(Actor, u64)> = clock.iter().collect();
        let mut siblings = BTreeMap::new();
        for (at, n, sibling) in live {
            if !entries.is_empty() {
                let (actor, max) = *at.get(&entries);
                let n = n % max + 1;
                siblings.insert(Dot { actor, n }, sibling);
            }
        }
        let recent = recent
            .into_iter()
            .map(|(op, (request_hash, at_ms))| RecentOp {
                op,
                request_hash,
                at_ms,
            });
        let alive: BTreeSet<OpId> = siblings.values().map(|sibling| sibling.op).collect();
        let recent = recent.filter(|known| !alive.contains(&known.op)).collect();
        Container::from_parts(siblings.into_iter().collect(), clock, recent)
            .expect("the parts obey the invariants")
    })
}
