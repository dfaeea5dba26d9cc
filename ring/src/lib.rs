//! Where does a key live?
//!
//! Pure: no clock, no IO, no async, no randomness.

pub mod ids;

pub use ids::{NodeId, NodeUuid, RingEpoch};
