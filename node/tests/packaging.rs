//! Unit, package and container name options, paths, users and ports that exist, and the same ones.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails, and one of files reads them"
)]

use std::{collections::BTreeMap, path::Path, process::Command};

use quorate_node::config::NodeConfig;

const UNIT: &str = include_str!("../packaging/quorate.service");
const CONTAINER: &str = include_str!("../packaging/Containerfile");
const POSTINST: &str = include_str!("../packaging/debian/postinst");
const BUILD_DEB: &str = include_str!("../packaging/build-deb");
const EXAMPLE: &str = include_str!("../packaging/node.toml");
const MANIFEST: &str = include_str!("../Cargo.toml");
const WORKSPACE: &str = include_str!("../../Cargo.toml");
const OPERATIONS: &str = include_str!("../src/docs/operations.md");

/// Where a packaged node finds what the operator decides.
const CONFIG: &str = "/etc/quorate/node.toml";

/// The last value of each directive of the unit.
fn unit() -> BTreeMap<&'static str, &'static str> {
    let lines = UNIT.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).collect()
}

fn help(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every long option among the words is one that `command` has.
fn check_options(command: &str, words: &[&str]) {
    let help = help(&[command, "--help"]);
    let options: Vec<&&str> = words.iter().filter(|word| word.starts_with("--")).collect();
    assert!(!options.is_empty());
    for option in options {
        assert!(
            help.contains(&format!("{option} ")),
            "{command} has no {option}"
        );
    }
}

fn deb() -> toml::Table {
    let manifest: toml::Table = toml::from_str(MANIFEST).unwrap();
    manifest["package"]["metadata"]["deb"]
        .as_table()
        .unwrap()
        .clone()
}

#[test]
fn the_unit_starts_what_the_package_installs() {
    let unit = unit();
    let words: Vec<&str> = unit["ExecStart"].split(' ').collect();
    let [binary, command, ..] = words[..] else {
        panic!("{words:?}");
    };
    check_options(command, &words);
    assert_eq!(words.last(), Some(&CONFIG));
    assert_eq!(unit["ConditionPathExists"], CONFIG);
    let installed = deb();
    let installed = installed["assets"].as_array().unwrap()[0]
        .as_array()
        .unwrap();
    assert_eq!(
        binary,
        format!("/{}quorate", installed[1].as_str().unwrap())
    );
    assert_eq!(
        unit["RestartPreventExitStatus"], "2",
        "the exit code of a bad configuration"
    );
    let mut bad = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let status = bad
        .args([command, "--config", "/nowhere/node.toml"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn data_users_and_ports_are_the_same_everywhere() {
    let unit = unit();
    let user = unit["User"];
    assert_eq!(unit["Group"], user);
    assert!(POSTINST.contains(&format!("getent passwd {user}")));
    let state = format!("/var/lib/{}", unit["StateDirectory"]);
    assert!(POSTINST.contains(&format!("--home {state} {user}")));
    assert!(CONTAINER.contains(&format!("VOLUME {state}\n")));

    let config = NodeConfig::parse(EXAMPLE, Path::new(CONFIG).parent().unwrap()).unwrap();
    config.validate().unwrap();
    assert_eq!(config.data_dir, Path::new(&state));
    assert!(
        config
            .tls
            .key
            .starts_with(format!("/etc/{}", unit["ConfigurationDirectory"]))
    );
    let port = |address: &str| address.rsplit_once(':').unwrap().1.to_owned();
    let (quic, http) = (port(&config.listen), port(&config.http));
    assert!(CONTAINER.contains(&format!("EXPOSE {quic}/udp {http}/tcp\n")));
    let defaults = help(&["dev", "--help"]);
    assert!(
        defaults.contains(&format!("{quic} if not given")),
        "{defaults}"
    );
}

#[test]
fn the_configuration_in_the_chapter_works() {
    let text = OPERATIONS.split("```toml\n").nth(1).unwrap();
    let text = text.split("```").next().unwrap();
    let config = NodeConfig::parse(text, Path::new("/etc/quorate")).unwrap();
    config.validate().unwrap();
    let known = [
        "advertise = \"10.0.0.9:7400\"\ndurability = \"interval\"\ninterval_ms = 5\n",
        "disk_free_min = 1\n",
    ];
    let more = format!("{}{text}", known.concat());
    NodeConfig::parse(&more, Path::new("/etc/quorate"))
        .unwrap()
        .validate()
        .unwrap();
}

#[test]
fn the_container_builds_and_starts_what_there_is() {
    let line = |start: &str| {
        let line = CONTAINER.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("there is no {start}"))
            .to_owned()
    };
    let command = line("CMD ");
    let words: Vec<&str> = command.split('"').filter(|word| word.len() > 2).collect();
    check_options(words[1], &words);
    assert_eq!(words.last(), Some(&CONFIG));
    assert_eq!(line("ENTRYPOINT "), "ENTRYPOINT [\"/usr/bin/quorate\"]");
    let workspace: toml::Table = toml::from_str(WORKSPACE).unwrap();
    let rust = workspace["workspace"]["package"]["rust-version"]
        .as_str()
        .unwrap();
    assert!(line("FROM ").contains(&format!("rust:{rust}-")), "{rust}");
    assert!(
        workspace["profile"]
            .as_table()
            .unwrap()
            .contains_key("dist")
    );
    assert!(CONTAINER.contains("--profile dist") && BUILD_DEB.contains("profile=${1:-dist}"));
}

#[test]
fn the_package_takes_files_that_exist() {
    let deb = deb();
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    for asset in deb["assets"].as_array().unwrap() {
        let path = asset[0].as_str().unwrap();
        if let Some(made) = path.strip_prefix("target/release/") {
            // The package is made under its own name, and build-deb makes the rest.
            let dir = made.split('/').next().unwrap();
            assert!(
                dir == "quorate" || BUILD_DEB.contains(&format!("$out/{dir}")),
                "{path}"
            );
            continue;
        }
        let path = path.trim_end_matches("*.md");
        assert!(home.join(path).exists(), "{path}");
    }
    let unit = deb["systemd-units"].as_table().unwrap();
    let (dir, name) = (unit["unit-scripts"].as_str(), unit["unit-name"].as_str());
    let unit = format!("{}/{}.service", dir.unwrap(), name.unwrap());
    assert!(home.join(unit).exists());
    assert!(
        home.join(deb["maintainer-scripts"].as_str().unwrap())
            .join("postinst")
            .exists()
    );
    // What build-deb calls with.
    check_completions();
}

fn check_completions() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(BUILD_DEB.contains(shell) && MANIFEST.contains(&format!("quorate.{shell}")));
        assert!(help(&["completions", shell]).contains("quorate"));
    }
}
