//! Where the cluster is and how to be let in: the client's one file of configuration.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::tls::{Credentials, TlsError};

/// Addresses of some nodes and the files that identify us.
///
/// ```toml
/// nodes = ["127.0.0.1:7400", "127.0.0.1:7401"]
/// ca = "ca.pem"
/// cert = "client.pem"
/// key = "client.key"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// host:port of a few nodes; the rest of the cluster is learnt from them.
    pub nodes: Vec<String>,
    /// The cluster's authority.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Our private key.
    pub key: PathBuf,
}

/// Why there is no profile.
///
/// ```
/// use std::path::Path;
/// use quorate_client::{Profile, ProfileError};
///
/// let missing = Profile::load(Path::new("/nowhere/client.toml"));
/// assert!(matches!(missing, Err(ProfileError::Read { .. })));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot read the profile {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a profile.
    #[error("{} is not a client profile: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// A profile without nodes.
    #[error("{} names no nodes", path.display())]
    NoNodes {
        /// The file.
        path: PathBuf,
    },
    /// None of the usual places has one.
    #[error(
        "no client profile: name one with --profile or QUORATE_PROFILE, or put it at one of {}",
        tried.join(", ")
    )]
    NotFound {
        /// Where it was looked for.
        tried: Vec<String>,
    },
}

impl Profile {
    /// Reads a profile; the paths in it are relative to the file.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let text = fs::read_to_string(path).map_err(|source| ProfileError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut profile: Self =
            toml::from_str(&text).map_err(|source| ProfileError::Malformed {
                path: path.to_owned(),
                source: Box::new(source),
            })?;
        if profile.nodes.is_empty() {
            return Err(ProfileError::NoNodes {
                path: path.to_owned(),
            });
        }
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        for file in [&mut profile.ca, &mut profile.cert, &mut profile.key] {
            *file = base.join(&*file);
        }
        Ok(profile)
    }

    /// Looks in the usual places: `$QUORATE_PROFILE`, `./quorate-dev/client.toml`, then
    /// `quorate/client.toml` in the user's configuration directory.
    pub fn find() -> Result<Self, ProfileError> {
        if let Some(path) = env::var_os("QUORATE_PROFILE").filter(|path| !path.is_empty()) {
            return Self::load(Path::new(&path));
        }
        let places = usual_places();
        match places.iter().find(|path| path.exists()) {
            Some(path) => Self::load(path),
            None => Err(ProfileError::NotFound {
                tried: places.iter().map(|p| p.display().to_string()).collect(),
            }),
        }
    }

    /// Reads the certificates it names.
    pub fn credentials(&self) -> Result<Credentials, TlsError> {
        Credentials::load(&self.ca, &self.cert, &self.key)
    }
}

fn usual_places() -> Vec<PathBuf> {
    let config = env::var_os("XDG_CONFIG_HOME")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".config")));
    let mut places = vec![PathBuf::from("quorate-dev/client.toml")];
    places.extend(config.map(|config| config.join("quorate/client.toml")));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Profile, ProfileError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.toml");
        fs::write(&path, text).unwrap();
        Profile::load(&path).map(|profile| Profile {
            ca: profile.ca.strip_prefix(dir.path()).unwrap().to_owned(),
            ..profile
        })
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let profile =
            load("nodes=['h:1']\nca='c/ca.pem'\ncert='client.pem'\nkey='client.key'").unwrap();
        assert_eq!(profile.ca, Path::new("c/ca.pem"));
        assert!(profile.key.is_absolute());
    }

    #[test]
    fn unknown_keys_missing_keys_and_no_nodes_are_errors() {
        let rest = "ca='a'\ncert='b'\nkey='c'";
        let unknown = load(&format!("nodes=['h:1']\nnode='x'\n{rest}"));
        assert!(unknown.unwrap_err().to_string().contains("unknown field"));
        assert!(matches!(load(rest), Err(ProfileError::Malformed { .. })));
        let none = load(&format!("nodes=[]\n{rest}"));
        assert!(matches!(none, Err(ProfileError::NoNodes { .. })));
    }
}
