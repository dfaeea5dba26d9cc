//! Checks on the source that no compiler makes: sizes, module docs, and who may name whom.
//!
//! They walk the whole workspace. The rules about imports are the architecture's: only the shell
//! and what starts it may know sockets, files, threads or the time.

#![allow(
    clippy::unwrap_used,
    reason = "a source tree that cannot be read fails the test, as it should"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

/// What belongs to the outside world.
const OUTSIDE: [&str; 9] = [
    "tokio",
    "quinn",
    "std::fs",
    "std::net::Udp",
    "std::net::Tcp",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "rand::rng()",
];

/// Where the outside world may be named.
const SHELL: [&str; 8] = [
    "node/src/shell/",
    "node/src/shell.rs",
    "node/src/cli/",
    "node/src/cli.rs",
    "node/src/main.rs",
    "node/src/store/fjall",
    // The engine's thread and its measurements; built with the shell only.
    "node/src/store/drain.rs",
    "node/src/store/probe.rs",
];

/// Crates, or parts of crates, that are pure.
const PURE: [&str; 4] = ["ring/src/", "gossip/src/", "node/src/", "client/src/wire/"];

struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("the workspace is above")
        .to_owned()
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for part in ["ring", "gossip", "client", "node", "tests", "benches"] {
        collect(&root().join(part), &mut found);
    }
    assert!(found.len() > 20, "the workspace has sources");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap();
            found.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
}

fn check(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn files_and_lines_are_short() {
    let mut complaints = Vec::new();
    for Source { path, text } in sources() {
        let lines = text.lines().count();
        if FILE_LINES_MAX < lines {
            complaints.push(format!("{path} has {lines} lines"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            let chars = line.chars().count();
            if LINE_CHARS_MAX < chars {
                complaints.push(format!("{path}:{number} has {chars} characters"));
            }
        }
    }
    check(&complaints);
}

/// Where a formatted function ends: at the first line that closes its own indentation.
fn function_lines(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    let trimmed = first.trim_start();
    let is_function = trimmed.starts_with("fn ")
        || ["pub ", "pub(", "const fn", "async fn"]
            .iter()
            .any(|start| trimmed.starts_with(start) && trimmed.contains("fn "));
    if !is_function || trimmed.ends_with(';') || trimmed.ends_with('}') {
        return None;
    }
    let indent = &first[..first.len() - trimmed.len()];
    let close = format!("{indent}}}");
    lines
        .iter()
        .position(|line| *line == close)
        .map(|end| end + 1)
}

#[test]
fn functions_are_short() {
    let mut complaints = Vec::new();
    for Source { path, text } in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for start in 0..lines.len() {
            if let Some(count) = function_lines(&lines[start..])
                && FUNCTION_LINES_MAX + 4 < count
            {
                complaints.push(format!("{path}:{}: a function of {count} lines", start + 1));
            }
        }
    }
    check(&complaints);
}

#[test]
fn every_file_says_what_it_decides() {
    let silent = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| format!("{} does not begin with module docs", source.path))
        .collect::<Vec<_>>();
    check(&silent);
}

#[test]
fn only_the_shell_knows_the_outside_world() {
    let mut complaints = Vec::new();
    for Source { path, text } in sources() {
        let is_pure = PURE.iter().any(|part| path.starts_with(part))
            && !SHELL.iter().any(|part| path.starts_with(part));
        if !is_pure {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.trim_start();
            if code.starts_with("#[cfg(test)]") {
                break;
            }
            if code.starts_with("//") {
                continue;
            }
            for outside in OUTSIDE {
                if code.contains(outside) {
                    complaints.push(format!("{path}:{number} names {outside}"));
                }
            }
        }
    }
    check(&complaints);
}

#[test]
fn manifests_of_pure_crates_list_neither_tokio_nor_quinn() {
    for part in ["ring", "gossip"] {
        let manifest = fs::read_to_string(root().join(part).join("Cargo.toml")).unwrap();
        assert!(
            !manifest.contains("tokio") && !manifest.contains("quinn"),
            "{part}"
        );
    }
}

#[test]
fn the_measure_of_functions_sees_a_long_one() {
    let mut text = vec!["    pub fn long() {"];
    text.extend(std::iter::repeat_n("        step();", 80));
    text.push("    }");
    assert_eq!(function_lines(&text), Some(82));
    assert_eq!(function_lines(&["fn short();"]), None);
}
