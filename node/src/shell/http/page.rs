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

/// A script's path, and its text as it was when the binary was made.
macro_rules! script {
    ($name:literal) => {
        (
            concat!("/dashboard/", $name),
            SCRIPT,
            include_str!(concat!("dashboard/", $name)),
        )
    };
}

/// Path, kind and text of every file.
const FILES: [(&str, &str, &str); 12] = [
    ("/", HTML, include_str!("dashboard/index.html")),
    (
        "/dashboard/style.css",
        CSS,
        include_str!("dashboard/style.css"),
    ),
    script!("app.js"),
    script!("change.js"),
    script!("chart.js"),
    script!("element.js"),
    script!("events.js"),
    script!("healing.js"),
    script!("load.js"),
    script!("nodes.js"),
    script!("path.js"),
    script!("ring.js"),
];

/// Adds the page's files.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    FILES
        .into_iter()
        .fold(router, |router, (path, kind, text)| {
            router.route(path, get(move || async move { file(kind, text) }))
        })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a text asks the node for, in quotes.
    fn named(text: &str) -> impl Iterator<Item = &str> {
        let words = text.split('"');
        words.filter(|word| word.starts_with("/dashboard/"))
    }

    #[test]
    fn every_file_is_used_and_every_file_used_is_there() {
        let here: BTreeSet<&str> = FILES.iter().map(|(path, ..)| *path).collect();
        let used = FILES.iter().flat_map(|(_, _, text)| named(text));
        let used: BTreeSet<&str> = used.chain(["/"]).collect();
        assert_eq!(here, used);
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_no_text_becomes_markup() {
        for (path, _, text) in FILES {
            // What the policy would refuse to run or to paint, too.
            for refused in [
                "https://",
                "innerHTML",
                "insertAdjacentHTML",
                "eval(",
                "<script>",
                "<style",
                " style=",
                " onclick=",
                "javascript:",
            ] {
                assert!(!text.contains(refused), "{refused} in {path}");
            }
        }
    }
}
