//! The dashboard in a real browser, over a real cluster.

#[path = "dashboard/browser.rs"]
mod browser;
#[expect(dead_code, reason = "the tests of the command line use more of it")]
#[path = "cli/dev.rs"]
mod dev;

use std::{path::Path, process::Command, thread::sleep, time::Duration};

use serde_json::json;

use browser::Browser;
use dev::Dev;

const MANY: &str = "document.querySelectorAll";

/// The address of a node's page.
fn page(dev: &Dev, number: u16) -> String {
    format!("http://127.0.0.1:{}/", dev.base + 500 + number - 1)
}

/// The page of the first node, with a token.
fn open(dev: &Dev, browser: &mut Browser) {
    let token = std::fs::read_to_string(dev.path("http.token")).expect("`dev` leaves a token");
    browser.open(&format!("{}#token={}", page(dev, 1), token.trim()));
    browser.until("document.getElementById('summary').textContent === 'All 3 nodes up'");
}

fn text(browser: &mut Browser, id: &str) -> String {
    let text = browser.eval(&format!("document.getElementById('{id}').innerText"));
    text.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_kill_turns_the_page_and_a_start_turns_it_back() {
    let Some(mut browser) = Browser::start("a kill turns the page") else {
        return;
    };
    let dev = Dev::start();
    open(&dev, &mut browser);
    assert_eq!(
        browser.eval("location.hash"),
        json!(""),
        "the token is gone from the address"
    );
    let arcs = browser.eval(&format!("{MANY}('#ring .arc').length"));
    assert_eq!(arcs, json!(3 * 256));
    assert_eq!(
        browser.eval(&format!("{MANY}('#ring .arc.down').length")),
        json!(0)
    );

    dev.node("kill", 3);
    browser.until("document.getElementById('summary').textContent === '2 of 3 nodes up'");
    browser.until(&format!("{MANY}('#ring .arc.down').length === 256"));
    browser.until("document.querySelector('#nodes .node.down').innerText.includes('n3')");
    browser.until("document.getElementById('events').innerText.includes('n3 is down')");
    let notices = text(&mut browser, "notices");
    assert!(notices.contains("n3 is down") && notices.contains("quorate ring stage remove n3"));
    assert!(
        browser
            .eval("document.title")
            .as_str()
            .unwrap()
            .starts_with("2/3 up")
    );

    dev.node("start", 3);
    browser.until("document.getElementById('summary').textContent === 'All 3 nodes up'");
    browser.until("document.getElementById('notices').innerText === ''");

    // The node that serves the page goes: it says so, and keeps showing what it knew.
    dev.node("kill", 1);
    browser.until("document.getElementById('summary').textContent === 'n1 does not answer'");
    assert!(text(&mut browser, "notices").contains("What you see is from"));
    assert_eq!(
        browser.eval(&format!("{MANY}('#nodes .node').length")),
        json!(3)
    );
    dev.node("start", 1);
    browser.until("document.getElementById('summary').textContent === 'All 3 nodes up'");
    assert_eq!(browser.faults(), Vec::<String>::new());
}

#[test]
fn what_a_node_has_set_aside_is_shown_with_the_command_that_lists_it() {
    let Some(mut browser) = Browser::start("what is set aside is shown") else {
        return;
    };
    let dev = Dev::start();
    // A directory begins a new life every two seconds in which it was written to, and the others
    // hear of it.
    let known = || sleep(Duration::from_secs(5));
    dev.ok(&["put", "default", "k", "first"]);
    known();
    let (data, saved) = (dev.path("node3/data"), dev.path("saved"));
    copy(&data, &saved);
    dev.ok(&["put", "default", "l", "second"]);
    known();
    dev.node("kill", 3);
    std::fs::remove_dir_all(&data).expect("it can be removed");
    copy(&saved, &data);
    dev.node("start", 3);
    open(&dev, &mut browser);
    browser.until("document.getElementById('nodes').innerText.includes('1 record set aside')");
    browser.until("document.getElementById('notices').innerText.includes('quorate salvage n3')");
    assert_eq!(browser.faults(), Vec::<String>::new());
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()), "it is copied");
}

#[test]
fn a_typed_key_shows_its_path_to_eyes_and_ears() {
    let Some(mut browser) = Browser::start("a typed key shows its path") else {
        return;
    };
    let dev = Dev::start();
    for value in ["one", "another"] {
        dev.ok(&["put", "default", "a/b c", value]);
    }
    open(&dev, &mut browser);
    browser.press("/");
    browser.type_text("a/b c");
    browser.press("Enter");
    browser.until(&format!("{MANY}('#path .stop').length === 3"));
    let shown = text(&mut browser, "path");
    let place = dev.ok(&["ring", "show", "--key", "default", "a/b c"]).json;
    assert!(shown.contains(place["token"].as_str().unwrap()), "{shown}");
    assert!(shown.contains("2 siblings"), "{shown}");
    let order = browser.eval(&format!(
        "[...{MANY}('#path .stop h3')].map((stop) => stop.childNodes[1].textContent)"
    ));
    assert_eq!(order, place["replicas"]);
    assert_eq!(
        browser.eval(&format!("{MANY}('#ring circle.token').length")),
        json!(1)
    );

    // A key that nobody has written has a place all the same.
    browser.eval("document.getElementById('key').select()");
    browser.type_text("nobody");
    browser.press("Enter");
    browser.until("document.getElementById('path').innerText.includes('nobody has written')");

    // Partitions are reached with keys, and read aloud.
    browser.eval("document.getElementById('ring').focus()");
    browser.press("End");
    let spoken = "document.getElementById('ring').getAttribute('aria-valuetext')";
    browser.until(&format!("{spoken}.startsWith('partition 255 of 256: n')"));
    browser.press("ArrowRight");
    browser.until(&format!("{spoken}.startsWith('partition 0 of 256: n')"));
    for (role, name) in browser.roles() {
        let used = [
            "button", "textbox", "combobox", "slider", "image", "meter", "table", "log",
        ];
        assert!(
            !used.contains(&role.as_str()) || !name.is_empty() || role == "table",
            "{role}"
        );
    }

    // A telephone scrolls down, never sideways.
    browser.resize(400, 800);
    browser.until("innerWidth === 400");
    let root = "document.documentElement";
    browser.until(&format!("{root}.scrollWidth <= {root}.clientWidth"));
    assert_eq!(browser.faults(), Vec::<String>::new());
}

#[test]
fn a_page_without_a_good_token_asks_for_one_and_says_what_was_wrong() {
    let Some(mut browser) = Browser::start("a page asks for a token") else {
        return;
    };
    let dev = Dev::start();
    let visible = "getComputedStyle(document.getElementById('ask-token')).display !== 'none'";
    browser.open(&page(&dev, 2));
    browser.until(visible);
    assert_eq!(text(&mut browser, "token-why"), "");
    assert_eq!(
        browser.eval("document.getElementById('main').hidden"),
        json!(true)
    );
    let make = |args: &[&str]| {
        let ca = ["tls", "token", "--ca", "quorate-dev/ca"];
        let made = dev.ok(&[&ca[..], args].concat());
        made.json["token"].as_str().unwrap().to_owned()
    };
    let late = make(&["--role", "read", "--expires", "0s"]);
    browser.type_text(&late);
    browser.press("Enter");
    browser.until("document.getElementById('token-why').textContent.includes('expired')");
    browser.type_text("quorate1.nonsense");
    browser.press("Enter");
    browser.until("document.getElementById('token-why').textContent.includes('no token of this')");
    // Reading is all that the page does.
    browser.type_text(&make(&["--role", "read"]));
    browser.press("Enter");
    browser.until("document.getElementById('summary').textContent === 'All 3 nodes up'");
    browser.until("document.getElementById('sync').textContent !== ''");
    assert_eq!(browser.eval(visible), json!(false));
    assert_eq!(browser.faults(), Vec::<String>::new());
}

#[test]
fn a_change_of_the_ring_is_followed_from_stage_to_end() {
    let Some(mut browser) = Browser::start("a change of the ring is followed") else {
        return;
    };
    let dev = Dev::start();
    open(&dev, &mut browser);
    dev.ok(&["dev", "add", "--dir", "quorate-dev"]);
    browser.until("document.getElementById('notices').innerText.includes('ring stage join n4')");
    dev.ok(&["ring", "stage", "join", "n4"]);
    let digest = dev.ok(&["ring", "plan"]).json["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let change = "document.getElementById('change').innerText";
    browser.until(&format!(
        "{change}.includes('quorate ring commit {digest}')"
    ));
    assert!(text(&mut browser, "change").contains("n4"));
    dev.ok(&["ring", "commit", &digest]);
    dev.ok(&["ring", "wait"]);
    browser.until("document.getElementById('events').innerText.includes('is moving')");
    browser.until("document.querySelector('#ring .arc[data-node=n4]')");
    browser.until(&format!("{change}.includes('Nothing is staged')"));
    browser.until("document.getElementById('facts').innerText.includes('stable')");
    assert_eq!(
        browser.eval(&format!("{MANY}('#ring .moving').length")),
        json!(0)
    );
    assert_eq!(browser.faults(), Vec::<String>::new());
}
