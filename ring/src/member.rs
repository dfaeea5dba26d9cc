//! Members of the ring: what an operator says of a node.

use crate::ids::NodeId;

/// Longest name of a node or zone in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest address in bytes.
pub(crate) const ADDRESS_BYTES_MAX: usize = 255;
/// Largest weight.
pub const WEIGHT_MAX: u32 = 1_000;

/// A node that owns, or may own, partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Derived from the name.
    pub id: NodeId,
    /// The name in its certificate.
    pub name: String,
    /// Where it listens: host:port.
    pub address: String,
    /// Nodes of one zone may fail together.
    pub zone: String,
    /// Its share of the data relative to the others, 1 to 1,000.
    pub weight: u32,
}

/// Why something is not a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// A name or zone that cannot be.
    #[error("{0:?} is not a name: 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' or '-'")]
    Name(String),
    /// An address that cannot be.
    #[error("{0:?} is not an address of the form host:port")]
    Address(String),
    /// A weight out of range.
    #[error("a weight is 1 to {WEIGHT_MAX}, not {0}")]
    Weight(u32),
}

impl Member {
    /// Checks and names a member.
    ///
    /// # Errors
    ///
    /// If a part is malformed or out of range.
    pub fn new(name: &str, address: &str, zone: &str, weight: u32) -> Result<Self, MemberError> {
        for text in [name, zone] {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if text.is_empty() || NAME_BYTES_MAX < text.len() || !text.bytes().all(good) {
                return Err(MemberError::Name(
                    text.chars().take(NAME_BYTES_MAX).collect(),
                ));
            }
        }
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if ADDRESS_BYTES_MAX < address.len() || !matches!(port, Some(Ok(_))) {
            return Err(MemberError::Address(address.chars().take(80).collect()));
        }
        if weight == 0 || WEIGHT_MAX < weight {
            return Err(MemberError::Weight(weight));
        }
        Ok(Self {
            id: NodeId::of_name(name),
            name: name.to_owned(),
            address: address.to_owned(),
            zone: zone.to_owned(),
            weight,
        })
    }
}
