//! Every statement by which people look at the patterns that CentralCloud knows.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::postgres::{Database, DbError};

/// Patterns in one listing.
pub const PATTERNS_LISTED_MAX: i64 = 1_000;

/// A pattern of the library, and the learning that tells the fleet about it. Field names are column names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatternRow {
    /// Such as `classifier>decomposition>coder`.
    pub name: String,
    /// What it consists of.
    pub definition: Value,
    /// Where it comes from.
    pub source: String,
    /// Jobs that followed it.
    pub occurrences: i64,
    /// How many of them succeeded.
    pub successes: i64,
    /// When it was first seen.
    pub first_seen: DateTime<Utc>,
    /// When it was last seen.
    pub last_seen: DateTime<Utc>,
    /// The latest learning about it.
    pub learning_id: Option<i64>,
    /// Instances that have applied it.
    pub instances: Vec<String>,
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct PatternStore {
    db: Database,
}

impl PatternStore {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// Patterns by name: the one that is named, or those that were seen most often.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn list(&self, name: Option<&str>, limit: i64) -> Result<Vec<PatternRow>, DbError> {
        let rows = sqlx::query_as!(
            PatternRow,
            r#"SELECT p.name, p.definition, p.source, p.occurrences, p.successes, p.first_seen, p.last_seen,
                      l.id AS "learning_id?",
                      ARRAY(SELECT a.instance_id FROM learning_applications a
                            WHERE a.learning_id = l.id AND a.state = 'applied' ORDER BY 1) AS "instances!"
               FROM pattern_library p LEFT JOIN LATERAL (
                 SELECT id FROM learnings WHERE type = 'pattern_discovery' AND key = p.name ORDER BY id DESC LIMIT 1
               ) l ON true
               WHERE $1::text IS NULL OR p.name = $1
               ORDER BY p.occurrences DESC, p.name LIMIT $2"#,
            name,
            limit.clamp(0, PATTERNS_LISTED_MAX),
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }
}
