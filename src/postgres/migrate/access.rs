//! Whether the user of the URL may write what a node writes: to be told before a node is started.

use crate::postgres::{Database, DbError};

/// Tables that every node writes.
const WRITTEN: [&str; 6] =
    ["oban_jobs", "oban_peers", "instance_registry", "job_results", "supervision_events", "control_requests"];

/// What the user of the URL may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Its name.
    pub role: String,
    /// Whether no transaction can write: the server is a standby, or the user or the database was set so.
    pub is_read_only: bool,
    /// Tables of ours that are there and that it may not read, insert into, update and delete from.
    pub missing: Vec<String>,
}

/// Asks the server, and changes nothing.
///
/// # Errors
/// [`DbError`].
pub async fn access(database: &Database) -> Result<Access, DbError> {
    let tables = WRITTEN.map(str::to_owned);
    let row = sqlx::query!(
        r#"SELECT current_user::text AS "role!",
                  pg_is_in_recovery() OR current_setting('transaction_read_only')::bool AS "is_read_only!",
                  ARRAY(SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = $1 AND c.relname = ANY($2)
                          AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                                   AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
                        ORDER BY 1) AS "missing!""#,
        database.schema().as_str(),
        &tables,
    )
    .fetch_one(database)
    .await?;
    Ok(Access { role: row.role, is_read_only: row.is_read_only, missing: row.missing })
}
