//! Proof that the oracles can see: bugs are planted in a copy of the sources, one after the other,
//! and seeds are run until a promise breaks.
//!
//! A planted bug is a file under `tests/mutants/` (see [`mutant`] for its form); the copy, the
//! builds and the runs are in [`scratch`]. Product code carries no switches for this. Not decided
//! here: which bugs are worth planting; a bug that no seed can show is no proof of anything.

pub mod mutant;
pub mod scratch;

use std::{fmt, path::PathBuf, time::Duration};

use mutant::Mutant;
use scratch::{Ran, Scratch};

/// How hard to look, and where.
#[derive(Clone, Debug)]
pub struct Strength {
    /// The workspace whose sources are copied.
    pub source: PathBuf,
    /// Where the copy and its builds go; kept, so that the next time is faster.
    pub scratch: PathBuf,
    /// Names of the bugs to plant; all of them if empty.
    pub only: Vec<String>,
    /// Seeds before a bug counts as missed.
    pub seeds: u64,
    /// Threads.
    pub jobs: usize,
}

/// What became of one planted bug.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The bug.
    pub mutant: Mutant,
    /// What the runs said.
    pub ran: Ran,
}

/// Why the bugs could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum StrengthError {
    /// The sources or the copy cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A bug cannot be planted any more.
    #[error("{0}")]
    Mutant(#[from] mutant::MutantError),
    /// A copy does not compile.
    #[error("{name} does not compile:\n{output}")]
    Build {
        /// The bug.
        name: String,
        /// What the compiler says.
        output: String,
    },
    /// A promise breaks without any planted bug.
    #[error("a promise is broken without a planted bug: {0}")]
    Unsound(String),
    /// No bug has one of the names.
    #[error("there is no planted bug named {0}")]
    Unknown(String),
}

/// Plants each bug and says what became of it; `say` is called once for each.
///
/// # Errors
///
/// If a bug cannot be planted or built, or the sources are broken without one. Those that can be
/// built are judged all the same.
pub fn strength(
    options: &Strength,
    mut say: impl FnMut(&Verdict),
) -> Result<Vec<Verdict>, StrengthError> {
    let mut mutants = mutant::all(&options.source)?;
    for name in &options.only {
        if !mutants.iter().any(|mutant| mutant.name == *name) {
            return Err(StrengthError::Unknown(name.clone()));
        }
    }
    mutants.retain(|mutant| options.only.is_empty() || options.only.contains(&mutant.name));
    let scratch = Scratch::copy(&options.source, &options.scratch)?;
    scratch.build("the copy without a bug")?;
    if options.only.is_empty() {
        let ran = scratch.run(options.seeds, options.jobs, TIME_MAX)?;
        if ran.caught {
            return Err(StrengthError::Unsound(ran.said));
        }
    }
    let mut verdicts = Vec::with_capacity(mutants.len());
    let mut unbuilt = None;
    for mutant in mutants {
        scratch.plant(&mutant)?;
        let built = scratch.build(&mutant.name);
        let ran = built.and_then(|()| scratch.run(options.seeds, options.jobs, TIME_MAX));
        scratch.restore(&mutant)?;
        match ran {
            // A round takes an hour: the others are worth it.
            Err(error @ StrengthError::Build { .. }) => unbuilt = unbuilt.or(Some(error)),
            ran => {
                let verdict = Verdict { mutant, ran: ran? };
                say(&verdict);
                verdicts.push(verdict);
            }
        }
    }
    unbuilt.map_or(Ok(verdicts), Err)
}

/// A bug may make a run endless; that is noticed, too.
const TIME_MAX: Duration = Duration::from_mins(15);

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran {
            caught,
            seeds,
            simulated,
            said,
        } = &self.ran;
        let name = &self.mutant.name;
        let caught = if *caught { "caught" } else { "missed" };
        write!(
            f,
            "{name}: {caught}, seeds {seeds}, simulated {simulated} s"
        )?;
        if !said.is_empty() {
            let oracle = said.split(" broken at ").next().unwrap_or(said);
            write!(f, ", by {oracle}")?;
        }
        Ok(())
    }
}
