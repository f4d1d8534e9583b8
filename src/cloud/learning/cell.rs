//! Cells: what is learned about by itself, one type of job on one route.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::is_word;

/// A type of job and the route its requests asked for, written `llm_request/complex`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// Type of the jobs.
    pub job_type: String,
    /// A complexity, or a route of the configuration.
    pub route: String,
}

impl Cell {
    /// The cell of this type of job and this route.
    pub fn new(job_type: impl Into<String>, route: impl Into<String>) -> Self {
        Self { job_type: job_type.into(), route: route.into() }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job_type, self.route)
    }
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((job_type, route)) if is_word(job_type) && is_word(route) => Ok(Self::new(job_type, route)),
            _ => {
                Err(format!("{text:?} is not a cell, expected a job type and a route such as \"llm_request/complex\""))
            }
        }
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
