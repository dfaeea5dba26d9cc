//! Planted bugs as text: what they break, and which lines become which.
//!
//! ```text
//! # Breaks: a node goes on under an epoch of an earlier process
//! # Failures: 5 (W1)
//! # Promise: P1
//! FILE node/src/causality/rules.rs
//! FIND in fn restart
//! 0 < local.0 && local.0 < boot_epoch
//! REPLACE
//! let _ = boot_epoch; local.0 > local.0
//! END
//! ```
//!
//! Lines are found whatever their indentation, and must be there exactly once, in the function
//! named if one is named. That survives most refactorings, unlike a diff; what does not survive is
//! noticed by a test.

use std::{fs, io, path::Path};

/// A bug that can be planted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its file's name.
    pub name: String,
    /// What it breaks, in a few words.
    pub breaks: String,
    /// Rows of the list of ways to lose data, and invariants.
    pub failures: String,
    /// The promise that it breaks.
    pub promise: String,
    /// What becomes what.
    pub edits: Vec<Edit>,
}

/// Lines of one file that become others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Path from the root of the workspace.
    pub file: String,
    /// The function they are in.
    pub within: Option<String>,
    /// The lines.
    pub find: Vec<String>,
    /// Their replacement.
    pub replace: Vec<String>,
}

/// Why a bug cannot be planted.
#[derive(Debug, thiserror::Error)]
pub enum MutantError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// The text is not of the form above.
    #[error("{0}: {1}")]
    Form(String, &'static str),
    /// The lines are not there, or more than once.
    #[error("{name}: the lines to replace are in {file} {times} times:\n{lines}")]
    Place {
        /// The bug.
        name: String,
        /// Where it looked.
        file: String,
        /// How often they were found.
        times: usize,
        /// What it looked for.
        lines: String,
    },
}

/// All bugs of a workspace, by name.
///
/// # Errors
///
/// If one cannot be read.
pub fn all(source: &Path) -> Result<Vec<Mutant>, MutantError> {
    let dir = source.join("tests/mutants");
    let fail = |error| MutantError::Io(dir.display().to_string(), error);
    let mut mutants = Vec::new();
    for entry in fs::read_dir(&dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if path
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            let text = fs::read_to_string(&path).map_err(fail)?;
            mutants.push(Mutant::parse(&name, &text)?);
        }
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

impl Mutant {
    /// Reads the text of a bug.
    ///
    /// # Errors
    ///
    /// If it is not of the form above.
    pub fn parse(name: &str, text: &str) -> Result<Self, MutantError> {
        let wrong = |what| MutantError::Form(name.to_owned(), what);
        let header = |title: &str| {
            let start = format!("# {title}: ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.map(str::to_owned)
        };
        let mut edits: Vec<Edit> = Vec::new();
        let mut file = None;
        let mut part = Part::Outside;
        for line in text.lines() {
            let edit = edits.last_mut();
            match (part, line) {
                (Part::Outside, _) if line.starts_with('#') || line.is_empty() => {}
                (Part::Outside, _) if line.starts_with("FILE ") => file = Some(&line[5..]),
                (Part::Outside, _) if line.starts_with("FIND") => {
                    let file = file.ok_or_else(|| wrong("FIND before FILE"))?;
                    let within = line.strip_prefix("FIND in ").map(str::to_owned);
                    edits.push(Edit {
                        file: file.to_owned(),
                        within,
                        ..Edit::default()
                    });
                    part = Part::Find;
                }
                (Part::Find, "REPLACE") => part = Part::Replace,
                (Part::Replace, "END") => part = Part::Outside,
                (Part::Find, _) => edit.expect("begun").find.push(line.trim().to_owned()),
                (Part::Replace, _) => edit.expect("begun").replace.push(line.to_owned()),
                (Part::Outside, _) => return Err(wrong("a line outside of FIND and REPLACE")),
            }
        }
        if part != Part::Outside || edits.is_empty() {
            return Err(wrong("an edit is missing or does not end"));
        }
        if edits.iter().any(|edit| edit.find.is_empty()) {
            return Err(wrong("nothing to find"));
        }
        Ok(Self {
            name: name.to_owned(),
            breaks: header("Breaks").ok_or_else(|| wrong("no line `# Breaks: `"))?,
            failures: header("Failures").ok_or_else(|| wrong("no line `# Failures: `"))?,
            promise: header("Promise").ok_or_else(|| wrong("no line `# Promise: `"))?,
            edits,
        })
    }

    /// The files that it changes, under `root`, each with its new text.
    ///
    /// # Errors
    ///
    /// If lines to be replaced are not there exactly once.
    pub fn plant(&self, root: &Path) -> Result<Vec<(String, String)>, MutantError> {
        let mut files: Vec<(String, String)> = Vec::new();
        for edit in &self.edits {
            let known = files.iter().position(|(file, _)| *file == edit.file);
            let at = match known {
                Some(at) => at,
                None => {
                    let text = fs::read_to_string(root.join(&edit.file))
                        .map_err(|error| MutantError::Io(edit.file.clone(), error))?;
                    files.push((edit.file.clone(), text));
                    files.len() - 1
                }
            };
            files[at].1 = edit
                .apply(&files[at].1)
                .map_err(|times| MutantError::Place {
                    name: self.name.clone(),
                    file: edit.file.clone(),
                    times,
                    lines: edit.find.join("\n"),
                })?;
        }
        Ok(files)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Outside,
    Find,
    Replace,
}

impl Edit {
    /// The text with the lines replaced, or how often they were found.
    fn apply(&self, text: &str) -> Result<String, usize> {
        let lines: Vec<&str> = text.lines().collect();
        let (first, end) = match &self.within {
            None => (0, lines.len()),
            Some(name) => function(&lines, name).ok_or(0_usize)?,
        };
        let found: Vec<usize> = (first..end)
            .filter(|&at| {
                let here = lines[at..end].iter().map(|line| line.trim());
                let wanted = self.find.iter().map(String::as_str);
                at + self.find.len() <= end && wanted.eq(here.take(self.find.len()))
            })
            .collect();
        let [at] = found[..] else {
            return Err(found.len());
        };
        let before = lines[..at].iter().copied();
        let after = lines[at + self.find.len()..].iter().copied();
        let new = self.replace.iter().map(String::as_str);
        let all: Vec<&str> = before.chain(new).chain(after).collect();
        Ok(all.join("\n") + "\n")
    }
}

/// First line and end of a formatted function: it ends where its own indentation closes.
fn function(lines: &[&str], name: &str) -> Option<(usize, usize)> {
    let starts = |line: &&str| {
        line.find(name).is_some_and(|at| {
            let rest = &line[at + name.len()..];
            rest.starts_with('(') || rest.starts_with('<')
        })
    };
    let first = lines.iter().position(starts)?;
    let indent = lines[first].len() - lines[first].trim_start().len();
    let close = format!("{}}}", " ".repeat(indent));
    let length = lines[first..].iter().position(|line| *line == close)?;
    Some((first, first + length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Breaks: all\n# Failures: 1\n# Promise: P1\nFILE a.rs\nFIND in fn two\n\
        return 1;\nREPLACE\n    return 2;\nEND\n";
    const CODE: &str = "fn one() {\n    return 1;\n}\nfn two() {\n    return 1;\n}\n";

    #[test]
    fn lines_are_replaced_in_the_function_that_is_meant() {
        let mutant = Mutant::parse("all", TEXT).expect("it has the form");
        let edit = &mutant.edits[0];
        let planted = edit.apply(CODE);
        assert_eq!(
            planted,
            Ok(CODE.replacen(
                "1;\n}\nfn two() {\n    return 1",
                "1;\n}\nfn two() {\n    return 2",
                1
            ))
        );
        let anywhere = Edit {
            within: None,
            ..edit.clone()
        };
        assert_eq!(anywhere.apply(CODE), Err(2));
        assert_eq!(anywhere.apply("fn two() {}"), Err(0));
    }

    #[test]
    fn what_is_no_bug_is_refused() {
        assert!(Mutant::parse("x", "").is_err());
        assert!(Mutant::parse("x", &TEXT.replace("# Promise: P1\n", "")).is_err());
        assert!(Mutant::parse("x", &TEXT.replace("END\n", "")).is_err());
    }
}
