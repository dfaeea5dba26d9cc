//! Operations on keys: one builder each. What a builder leaves out, the bucket decides.

mod batch;
mod keys;
mod read;
mod update;
mod write;

pub use batch::{GetMany, PutItem, PutMany, PutOutcome};
pub use keys::Keys;
pub use read::{Explain, Get, Got};
pub use write::{Delete, Put, Written};
