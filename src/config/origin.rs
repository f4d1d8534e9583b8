//! Which layer a value comes from.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// Origin of one effective value. The order is the one in which problems are reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "layer", rename_all = "lowercase")]
pub enum Origin {
    /// The configuration file.
    File {
        /// As it was given or found.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// Line, from 1; 0 when the file as a whole is meant.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name, for example `SINGULARITY__QUEUES__DEFAULT__LIMIT`.
        name: String,
    },
    /// A setting on the command line.
    Override {
        /// The dotted key as it was given.
        key: String,
    },
    /// A program, which set the field.
    Program,
    /// The shipped file, or the built-in default of a key that no layer sets.
    Default,
}

/// A path that is not Unicode must not make a report fail.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { name } => write!(f, "environment variable {name}"),
            Self::Override { key } => write!(f, "--set {key}"),
            Self::Program => write!(f, "a field that the program sets"),
            Self::Default => write!(f, "default"),
        }
    }
}
