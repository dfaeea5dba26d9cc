//! Small containers and writes for tests.

use bytes::Bytes;
use quorate_ring::NodeUuid;

use crate::causality::{Container, Context, Coordinated, Minter, OpId, Write, coordinate};

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
