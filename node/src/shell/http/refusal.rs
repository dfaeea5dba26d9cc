//! What did not work, as a status, a JSON body, and headers.
//!
//! The body is that of the command line, so that a script needs to know one form only. A 503 means
//! "ask again": whether something may have been applied is said by the code in the body, and
//! `unknown_outcome` is the only one that means "perhaps".

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use quorate_client::wire::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

use crate::cli::output::Failure;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    json: Value,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, message: &str) -> Self {
        Self {
            status,
            json: json!({ "error": { "code": code, "message": message } }),
            headers: Vec::new(),
        }
    }

    /// A request that can never work as it stands.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::from(ErrorBody::new(ErrorCode::InvalidArgument, message))
    }

    /// A limit of this interface, by name.
    pub(super) fn overloaded(limit: &'static str) -> Self {
        let message = format!("limit {limit} is reached on this node; nothing was applied");
        Self::from(ErrorBody::overloaded(limit, message))
    }

    /// The node ends before it has answered.
    pub(super) fn stopping() -> Self {
        let message = "the node stopped before it knew";
        Self::from(ErrorBody::new(ErrorCode::UnknownOutcome, message))
    }

    /// The node answered something that was not asked: a defect.
    pub(super) fn odd() -> Self {
        let message = "the node answered another question";
        Self::from(ErrorBody::new(ErrorCode::Internal, message))
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// A condition of the request's headers failed, which HTTP has a status for.
    pub(super) fn conditional(mut self) -> Self {
        if self.status == StatusCode::CONFLICT && self.json["error"]["code"] == "conflict" {
            self.status = StatusCode::PRECONDITION_FAILED;
        }
        self
    }
}

pub(super) const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidArgument | ErrorCode::BadContext => StatusCode::BAD_REQUEST,
        ErrorCode::UnknownBucket | ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::NotAvailableYet => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::UnknownOutcome
        | ErrorCode::Unavailable
        | ErrorCode::Overloaded
        | ErrorCode::Stale => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Conflict | ErrorCode::TooManySiblings | ErrorCode::OpIdReused => {
            StatusCode::CONFLICT
        }
        ErrorCode::Denied => StatusCode::FORBIDDEN,
        ErrorCode::Internal | _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<ErrorBody> for Refusal {
    fn from(error: ErrorBody) -> Self {
        let status = status(error.code);
        let refusal = Self {
            status,
            json: Failure::from(error).to_json(),
            headers: Vec::new(),
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            refusal.with(header::RETRY_AFTER, "1")
        } else {
            refusal
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.json)).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
