//! What is known of a key: nothing, a record, or that its record cannot be read.
//!
//! A record is shared by whoever needs it, decoded once, and goes with the bytes it is stored as.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{
    causality::Container,
    store::format::{self, Record},
};

/// A record together with its bytes.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) bytes: Bytes,
    /// What it adds to its leaf, once that is known: asked for when it is written, and again when
    /// something else is written in its place.
    pub(crate) sum: OnceLock<u64>,
}

impl Stored {
    pub(crate) const fn new(record: Record, bytes: Bytes) -> Self {
        let sum = OnceLock::new();
        Self { record, bytes, sum }
    }
}

/// What is known of a key here.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Absent,
    Present(Arc<Stored>),
    Unreadable,
}

impl Held {
    /// What bytes read from the store say of their key.
    pub(crate) fn decode(bucket: u64, key: &[u8], bytes: &Bytes) -> Self {
        match format::decode(bucket, key, bytes) {
            Ok(record) => Self::Present(Arc::new(Stored::new(record, bytes.clone()))),
            Err(_) => Self::Unreadable,
        }
    }

    pub(crate) fn container(&self) -> Option<&Container> {
        match self {
            Self::Present(stored) => Some(&stored.record.container),
            Self::Absent | Self::Unreadable => None,
        }
    }

    pub(crate) fn is_suspect(&self) -> bool {
        match self {
            Self::Present(stored) => stored.record.suspect,
            Self::Absent => false,
            Self::Unreadable => true,
        }
    }
}
