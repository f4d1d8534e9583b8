//! Storage settings of `oban_jobs`: whether they are ours, and if not, why.

use sqlx::PgConnection;

use crate::postgres::{DbError, SchemaName};

/// What migration 5 sets first; whoever sets another value, or none, tunes by himself.
const MARK: &str = "autovacuum_vacuum_scale_factor=0.02";

/// How the table is tuned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tuning {
    /// For a queue: dead rows are cleared early. Our settings, or those of Oban for Python.
    Queue,
    /// With settings of somebody else, which were left as they are.
    Others(Vec<String>),
    /// With the server's defaults, because the table belongs to this role and not to the one of the connection.
    NotOurs(String),
    /// With the server's defaults, because the migration has not run, or somebody has reset the settings.
    Defaults,
}

impl Tuning {
    pub(super) async fn find(connection: &mut PgConnection, schema: &SchemaName) -> Result<Option<Self>, DbError> {
        let row: Option<(Option<Vec<String>>, String, bool)> = sqlx::query_as(
            "SELECT reloptions, pg_get_userbyid(relowner)::text, pg_has_role(relowner, 'USAGE')
             FROM pg_class WHERE oid = to_regclass($1)",
        )
        .bind(schema.qualify("oban_jobs"))
        .fetch_optional(connection)
        .await?;
        Ok(row.map(|(options, owner, is_ours)| match options {
            Some(options) if options.iter().any(|option| option == MARK) => Self::Queue,
            Some(options) => Self::Others(options),
            None if is_ours => Self::Defaults,
            None => Self::NotOurs(owner),
        }))
    }

    /// One line for people, after the table's name.
    pub fn describe(&self) -> String {
        match self {
            Self::Queue => "cleared early by autovacuum, as a queue needs it".into(),
            Self::Others(options) => format!("with storage settings of somebody else: {}", options.join(", ")),
            Self::NotOurs(owner) => format!("with the server's storage settings, because it belongs to role {owner}"),
            Self::Defaults => "with the server's storage settings".into(),
        }
    }
}
