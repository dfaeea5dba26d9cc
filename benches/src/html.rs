//! The HTML report: one file with everything in it, made from the JSON of a run.
//!
//! What must be readable without scripts is written here; `report.html` draws the rest from the
//! same figures, which the page carries along.

use std::fmt::Write as _;

use serde_json::Value;

const TEMPLATE: &str = include_str!("report.html");

/// The page.
pub(crate) fn page(figures: &Value) -> String {
    // Inside a script element only `<` can end it.
    let data = figures.to_string().replace('<', "\\u003c");
    let title = format!(
        "{} · workload {}",
        text(&figures["target"]),
        text(&figures["workload"])
    );
    let (before, rest) = TEMPLATE.split_once("{{summary}}").unwrap_or((TEMPLATE, ""));
    let (middle, after) = rest.split_once("{{data}}").unwrap_or((rest, ""));
    let before = before.replace("{{title}}", &escape(&title));
    [&before, &*summary(figures), middle, &*data, after].concat()
}

fn summary(figures: &Value) -> String {
    let mut rows = String::new();
    let kinds = figures["latency_us"].as_object();
    for (name, latency) in kinds.into_iter().flatten() {
        let cells = ["count", "p50", "p90", "p99", "p999", "max"];
        let cells = cells.map(|cell| format!("<td>{}</td>", text(&latency[cell])));
        let _ = write!(
            rows,
            "<tr><th scope=row>{}</th>{}</tr>",
            escape(name),
            cells.concat()
        );
    }
    let errors = escape(&figures["errors"].to_string());
    let verified = if figures["verified"] == true {
        let counts = ["lost", "stale", "duplicated", "resurrected"];
        let counts = counts.map(|name| format!("{} {name}", text(&figures[name])));
        counts.join(", ")
    } else {
        "not verified".to_owned()
    };
    format!(
        "<table><caption>Latency in microseconds</caption><thead><tr><th scope=col>operation</th>\
         <th scope=col>count</th><th scope=col>p50</th><th scope=col>p90</th>\
         <th scope=col>p99</th><th scope=col>p99.9</th><th scope=col>max</th></tr></thead>\
         <tbody>{rows}</tbody></table><p>Errors: <code>{errors}</code> · {verified}</p>\
         <h3>Command</h3><pre>{}</pre>",
        escape(&text(&figures["command"]))
    )
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_carries_its_figures_and_nothing_from_elsewhere() {
        let figures = json!({
            "target": "quorate", "workload": "a", "errors": {}, "verified": false,
            "command": "bench </script> --x",
            "latency_us": { "get": { "p50": 12, "count": 3 } },
            "series": [{ "at": 1.0, "ops_per_second": 4321.0 }],
        });
        let page = page(&figures);
        assert!(page.contains("\"ops_per_second\":4321.0"));
        assert!(page.contains("<td>12</td>") && page.contains("&lt;/script&gt;"));
        assert_eq!(page.matches("</script>").count(), 2, "its own two scripts");
        for elsewhere in ["src=", "href=\"http", "@import", "{{"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}
