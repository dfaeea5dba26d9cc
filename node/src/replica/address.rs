//! Where a state lives: a key's own record, or what is kept of the key for somebody else.
//!
//! A hint has an address of its own for each replica it is meant for, so that all that is said of
//! keys (one entry, one order, one write at a time, dots from merged state only) holds for it too.
//! Under the epoch rules each address counts by itself: an epoch is used by one address only.

use bytes::Bytes;
use quorate_ring::NodeId;

use crate::{
    healing::message::Place,
    message::BucketId,
    store::{Table, format},
};

/// Where a key lives in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) token: u64,
    pub(crate) bucket: BucketId,
    pub(crate) key: Bytes,
    /// The replica that a hint is meant for; none for this node's own record.
    pub(crate) hint_for: Option<NodeId>,
}

impl Address {
    pub(crate) fn store_key(&self) -> Bytes {
        match self.hint_for {
            None => format::object_key(self.token, self.bucket.0, &self.key),
            Some(owner) => format::hint_key(owner.get(), self.token, self.bucket.0, &self.key),
        }
    }

    pub(crate) const fn table(&self) -> Table {
        match self.hint_for {
            None => Table::Objects,
            Some(_) => Table::Hints,
        }
    }

    pub(crate) const fn is_hint(&self) -> bool {
        self.hint_for.is_some()
    }

    /// Where a hint of the key for `owner` is.
    pub(crate) fn hint(&self, owner: NodeId) -> Self {
        Self {
            hint_for: Some(owner),
            ..self.clone()
        }
    }

    /// Where the key's own record is.
    pub(crate) fn object(&self) -> Self {
        Self {
            hint_for: None,
            ..self.clone()
        }
    }
}

impl From<&Place> for Address {
    fn from(place: &Place) -> Self {
        Self {
            token: place.token,
            bucket: place.bucket,
            key: place.key.clone(),
            hint_for: None,
        }
    }
}

impl From<&Address> for Place {
    fn from(address: &Address) -> Self {
        Self {
            token: address.token,
            bucket: address.bucket,
            key: address.key.clone(),
        }
    }
}
