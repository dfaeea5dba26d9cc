//! Errors of operations: what may be concluded, and whether to try again.
//!
//! The client has already tried again where that could help, until its deadline. For a write the
//! one distinction that matters is [`Outcome`]: everything but *unknown* means that the write was
//! certainly not applied.

use crate::{
    profile::ProfileError,
    tls::TlsError,
    wire::{ErrorBody, ErrorCode},
};

/// What is known of a write that did not succeed.
///
/// ```
/// use quorate_client::{Outcome, WriteError, wire::{ErrorBody, ErrorCode}};
///
/// let error = WriteError::from(ErrorBody::new(ErrorCode::Conflict, "somebody was faster"));
/// assert_eq!(error.outcome(), Outcome::NotApplied);
/// let error = WriteError::from(ErrorBody::new(ErrorCode::UnknownOutcome, "no answer"));
/// assert_eq!(error.outcome(), Outcome::Unknown);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was certainly not applied.
    NotApplied,
    /// It may have been applied, and may still be.
    Unknown,
}

/// Whether trying again makes sense.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) -> Result<(), WriteError> {
/// let id = client.op_id();
/// loop {
///     match client.put("default", "k", "v").op_id(id).send().await {
///         Ok(_) => return Ok(()),
///         Err(error) if error.retry() == Retry::Never => return Err(error),
///         // The same operation id each time: applied once, whatever became of the first.
///         Err(_) => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
///     }
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It would end the same way.
    Never,
    /// After a pause.
    AfterPause,
    /// With the same operation id, so that it is applied once.
    SameOperation,
}

/// Why a get, a listing or a question about the cluster has no answer.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) {
/// match client.get("default", "k").r(3).send().await {
///     Ok(got) => println!("{} values", got.siblings.len()),
///     Err(ReadError::Unavailable(why)) => println!("too few replicas: {why}"),
///     Err(ReadError::Overloaded(why)) => println!("limit {:?}", why.limit),
///     Err(other) => println!("{other}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Too few replicas, no node, or no time.
    #[error(transparent)]
    Unavailable(ErrorBody),
    /// What this session has seen of the key is on no replica that could be reached in time.
    #[error(transparent)]
    Stale(ErrorBody),
    /// A limit was met; `limit` names it.
    #[error(transparent)]
    Overloaded(ErrorBody),
    /// It can never work as it stands.
    #[error(transparent)]
    Invalid(ErrorBody),
    /// Our certificate does not permit it.
    #[error(transparent)]
    Denied(ErrorBody),
    /// A defect or a failing node.
    #[error(transparent)]
    Internal(ErrorBody),
}

impl ReadError {
    /// Code, message and details, whatever the kind.
    #[must_use]
    pub const fn body(&self) -> &ErrorBody {
        match self {
            Self::Unavailable(body)
            | Self::Stale(body)
            | Self::Overloaded(body)
            | Self::Invalid(body)
            | Self::Denied(body)
            | Self::Internal(body) => body,
        }
    }

    /// Whether trying again makes sense.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Unavailable(_) | Self::Stale(_) | Self::Overloaded(_) => Retry::AfterPause,
            Self::Invalid(_) | Self::Denied(_) | Self::Internal(_) => Retry::Never,
        }
    }
}

impl From<ErrorBody> for ReadError {
    fn from(body: ErrorBody) -> Self {
        match body.code {
            ErrorCode::Unavailable | ErrorCode::UnknownOutcome => Self::Unavailable(body),
            ErrorCode::Stale => Self::Stale(body),
            ErrorCode::Overloaded => Self::Overloaded(body),
            ErrorCode::Denied => Self::Denied(body),
            ErrorCode::Internal => Self::Internal(body),
            ErrorCode::InvalidArgument
            | ErrorCode::UnknownBucket
            | ErrorCode::BadContext
            | ErrorCode::NotAvailableYet
            | ErrorCode::NotFound
            | ErrorCode::Conflict
            | ErrorCode::TooManySiblings
            | ErrorCode::OpIdReused => Self::Invalid(body),
        }
    }
}

/// Why a put, a delete or a change of a bucket did not succeed.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) {
/// match client.put("default", "k", "v").if_absent().send().await {
///     Ok(written) => println!("durable on {:?}", written.durable_on),
///     Err(WriteError::Conflict(_)) => println!("there is one; nothing was changed"),
///     Err(WriteError::Unknown(why)) => println!("perhaps, on {:?}", why.stored_on),
///     Err(other) => println!("not applied: {other}"),
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It may have been applied, and may still be; `stored_on` names nodes known to hold it.
    #[error(transparent)]
    Unknown(ErrorBody),
    /// A precondition failed, there are too many siblings, or the operation id was used before.
    #[error(transparent)]
    Conflict(ErrorBody),
    /// Too few replicas, or no node.
    #[error(transparent)]
    Unavailable(ErrorBody),
    /// A limit was met; `limit` names it.
    #[error(transparent)]
    Overloaded(ErrorBody),
    /// It can never work as it stands.
    #[error(transparent)]
    Invalid(ErrorBody),
    /// Our certificate does not permit it.
    #[error(transparent)]
    Denied(ErrorBody),
    /// A defect or a failing node.
    #[error(transparent)]
    Internal(ErrorBody),
}

impl WriteError {
    /// Code, message and details, whatever the kind.
    #[must_use]
    pub const fn body(&self) -> &ErrorBody {
        match self {
            Self::Unknown(body)
            | Self::Conflict(body)
            | Self::Unavailable(body)
            | Self::Overloaded(body)
            | Self::Invalid(body)
            | Self::Denied(body)
            | Self::Internal(body) => body,
        }
    }

    /// What is known of the write.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Unknown(_) => Outcome::Unknown,
            Self::Conflict(_)
            | Self::Unavailable(_)
            | Self::Overloaded(_)
            | Self::Invalid(_)
            | Self::Denied(_)
            | Self::Internal(_) => Outcome::NotApplied,
        }
    }

    /// Whether trying again makes sense.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Unknown(_) => Retry::SameOperation,
            Self::Unavailable(_) | Self::Overloaded(_) => Retry::AfterPause,
            Self::Conflict(_) | Self::Invalid(_) | Self::Denied(_) | Self::Internal(_) => {
                Retry::Never
            }
        }
    }
}

impl From<ErrorBody> for WriteError {
    fn from(body: ErrorBody) -> Self {
        match body.code {
            ErrorCode::UnknownOutcome => Self::Unknown(body),
            ErrorCode::Conflict | ErrorCode::TooManySiblings | ErrorCode::OpIdReused => {
                Self::Conflict(body)
            }
            ErrorCode::Unavailable | ErrorCode::Stale => Self::Unavailable(body),
            ErrorCode::Overloaded => Self::Overloaded(body),
            ErrorCode::Denied => Self::Denied(body),
            ErrorCode::Internal => Self::Internal(body),
            ErrorCode::InvalidArgument
            | ErrorCode::UnknownBucket
            | ErrorCode::BadContext
            | ErrorCode::NotAvailableYet
            | ErrorCode::NotFound => Self::Invalid(body),
        }
    }
}

/// Why an update did not succeed.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(client: Client) {
/// if let Err(error) = client.update("default", "k", |_| "merged").await {
///     println!("{error}: {:?}", error.outcome());
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Reading failed; nothing was written.
    #[error("cannot read before writing: {0}")]
    Read(ReadError),
    /// Writing failed.
    #[error(transparent)]
    Write(WriteError),
}

impl UpdateError {
    /// Code, message and details, whatever the kind.
    #[must_use]
    pub const fn body(&self) -> &ErrorBody {
        match self {
            Self::Read(error) => error.body(),
            Self::Write(error) => error.body(),
        }
    }

    /// What is known of the write.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Read(_) => Outcome::NotApplied,
            Self::Write(error) => error.outcome(),
        }
    }

    /// Whether trying again makes sense. Not where the outcome is unknown: another update would
    /// merge into what this one may have written.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Read(error) => error.retry(),
            Self::Write(WriteError::Unknown(_)) => Retry::Never,
            Self::Write(error) => error.retry(),
        }
    }
}

/// Why there is no client.
///
/// ```no_run
/// # use quorate_client::*;
/// # async fn example(profile: Profile) {
/// match Client::connect(&profile).await {
///     Ok(client) => client.close().await,
///     Err(ConnectError::Unreachable { tried }) => println!("{}", tried.join(", ")),
///     Err(other) => println!("{other}"),
/// }
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no usable profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Our certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No socket can be opened.
    #[error("cannot open a socket: {0}")]
    Socket(#[from] std::io::Error),
    /// No node of the profile answers as a node of our cluster.
    #[error("no node could be reached: {}", tried.join("; "))]
    Unreachable {
        /// Each address and what went wrong there.
        tried: Vec<String>,
    },
    /// A node refuses us, or is none of our cluster.
    #[error("{0}")]
    Denied(String),
    /// A node that can be reached does not say what ring it knows.
    #[error("cannot learn the ring: {0}")]
    Ring(String),
}

impl ConnectError {
    /// The code and message of this error, in the form all other errors have.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let code = match self {
            Self::Profile(_) | Self::Tls(_) => ErrorCode::InvalidArgument,
            Self::Socket(_) => ErrorCode::Internal,
            Self::Unreachable { .. } | Self::Ring(_) => ErrorCode::Unavailable,
            Self::Denied(_) => ErrorCode::Denied,
        };
        ErrorBody::new(code, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: [ErrorCode; 14] = [
        ErrorCode::InvalidArgument,
        ErrorCode::UnknownBucket,
        ErrorCode::BadContext,
        ErrorCode::NotAvailableYet,
        ErrorCode::NotFound,
        ErrorCode::UnknownOutcome,
        ErrorCode::Unavailable,
        ErrorCode::Stale,
        ErrorCode::Overloaded,
        ErrorCode::Conflict,
        ErrorCode::TooManySiblings,
        ErrorCode::OpIdReused,
        ErrorCode::Denied,
        ErrorCode::Internal,
    ];

    #[test]
    fn only_an_unknown_outcome_is_unknown() {
        for code in CODES {
            let error = WriteError::from(ErrorBody::new(code, "m"));
            let unknown = error.outcome() == Outcome::Unknown;
            assert_eq!(unknown, code == ErrorCode::UnknownOutcome);
            assert_eq!(unknown, error.retry() == Retry::SameOperation);
            assert_eq!(error.body().code, code);
        }
    }

    #[test]
    fn every_error_keeps_its_body() {
        for code in CODES {
            let error = ReadError::from(ErrorBody::new(code, "m"));
            assert_eq!(error.body().code, code);
            assert_eq!(error.to_string(), "m");
        }
    }
}
