//! The first frame each way on the first stream of a connection.
//!
//! Says which protocols a side speaks, which cluster it means and which ring it knows. Who the
//! other side *is* comes from its certificate alone: the names here are for logs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Oldest protocol this release speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Newest protocol this release speaks.
pub const PROTOCOL_MAX: u16 = 1;

/// What the dialling side says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol it speaks.
    pub proto_min: u16,
    /// Newest protocol it speaks.
    pub proto_max: u16,
    /// Cluster id: 16 bytes, big-endian.
    pub cluster: Bytes,
    /// Its name, for logs.
    pub name: String,
    /// Epoch of the ring it knows; zero if it knows none.
    pub ring_epoch: u64,
    /// A node that asks to join, and for nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joins: bool,
}

/// What the accepting side answers, unless it answers an error and closes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// The protocol to speak from here on.
    pub proto: u16,
    /// Cluster id: 16 bytes, big-endian.
    pub cluster: Bytes,
    /// Its name.
    pub node: String,
    /// Epoch of its ring.
    pub ring_epoch: u64,
}

/// Why two sides do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// No protocol in common.
    #[error("it speaks protocols {min} to {max}, we speak {PROTOCOL_MIN} to {PROTOCOL_MAX}")]
    Protocol {
        /// The other side's oldest.
        min: u16,
        /// The other side's newest.
        max: u16,
    },
    /// Another cluster.
    #[error("it belongs to another cluster")]
    Cluster,
}

impl Hello {
    /// What this release says.
    #[must_use]
    pub fn new(cluster: u128, name: impl Into<String>, ring_epoch: u64) -> Self {
        Self {
            proto_min: PROTOCOL_MIN,
            proto_max: PROTOCOL_MAX,
            cluster: Bytes::copy_from_slice(&cluster.to_be_bytes()),
            name: name.into(),
            ring_epoch,
            joins: false,
        }
    }

    /// Checks that we go together and says which protocol to speak: the newest both know.
    pub fn agree(&self, cluster: u128) -> Result<u16, HelloError> {
        if self.cluster[..] != cluster.to_be_bytes() {
            return Err(HelloError::Cluster);
        }
        let newest = self.proto_max.min(PROTOCOL_MAX);
        if newest < self.proto_min.max(PROTOCOL_MIN) {
            return Err(HelloError::Protocol {
                min: self.proto_min,
                max: self.proto_max,
            });
        }
        Ok(newest)
    }
}

impl HelloReply {
    /// The answer of a node that agreed to `proto`.
    #[must_use]
    pub fn new(proto: u16, cluster: u128, node: impl Into<String>, ring_epoch: u64) -> Self {
        Self {
            proto,
            cluster: Bytes::copy_from_slice(&cluster.to_be_bytes()),
            node: node.into(),
            ring_epoch,
        }
    }

    /// Checks on the dialling side that the answer fits what was offered.
    pub fn check(&self, cluster: u128) -> Result<(), HelloError> {
        if self.cluster[..] != cluster.to_be_bytes() {
            return Err(HelloError::Cluster);
        }
        if !(PROTOCOL_MIN..=PROTOCOL_MAX).contains(&self.proto) {
            return Err(HelloError::Protocol {
                min: self.proto,
                max: self.proto,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_protocol_is_spoken() {
        let mut hello = Hello::new(7, "n1", 3);
        assert_eq!(hello.agree(7), Ok(PROTOCOL_MAX));
        hello.proto_max = u16::MAX;
        assert_eq!(hello.agree(7), Ok(PROTOCOL_MAX));
    }

    #[test]
    fn sides_without_a_common_protocol_part() {
        let mut hello = Hello::new(7, "n1", 3);
        hello.proto_min = PROTOCOL_MAX + 1;
        hello.proto_max = PROTOCOL_MAX + 2;
        assert!(matches!(hello.agree(7), Err(HelloError::Protocol { .. })));
        let reply = HelloReply::new(PROTOCOL_MAX + 1, 7, "n2", 3);
        assert!(matches!(reply.check(7), Err(HelloError::Protocol { .. })));
    }

    #[test]
    fn another_cluster_is_refused_by_both_sides() {
        assert_eq!(Hello::new(7, "n1", 3).agree(8), Err(HelloError::Cluster));
        let reply = HelloReply::new(1, 7, "n2", 3);
        assert_eq!(reply.check(8), Err(HelloError::Cluster));
        assert_eq!(reply.check(7), Ok(()));
    }
}
