//! The simulator: a whole cluster in one thread, from one seed.
//!
//! It drives the product's own machines (never a mock of them) through a discrete-event world that
//! loses, delays, doubles and reorders their messages, kills them between any two inputs, takes
//! back what they had not synced, and lies to their clocks. Clients outside of the cluster work
//! all the while, and oracles, one per promise of the README, judge every answer. A run is a
//! function of its seed: a failure prints one line, and that line plays it again.

#![allow(
    clippy::missing_panics_doc,
    reason = "a panic here is a defect of the simulator, or a broken promise of the product"
)]

pub mod agenda;
mod aimed;
pub mod answers;
mod bereaved;
mod care;
pub mod clock;
pub mod course;
mod definers;
pub mod disk;
pub mod history;
mod inflict;
pub mod judge;
pub mod kept;
pub mod knobs;
pub mod layout;
mod manners;
pub mod nemesis;
pub mod net;
pub mod operator;
pub mod options;
pub mod oracle;
pub mod process;
pub mod replay;
pub mod rng;
pub mod search;
pub mod shrink;
pub mod soak;
pub mod steer;
mod storage;
pub mod story;
pub mod strength;
pub mod trace;
pub mod words;
pub mod workload;
pub mod world;

pub use course::{Report, run};
pub use options::Options;
