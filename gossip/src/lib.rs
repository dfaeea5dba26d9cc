//! Who is here?
//!
//! Pure: told the time and the messages, answers with messages and events.

pub mod time;

pub use time::Instant;
