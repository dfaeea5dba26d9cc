//! placeholder

pub mod causality;
pub mod store;
