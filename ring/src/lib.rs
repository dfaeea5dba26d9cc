//! Where does a key live?
//!
//! Tokens, partitions, placement and preference lists. Pure: no clock, no IO, no async, no
//! randomness; everything is a function of its arguments, the same on every node.

mod assign;
mod codec;
mod decree;
pub mod ids;
mod member;
mod partition;
mod plan;
mod ring;
mod staged;
mod token;

pub use codec::BadRing;
pub use decree::{BUCKETS_BYTES_MAX, Decree, NOTE_BYTES_MAX, Phase, Voter};
pub use ids::{NodeId, NodeUuid, RingEpoch};
pub use member::{Member, MemberError, NAME_BYTES_MAX, WEIGHT_MAX};
pub use partition::{PARTITIONS_MAX, PARTITIONS_MIN, Partition, Partitions};
pub use plan::{Move, Plan, PlanError};
pub use ring::{MEMBERS_MAX, Preference, Ring, RingError};
pub use staged::{Change, Staged};
pub use token::Token;
