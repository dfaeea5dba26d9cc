//! What curl, monitors and browsers get from real nodes: data, JSON, metrics and events.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and one of processes waits for them"
)]

#[path = "http/ask.rs"]
mod ask;
#[expect(dead_code, reason = "shared with the tests of the command line")]
#[path = "cli/dev.rs"]
mod dev;

use ask::{Answer, Web};
use dev::Dev;
use serde_json::{Value, json};

/// Values that a read has found, in order.
fn values(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let siblings = json["siblings"].as_array().unwrap().clone();
    let value = |sibling: &Value| sibling["value"].as_str().unwrap().to_owned();
    let mut values: Vec<_> = siblings.iter().map(value).collect();
    values.sort();
    values
}

#[test]
fn data_goes_round_with_siblings_and_contexts() {
    let dev = Dev::start();
    let (web, other) = (Web::of(&dev, 1), Web::of(&dev, 2));
    let put = web.put("/kv/default/a%2Fb%20%ff", b"one\0\xff", &[]);
    assert_eq!(put.status, 200, "{put:?}");
    let json = put.json();
    assert_eq!(json["bucket"], "default");
    assert_eq!(json["key_base64"], "YS9iIP8=");
    assert!(2 <= json["durable_on"].as_array().unwrap().len());
    let get = other.get("/kv/default/a/b%20%FF?r=2", &[]);
    assert_eq!((get.status, &get.body[..]), (200, &b"one\0\xff"[..]));
    assert_eq!(get.header("x-quorate-op-id"), json["op_id"].as_str());
    assert_eq!(get.header("content-type"), Some("application/octet-stream"));
    let context = get.header("x-quorate-context").unwrap();
    assert_eq!(get.header("etag"), Some(&*format!("\"{context}\"")));

    // Two writes that have not seen each other.
    assert_eq!(web.put("/kv/default/k", b"x", &[]).status, 200);
    assert_eq!(other.put("/kv/default/k", b"y", &[]).status, 200);
    let both = other.get("/kv/default/k", &[]);
    assert_eq!(both.status, 300);
    assert_eq!(values(&both), ["x", "y"]);
    let parts = web.get("/kv/default/k", &[("Accept", "multipart/mixed")]);
    assert_eq!(parts.status, 300);
    let kind = parts.header("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/mixed; boundary=").unwrap();
    let text = String::from_utf8(parts.body.clone()).unwrap();
    let line = format!("--{boundary}");
    let bodies = text.split(&line);
    let bodies = bodies.filter_map(|part| Some(part.split_once("\r\n\r\n")?.1.trim_end()));
    let mut bodies: Vec<_> = bodies.collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["x", "y"]);
    let one = web.get("/kv/default/k", &[("X-Quorate-Expect", "one")]);
    assert_eq!(one.status, 412);

    // The context of both replaces both; then it matches no more.
    let seen = both.header("x-quorate-context").unwrap();
    let again = web.get("/kv/default/k?r=1", &[("X-Quorate-Context", seen)]);
    assert_eq!((again.status, values(&again)), (300, values(&both)));
    let foreign = web.get("/kv/default/other", &[("X-Quorate-Context", seen)]);
    assert_eq!(
        (foreign.status, foreign.code()),
        (400, "bad_context".to_owned())
    );
    let merged = web.put("/kv/default/k", b"xy", &[("X-Quorate-Context", seen)]);
    assert_eq!(merged.status, 200, "{merged:?}");
    assert_eq!(other.get("/kv/default/k", &[]).body, b"xy");
    let tag = format!("\"{seen}\"");
    let late = web.put("/kv/default/k", b"z", &[("If-Match", &tag)]);
    assert_eq!((late.status, late.code()), (412, "conflict".to_owned()));
    let again = web.put("/kv/default/k", b"z", &[("If-None-Match", "*")]);
    assert_eq!(again.status, 412);

    assert_eq!(web.delete("/kv/default/k", &[]).status, 200);
    let gone = other.get("/kv/default/k", &[]);
    assert_eq!((gone.status, &gone.json()["found"]), (404, &json!(false)));
    assert!(gone.header("x-quorate-context").is_some());
    let keys = web.get("/kv/default?prefix=a", &[]);
    assert_eq!(keys.json()["items"], json!([{ "key_base64": "YS9iIP8=" }]));
}

#[test]
fn a_named_operation_is_applied_once() {
    let dev = Dev::start();
    let web = Web::of(&dev, 1);
    let id = "000102030405060708090a0b0c0d0e0f";
    let named = [("X-Quorate-Op-Id", id)];
    let first = web.put("/kv/default/k", b"v", &named);
    let second = Web::of(&dev, 3).put("/kv/default/k", b"v", &named);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.header("x-quorate-op-id"), Some(id));
    assert_eq!(web.get("/kv/default/k", &[]).status, 200, "one value");
    let other = web.put("/kv/default/k", b"w", &named);
    assert_eq!(
        (other.status, other.code()),
        (409, "op_id_reused".to_owned())
    );
    let delete = web.delete("/kv/default/k", &named);
    assert_eq!(delete.status, 400);
}

#[test]
fn tokens_say_who_may_do_what() {
    let dev = Dev::start();
    let with = |args: &[&str]| {
        let ca = ["tls", "token", "--ca", "quorate-dev/ca"];
        let made = dev.ok(&[&ca[..], args].concat());
        let token = made.json["token"].as_str().unwrap().to_owned();
        Web::of(&dev, 2).with_token(&token)
    };
    let (read, write) = (with(&["--role", "read"]), with(&["--role", "write"]));
    assert_eq!(write.put("/kv/default/k", b"v", &[]).status, 200);
    assert_eq!(read.get("/kv/default/k", &[]).body, b"v");
    for refused in [
        read.put("/kv/default/k", b"w", &[]),
        read.delete("/kv/default/k", &[]),
    ] {
        assert_eq!((refused.status, refused.code()), (403, "denied".to_owned()));
    }
    let expired = with(&["--role", "admin", "--name", "late", "--expires", "0s"]);
    let web = Web::of(&dev, 2);
    let forged = web.token.replace("quorate1.A", "quorate1.B");
    for stranger in [
        expired,
        web.with_token(""),
        web.with_token("quorate1."),
        web.with_token("quorate1.AAAA"),
        web.with_token(&forged),
        web.with_token(&format!("{}A", web.token)),
        web.without_token(),
    ] {
        for path in [
            "/kv/default/k",
            "/kv/default",
            "/v1/status",
            "/v1/ring",
            "/v1/buckets",
            "/v1/events",
            "/v1/explain/default/k",
            "/events",
        ] {
            let answer = stranger.get(path, &[]);
            assert_eq!(answer.status, 401, "{path}");
            assert!(answer.header("www-authenticate").is_some());
        }
        assert_eq!(stranger.put("/kv/default/k", b"w", &[]).status, 401);
        for open in ["/health/live", "/health/ready", "/metrics"] {
            assert_eq!(stranger.get(open, &[]).status, 200, "{open}");
        }
    }
}

#[test]
fn another_name_for_this_host_is_refused_everywhere() {
    let dev = Dev::start();
    let web = Web::of(&dev, 1);
    for path in ["/", "/metrics", "/health/live", "/kv/default/k", "/nothing"] {
        let head = |host: &str| format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{host}\r\n");
        for host in [
            "Host: evil.example\r\n",
            "Host: 127.0.0.1\r\nHost: evil.example\r\n",
            "",
        ] {
            let status = web.raw(head(host).as_bytes()).status;
            assert!(status == 403 || status == 400, "{path} {host:?} {status}");
        }
    }
    let absolute = b"GET http://evil.example/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\
                     Connection: close\r\n\r\n";
    assert_eq!(web.raw(absolute).status, 403);
}

#[test]
fn what_cannot_work_is_told_so() {
    let dev = Dev::start();
    let web = Web::of(&dev, 1);
    let long = format!("/kv/default/{}", "k".repeat(4_097));
    let forged = [("X-Quorate-Context", "AAECAwQF")];
    let torn = [("X-Quorate-Context", "!")];
    for (answer, status, code) in [
        (web.get("/kv/default/%zz", &[]), 400, "invalid_argument"),
        (web.get("/kv/default/", &[]), 400, "invalid_argument"),
        (web.get(&long, &[]), 400, "invalid_argument"),
        (web.get("/kv/default/k?r=9", &[]), 400, "invalid_argument"),
        (web.get("/kv/default/k?q=1", &[]), 400, "invalid_argument"),
        (web.get("/kv/none/k", &[]), 404, "unknown_bucket"),
        (web.put("/kv/none/k", b"v", &[]), 404, "unknown_bucket"),
        (web.put("/kv/default/k", b"v", &forged), 400, "bad_context"),
        (web.put("/kv/default/k", b"v", &torn), 400, "bad_context"),
        (web.put("/kv/default", b"v", &[]), 400, "invalid_argument"),
        (web.put("/v1/status", b"v", &[]), 405, "invalid_argument"),
        (web.get("/nothing", &[]), 404, "not_found"),
        // Above the bucket's limit, and above any.
        (
            web.put("/kv/default/k", &vec![7; (1 << 20) + 1], &[]),
            400,
            "invalid_argument",
        ),
    ] {
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{answer:?}"
        );
    }
    let token = &web.token;
    let big = format!(
        "PUT /kv/default/k HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 999999999999\r\n\r\n"
    );
    assert_eq!(web.raw(big.as_bytes()).status, 413);
    let chunk = vec![b'x'; 1 << 20];
    let mut chunked = format!(
        "PUT /kv/default/k HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..5 {
        chunked.extend(b"100000\r\n");
        chunked.extend(&chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(web.raw(&chunked).status, 413);
    let headers = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    assert_eq!(web.raw(headers.as_bytes()).status, 431);
    assert_eq!(
        web.get("/kv/default/k", &[]).status,
        404,
        "nothing was applied"
    );
}

#[test]
fn a_kill_is_seen_in_events_status_health_and_metrics() {
    let dev = Dev::start();
    let web = Web::of(&dev, 1);
    web.put("/kv/default/k", b"v", &[]);
    let mut events = web.events();
    dev.node("kill", 3);
    let down = events.until(|event| event["kind"] == "membership" && event["state"] == "down");
    assert_eq!(
        (&down["node"], &down["seen_by"]),
        (&json!("n3"), &json!("n1"))
    );
    let kept = web.get("/v1/events", &[]).json();
    assert!(kept["events"].as_array().unwrap().contains(&down));

    let status = web.get("/v1/status", &[]).json();
    let nodes = status["nodes"].as_array().unwrap();
    let seen: Vec<_> = nodes
        .iter()
        .map(|node| node["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        (seen, &status["answered_by"]),
        (vec!["up", "up", "down"], &json!("n1"))
    );
    assert_eq!(web.get("/health/ready", &[]).status, 200);
    assert_eq!(
        web.get("/v1/ring", &[]).json()["partitions"]
            .as_array()
            .unwrap()
            .len(),
        256
    );
    let explained = web.get("/v1/explain/default/k", &[]).json();
    assert_eq!(explained["replicas"].as_array().unwrap().len(), 3);
    assert_eq!(
        web.get("/v1/buckets", &[]).json()["buckets"][0]["name"],
        "default"
    );

    // Two of three are no quorum of three, and nothing was applied.
    let put = web.put("/kv/default/k?w=3", b"w", &[]);
    assert_eq!((put.status, put.code()), (503, "unavailable".to_owned()));
    assert!(put.header("retry-after").is_some());
    let samples = web.metrics();
    assert!(1.0 <= samples["quorate_members{state=\"down\"}"]);
    assert!(1_000_000.0 < samples["process_resident_memory_bytes"]);
    // Founded, and perhaps who speaks for each member has been agreed on.
    assert!(1.0 <= samples["quorate_ring_version"]);
    let puts = "quorate_requests_total{op=\"put\",outcome=";
    assert!(1.0 <= samples[&format!("{puts}\"ok\"}}")]);
    assert!(1.0 <= samples[&format!("{puts}\"unavailable\"}}")]);
    dev.node("start", 3);
    events.until(|event| event["node"] == "n3" && event["state"] == "up");
}

#[test]
fn the_dashboard_comes_from_the_binary_and_runs_nothing_else() {
    let dev = Dev::start();
    let web = Web::of(&dev, 1).without_token();
    let page = web.get("/", &[]);
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let html = String::from_utf8(page.body).unwrap();
    let quoted = html.split('"');
    for path in quoted.filter(|text| text.starts_with("/dashboard/")) {
        assert_eq!(web.get(path, &[]).status, 200, "{path}");
    }
}

#[test]
fn each_operation_of_a_batch_has_its_own_outcome() {
    let dev = Dev::start();
    let web = Web::of(&dev, 1);
    let ask = |operations: Value| {
        let body = json!({ "operations": operations }).to_string();
        let answer = web.post("/kv/_batch", body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["results"].as_array().unwrap().clone()
    };
    let results = ask(json!([
        { "op": "put", "bucket": "default", "key": "a", "value": "1", "op_id": "07".repeat(16) },
        { "op": "put", "bucket": "default", "key_base64": "//8=", "value_base64": "AP8=" },
        { "op": "put", "bucket": "nowhere", "key": "a", "value": "1" },
        { "op": "put", "bucket": "default", "value": "1" },
        { "op": "get", "bucket": "default", "key": "absent" },
    ]));
    let statuses: Vec<_> = results.iter().map(|one| one["status"].clone()).collect();
    assert_eq!(statuses, [200, 200, 404, 400, 404]);
    assert_eq!(results[0]["op_id"], "07".repeat(16));
    assert_eq!(results[1]["op_id"].as_str().unwrap().len(), 32);
    assert_eq!(results[2]["error"]["code"], "unknown_bucket");
    let context = results[0]["context"].clone();
    let results = ask(json!([
        { "op": "get", "bucket": "default", "key": "a" },
        { "op": "get", "bucket": "default", "key_base64": "//8=" },
        // The same operation once more changes nothing.
        { "op": "put", "bucket": "default", "key": "a", "value": "1", "op_id": "07".repeat(16) },
    ]));
    assert_eq!(results[0]["siblings"][0]["value"], "1");
    assert_eq!(results[1]["siblings"][0]["value_base64"], "AP8=");
    assert_eq!(results[2]["status"], 200);
    let results = ask(json!([
        { "op": "delete", "bucket": "default", "key": "a", "context": context },
    ]));
    assert_eq!(results[0]["status"], 200);
    assert_eq!(web.get("/kv/default/a", &[]).status, 404);

    let many = |count: usize| {
        let get = json!({ "op": "get", "bucket": "default", "key": "a" });
        let body = json!({ "operations": vec![get; count] }).to_string();
        web.post("/kv/_batch", body.as_bytes())
    };
    assert_eq!(many(1000).json()["results"].as_array().unwrap().len(), 1000);
    assert_eq!(many(1001).status, 400);
    assert_eq!(web.post("/kv/_batch", b"{").status, 400);
    let body = br#"{"operations":[]}"#;
    assert_eq!(web.without_token().post("/kv/_batch", body).status, 401);
}

#[test]
fn a_token_is_taken_back_and_certificates_are_read_again_at_sighup() {
    let dev = Dev::start();
    let made = dev.ok(&["tls", "token", "--ca", "quorate-dev/ca", "--role", "write"]);
    let (token, id) = (&made.json["token"], made.json["id"].as_str().unwrap());
    let web = Web::of(&dev, 1);
    let other = web.with_token(token.as_str().unwrap());
    assert_eq!(other.put("/kv/default/k", b"v", &[]).status, 200);

    let file = dev.path("node1/node.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let pid = std::fs::read_to_string(dev.path("node1/node.pid")).unwrap();
    let hang_up = || {
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args(["-HUP", pid.trim()]).status().unwrap().success());
    };
    let until = |what: &dyn Fn() -> bool| {
        let limit = std::time::Instant::now() + std::time::Duration::from_mins(1);
        while !what() {
            assert!(std::time::Instant::now() < limit, "it does not happen");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    let log = || std::fs::read_to_string(dev.path("node1/node.log")).unwrap();
    // What makes no sense changes nothing, and ends nothing.
    std::fs::write(&file, format!("revoked_tokens = [\"x\"]\n{text}")).unwrap();
    hang_up();
    until(&|| log().contains("nothing was read again"));
    assert_eq!(other.put("/kv/default/j", b"v", &[]).status, 200);

    std::fs::write(&file, format!("revoked_tokens = [\"{id}\"]\n{text}")).unwrap();
    hang_up();
    until(&|| log().contains("were read again"));
    let refused = other.put("/kv/default/k", b"v", &[]);
    assert_eq!((refused.status, refused.code()), (401, "denied".to_owned()));
    assert_eq!(web.get("/kv/default/k", &[]).status, 200);
    assert_eq!(dev.ok(&["get", "default", "k"]).json["found"], true);
}
