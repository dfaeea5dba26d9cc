//! Where does a key live?
//!
//! Tokens, partitions, placement and preference lists. Pure: no clock, no IO, no async, no
//! randomness; everything is a function of its arguments, the same on every node.

mod assign;
mod codec;
pub mod ids;
mod member;
mod partition;
mod ring;
mod token;

pub use codec::BadRing;
pub use ids::{NodeId, NodeUuid, RingEpoch};
pub use member::{Member, MemberError, NAME_BYTES_MAX, WEIGHT_MAX};
pub use partition::{PARTITIONS_MAX, PARTITIONS_MIN, Partition, Partitions};
pub use ring::{MEMBERS_MAX, Preference, Ring, RingError};
pub use token::Token;
