//! The name of the schema that holds Oban's tables and ours.

use std::fmt;
use std::str::FromStr;

use super::DbError;

/// Longest name, in bytes. PostgreSQL cuts identifiers at 63 and the longest channel adds a prefix and a name to it.
const NAME_BYTES_MAX: usize = 30;

/// A schema name of `[a-z_][a-z0-9_]*`, at most 30 characters, so that it can stand in SQL text, in a channel name
/// (where Oban cuts at the first dot) and in a connection option without being able to mean anything else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a quoted identifier: needed for words such as `user`.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }

    /// A qualified name such as `"jobs".oban_jobs`, for statements on connections that somebody else brought.
    /// `object` is a name from our own source, never input.
    pub fn qualify(&self, object: &'static str) -> String {
        format!("\"{}\".{object}", self.0)
    }
}

impl Default for SchemaName {
    /// `public`, as Oban's default prefix.
    fn default() -> Self {
        Self("public".into())
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SchemaName {
    type Err = DbError;

    /// # Errors
    /// `E0221`: another alphabet, longer than 30 characters, or reserved by PostgreSQL (`pg_…`, `information_schema`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let start = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let reserved = text.starts_with("pg_") || text == "information_schema";
        if start && rest && !reserved && text.len() <= NAME_BYTES_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(DbError::InvalidSchema { schema: text.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Coded;

    #[test]
    fn accepts_plain_identifiers() {
        for text in ["public", "_jobs", "jobs_2", "user", &"a".repeat(30)] {
            assert_eq!(text.parse::<SchemaName>().unwrap().as_str(), text);
        }
        assert_eq!("user".parse::<SchemaName>().unwrap().qualify("oban_jobs"), "\"user\".oban_jobs");
    }

    #[test]
    fn refuses_what_could_mean_something_else() {
        for text in
            ["", "Jobs", "2jobs", "a.b", "a\"b", "a b", "a;b", "ä", "pg_jobs", "information_schema", &"a".repeat(31)]
        {
            let error = text.parse::<SchemaName>().unwrap_err();
            assert_eq!(error.code(), "E0221", "{text}");
            assert!(error.to_string().contains(text));
        }
    }
}
