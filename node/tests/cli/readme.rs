//! What the README tells people to type does what the README shows.
//!
//! Blocks of `console` are run line by line against a cluster: `…` in what is shown stands for
//! anything, lines that are not shown may be there, and CONTEXT is the one of the last get.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::dev::{Dev, free_ports};

const README: &str = include_str!("../../../README.md");

/// A command, and the lines that are to be seen.
type Step<'a> = (String, Vec<&'a str>);

fn steps(block: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in block.lines() {
        let more = line.strip_prefix("> ");
        match (line.strip_prefix("$ "), more, steps.last_mut()) {
            (Some(command), ..) => steps.push((command.to_owned(), Vec::new())),
            (None, Some(more), Some((command, _))) => {
                command.push('\n');
                command.push_str(more);
            }
            (None, None, Some((_, shown))) => shown.push(line),
            (None, _, None) => panic!("{line:?} is no command"),
        }
    }
    steps
}

/// True if `text` is `shown` with something in place of each `…`.
fn looks_like(text: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut open = false;
    for part in parts {
        open = part.is_empty();
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    open || rest.is_empty()
}

fn shell(dir: &Path, profile: Option<&str>, line: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_quorate"));
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(dir).env(
        "PATH",
        format!("{}:{path}", program.parent().unwrap().display()),
    );
    match profile {
        Some(profile) => command.env("QUORATE_PROFILE", profile),
        None => command.env_remove("QUORATE_PROFILE"),
    };
    command.output().unwrap()
}

/// The commands of a chapter, and what they show.
fn story(chapter: &str) -> Vec<Step<'static>> {
    let section = README.split(&format!("\n## {chapter}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```console\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let steps: Vec<Step<'_>> = blocks.flat_map(steps).collect();
    assert!(5 < steps.len(), "{steps:?}");
    steps
}

/// What later commands of a story take from the answers of earlier ones.
fn take<'a>(said: &'a str, before: &str) -> Option<&'a str> {
    let line = said.lines().find_map(|line| line.split(before).nth(1))?;
    line.split_whitespace().next()
}

/// Does what a story says; `place` makes its ports free ones.
fn act(dir: &Path, profile: Option<&str>, story: &[Step<'_>], place: impl Fn(&str) -> String) {
    let (mut context, mut digest) = (String::new(), String::new());
    let mut profile = profile.map(str::to_owned);
    for (command, shown) in story {
        if let Some(path) = command.strip_prefix("export QUORATE_PROFILE=") {
            profile = Some(path.to_owned());
            continue;
        }
        let command = place(command).replace("CONTEXT", &context);
        let output = shell(dir, profile.as_deref(), &command.replace("DIGEST", &digest));
        let said = String::from_utf8(output.stdout).unwrap();
        let noted = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {said}{noted}");
        if command.starts_with("quorate get")
            && let Some(found) = take(&said, "context ")
        {
            found.clone_into(&mut context);
        }
        if let Some(found) = take(&said, "ring commit ") {
            found.clone_into(&mut digest);
        }
        let mut lines = said.lines();
        for expected in shown {
            let expected = expected.replace("DIGEST", &digest);
            assert!(
                lines.any(|line| looks_like(line, &expected)),
                "{command} does not show {expected:?}:\n{said}"
            );
        }
    }
}

#[test]
fn the_story_in_the_readme_is_true() {
    let dev = Dev::start();
    act(dev.dir.path(), None, &story("Five minutes"), str::to_owned);
    act(
        dev.dir.path(),
        None,
        &story("Change the ring"),
        str::to_owned,
    );
}

/// Ends what a story that broke off has left running.
struct Killer<'a>(&'a Path);

impl Drop for Killer<'_> {
    fn drop(&mut self) {
        shell(self.0, None, "kill -9 $(cat n?/pid)");
    }
}

#[test]
fn a_cluster_is_set_up_as_the_readme_says() {
    let base = std::iter::repeat_with(free_ports).find(|base| base % 10 == 0);
    let base = base.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let _killer = Killer(dir.path());
    let place = |command: &str| {
        let quic = format!("127.0.0.1:{}", base / 10);
        let http = format!("127.0.0.1:{}", (base + 500) / 10);
        command
            .replace("127.0.0.1:750", &quic)
            .replace("127.0.0.1:850", &http)
    };
    act(dir.path(), None, &story("A cluster of your own"), place);
}

/// The commands for curl, each after the variables that it needs.
fn curls() -> Vec<String> {
    let section = README.split("\n## HTTP").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("    "));
    let (curls, variables): (Vec<&str>, Vec<&str>) =
        lines.partition(|line| line.starts_with("curl "));
    // A stream of events never ends.
    let curls = curls
        .into_iter()
        .filter(|line| !line.starts_with("curl -N"));
    curls
        .map(|curl| format!("{}\n{curl}", variables.join("\n")))
        .collect()
}

#[test]
fn the_commands_for_curl_in_the_readme_are_answered_as_it_says() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("there is no curl here");
        return;
    }
    let dev = Dev::start();
    let mut context = String::new();
    let commands = curls();
    assert!(5 < commands.len(), "{commands:?}");
    for command in commands {
        let http = format!("127.0.0.1:{}", dev.base + 500);
        let command = command.replace("127.0.0.1:8400", &http);
        let output = shell(dev.dir.path(), None, &command.replace("CONTEXT", &context));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{command}: {said}");
        let status = said.lines().next().unwrap_or_default();
        if let Some(code) = command.split("# ").nth(1).and_then(|text| text.get(..3))
            && code.chars().all(|c| c.is_ascii_digit())
        {
            assert!(status.contains(code), "{command}: {said}");
        } else if command.contains("curl -i") {
            assert!(status.starts_with("HTTP/1.1 2"), "{command}: {said}");
        }
        let header = said
            .lines()
            .find_map(|line| line.strip_prefix("x-quorate-context: "));
        if let Some(found) = header {
            found.trim().clone_into(&mut context);
        }
    }
}

#[test]
fn an_ellipsis_is_anything() {
    assert!(looks_like("abc", "a…c") && looks_like("abc", "…") && looks_like("abc", "ab…"));
    assert!(!looks_like("abc", "a…b") && !looks_like("abc", "b…") && !looks_like("abc", "ab"));
}
