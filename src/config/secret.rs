//! Secrets by reference: `env:NAME` or `file:PATH`, never the secret itself.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest secret that is read from a file, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// What is wrong with anything that is no reference. The value may be a secret that was pasted, so it is not repeated.
pub(super) const BY_REFERENCE: &str =
    "a secret is given by reference, as \"env:NAME\" or \"file:PATH\", never as a value";

/// Where a secret is kept. Printing it shows the reference, which is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; surrounding white space is not part of the secret.
    File(PathBuf),
}

impl SecretRef {
    /// A reference to an environment variable.
    pub fn env(name: &str) -> Self {
        Self::Env(name.to_owned())
    }

    /// Reads the secret; `None` when the variable or file does not exist or is empty.
    ///
    /// # Errors
    /// The file exists and cannot be read, is not UTF-8 or is larger than 64 KiB.
    pub fn read(&self) -> Result<Option<SecretString>, std::io::Error> {
        let text = match self {
            Self::Env(name) => match std::env::var(name) {
                Ok(text) => text,
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error) => return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, error)),
            },
            Self::File(path) => match std::fs::metadata(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
                Ok(meta) if meta.len() > SECRET_BYTES_MAX => {
                    return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "larger than 64 KiB"));
                }
                Ok(_) => std::fs::read_to_string(path)?,
            },
        };
        let text = text.trim();
        Ok((!text.is_empty()).then(|| SecretString::from(text)))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl FromStr for SecretRef {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("env", _)) => Err("the part after \"env:\" is not the name of an environment variable"),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(BY_REFERENCE),
        }
    }
}

/// As POSIX names variables; it keeps a key that was pasted behind `env:` from being taken for a name.
fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
