//! What there is to know of the cluster, as JSON of the same shape as the command line's.

use axum::{
    Json,
    extract::{Request, State},
    http::HeaderMap,
};
use quorate_client::wire::{self, BucketInfo, BucketRequest, ExplainRequest, HealingRequest};
use quorate_ring::Ring;
use serde_json::{Value, json};

use super::{Refusal, Shared, Web, change, target::Target};
use crate::cli::{
    admin::{bucket_json, status_json, whole},
    data::explained,
    healing::reply_json,
};

pub(super) const TIMEOUT_MS: u32 = 5_000;

pub(super) async fn ask(
    web: &Web,
    headers: &HeaderMap,
    request: wire::Request,
) -> Result<wire::Response, Refusal> {
    web.ask(request, &web.principal(headers)?).await
}

/// `/v1/status`: `cluster status`.
pub(super) async fn status(State(web): Shared, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let wire::Response::Status(reply) = ask(&web, &headers, wire::Request::Status).await? else {
        return Err(Refusal::odd());
    };
    let mut json = status_json(&reply);
    json["answered_by"] = json!(web.host.name);
    Ok(Json(json))
}

/// `/v1/healing`: how replicas stand, as at the end of `repair --wait`; begins nothing.
pub(super) async fn healing(
    State(web): Shared,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let request = wire::Request::Healing(HealingRequest {
        verb: "roots".to_owned(),
        timeout_ms: TIMEOUT_MS,
        ..HealingRequest::default()
    });
    let wire::Response::Healing(reply) = ask(&web, &headers, request).await? else {
        return Err(Refusal::odd());
    };
    Ok(Json(reply_json(&reply)))
}

/// `/v1/ring`: `ring show`, the largest n of a bucket, and what moves.
pub(super) async fn ring(State(web): Shared, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let wire::Response::Ring(reply) = ask(&web, &headers, wire::Request::Ring).await? else {
        return Err(Refusal::odd());
    };
    let ring = Ring::from_bytes(&reply.ring);
    let ring = ring.map_err(|error| Refusal::bad(error.to_string()))?;
    let mut json = whole(&ring, &reply.state);
    // Lists are longer than what any bucket uses.
    let buckets = list(&web, &headers).await?;
    let n = buckets.iter().map(|bucket| bucket.n).max().unwrap_or(1);
    json["n"] = json!(n);
    json["moving"] = json!(change::moving(&web.host.decree(), usize::from(n)));
    Ok(Json(json))
}

async fn list(web: &Web, headers: &HeaderMap) -> Result<Vec<BucketInfo>, Refusal> {
    let request = wire::Request::Bucket(BucketRequest {
        verb: "list".to_owned(),
        timeout_ms: TIMEOUT_MS,
        ..BucketRequest::default()
    });
    let wire::Response::Buckets(list) = ask(web, headers, request).await? else {
        return Err(Refusal::odd());
    };
    Ok(list)
}

/// `/v1/buckets`: `bucket list`.
pub(super) async fn buckets(
    State(web): Shared,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let list = list(&web, &headers).await?;
    let list: Vec<Value> = list.iter().map(bucket_json).collect();
    Ok(Json(json!({ "buckets": list })))
}

/// `/v1/explain/BUCKET/KEY`: `explain`.
pub(super) async fn explain(State(web): Shared, request: Request) -> Result<Json<Value>, Refusal> {
    let target = Target::of(request.uri(), "/v1/explain/")?;
    let key = target.key()?;
    let explain = wire::Request::Explain(ExplainRequest {
        bucket: target.bucket.clone(),
        key: key.clone(),
        timeout_ms: TIMEOUT_MS,
    });
    let wire::Response::Explained(reply) = ask(&web, request.headers(), explain).await? else {
        return Err(Refusal::odd());
    };
    Ok(Json(explained(&target.bucket, &key, &reply)))
}
