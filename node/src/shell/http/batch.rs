//! Many keys in one request: `POST /kv/_batch`.
//!
//! Each operation is one of its own, with its own outcome, which has the shape of the single
//! request's answer and its status. There is no order among them, and nothing they share but the
//! request: some may succeed where others fail. A bounded number is under way at a time, and the
//! values of all answers together are bounded.

use std::{collections::VecDeque, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use quorate_client::{
    Context, OpId,
    wire::{self, Condition, ErrorBody, ErrorCode, GetRequest, Version, WriteRequest},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    Refusal, Shared, Web,
    data::{found, patience},
    refusal::status,
    write::{receive, reserve, written_json},
};
use crate::{
    cli::{input::duration, output::hex},
    message::Principal,
    shell::boot::random,
};

/// Operations of one request (`batch_operations`).
const OPERATIONS_MAX: usize = 1_000;
/// Of them under way at a time.
const UNDER_WAY_MAX: usize = 32;
/// Bytes of values in one answer (`batch_answer_bytes`).
const ANSWER_BYTES_MAX: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    operations: Vec<Operation>,
    timeout: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Get,
    Put,
    Delete,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: Verb,
    bucket: String,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    context: Option<String>,
    if_match: Option<String>,
    #[serde(default)]
    if_absent: bool,
    #[serde(default)]
    blind: bool,
    op_id: Option<String>,
    r: Option<u8>,
    pr: Option<u8>,
    w: Option<u8>,
    pw: Option<u8>,
    sloppy: Option<bool>,
    ttl: Option<String>,
}

/// An operation that has been checked, or an answer already.
struct Begun {
    bucket: String,
    key: Bytes,
    op_id: Option<Bytes>,
    answer: Result<oneshot::Receiver<wire::Response>, ErrorBody>,
}

/// Every operation of a batch.
pub(super) async fn run(State(web): Shared, request: Request) -> Result<Response, Refusal> {
    let principal = web.principal(request.headers())?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let _held = reserve(&web, length)?;
    let body = receive(request.into_body()).await?;
    let batch: Batch = serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad(format!("that is no batch: {error}")))?;
    if OPERATIONS_MAX < batch.operations.len() {
        web.host.metrics.refused("batch_operations");
        return Err(Refusal::bad(format!(
            "a batch has at most {OPERATIONS_MAX} operations (limit batch_operations), not {}",
            batch.operations.len()
        )));
    }
    let timeout_ms = patience(batch.timeout.as_deref())?;
    let mut waiting = VecDeque::new();
    let mut results = Results::default();
    for operation in batch.operations {
        if waiting.len() == UNDER_WAY_MAX
            && let Some(oldest) = waiting.pop_front()
        {
            results.push(&web, oldest).await;
        }
        waiting.push_back(begin(&web, &principal, operation, timeout_ms));
    }
    for begun in waiting {
        results.push(&web, begun).await;
    }
    Ok(axum::Json(json!({ "results": results.all })).into_response())
}

#[derive(Default)]
struct Results {
    all: Vec<Value>,
    bytes: usize,
}

impl Results {
    async fn push(&mut self, web: &Web, begun: Begun) {
        let answer = match begun.answer {
            // Only a node that stops leaves a request without an answer.
            Ok(answer) => answer.await.unwrap_or_else(|_| {
                let message = "the node stopped before it knew";
                wire::Response::Error(ErrorBody::new(ErrorCode::UnknownOutcome, message))
            }),
            Err(error) => wire::Response::Error(error),
        };
        let (bucket, key) = (&begun.bucket, &begun.key);
        let (status, mut json) = match answer {
            wire::Response::Got(reply) => {
                self.bytes += bytes_of(&reply.siblings);
                if ANSWER_BYTES_MAX < self.bytes {
                    web.host.metrics.refused("batch_answer_bytes");
                    failed(ErrorBody::overloaded(
                        "batch_answer_bytes",
                        "limit batch_answer_bytes is reached: ask for this key in another batch",
                    ))
                } else {
                    let status = match reply.siblings.len() {
                        0 => StatusCode::NOT_FOUND,
                        1 => StatusCode::OK,
                        _ => StatusCode::MULTIPLE_CHOICES,
                    };
                    (status, found(bucket, key, &reply))
                }
            }
            wire::Response::Written(reply) => {
                let op_id = hex(&reply.op_id);
                (StatusCode::OK, written_json(bucket, key, &reply, &op_id))
            }
            wire::Response::Error(error) => failed(error),
            other @ (wire::Response::Keys(_)
            | wire::Response::Explained(_)
            | wire::Response::Buckets(_)
            | wire::Response::Ring(_)
            | wire::Response::Status(_)
            | wire::Response::Healing(_)
            | wire::Response::RingChange(_)) => failed(ErrorBody::new(
                ErrorCode::Internal,
                format!("the node answered with message kind {}", other.kind()),
            )),
        };
        json["status"] = json!(status.as_u16());
        if let Some(op_id) = begun.op_id {
            // Also when the outcome is unknown: it is sent again as the same operation.
            json["op_id"] = json!(hex(&op_id));
        }
        self.all.push(json);
    }
}

fn bytes_of(siblings: &[Version]) -> usize {
    let values = siblings.iter().filter_map(|version| version.value.as_ref());
    values.map(Bytes::len).sum()
}

fn failed(error: ErrorBody) -> (StatusCode, Value) {
    (
        status(error.code),
        crate::cli::output::Failure::from(error).to_json(),
    )
}

fn begin(web: &Arc<Web>, principal: &Principal, operation: Operation, timeout_ms: u32) -> Begun {
    let bucket = operation.bucket.clone();
    let key = bytes(
        "key",
        operation.key.as_deref(),
        operation.key_base64.as_deref(),
    );
    let request = key.clone().and_then(|key| {
        let key = key.ok_or_else(|| invalid("an operation needs a key"))?;
        request(operation, key, timeout_ms)
    });
    let op_id = match &request {
        Ok(wire::Request::Put(write) | wire::Request::Delete(write)) => Some(write.op_id.clone()),
        Ok(_) | Err(_) => None,
    };
    Begun {
        bucket,
        key: key.ok().flatten().unwrap_or_default(),
        op_id,
        answer: request.map(|request| web.host.ask(request, principal)),
    }
}

fn invalid(message: impl Into<String>) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidArgument, message)
}

fn bytes(name: &str, text: Option<&str>, base64: Option<&str>) -> Result<Option<Bytes>, ErrorBody> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(invalid(format!("give {name} or {name}_base64, not both"))),
        (Some(text), None) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(invalid(format!("{name}_base64: {error}"))),
        },
        (None, None) => Ok(None),
    }
}

fn context(text: &str) -> Result<Bytes, ErrorBody> {
    let context = Context::from_text(text);
    let context = context.map(|context| context.as_bytes().clone());
    context.map_err(|error| ErrorBody::new(ErrorCode::BadContext, error.to_string()))
}

fn request(operation: Operation, key: Bytes, timeout_ms: u32) -> Result<wire::Request, ErrorBody> {
    let (text, base64) = (
        operation.value.as_deref(),
        operation.value_base64.as_deref(),
    );
    let value = bytes("value", text, base64)?;
    let contexts = [&operation.context, &operation.if_match];
    let contexts = contexts.into_iter().filter(|context| context.is_some());
    let conditions = contexts.count() + usize::from(operation.if_absent);
    if operation.op == Verb::Get {
        let writes = value.is_some() || 0 < conditions || operation.op_id.is_some();
        if writes || operation.blind || operation.w.is_some() || operation.ttl.is_some() {
            return Err(invalid("a get takes only bucket, key, r and pr"));
        }
        return Ok(wire::Request::Get(GetRequest {
            bucket: operation.bucket,
            key,
            r: operation.r,
            pr: operation.pr,
            seen: Vec::new(),
            timeout_ms,
        }));
    }
    if operation.r.is_some() || operation.pr.is_some() {
        return Err(invalid("r and pr are for gets"));
    }
    let deletes = operation.op == Verb::Delete;
    if deletes && (value.is_some() || operation.ttl.is_some()) {
        return Err(invalid("a delete has neither value nor ttl"));
    }
    if deletes && conditions == 0 && !operation.blind {
        return Err(invalid("a delete in a batch needs a context, or blind"));
    }
    let write = write(operation, key, value, conditions, timeout_ms)?;
    Ok(if deletes {
        wire::Request::Delete(write)
    } else {
        wire::Request::Put(write)
    })
}

fn write(
    operation: Operation,
    key: Bytes,
    value: Option<Bytes>,
    conditions: usize,
    timeout_ms: u32,
) -> Result<WriteRequest, ErrorBody> {
    if 1 < conditions {
        return Err(invalid("give one of context, if_match and if_absent"));
    }
    let condition = match (&operation.if_match, operation.if_absent) {
        (Some(_), _) => Condition::IfMatch,
        (None, true) => Condition::IfAbsent,
        (None, false) => Condition::None,
    };
    let op_id = match &operation.op_id {
        Some(text) => text
            .parse::<OpId>()
            .map_err(|error| invalid(error.to_string()))?,
        None => OpId::from_bytes(
            random().map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?,
        ),
    };
    let ttl = operation.ttl.as_deref().map(duration);
    let ttl = ttl.transpose().map_err(invalid)?;
    let sealed = operation.context.or(operation.if_match);
    Ok(WriteRequest {
        bucket: operation.bucket,
        key,
        value,
        context: sealed.as_deref().map(context).transpose()?,
        w: operation.w,
        pw: operation.pw,
        sloppy: operation.sloppy,
        op_id: Bytes::copy_from_slice(op_id.as_bytes()),
        // Who names an operation may be repeating it.
        retry: operation.op_id.is_some(),
        ttl_ms: ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        condition,
        timeout_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<wire::Request, ErrorCode> {
        let operation: Operation = serde_json::from_str(json).unwrap();
        let key = Bytes::from_static(b"k");
        request(operation, key, 7).map_err(|error| error.code)
    }

    #[test]
    fn operations_mean_what_the_single_requests_mean() {
        let get = parse(r#"{"op":"get","bucket":"b","key":"k","r":1}"#);
        assert!(matches!(get, Ok(wire::Request::Get(get)) if get.r == Some(1)));
        let put = parse(r#"{"op":"put","bucket":"b","value_base64":"AAE=","if_match":"AAEC"}"#);
        let Ok(wire::Request::Put(put)) = put else {
            panic!("{put:?}");
        };
        assert_eq!(put.value.as_deref(), Some(&[0, 1][..]));
        assert_eq!(put.condition, Condition::IfMatch);
        assert!(!put.retry && put.op_id.len() == 16 && put.timeout_ms == 7);
        let blind = parse(r#"{"op":"delete","bucket":"b","blind":true}"#);
        assert!(matches!(blind, Ok(wire::Request::Delete(_))));
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_asked() {
        for bad in [
            r#"{"op":"get","bucket":"b","value":"v"}"#,
            r#"{"op":"get","bucket":"b","w":1}"#,
            r#"{"op":"put","bucket":"b","value":"v","value_base64":"AA=="}"#,
            r#"{"op":"put","bucket":"b","value":"v","r":1}"#,
            r#"{"op":"put","bucket":"b","value":"v","context":"AA","if_absent":true}"#,
            r#"{"op":"put","bucket":"b","value":"v","op_id":"1"}"#,
            r#"{"op":"delete","bucket":"b"}"#,
            r#"{"op":"delete","bucket":"b","blind":true,"value":"v"}"#,
        ] {
            assert_eq!(parse(bad).unwrap_err(), ErrorCode::InvalidArgument, "{bad}");
        }
        let put = parse(r#"{"op":"put","bucket":"b","value":"v","context":"!"}"#);
        assert_eq!(put.unwrap_err(), ErrorCode::BadContext);
    }
}
