//! Tests of versions: examples, laws against a model, and the contexts clients hold.

mod examples;
pub(crate) mod sample;
