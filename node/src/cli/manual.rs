//! What the program tells of itself: examples in every help text, a cheat sheet, man pages and
//! completions for shells.
//!
//! All of it comes from the one grammar that also parses, so that it cannot fall behind; a test
//! parses every example. What a command means is decided elsewhere.

use std::{fs, io, path::PathBuf};

use clap::{Command as Grammar, CommandFactory as _, Subcommand};
use serde_json::json;

use super::{
    Cli,
    output::{Failure, Out, note},
};

/// Commands about the commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Manual {
    /// Show an example of every command.
    Cheat,
    /// Print a script that completes commands in a shell.
    Completions {
        /// The shell that is to read it.
        shell: clap_complete::Shell,
    },
    /// Write a manual page for every command.
    Man {
        /// Directory for the pages; it is made if it is missing.
        dir: PathBuf,
    },
}

/// Every command with what a person would type.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "dev",
        &["dev", "dev --nodes 5 --zones 3 --fresh", "dev --detach"],
    ),
    ("dev add", &["dev add"]),
    ("dev stop", &["dev stop"]),
    ("dev node", &["dev node kill 2", "dev node start 2"]),
    (
        "put",
        &[
            "put default cart milk",
            "put default cart milk,eggs --context CONTEXT",
            "put default photo --file photo.jpg --w 3",
        ],
    ),
    (
        "get",
        &[
            "get default cart",
            "get default cart --value",
            "get default cart --r 3",
        ],
    ),
    (
        "delete",
        &["delete default cart", "delete default cart --blind"],
    ),
    (
        "keys",
        &["keys default", "keys default --prefix user: --limit 10"],
    ),
    ("explain", &["explain default cart"]),
    (
        "import",
        &[
            "import default users.jsonl --format jsonl --key id",
            "import default pairs.tsv --format tsv",
        ],
    ),
    ("export", &["export default", "export default --format tsv"]),
    ("shell", &["shell", "--node 127.0.0.1:7401 --pin shell"]),
    (
        "bucket create",
        &[
            "bucket create carts",
            "bucket create carts --n 5 --r 3 --w 3",
        ],
    ),
    ("bucket set", &["bucket set carts --r 1 --w 3"]),
    ("bucket show", &["bucket show carts"]),
    ("bucket list", &["bucket list", "bucket list --output json"]),
    ("bucket drop", &["bucket drop carts --yes"]),
    (
        "cluster status",
        &["cluster status", "cluster status --watch"],
    ),
    (
        "cluster check",
        &["cluster check --down n2", "cluster check --down n2,n3"],
    ),
    (
        "cluster wait-converged",
        &["cluster wait-converged --timeout 5m"],
    ),
    ("repair", &["repair --wait", "repair carts --wait"]),
    ("hints", &["hints", "hints --watch"]),
    ("verify", &["verify", "verify --output json"]),
    ("scrub", &["scrub --wait"]),
    ("drain", &["drain n2", "drain n2 --undo"]),
    (
        "salvage",
        &[
            "salvage n2",
            "salvage n2 default cart --restore",
            "salvage n2 --restore --all",
            "salvage n2 --discard --all",
        ],
    ),
    (
        "ring show",
        &[
            "ring show",
            "ring show --partition 7",
            "ring show --key default cart",
        ],
    ),
    (
        "ring stage join",
        &["ring stage join n4 --zone b --weight 2"],
    ),
    ("ring stage leave", &["ring stage leave n3"]),
    ("ring stage remove", &["ring stage remove n3 --dead"]),
    ("ring stage replace", &["ring stage replace n3 n4"]),
    ("ring stage weight", &["ring stage weight n1 2"]),
    ("ring stage zone", &["ring stage zone n2 b"]),
    ("ring stage resize", &["ring stage resize 128"]),
    ("ring plan", &["ring plan"]),
    (
        "ring commit",
        &["ring commit DIGEST", "ring commit --force CLUSTER DIGEST"],
    ),
    ("ring unstage", &["ring unstage"]),
    ("ring abort", &["ring abort"]),
    ("ring transfers", &["ring transfers --watch"]),
    ("ring wait", &["ring wait --timeout 1h"]),
    ("serve", &["serve --config node.toml"]),
    ("tls ca", &["tls ca --out pki"]),
    ("tls node", &["tls node --ca pki --host 10.0.0.1 --out n1"]),
    (
        "tls client",
        &["tls client --ca pki --role write --out app"],
    ),
    (
        "tls token",
        &["tls token --ca pki --role read --expires 30d"],
    ),
    ("cheat", &["cheat"]),
    (
        "completions",
        &["completions bash > ~/.local/share/bash-completion/completions/quorate"],
    ),
    ("man", &["man ~/.local/share/man/man1"]),
];

/// The grammar of the command line, with examples in every help text.
pub(crate) fn grammar() -> Grammar {
    with_examples(Cli::command(), "")
}

/// The command of that group that was likely meant, if one is near.
pub(crate) fn similar(group: &str, word: &str) -> Option<String> {
    let grammar = Cli::command();
    let inner = match group {
        "" => &grammar,
        group => grammar.find_subcommand(group)?,
    };
    let names = inner.get_subcommands().map(Grammar::get_name);
    let near = names.map(|name| (distance(name, word), name)).min()?;
    // A third of the letters may be wrong.
    (3 * near.0 <= word.len()).then(|| near.1.to_owned())
}

/// Letters to add, drop, change, or swap with the next one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if 1 < i && 1 < j && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

fn with_examples(grammar: Grammar, path: &str) -> Grammar {
    let known = EXAMPLES.iter().find(|(name, _)| *name == path);
    let grammar = match known {
        Some((_, lines)) => {
            let lines: Vec<String> = lines
                .iter()
                .map(|text| format!("  quorate {text}"))
                .collect();
            grammar.after_help(format!("Examples:\n{}", lines.join("\n")))
        }
        None => grammar,
    };
    grammar.mut_subcommands(|inner| {
        let path = format!("{path} {}", inner.get_name());
        with_examples(inner, path.trim_start())
    })
}

impl Manual {
    pub(crate) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Cheat => cheat(out),
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut grammar(), "quorate", &mut script);
                out.bytes(&script)
            }
            Self::Man { dir } => {
                fs::create_dir_all(dir).map_err(|error| unwritten(dir, &error))?;
                let written = clap_mangen::generate_to(grammar(), dir);
                written.map_err(|error| unwritten(dir, &error))?;
                note(&format!(
                    "wrote the manual to {0}; man {0}/quorate.1 shows the first page",
                    dir.display()
                ));
                Ok(())
            }
        }
    }
}

fn unwritten(dir: &std::path::Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot write to {}: {error}", dir.display()))
}

/// One example a line, beside what its command does.
fn cheat(out: &mut Out) -> Result<(), Failure> {
    let grammar = grammar();
    out.begin_items();
    for &(name, lines) in EXAMPLES {
        let command = name
            .split(' ')
            .try_fold(&grammar, |outer, word| outer.find_subcommand(word));
        let about = command.and_then(Grammar::get_about);
        let about = about.map(ToString::to_string).unwrap_or_default();
        for text in lines {
            out.item(
                || json!({ "command": name, "example": format!("quorate {text}"), "about": about }),
                || format!("{about}\n    quorate {text}"),
            )?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    /// Everything that README and chapters tell people to type.
    fn told() -> Vec<String> {
        let texts = [
            include_str!("../../../README.md"),
            include_str!("../docs/operations.md"),
            include_str!("../docs/consistency.md"),
        ];
        let lines = texts.iter().flat_map(|text| text.lines());
        let commands = lines.filter_map(|line| {
            let typed = line.trim_start().trim_start_matches("$ ");
            let is_code = line.starts_with("    ") || line.starts_with("$ ");
            let in_chapter = line.starts_with("quorate ");
            (typed.starts_with("quorate ") && (is_code || in_chapter)).then_some(typed)
        });
        let ends = [" #", " >", " |", " &", ";", " \\"];
        let whole = commands.map(|text| {
            let end = ends.iter().filter_map(|end| text.find(end)).min();
            text[..end.unwrap_or(text.len())].to_owned()
        });
        whole.collect()
    }

    #[test]
    fn every_command_that_people_are_told_to_type_is_understood() {
        let told = told();
        assert!(30 < told.len(), "{told:?}");
        for text in told {
            let words = shlex::split(&text).unwrap();
            let cli = Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert!(cli.command.missing().is_none(), "{text}");
        }
    }

    #[test]
    fn a_misspelt_command_is_recognised() {
        assert_eq!(similar("", "exprot").as_deref(), Some("export"));
        assert_eq!(similar("", "dlete").as_deref(), Some("delete"));
        assert_eq!(similar("ring", "comit").as_deref(), Some("commit"));
        assert_eq!(similar("", "frobnicate"), None);
        assert_eq!(similar("", ""), None);
    }

    fn leaves(grammar: &Grammar, path: &str, found: &mut Vec<String>) {
        let mut inner = grammar.get_subcommands().peekable();
        let group = inner.peek().is_some();
        for command in inner {
            leaves(
                command,
                format!("{path} {}", command.get_name()).trim_start(),
                found,
            );
        }
        if !group || !grammar.is_subcommand_required_set() {
            found.push(path.to_owned());
        }
    }

    #[test]
    fn every_command_has_an_example() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        found.retain(|path| !path.is_empty());
        assert!(40 < found.len(), "{found:?}");
        let mut with: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        found.sort();
        with.sort_unstable();
        assert_eq!(found, with);
    }

    #[test]
    fn every_example_is_understood_as_the_command_it_is_of() {
        for &(name, lines) in EXAMPLES {
            for text in lines {
                let text = text.split(" > ").next().unwrap();
                let words = std::iter::once("quorate").chain(text.split(' '));
                let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
                assert!(cli.command.missing().is_none(), "{text}");
                assert!(text.contains(name), "{text} is no example of {name}");
            }
        }
    }
}
