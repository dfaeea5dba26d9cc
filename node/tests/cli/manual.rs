//! What the program tells of itself, without any cluster.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

/// What the program says to `args`, when all is well.
fn said(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_manual_and_the_completions_know_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    said(&["man", pages.to_str().unwrap()]);
    let page = fs::read_to_string(pages.join("quorate-ring-stage-join.1")).unwrap();
    assert!(page.contains("quorate ring stage join n4"), "{page}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = said(&["completions", shell]);
        assert!(script.contains("wait-converged"), "{shell}: {script}");
    }
    let cheat = said(&["cheat"]);
    assert!(cheat.contains("quorate put default cart milk"), "{cheat}");
    let help = said(&["get", "--help"]);
    assert!(
        help.contains("Examples:\n  quorate get default cart\n"),
        "{help}"
    );
}

#[test]
fn a_manual_that_cannot_be_written_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = command.arg("man").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn who_reads_no_further_ends_the_program_quietly() {
    // More than a pipe holds, and a reader that takes one line.
    let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn a_newcomer_is_told_what_to_do_next() {
    let dir = tempfile::tempdir().unwrap();
    for (args, advice) in [
        (
            &["get", "default", "k"][..],
            "`quorate dev` starts a cluster",
        ),
        (&["dlete", "default", "k"], "did you mean `delete`?"),
        (&["ring", "comit", "x"], "did you mean `ring commit`?"),
        (
            &["dev", "node", "kill", "2"],
            "there is no dev cluster in quorate-dev",
        ),
        (
            &["tls", "node", "--ca", "none", "--host", "h", "--out", "o"],
            "`quorate tls ca` makes an authority",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(args)
            .current_dir(&dir)
            .env("XDG_CONFIG_HOME", dir.path())
            .env_remove("QUORATE_PROFILE")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(advice), "{args:?}: {said}");
    }
}
