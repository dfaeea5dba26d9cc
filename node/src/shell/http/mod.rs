//! Plain HTTP, for people with curl, monitors and browsers.
//!
//! Health and metrics are open; data and everything about the cluster need a bearer token, on
//! loopback too, for other users of a machine are strangers. A request whose `Host` is another name
//! is refused: a page in somebody's browser could otherwise point a name of its own at us.
//!
//! Decides what is let in and how much of it; what requests mean is the node's business, which
//! gets them as any other client's. It is not encrypted: keep it on loopback, or behind a proxy.

mod access;
mod change;
mod cluster;
mod data;
mod events;
mod page;
mod refusal;
mod server;
mod stall;
mod target;
mod write;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use quorate_client::wire;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::refusal::Refusal;
use super::{host::Host, token::TokenKey};
use crate::message::Principal;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Bytes of bodies held at a time, over all connections.
const BODY_BYTES_BUDGET: usize = 64 << 20;
/// Readers of `/events` at a time.
const STREAMS_MAX: usize = 32;
/// Only what this node serves itself runs or shows, no text becomes markup, and nobody may put it
/// in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// What the handlers share.
pub(super) struct Web {
    host: Arc<Host>,
    tokens: TokenKey,
    tasks: TaskTracker,
    stop: CancellationToken,
    body_bytes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

type Shared = State<Arc<Web>>;

impl Web {
    pub(super) fn new(
        host: Arc<Host>,
        tokens: TokenKey,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            host,
            tokens,
            tasks,
            stop,
            body_bytes: Arc::new(Semaphore::new(BODY_BYTES_BUDGET)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    fn router(self: Arc<Self>) -> Router {
        page::routes(Router::new())
            .route("/health/live", get(|| async { "live\n" }))
            .route("/health/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/kv/{*path}", axum::routing::any(data::any))
            .route("/v1/status", get(cluster::status))
            .route("/v1/ring", get(cluster::ring))
            .route("/v1/plan", get(change::plan))
            .route("/v1/transfers", get(change::transfers))
            .route("/v1/healing", get(cluster::healing))
            .route("/v1/buckets", get(cluster::buckets))
            .route("/v1/explain/{*path}", get(cluster::explain))
            .route("/v1/events", get(events::recent))
            .route("/events", get(events::stream))
            .fallback(nothing)
            .method_not_allowed_fallback(wrong_method)
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(self.clone(), guard))
            .with_state(self)
    }

    /// Asks the node, as any client may.
    async fn ask(
        &self,
        request: wire::Request,
        from: &Principal,
    ) -> Result<wire::Response, Refusal> {
        match self.host.ask(request, from).await {
            Ok(wire::Response::Error(error)) => Err(Refusal::from(error)),
            Ok(response) => Ok(response),
            Err(_) => Err(Refusal::stopping()),
        }
    }
}

async fn ready(State(web): Shared) -> (StatusCode, &'static str) {
    if web.host.is_ready() {
        let rebuilding = web.host.is_rebuilding();
        let said = if rebuilding {
            "ready, rebuilding\n"
        } else {
            "ready\n"
        };
        (StatusCode::OK, said)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(web): Shared) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, METRICS_TYPE)],
        web.host.metrics_text(),
    )
}

async fn nothing() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is no such page")
}

async fn wrong_method() -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_argument",
        "that cannot be done with this method",
    )
}

/// Around every request: whose name it used, and what browsers may do with the answer.
async fn guard(State(web): Shared, request: Request, next: Next) -> Response {
    let mut response = if access::is_for_us(&request) {
        next.run(request).await
    } else {
        let message = "this node does not go by that name; use its address";
        Refusal::new(StatusCode::FORBIDDEN, "denied", message).into_response()
    };
    web.host.metrics.http_response(response.status().as_u16());
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}
