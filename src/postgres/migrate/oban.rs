//! What kind of `oban_jobs` is there: Oban has made several, and each is accepted as it is.

use std::fmt;

use sqlx::PgConnection;

use super::{MigrateError, OBAN_VERSION};
use crate::postgres::{DbError, SchemaName};

/// Columns that `oban_jobs` has had since version 9. Older tables cannot be worked on.
const COLUMNS_NEEDED: [&str; 18] = [
    "id",
    "state",
    "queue",
    "worker",
    "args",
    "errors",
    "attempt",
    "max_attempts",
    "inserted_at",
    "scheduled_at",
    "attempted_at",
    "completed_at",
    "attempted_by",
    "discarded_at",
    "priority",
    "tags",
    "meta",
    "cancelled_at",
];

/// Longest part of an unknown comment that is repeated, in characters.
const COMMENT_CHARS_MAX: usize = 100;

/// What the comment on `oban_jobs` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObanVersion {
    /// A version number, as Oban writes it.
    Numbered(u32),
    /// No comment: made by Oban for Python, or restored without comments.
    Unmarked,
    /// `∞`: managed by somebody else, and newer than anything.
    External,
    /// Something else.
    Unreadable(String),
}

/// The tables of Oban as they were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObanTables {
    /// What the comment says.
    pub version: ObanVersion,
    /// `errors` is one JSON array, as Oban for Python makes it, and not an array of JSON values.
    pub errors_are_json: bool,
    /// Columns that are needed and that the table lacks.
    pub missing_columns: Vec<String>,
    /// Labels of the enum of `state`, in order; empty when it is no enum.
    pub states: Vec<String>,
    /// The leader's table exists.
    pub has_peers: bool,
}

impl ObanTables {
    /// Looks at the catalog; `None` without a table of this name. Reads no rows of the table itself.
    pub(super) async fn find(connection: &mut PgConnection, schema: &SchemaName) -> Result<Option<Self>, DbError> {
        type Row = (Option<String>, Vec<String>, Vec<String>, Option<bool>, bool);
        let row: Option<Row> = sqlx::query_as(
            "SELECT obj_description(c.oid, 'pg_class'),
               ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
               ARRAY(SELECT enumlabel::text FROM pg_enum e JOIN pg_attribute a ON a.atttypid = e.enumtypid
                     WHERE a.attrelid = c.oid AND a.attname = 'state' AND NOT a.attisdropped ORDER BY e.enumsortorder),
               (SELECT atttypid = 'jsonb'::regtype FROM pg_attribute
                WHERE attrelid = c.oid AND attname = 'errors' AND NOT attisdropped),
               EXISTS (SELECT FROM pg_class p WHERE p.relnamespace = c.relnamespace AND p.relname = 'oban_peers')
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = 'oban_jobs'",
        )
        .bind(schema.as_str())
        .fetch_optional(connection)
        .await?;
        Ok(row.map(|(comment, columns, states, errors_are_json, has_peers)| Self {
            version: ObanVersion::parse(comment.as_deref()),
            errors_are_json: errors_are_json.unwrap_or(false),
            missing_columns: COLUMNS_NEEDED
                .iter()
                .filter(|name| !columns.iter().any(|column| column == *name))
                .map(|name| (*name).to_owned())
                .collect(),
            states,
            has_peers,
        }))
    }

    /// # Errors
    /// `E0301`, `E0302` or `E0303` when we must not work on this table.
    pub(super) fn accept(&self, schema: &SchemaName) -> Result<(), MigrateError> {
        let schema = schema.to_string();
        match &self.version {
            ObanVersion::Numbered(number) if *number <= OBAN_VERSION => {}
            ObanVersion::Unmarked => {}
            newer @ (ObanVersion::Numbered(_) | ObanVersion::External) => {
                return Err(MigrateError::NewerOban { schema, found: newer.to_string() });
            }
            ObanVersion::Unreadable(found) => {
                return Err(MigrateError::UnreadableOban { schema, found: found.clone() });
            }
        }
        let missing = self.missing_columns.clone();
        if missing.is_empty() { Ok(()) } else { Err(MigrateError::TooOldOban { schema, missing }) }
    }
}

impl fmt::Display for ObanVersion {
    /// The comment as it is; `none` without one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbered(number) => write!(f, "{number}"),
            Self::Unmarked => f.write_str("none"),
            Self::External => f.write_str("∞"),
            Self::Unreadable(text) => f.write_str(text),
        }
    }
}

impl ObanVersion {
    fn parse(comment: Option<&str>) -> Self {
        match comment {
            None => Self::Unmarked,
            Some("∞") => Self::External,
            Some(text) => match text.parse() {
                Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Self::Numbered(number),
                _ => Self::Unreadable(text.chars().take(COMMENT_CHARS_MAX).collect()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Coded;

    fn tables(version: ObanVersion, missing: &[&str]) -> ObanTables {
        ObanTables {
            version,
            errors_are_json: false,
            missing_columns: missing.iter().map(|name| (*name).to_owned()).collect(),
            states: Vec::new(),
            has_peers: true,
        }
    }

    #[test]
    fn reads_comments_as_oban_writes_them() {
        assert_eq!(ObanVersion::parse(None), ObanVersion::Unmarked);
        assert_eq!(ObanVersion::parse(Some("14")), ObanVersion::Numbered(14));
        assert_eq!(ObanVersion::parse(Some("∞")), ObanVersion::External);
        for text in ["+14", "14 ", "v14", "99999999999", "-1"] {
            assert_eq!(ObanVersion::parse(Some(text)), ObanVersion::Unreadable(text.into()), "{text}");
        }
    }

    #[test]
    fn accepts_what_can_be_worked_on() {
        let schema = SchemaName::default();
        let verdict =
            |version, missing: &[&str]| tables(version, missing).accept(&schema).map_err(|error| error.code());
        assert_eq!(verdict(ObanVersion::Numbered(14), &[]), Ok(()));
        assert_eq!(verdict(ObanVersion::Numbered(9), &[]), Ok(()));
        assert_eq!(verdict(ObanVersion::Numbered(8), &["meta", "cancelled_at"]), Err("E0303"));
        assert_eq!(verdict(ObanVersion::Unmarked, &[]), Ok(()));
        assert_eq!(verdict(ObanVersion::Numbered(15), &[]), Err("E0301"));
        assert_eq!(verdict(ObanVersion::External, &[]), Err("E0301"));
        assert_eq!(verdict(ObanVersion::Unreadable("x".into()), &[]), Err("E0302"));
        assert_eq!(verdict(ObanVersion::Numbered(7), &["priority", "tags"]), Err("E0303"));
    }
}
