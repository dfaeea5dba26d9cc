//! What the README tells people to type does what the README shows.
//!
//! Blocks of `console` are run line by line against a cluster: `…` in what is shown stands for
//! anything, lines that are not shown may be there, and CONTEXT is the one of the last get.

use std::process::{Command, Output};

use crate::dev::Dev;

const README: &str = include_str!("../../../README.md");

/// A command, and the lines that are to be seen.
type Step<'a> = (&'a str, Vec<&'a str>);

fn steps(block: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command, Vec::new())),
            (None, Some((_, shown))) => shown.push(line),
            (None, None) => panic!("{line:?} is no command"),
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

fn shell(dev: &Dev, line: &str) -> Output {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_quorate"));
    let path = std::env::var("PATH").unwrap();
    Command::new("bash")
        .args(["-c", line])
        .current_dir(&dev.dir)
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        )
        .env_remove("QUORATE_PROFILE")
        .output()
        .unwrap()
}

#[test]
fn the_story_in_the_readme_is_true() {
    let section = README.split("## Five minutes").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```console\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let steps: Vec<Step<'_>> = blocks.flat_map(steps).collect();
    assert!(10 < steps.len(), "{steps:?}");

    let dev = Dev::start();
    let mut context = String::new();
    for (command, shown) in steps {
        let output = shell(&dev, &command.replace("CONTEXT", &context));
        let said = String::from_utf8(output.stdout).unwrap();
        let noted = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {said}{noted}");
        let mut lines = said.lines();
        for expected in shown {
            assert!(
                lines.any(|line| looks_like(line, expected)),
                "{command} does not show {expected:?}:\n{said}"
            );
        }
        if command.starts_with("quorate get")
            && let Some(line) = said.lines().find_map(|line| line.strip_prefix("context "))
        {
            line.clone_into(&mut context);
        }
    }
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
        let output = shell(&dev, &command.replace("CONTEXT", &context));
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
