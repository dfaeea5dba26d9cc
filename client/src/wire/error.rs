//! Errors as they travel.
//!
//! The code decides what a caller may conclude: for a put or delete every code but
//! `unknown_outcome` means that the write was certainly not applied.

use serde::{Deserialize, Serialize};

/// What went wrong, in a word programs can switch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// A request that can never work as it stands.
    InvalidArgument,
    /// No such bucket.
    UnknownBucket,
    /// The context is forged, damaged, or of another key or cluster.
    BadContext,
    /// This release cannot do that yet.
    NotAvailableYet,
    /// No such key.
    NotFound,
    /// The write may or may not have been applied.
    UnknownOutcome,
    /// Too few replicas; nothing was applied.
    Unavailable,
    /// A limit was met; nothing was applied.
    Overloaded,
    /// No replica that can be reached has all that the reader has seen already.
    Stale,
    /// A precondition failed.
    Conflict,
    /// A blind write to a key with too many siblings.
    TooManySiblings,
    /// The operation id was used before for something else.
    OpIdReused,
    /// The certificate's role does not permit this.
    Denied,
    /// A defect or a failing node.
    Internal,
}

impl ErrorCode {
    /// The word used on the wire and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::UnknownBucket => "unknown_bucket",
            Self::BadContext => "bad_context",
            Self::NotAvailableYet => "not_available_yet",
            Self::NotFound => "not_found",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Stale => "stale",
            Self::Conflict => "conflict",
            Self::TooManySiblings => "too_many_siblings",
            Self::OpIdReused => "op_id_reused",
            Self::Denied => "denied",
            Self::Internal => "internal",
        }
    }

    /// The exit code of the command line for this error.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::InvalidArgument
            | Self::UnknownBucket
            | Self::BadContext
            | Self::NotAvailableYet => 2,
            Self::NotFound => 3,
            Self::UnknownOutcome => 4,
            Self::Unavailable | Self::Overloaded | Self::Stale => 5,
            Self::Conflict | Self::TooManySiblings | Self::OpIdReused => 6,
            Self::Denied => 7,
            Self::Internal => 1,
        }
    }
}

/// The body of an error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorBody {
    /// What went wrong.
    pub code: ErrorCode,
    /// For people: what happened, to which node and key, and what to do next.
    pub message: String,
    /// The limit that was met, when `code` is `overloaded`.
    #[serde(default)]
    pub limit: Option<String>,
    /// Names of the nodes known to hold the write, when `code` is `unknown_outcome`.
    #[serde(default)]
    pub stored_on: Vec<String>,
}

impl ErrorBody {
    /// An error with neither limit nor nodes.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            limit: None,
            stored_on: Vec::new(),
        }
    }

    /// A refusal that names the limit it met.
    #[must_use]
    pub fn overloaded(limit: &str, message: impl Into<String>) -> Self {
        Self {
            limit: Some(limit.to_owned()),
            ..Self::new(ErrorCode::Overloaded, message)
        }
    }
}
