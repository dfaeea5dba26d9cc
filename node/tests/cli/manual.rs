//! What the program tells of itself, without any cluster.

use std::{fs, process::Command};

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
