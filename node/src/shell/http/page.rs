//! The dashboard, from the binary: one page, its style and its scripts.
//!
//! Open to all who reach the node, for it shows nothing by itself: its scripts ask with the token
//! of whoever looks at it.

use axum::{
    Router,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Adds the page's files.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    let files = [
        ("/", HTML, include_str!("dashboard/index.html")),
        (
            "/dashboard/style.css",
            CSS,
            include_str!("dashboard/style.css"),
        ),
        (
            "/dashboard/app.js",
            SCRIPT,
            include_str!("dashboard/app.js"),
        ),
        (
            "/dashboard/element.js",
            SCRIPT,
            include_str!("dashboard/element.js"),
        ),
        (
            "/dashboard/load.js",
            SCRIPT,
            include_str!("dashboard/load.js"),
        ),
        (
            "/dashboard/ring.js",
            SCRIPT,
            include_str!("dashboard/ring.js"),
        ),
    ];
    files
        .into_iter()
        .fold(router, |router, (path, kind, text)| {
            router.route(path, get(move || async move { file(kind, text) }))
        })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
