//! Writes through HTTP: what the headers and parameters of a put or delete mean.
//!
//! The context is a header, or the entity tag of a conditional request, in which case it is a
//! condition as well. A client that names its operation may send it again without harm; who does
//! not is told the name that was given to it, also when the outcome is unknown.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use quorate_client::{
    Context, OpId,
    wire::{self, Condition, ErrorBody, ErrorCode, WriteReply, WriteRequest, frame},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    Refusal, Web,
    data::{CONTEXT, OP_ID, patience, seen, set, set_context},
    target::{Target, query},
};
use crate::{
    cli::{
        data::{about, versions},
        input::duration,
        output::hex,
    },
    message::Principal,
    shell::boot::random,
};

/// Largest body: the largest value there can be.
const BODY_BYTES_MAX: usize = frame::VALUE_BYTES_MAX;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteQuery {
    w: Option<u8>,
    pw: Option<u8>,
    sloppy: Option<bool>,
    ttl: Option<String>,
    timeout: Option<String>,
    #[serde(default)]
    blind: bool,
}

pub(super) async fn put(
    web: &Arc<Web>,
    principal: &Principal,
    target: Target,
    request: Request,
) -> Result<Response, Refusal> {
    let query: WriteQuery = query(request.uri())?;
    if query.blind {
        return Err(Refusal::bad("a put without a context is blind anyway"));
    }
    let mut write = prepare(&target, &query, request.headers())?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    // The memory is held until the answer is there.
    let _held = reserve(web, length)?;
    write.value = Some(receive(request.into_body()).await?);
    send(web, principal, wire::Request::Put, write).await
}

pub(super) async fn delete(
    web: &Arc<Web>,
    principal: &Principal,
    target: Target,
    request: Request,
) -> Result<Response, Refusal> {
    let query: WriteQuery = query(request.uri())?;
    if query.ttl.is_some() {
        return Err(Refusal::bad("a delete has no ttl"));
    }
    let mut write = prepare(&target, &query, request.headers())?;
    if write.context.is_none() && !query.blind && write.condition == Condition::None {
        if write.retry {
            return Err(Refusal::bad(
                "a delete with an operation id needs a context, or blind=true: sent again it \
                 would read, and delete, something else",
            ));
        }
        write.context = seen(web, principal, &target).await?;
    }
    send(web, principal, wire::Request::Delete, write).await
}

fn prepare(
    target: &Target,
    query: &WriteQuery,
    headers: &HeaderMap,
) -> Result<WriteRequest, Refusal> {
    let (context, condition) = context(headers)?;
    let named = text(headers, &OP_ID)?;
    let op_id = match named {
        Some(text) => text
            .parse::<OpId>()
            .map_err(|error| Refusal::bad(error.to_string()))?,
        None => OpId::from_bytes(random().map_err(|error| internal(&error))?),
    };
    let ttl = query.ttl.as_deref().map(duration);
    let ttl = ttl.transpose().map_err(Refusal::bad)?;
    Ok(WriteRequest {
        bucket: target.bucket.clone(),
        key: target.key()?,
        value: None,
        context,
        w: query.w,
        pw: query.pw,
        sloppy: query.sloppy,
        op_id: Bytes::copy_from_slice(op_id.as_bytes()),
        // Who names an operation may be repeating it.
        retry: named.is_some(),
        ttl_ms: ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        condition,
        timeout_ms: patience(query.timeout.as_deref())?,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let value = headers.get(name).map(|value| value.to_str());
    let value = value.transpose();
    value.map_err(|_| Refusal::bad(format!("the header {name} is not text")))
}

fn context(headers: &HeaderMap) -> Result<(Option<Bytes>, Condition), Refusal> {
    let parse = |text: &str| {
        let context = Context::from_text(text);
        let context = context.map(|context| context.as_bytes().clone());
        context.map_err(|error| {
            Refusal::from(ErrorBody::new(ErrorCode::BadContext, error.to_string()))
        })
    };
    let plain = text(headers, &CONTEXT)?;
    let matching = text(headers, &header::IF_MATCH)?;
    let absent = text(headers, &header::IF_NONE_MATCH)?;
    match (plain, matching, absent) {
        (None, None, None) => Ok((None, Condition::None)),
        (Some(context), None, None) => Ok((Some(parse(context)?), Condition::None)),
        (None, Some(tag), None) => {
            let tag = tag.trim().strip_prefix('"');
            let tag = tag.and_then(|tag| tag.strip_suffix('"'));
            let message = "If-Match takes one entity tag, in quotes, as a get has shown it";
            let tag = tag.ok_or_else(|| Refusal::bad(message))?;
            Ok((Some(parse(tag)?), Condition::IfMatch))
        }
        (None, None, Some("*")) => Ok((None, Condition::IfAbsent)),
        (None, None, Some(_)) => Err(Refusal::bad("If-None-Match takes only *")),
        _ => Err(Refusal::bad(
            "give one of X-Quorate-Context, If-Match and If-None-Match",
        )),
    }
}

/// Sets memory aside before anything of a body is read.
pub(super) fn reserve(web: &Web, length: Option<usize>) -> Result<OwnedSemaphorePermit, Refusal> {
    let bytes = length.unwrap_or(BODY_BYTES_MAX);
    if BODY_BYTES_MAX < bytes {
        return Err(too_long());
    }
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let held = web.body_bytes.clone().try_acquire_many_owned(bytes);
    held.map_err(|_| {
        web.host.metrics.refused("http_body_bytes");
        Refusal::overloaded("http_body_bytes")
    })
}

fn too_long() -> Refusal {
    let message = format!("a body has at most {BODY_BYTES_MAX} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_argument", &message)
        .with(header::CONNECTION, "close")
}

pub(super) async fn receive(body: Body) -> Result<Bytes, Refusal> {
    let whole = Limited::new(body, BODY_BYTES_MAX).collect();
    match timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(_)) => Err(Refusal::bad("the body ended early")),
        Err(_) => {
            let message = "the body took too long to arrive; nothing was applied";
            let refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, "unavailable", message);
            Err(refusal.with(header::CONNECTION, "close"))
        }
    }
}

fn internal(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::from(ErrorBody::new(ErrorCode::Internal, error.to_string()))
}

async fn send(
    web: &Web,
    principal: &Principal,
    wrap: fn(WriteRequest) -> wire::Request,
    write: WriteRequest,
) -> Result<Response, Refusal> {
    let op_id = hex(&write.op_id);
    let (bucket, key) = (write.bucket.clone(), write.key.clone());
    let conditional = write.condition != Condition::None;
    let answer = web.ask(wrap(write), principal).await;
    let refused = |refusal: Refusal| {
        let refusal = refusal.with(OP_ID, &op_id);
        if conditional {
            refusal.conditional()
        } else {
            refusal
        }
    };
    let wire::Response::Written(reply) = answer.map_err(refused)? else {
        return Err(Refusal::odd());
    };
    Ok(written(&bucket, &key, reply, &op_id))
}

fn written(bucket: &str, key: &[u8], reply: WriteReply, op_id: &str) -> Response {
    let json = written_json(bucket, key, &reply, op_id);
    let mut response = axum::Json(json).into_response();
    let headers = response.headers_mut();
    set_context(headers, reply.context);
    set(headers, OP_ID, op_id);
    response
}

/// The same object as the command line's.
pub(super) fn written_json(bucket: &str, key: &[u8], reply: &WriteReply, op_id: &str) -> Value {
    let mut json = about(bucket, key);
    json["context"] = json!(Context::from_bytes(reply.context.clone()).to_text());
    json["durable_on"] = json!(reply.durable_on);
    json["stored_on"] = json!(reply.stored_on);
    json["primaries"] = json!(reply.primaries);
    json["hinted"] = json!(reply.hinted);
    json["op_id"] = json!(op_id);
    json["siblings"] = json!(versions(&reply.siblings));
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            set(&mut headers, HeaderName::from_static(name), value);
        }
        headers
    }

    #[test]
    fn a_context_comes_in_one_of_three_ways() {
        let got = |pairs: &[(&'static str, &str)]| context(&headers(pairs)).ok();
        let bytes = Some(Bytes::from_static(&[0, 1, 2]));
        assert_eq!(got(&[]), Some((None, Condition::None)));
        let plain = got(&[("x-quorate-context", "AAEC")]);
        assert_eq!(plain, Some((bytes.clone(), Condition::None)));
        let tag = got(&[("if-match", "\"AAEC\"")]);
        assert_eq!(tag, Some((bytes, Condition::IfMatch)));
        let absent = got(&[("if-none-match", "*")]);
        assert_eq!(absent, Some((None, Condition::IfAbsent)));
        for bad in [
            &[("x-quorate-context", "!")][..],
            &[("if-match", "AAEC")],
            &[("if-match", "*")],
            &[("if-none-match", "\"AAEC\"")],
            &[("if-match", "\"AAEC\""), ("x-quorate-context", "AAEC")],
        ] {
            assert_eq!(got(bad), None, "{bad:?}");
        }
    }
}
