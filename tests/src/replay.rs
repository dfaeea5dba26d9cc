//! The line that plays a run again.
//!
//! It names the seed, what the command line changed, and a fingerprint of the options: if a later
//! build draws other options from the seed, replaying says so instead of passing in silence.

use std::fmt;

use crate::{
    knobs::Without,
    options::{Extras, Generation, Options},
};

/// What a run needs besides the build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Simulated seconds with faults, if not the usual ones.
    pub seconds: Option<u64>,
    /// Whether messages are encoded.
    pub encode: bool,
    /// Which classes of fault the seed draws from.
    pub generation: Generation,
    /// What the run does without.
    pub without: Without,
    /// Classes that no seed has by itself.
    pub extras: Extras,
}

/// Why a line cannot be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// No `seed=` in it, or something that is not a number.
    #[error("not a replay line: {0}")]
    NotALine(String),
    /// The seed means something else in this build.
    #[error("this build draws other options from seed {seed}: {found:016x}, not {wanted:016x}")]
    OtherOptions {
        /// The seed.
        seed: u64,
        /// Options of the line.
        wanted: u64,
        /// Options of this build.
        found: u64,
    },
}

impl Plan {
    /// The usual run of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            seconds: None,
            encode: true,
            generation: Generation::Newest,
            without: Without::NOTHING,
            extras: Extras::NONE,
        }
    }

    /// The run that a seed was when there were fewer classes of fault.
    #[must_use]
    pub const fn of(seed: u64, generation: Generation) -> Self {
        let mut plan = Self::new(seed);
        plan.generation = generation;
        plan
    }

    /// The options that this plan means.
    #[must_use]
    pub fn options(&self) -> Options {
        let mut options = Options::of(self.seed, self.generation).with_extras(self.extras);
        self.without.apply(&mut options);
        options.encode = self.encode;
        if let Some(seconds) = self.seconds {
            options.duration = seconds * 1_000_000_000;
        }
        options
    }

    /// Reads a line that [`Display`](fmt::Display) wrote; words it does not know are skipped.
    ///
    /// # Errors
    ///
    /// If the line is not one, or its seed has other options in this build.
    pub fn from_line(line: &str) -> Result<Self, ReplayError> {
        let mut plan = Self::new(0);
        let mut seed = None;
        let mut wanted = None;
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| ReplayError::NotALine(text.to_owned()))
        };
        for word in line.split(|c: char| c.is_whitespace() || c == '\'' || c == '"') {
            match word.split_once('=') {
                Some(("seed", value)) => seed = Some(number(value)?),
                Some(("seconds", value)) => plan.seconds = Some(number(value)?),
                Some(("encode", value)) => plan.encode = value != "no",
                Some(("classes", "first")) => plan.generation = Generation::First,
                Some(("classes", "second")) => plan.generation = Generation::Second,
                Some(("classes", "third")) => plan.generation = Generation::Third,
                Some(("classes", "fourth")) => plan.generation = Generation::Fourth,
                Some(("classes", "fifth")) => plan.generation = Generation::Fifth,
                Some(("classes", "sixth")) => plan.generation = Generation::Sixth,
                Some(("without", value)) => {
                    let set = Without::parse(value);
                    plan.without = set.ok_or_else(|| ReplayError::NotALine(value.to_owned()))?;
                }
                Some(("extras", value)) => {
                    let set = Extras::parse(value);
                    plan.extras = set.ok_or_else(|| ReplayError::NotALine(value.to_owned()))?;
                }
                Some(("options", value)) => {
                    let parsed = u64::from_str_radix(value, 16);
                    wanted = Some(parsed.map_err(|_| ReplayError::NotALine(value.to_owned()))?);
                }
                Some(_) | None => {}
            }
        }
        plan.seed = seed.ok_or_else(|| ReplayError::NotALine(line.to_owned()))?;
        let found = plan.options().hash();
        match wanted {
            Some(wanted) if wanted != found => Err(ReplayError::OtherOptions {
                seed: plan.seed,
                wanted,
                found,
            }),
            Some(_) | None => Ok(plan),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quorate-sim replay 'seed={}", self.seed)?;
        if let Some(seconds) = self.seconds {
            write!(f, " seconds={seconds}")?;
        }
        if !self.encode {
            write!(f, " encode=no")?;
        }
        match self.generation {
            Generation::First => write!(f, " classes=first")?,
            Generation::Second => write!(f, " classes=second")?,
            Generation::Third => write!(f, " classes=third")?,
            Generation::Fourth => write!(f, " classes=fourth")?,
            Generation::Fifth => write!(f, " classes=fifth")?,
            Generation::Sixth => write!(f, " classes=sixth")?,
            Generation::Newest => {}
        }
        if !self.without.is_empty() {
            write!(f, " without={}", self.without)?;
        }
        if self.extras != Extras::NONE {
            write!(f, " extras={}", self.extras.names())?;
        }
        write!(f, " options={:016x}'", self.options().hash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_plays_the_run_that_wrote_it() {
        let plan = Plan {
            seconds: Some(7),
            encode: false,
            generation: Generation::Second,
            without: Without::parse("crash,loss").expect("they exist"),
            extras: Extras::parse("wipe").expect("it exists"),
            ..Plan::new(77)
        };
        assert_eq!(Plan::from_line(&plan.to_string()), Ok(plan));
    }

    #[test]
    fn other_options_are_noticed() {
        let line = "quorate-sim replay 'seed=3 options=0000000000000001'";
        let error = Plan::from_line(line).expect_err("those are not its options");
        assert!(matches!(error, ReplayError::OtherOptions { seed: 3, .. }));
        assert!(Plan::from_line("no line at all").is_err());
    }
}
