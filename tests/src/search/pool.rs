//! Every distinct container once.
//!
//! Histories share nearly all of their states' parts. A state names its containers by number,
//! which makes states small, comparable and cheap to copy.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use quorate_node::{
    causality::Container,
    store::format::{self, Record},
};
use xxhash_rust::xxh3::xxh3_128;

/// A set of writes, by number.
pub(super) type Events = u8;

/// Number of a container in the pool; zero is no container.
pub(super) type Id = u32;

/// A container, and the writes that led to it by the model's account.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) container: Container,
    pub(super) events: Events,
}

/// All containers met so far.
#[derive(Debug, Default)]
pub(super) struct Pool {
    known: Vec<Known>,
    ids: HashMap<u128, Id, BuildHasherDefault<Hashed>>,
}

impl Pool {
    pub(super) fn get(&self, id: Id) -> Option<&Known> {
        let index = usize::try_from(id).expect("ids fit").checked_sub(1)?;
        Some(&self.known[index])
    }

    pub(super) fn container(&self, id: Id) -> Option<&Container> {
        self.get(id).map(|known| &known.container)
    }

    /// The writes known there; none if there is no container.
    pub(super) fn events(&self, id: Id) -> Events {
        self.get(id).map_or(0, |known| known.events)
    }

    pub(super) fn add(&mut self, container: Container, events: Events) -> Id {
        let record = Record {
            container,
            suspect: false,
        };
        let bytes = format::encode(events.into(), b"", &record);
        let hash = xxh3_128(&bytes) ^ u128::from(events);
        let next = Id::try_from(self.known.len() + 1).expect("memory ends before ids do");
        let id = *self.ids.entry(hash).or_insert(next);
        if id == next {
            self.known.push(Known {
                container: record.container,
                events,
            });
        }
        id
    }
}

/// A set of numbers that are hashes already.
pub(super) type HashedSet = HashSet<u64, BuildHasherDefault<Hashed>>;

/// Takes a part of a hash for the hash.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        unreachable!("only numbers are hashed here, not {} bytes", bytes.len());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write_u128(&mut self, number: u128) {
        let bytes = number.to_le_bytes();
        self.0 = u64::from_le_bytes(*bytes.first_chunk().expect("half of it"));
    }
}
