//! Health and metrics over plain HTTP, for monitors on the same machine.
//!
//! Nothing here shows data. A request whose `Host` is another name is refused: a page in somebody's
//! browser could otherwise point a name of its own at us. The dashboard and the data gateway will
//! live beside this.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::host::Host;

const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Until the node stops.
pub(super) async fn serve(listener: TcpListener, host: Arc<Host>, stop: CancellationToken) {
    let router = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn(refuse_foreign_host))
        .with_state(host);
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "health and metrics are no longer served");
    }
}

async fn ready(State(host): State<Arc<Host>>) -> (StatusCode, &'static str) {
    if host.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(host): State<Arc<Host>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], host.metrics_text())
}

async fn refuse_foreign_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_own_host(host) {
        next.run(request).await
    } else {
        (
            StatusCode::FORBIDDEN,
            "this node does not go by that name\n",
        )
            .into_response()
    }
}

/// An address, or `localhost`, with or without a port. A name could be anybody's.
fn is_own_host(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, _)) => address,
            None => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_ours() {
        for host in [
            "localhost",
            "LOCALHOST:8400",
            "127.0.0.1:8400",
            "[::1]:8400",
            "10.0.0.7",
        ] {
            assert!(is_own_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8400",
            "localhost.evil.example",
            "[::1",
        ] {
            assert!(!is_own_host(host), "{host}");
        }
    }
}
