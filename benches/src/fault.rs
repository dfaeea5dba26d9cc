//! What is done to the nodes of a `quorate dev` cluster while load runs: a schedule, and who
//! carries it out.
//!
//! Times count from the beginning of the measured time. Everything is done by `quorate dev node`,
//! so that a started node is the same node. Whether the cluster survives it is not decided here.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    time::Duration,
};

use crate::options::duration;

const ACTIONS: [&str; 5] = ["kill", "start", "stop", "pause", "resume"];

/// What is done when, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule(Vec<Fault>);

/// One thing that is done to one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Duration,
    action: String,
    node: u32,
}

impl Schedule {
    /// When the last one is due.
    pub(crate) fn last(&self) -> Option<Duration> {
        self.0.last().map(|fault| fault.at)
    }

    pub(crate) fn faults(&self) -> &[Fault] {
        &self.0
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut faults = text
            .split(',')
            .map(|part| part.trim().parse())
            .collect::<Result<Vec<Fault>, _>>()?;
        faults.sort_by_key(|fault| fault.at);
        Ok(Self(faults))
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            Err(format!(
                "{what} in {text:?}; a fault reads like \"kill n2 @10s\", with one of {}",
                ACTIONS.join(", ")
            ))
        };
        let [action, node, at] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            return wrong("not three words");
        };
        if !ACTIONS.contains(&action) {
            return wrong("an unknown action");
        }
        let number = node
            .strip_prefix('n')
            .and_then(|number| number.parse().ok());
        let Some(node) = number.filter(|number| 0 < *number) else {
            return wrong("no node like n2");
        };
        let Some(Ok(at)) = at.strip_prefix('@').map(duration) else {
            return wrong("no time like @10s");
        };
        Ok(Self {
            at,
            action: action.to_owned(),
            node,
        })
    }
}

impl Fault {
    /// As it was asked for, without its time.
    pub(crate) fn name(&self) -> String {
        format!("{} n{}", self.action, self.node)
    }

    /// Does it, and waits until it is done; blocks.
    pub(crate) fn carry_out(&self, dir: &Path) -> Result<(), String> {
        let program = quorate();
        let output = Command::new(&program)
            .args(["dev", "node", &self.action, &self.node.to_string(), "--dir"])
            .arg(dir)
            .output()
            .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(text.lines().last().unwrap_or("it failed").to_owned())
    }
}

/// The binary beside this one, or the one that the shell would find.
fn quorate() -> PathBuf {
    let beside = env::current_exe().map(|own| own.with_file_name("quorate"));
    match beside {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("quorate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_put_in_order() {
        let schedule: Schedule = "start n2 @20s, kill n2 @10s,pause n10 @500ms"
            .parse()
            .unwrap();
        let all: Vec<_> = schedule
            .faults()
            .iter()
            .map(|fault| (fault.name(), fault.at.as_millis()))
            .collect();
        let want = [
            ("pause n10", 500),
            ("kill n2", 10_000),
            ("start n2", 20_000),
        ];
        assert_eq!(all, want.map(|(name, at)| (name.to_owned(), at)));
        assert_eq!(schedule.last(), Some(Duration::from_secs(20)));
    }

    #[test]
    fn a_wrong_fault_is_named() {
        for (text, what) in [
            ("", "three words"),
            ("kill n2", "three words"),
            ("kill n2 @1s,", "three words"),
            ("burn n2 @1s", "unknown action"),
            ("kill 2 @1s", "no node"),
            ("kill n0 @1s", "no node"),
            ("kill n2 1s", "no time"),
            ("kill n2 @1h", "no time"),
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.contains(what), "{text:?}: {error}");
        }
    }
}
