//! Chromium without a window, told what to do through a pipe.
//!
//! Its protocol is JSON between zero bytes, on descriptors 3 and 4, so that it needs neither a port
//! nor a library. It is given an empty home of its own and kept off the network.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Only so that a broken test ends.
const LOOKS_MAX: u32 = 2_400;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
const OPTIONS: [&str; 11] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
];

/// One page.
pub(crate) struct Browser {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    number: u64,
    events: Vec<Value>,
    home: TempDir,
}

fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let places = env::split_paths(&path).flat_map(|dir| NAMES.map(|name| dir.join(name)));
    places.into_iter().find(|place| place.is_file())
}

impl Browser {
    /// None, and a word about it that is not swallowed, on a machine without Chromium.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some(chromium) = find() else {
            let mut out = std::io::stderr().lock();
            let _ = writeln!(out, "skipped {test}: there is no chromium in PATH");
            return None;
        };
        let home = tempfile::tempdir().expect("a home for the browser");
        // The shell puts the pipes where Chromium looks for them.
        let shell = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>\"$HOME/log\"";
        let mut process = Command::new("sh")
            .args(["-c", shell])
            .arg(chromium)
            .args(OPTIONS)
            .arg(format!("--user-data-dir={}", home.path().display()))
            .arg("about:blank")
            .env("HOME", home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromium starts");
        let input = process.stdin.take().expect("it was asked for");
        let output = BufReader::new(process.stdout.take().expect("it was asked for"));
        let mut browser = Self {
            process,
            input,
            output,
            session: None,
            number: 0,
            events: Vec::new(),
            home,
        };
        browser.attach();
        Some(browser)
    }

    fn attach(&mut self) {
        let made = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": made["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", target);
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Accessibility"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.resize(1280, 900);
    }

    fn receive(&mut self) -> Value {
        let mut bytes = Vec::new();
        let read = self.output.read_until(0, &mut bytes);
        if bytes.pop().is_none() {
            let log = std::fs::read_to_string(self.home.path().join("log"));
            panic!("chromium has gone ({read:?}): {}", log.unwrap_or_default());
        }
        serde_json::from_slice(&bytes).expect("chromium speaks JSON")
    }

    /// Asks for one thing; what happens meanwhile is kept.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let bytes = format!("{message}\0");
        let sent = self.input.write_all(bytes.as_bytes());
        sent.expect("chromium listens");
        loop {
            let mut answer = self.receive();
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    pub(crate) fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
    }

    /// What a script's expression is.
    pub(crate) fn eval(&mut self, script: &str) -> Value {
        let asked = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked);
        let failed = &answer["exceptionDetails"];
        assert!(failed.is_null(), "{script}: {failed}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true; one that fails, because something is not there, is not.
    pub(crate) fn until(&mut self, script: &str) {
        let careful = format!("(() => {{ try {{ return Boolean({script}) }} catch {{ }} }})()");
        for _ in 0..LOOKS_MAX {
            if self.eval(&careful) == json!(true) {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
        let text = self.eval("document.body.innerText");
        panic!("it never came to this: {script}\n{text:#}");
    }

    /// Types into whatever has the focus.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key that has a name, or one that writes itself.
    pub(crate) fn press(&mut self, key: &str) {
        let text = match key {
            "Enter" => "\r",
            _ if key.chars().count() == 1 => key,
            _ => "",
        };
        let codes = [
            ("Enter", 13),
            ("ArrowRight", 39),
            ("End", 35),
            ("Escape", 27),
        ];
        let code = codes.iter().find(|(name, _)| *name == key);
        let code = code.map_or(0, |(_, code)| *code);
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code,
            });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// What a screen reader is told that there is: (role, name).
    pub(crate) fn roles(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let text = |node: &Value, field: &str| {
            let value = node[field]["value"].as_str();
            value.unwrap_or_default().to_owned()
        };
        let nodes = tree["nodes"].as_array().expect("a tree has nodes");
        let shown = nodes.iter().filter(|node| node["ignored"] != json!(true));
        shown
            .map(|node| (text(node, "role"), text(node, "name")))
            .collect()
    }

    /// What went wrong in the page: exceptions, and whatever its policy refused. A node that does
    /// not answer is not the page's fault.
    pub(crate) fn faults(&self) -> Vec<String> {
        let wrong = self.events.iter().filter(|event| {
            let entry = &event["params"]["entry"];
            event["method"] == "Runtime.exceptionThrown"
                || event["method"] == "Log.entryAdded"
                    && entry["level"] == "error"
                    && entry["source"] != "network"
        });
        wrong.map(ToString::to_string).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its own children when it is told to end, which a kill would not.
        let close = json!({ "id": 0, "method": "Browser.close" });
        let told = self.input.write_all(format!("{close}\0").as_bytes());
        if told.is_err() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}
