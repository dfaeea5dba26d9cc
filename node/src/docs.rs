//! Chapters: how to run it, what it guarantees, how it speaks, how it is built and tested.
//!
//! Texts only, for people. Tests hold what is in them against the code: bytes, metrics, commands
//! and configuration.

/// Running a cluster.
pub mod operations {
    #![doc = include_str!("docs/operations.md")]
}

/// What reads and writes guarantee.
pub mod consistency {
    #![doc = include_str!("docs/consistency.md")]
}

/// The wire protocol, byte by byte.
pub mod protocol {
    #![doc = include_str!("docs/protocol.md")]
}

/// How it is built.
pub mod architecture {
    #![doc = include_str!("docs/architecture.md")]
}

/// How it is tested.
pub mod simulation {
    #![doc = include_str!("docs/simulation.md")]
}
