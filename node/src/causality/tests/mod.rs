//! Tests of versions: examples, laws against a model, and the contexts clients hold.

mod brief;
mod contexts;
mod examples;
mod expiry;
mod latest;
mod laws;
mod leases;
mod model;
pub(crate) mod sample;
