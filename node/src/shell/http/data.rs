//! Keys and values: `/kv/BUCKET/KEY`.
//!
//! One value is answered as it is, several with 300 and all of them; either way with the context
//! that the next write of the key should carry. Quorums are parameters, names as on the command
//! line.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use quorate_client::{
    Context, TextError,
    wire::{self, ErrorBody, ErrorCode, GetReply, GetRequest, KeysReply, KeysRequest, Version},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Refusal, Shared, Web,
    target::{Target, query},
    write,
};
use crate::{
    cli::{
        data::{about, versions},
        input::duration,
        output::{bytes_field, hex, rfc3339},
    },
    message::Principal,
};

pub(super) const CONTEXT: HeaderName = HeaderName::from_static("x-quorate-context");
pub(super) const OP_ID: HeaderName = HeaderName::from_static("x-quorate-op-id");
const EXPECT: HeaderName = HeaderName::from_static("x-quorate-expect");
const REPLICAS: HeaderName = HeaderName::from_static("x-quorate-replicas");
const WRITTEN_AT: HeaderName = HeaderName::from_static("x-quorate-written-at");
const DOT: HeaderName = HeaderName::from_static("x-quorate-dot");
const TIMEOUT: Duration = Duration::from_secs(5);
const BYTES: &str = "application/octet-stream";
const KEYS_LIMIT: u32 = 100;

/// Every method on a key or a bucket.
pub(super) async fn any(State(web): Shared, request: Request) -> Result<Response, Refusal> {
    let principal = web.principal(request.headers())?;
    let target = Target::of(request.uri(), "/kv/")?;
    match *request.method() {
        Method::GET | Method::HEAD if target.key.is_none() => {
            keys(&web, &principal, target.bucket, request.uri()).await
        }
        Method::GET | Method::HEAD => get(&web, &principal, target, request).await,
        Method::PUT | Method::POST => write::put(&web, &principal, target, request).await,
        Method::DELETE => write::delete(&web, &principal, target, request).await,
        _ => Err(super::wrong_method().await),
    }
}

/// How long somebody is willing to wait.
pub(super) fn patience(text: Option<&str>) -> Result<u32, Refusal> {
    let wait = text.map_or(Ok(TIMEOUT), duration).map_err(Refusal::bad)?;
    u32::try_from(wait.as_millis()).map_err(|_| Refusal::bad("that timeout is too long"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetQuery {
    r: Option<u8>,
    pr: Option<u8>,
    timeout: Option<String>,
}

async fn get(
    web: &Arc<Web>,
    principal: &Principal,
    target: Target,
    request: Request,
) -> Result<Response, Refusal> {
    let query: GetQuery = query(request.uri())?;
    let key = target.key()?;
    let headers = request.headers();
    let reply = read(web, principal, &target, &query, brought(headers)?).await?;
    let accepts = |what: &str| {
        let accept = headers.get(header::ACCEPT);
        accept.is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept.contains(what)))
    };
    let json = accepts("application/json");
    let mut response = match reply.siblings.as_slice() {
        [] => as_json(StatusCode::NOT_FOUND, &target.bucket, &key, &reply),
        [one] if !json => single(one),
        [_] => as_json(StatusCode::OK, &target.bucket, &key, &reply),
        _ if headers.get(EXPECT).is_some_and(|expect| expect == "one") => as_json(
            StatusCode::PRECONDITION_FAILED,
            &target.bucket,
            &key,
            &reply,
        ),
        many if !json && accepts("multipart/mixed") => multipart(many),
        _ => as_json(StatusCode::MULTIPLE_CHOICES, &target.bucket, &key, &reply),
    };
    let headers = response.headers_mut();
    let answered = format!("{}/{}", reply.answered, reply.asked);
    set(headers, REPLICAS, &answered);
    if let Some(context) = reply.context {
        set_context(headers, context);
    }
    Ok(response)
}

/// Contexts that a reader has: it is shown nothing older.
fn brought(headers: &HeaderMap) -> Result<Vec<Bytes>, Refusal> {
    let parse = |text: &HeaderValue| {
        let context = text
            .to_str()
            .ok()
            .and_then(|text| Context::from_text(text).ok());
        let bad = || ErrorBody::new(ErrorCode::BadContext, TextError::Context.to_string());
        context
            .map(|context| context.as_bytes().clone())
            .ok_or_else(bad)
    };
    let contexts = headers.get_all(CONTEXT).iter().map(parse);
    Ok(contexts.collect::<Result<_, _>>()?)
}

async fn read(
    web: &Web,
    principal: &Principal,
    target: &Target,
    query: &GetQuery,
    seen: Vec<Bytes>,
) -> Result<GetReply, Refusal> {
    let request = wire::Request::Get(GetRequest {
        bucket: target.bucket.clone(),
        key: target.key()?,
        r: query.r,
        pr: query.pr,
        seen,
        timeout_ms: patience(query.timeout.as_deref())?,
    });
    let wire::Response::Got(reply) = web.ask(request, principal).await? else {
        return Err(Refusal::odd());
    };
    Ok(reply)
}

/// What a delete without a context replaces.
pub(super) async fn seen(
    web: &Web,
    principal: &Principal,
    target: &Target,
) -> Result<Option<Bytes>, Refusal> {
    let query = GetQuery {
        r: None,
        pr: None,
        timeout: None,
    };
    Ok(read(web, principal, target, &query, Vec::new())
        .await?
        .context)
}

fn single(version: &Version) -> Response {
    let value = version.value.clone().unwrap_or_default();
    let mut response = ([(header::CONTENT_TYPE, BYTES)], value).into_response();
    let headers = response.headers_mut();
    set(headers, DOT, &version.dot);
    set(headers, WRITTEN_AT, &rfc3339(version.written_at_ms));
    set(headers, OP_ID, &hex(&version.op_id));
    response
}

/// The same object as the command line's.
fn as_json(status: StatusCode, bucket: &str, key: &[u8], reply: &GetReply) -> Response {
    (status, axum::Json(found(bucket, key, reply))).into_response()
}

/// What a get has found, as the command line shows it.
pub(super) fn found(bucket: &str, key: &[u8], reply: &GetReply) -> Value {
    let mut json = about(bucket, key);
    json["found"] = json!(!reply.siblings.is_empty());
    json["siblings"] = json!(versions(&reply.siblings));
    json["replicas"] = json!({ "asked": reply.asked, "answered": reply.answered });
    if let Some(context) = &reply.context {
        json["context"] = json!(Context::from_bytes(context.clone()).to_text());
    }
    json
}

fn multipart(versions: &[Version]) -> Response {
    let mut hash = blake3::Hasher::new();
    for version in versions {
        hash.update(version.value.as_deref().unwrap_or_default());
    }
    // No value can hold its own hash.
    let boundary = format!("quorate-{}", &hash.finalize().to_hex()[..32]);
    let mut body = Vec::new();
    for version in versions {
        let head = format!(
            "--{boundary}\r\nContent-Type: {BYTES}\r\n{DOT}: {}\r\n{WRITTEN_AT}: {}\r\n\
             {OP_ID}: {}\r\n\r\n",
            version.dot,
            rfc3339(version.written_at_ms),
            hex(&version.op_id),
        );
        body.extend(head.as_bytes());
        body.extend(version.value.as_deref().unwrap_or_default());
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").as_bytes());
    let kind = format!("multipart/mixed; boundary={boundary}");
    (
        StatusCode::MULTIPLE_CHOICES,
        [(header::CONTENT_TYPE, kind)],
        body,
    )
        .into_response()
}

/// The context, and the same as an entity tag.
pub(super) fn set_context(headers: &mut HeaderMap, context: Bytes) {
    let text = Context::from_bytes(context).to_text();
    set(headers, CONTEXT, &text);
    set(headers, header::ETAG, &format!("\"{text}\""));
}

pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysQuery {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    cursor: String,
    limit: Option<u32>,
    timeout: Option<String>,
}

async fn keys(
    web: &Web,
    principal: &Principal,
    bucket: String,
    uri: &Uri,
) -> Result<Response, Refusal> {
    let query: KeysQuery = query(uri)?;
    let cursor = URL_SAFE_NO_PAD.decode(&query.cursor);
    let request = wire::Request::Keys(KeysRequest {
        bucket: bucket.clone(),
        prefix: query.prefix.into(),
        cursor: cursor
            .map_err(|_| Refusal::bad("that is not a cursor"))?
            .into(),
        limit: query.limit.unwrap_or(KEYS_LIMIT),
        timeout_ms: patience(query.timeout.as_deref())?,
    });
    let wire::Response::Keys(reply) = web.ask(request, principal).await? else {
        return Err(Refusal::odd());
    };
    Ok(axum::Json(page(&bucket, &reply)).into_response())
}

fn page(bucket: &str, reply: &KeysReply) -> Value {
    let item = |item: &wire::KeyItem| {
        let mut json = json!({});
        bytes_field(&mut json, "key", &item.key);
        json
    };
    let items: Vec<Value> = reply.items.iter().map(item).collect();
    let cursor = reply.cursor.as_ref();
    let cursor = cursor.map(|cursor| URL_SAFE_NO_PAD.encode(cursor));
    json!({ "bucket": bucket, "items": items, "cursor": cursor })
}
