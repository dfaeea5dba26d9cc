//! placeholder

pub mod causality;
pub mod message;
pub mod store;
pub mod wire;
