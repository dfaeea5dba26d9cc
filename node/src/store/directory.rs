//! A node's data directory: who may use it, in which format it is, and where things are.
//!
//! ```text
//! DIR/FORMAT             "quorate data 1": gates everything else
//! DIR/lock               held while a process uses the directory
//! DIR/mark               the last durable commit, see `mark`
//! DIR/engine/            the engine's own files
//! DIR/engine.refused-N/  files that the engine would not open; for people, never read again
//! DIR/engine.tail-N      the broken end of a journal; likewise
//! ```
//!
//! Nothing is ever deleted here. Other files in the directory belong to others.
#![expect(
    clippy::disallowed_types,
    reason = "adapters of the real disk may touch files"
)]

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const FORMAT_PREFIX: &str = "quorate data ";

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two processes on one directory would destroy it.
    #[error("another process uses the data directory {}", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// A newer version wrote it.
    #[error(
        "the data directory {} has format {found}, this version reads up to {FORMAT}",
        dir.display()
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It has an engine but says nothing legible about its format.
    #[error("{} is not a legible data directory: {reason}", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused something; another attempt may succeed.
    #[error("cannot use {}: {reason}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path, error: &impl std::fmt::Display) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }
}

/// A data directory in use. Dropping it lets others in.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Creates the directory if need be, locks it, and checks its format.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |error: io::Error| OpenError::io(path, &error);
        fs::create_dir_all(path).map_err(io)?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path);
        let lock = lock.map_err(|error| OpenError::io(&lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked {
                    dir: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io(&lock_path, &error)),
        }
        let directory = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        directory.check_format()?;
        Ok(directory)
    }

    pub(super) fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    pub(super) fn mark(&self) -> PathBuf {
        self.path.join("mark")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the engine's files out of the way and says where to.
    pub(super) fn set_engine_aside(&self) -> io::Result<PathBuf> {
        let aside = self.unused("engine.refused-");
        fs::rename(self.engine(), &aside)?;
        self.sync()?;
        Ok(aside)
    }

    /// The first name of the kind that is not in use.
    pub(super) fn unused(&self, prefix: &str) -> PathBuf {
        let mut number = 1u32;
        loop {
            let path = self.path.join(format!("{prefix}{number}"));
            if !path.exists() {
                return path;
            }
            number += 1;
        }
    }

    /// Makes created and renamed entries durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let path = self.path.join("FORMAT");
        let foreign = |reason: &str| OpenError::Foreign {
            dir: self.path.clone(),
            reason: reason.to_owned(),
        };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let number = text.strip_prefix(FORMAT_PREFIX).map(str::trim_end);
                let found: u32 = number
                    .and_then(|number| number.parse().ok())
                    .ok_or_else(|| foreign("its FORMAT file makes no sense"))?;
                if FORMAT < found {
                    return Err(OpenError::Newer {
                        dir: self.path.clone(),
                        found,
                    });
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.engine().exists() || self.mark().exists() {
                    return Err(foreign("its FORMAT file is missing"));
                }
                self.write_format(&path)
                    .map_err(|error| OpenError::io(&path, &error))
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(foreign("its FORMAT file is not text"))
            }
            Err(error) => Err(OpenError::io(&path, &error)),
        }
    }

    /// By way of a rename: a torn FORMAT would lock its owner out.
    fn write_format(&self, path: &Path) -> io::Result<()> {
        let draft = self.path.join("FORMAT.new");
        let mut file = File::create(&draft)?;
        writeln!(file, "{FORMAT_PREFIX}{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::open(dir.path()).unwrap();
        let second = Directory::open(dir.path()).unwrap_err();
        assert!(matches!(second, OpenError::Locked { .. }), "{second}");
        drop(first);
        Directory::open(dir.path()).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), "quorate data 2\n").unwrap();
        let error = Directory::open(dir.path()).unwrap_err();
        assert!(
            matches!(error, OpenError::Newer { found: 2, .. }),
            "{error}"
        );
        let left = fs::read_to_string(dir.path().join("FORMAT")).unwrap();
        assert_eq!(left, "quorate data 2\n");
    }

    #[test]
    fn an_illegible_or_missing_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("FORMAT"), [0xff, 0]).unwrap();
        let error = Directory::open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        fs::remove_file(dir.path().join("FORMAT")).unwrap();
        fs::create_dir(dir.path().join("engine")).unwrap();
        let error = Directory::open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    }

    #[test]
    fn nothing_set_aside_is_ever_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        for expected in ["engine.refused-1", "engine.refused-2"] {
            fs::create_dir(directory.engine()).unwrap();
            let aside = directory.set_engine_aside().unwrap();
            assert_eq!(aside, dir.path().join(expected));
        }
    }
}
