//! Operations on keys: one builder each. What a builder leaves out, the bucket decides.

mod keys;
mod read;
mod update;
mod write;

pub use keys::Keys;
pub use read::{Explain, Get, Got};
pub use write::{Delete, Put, Written};
