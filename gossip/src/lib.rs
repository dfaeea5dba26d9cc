//! Who is here?
//!
//! SWIM membership as a pure machine: told the time and the messages, it answers with messages
//! and events. The set of members is given; this crate finds out which of them are alive.

mod config;
mod gossip;
mod health;
mod member;
mod message;
pub mod time;

pub use config::Config;
pub use gossip::{Event, Gossip, Output};
pub use member::{State, Update};
pub use message::{Kind, Message, PAGE_MAX, UPDATES_MAX};
pub use time::Instant;
