//! The copy of the sources in which bugs are planted, built and run.
//!
//! Only files that differ are written, and builds go to a directory of the copy's own, so that
//! from one bug to the next only what the bug touches is compiled again. Nothing is optimised
//! across crates: such a build takes seconds instead of a minute and runs nearly as fast.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{StrengthError, mutant::Mutant};

/// What a build needs of the workspace.
const PARTS: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    ".cargo",
    "ring",
    "gossip",
    "client",
    "node",
    "tests",
    "benches",
];

/// The copy.
#[derive(Debug)]
pub struct Scratch {
    source: PathBuf,
    root: PathBuf,
}

/// What the runs of one build said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Whether a promise was broken.
    pub caught: bool,
    /// Seeds run.
    pub seeds: u64,
    /// Simulated seconds.
    pub simulated: u64,
    /// The broken promise.
    pub said: String,
}

impl Scratch {
    /// Makes the copy, or brings an old one up to date.
    ///
    /// # Errors
    ///
    /// If files cannot be read or written.
    pub fn copy(source: &Path, root: &Path) -> io::Result<Self> {
        for part in PARTS {
            if source.join(part).exists() {
                copy(&source.join(part), &root.join(part))?;
            }
        }
        Ok(Self {
            source: source.to_owned(),
            root: root.to_owned(),
        })
    }

    /// Plants a bug.
    ///
    /// # Errors
    ///
    /// If its lines are not there any more.
    pub fn plant(&self, mutant: &Mutant) -> Result<(), StrengthError> {
        for (file, text) in mutant.plant(&self.source)? {
            fs::write(self.root.join(file), text)?;
        }
        Ok(())
    }

    /// Takes a bug away again.
    ///
    /// # Errors
    ///
    /// If files cannot be read or written.
    pub fn restore(&self, mutant: &Mutant) -> io::Result<()> {
        for edit in &mutant.edits {
            copy(&self.source.join(&edit.file), &self.root.join(&edit.file))?;
        }
        Ok(())
    }

    fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// Builds the simulator.
    ///
    /// # Errors
    ///
    /// If it does not compile.
    pub fn build(&self, name: &str) -> Result<(), StrengthError> {
        let output = Command::new("cargo")
            .args(["build", "--release", "--locked", "-p", "quorate-sim"])
            .args(["--bin", "quorate-sim", "--target-dir"])
            .arg(self.target())
            .current_dir(&self.root)
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
            .env("CARGO_INCREMENTAL", "1")
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = said
            .lines()
            .skip_while(|l| !l.starts_with("error"))
            .collect();
        Err(StrengthError::Build {
            name: name.to_owned(),
            output: errors.join("\n"),
        })
    }

    /// Runs seeds from the first on until a promise breaks.
    ///
    /// # Errors
    ///
    /// If the simulator cannot be started.
    pub fn run(&self, seeds: u64, jobs: usize, most: Duration) -> Result<Ran, StrengthError> {
        let log = self.root.join("target/strength.log");
        let started = Instant::now();
        let mut child = Command::new(self.target().join("release/quorate-sim"))
            .args(["soak", "--no-shrink", "--seed", "0"])
            .args(["--seeds", &seeds.to_string()])
            .args(["--jobs", &jobs.to_string()])
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log)?)
            .stderr(Stdio::null())
            .spawn()?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if most < started.elapsed() {
                child.kill()?;
                child.wait()?;
                break None;
            }
            thread::sleep(Duration::from_millis(50));
        };
        let mut ran = Ran::read(&fs::read_to_string(&log)?);
        ran.caught = status.is_none_or(|status| !status.success());
        if status.is_none() {
            ran.said = "no run that does not end".into();
        } else if ran.caught && ran.said.is_empty() {
            ran.said = "no death of the simulator".into();
        }
        Ok(ran)
    }
}

impl Ran {
    /// Reads what `soak` prints.
    fn read(text: &str) -> Self {
        let number = |after: &str| {
            let summary = text.lines().find(|line| line.starts_with("seeds "))?;
            let rest = &summary[summary.find(after)? + after.len()..];
            rest.split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .ok()
        };
        let said = text.lines().find(|line| line.contains(" broken at "));
        Self {
            caught: false,
            seeds: number("seeds ").unwrap_or(0),
            simulated: number("simulated ").unwrap_or(0),
            said: said.unwrap_or_default().to_owned(),
        }
    }
}

/// Copies a file or a tree; files that are equal stay untouched, files that are gone go.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_file() {
        let text = fs::read(from)?;
        if fs::read(to).is_ok_and(|old| old == text) {
            return Ok(());
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        return fs::write(to, text);
    }
    fs::create_dir_all(to)?;
    let names = |dir: &Path| -> io::Result<Vec<_>> {
        let entries = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name()));
        entries.collect()
    };
    let wanted = names(from)?;
    for name in names(to)? {
        let path = to.join(&name);
        if !wanted.contains(&name) && path.is_file() {
            fs::remove_file(path)?;
        }
    }
    for name in wanted.iter().filter(|name| *name != "target") {
        copy(&from.join(name), &to.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::Summary;

    #[test]
    fn the_summary_of_a_soak_is_understood() {
        let mut summary = Summary::default();
        (summary.seeds, summary.simulated) = (12, 345_000_000_000);
        let ran = Ran::read(&format!("P1 broken at 3.5: gone\n{summary}\nreplay"));
        assert_eq!((ran.seeds, ran.simulated), (12, 345));
        assert_eq!(ran.said, "P1 broken at 3.5: gone");
    }
}
