//! Who keeps vacuum from clearing dead rows.
//!
//! Every claim and completion leaves dead entries at the head of its queue's index. They are cleared once no
//! transaction can see them any more; one transaction that stays open, in whatever table, keeps all of them, and
//! claims have to step over everything that was processed since.

use std::fmt;
use std::time::Duration;

use super::{Database, DbError};

/// Pins that are younger do no harm that a person need know of.
pub const PINNED_FOR_MIN: Duration = Duration::from_secs(120);

/// A replication slot tells no time; it counts as old from so many transactions on.
const SLOT_AGE_MIN: i32 = 100_000;

/// What pins the horizon of vacuum in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// `session`, `prepared transaction` or `replication slot`.
    pub kind: String,
    /// Process id of a session, name of the others.
    pub name: String,
    /// For a session who and what it is: user, application, address, state; else empty.
    pub detail: String,
    /// How long; unknown for a replication slot.
    pub since: Option<Duration>,
    /// Transactions that began since, over the whole server.
    pub transactions: i32,
}

impl Pin {
    /// What to do about it.
    pub fn way_out(&self) -> String {
        match self.kind.as_str() {
            "session" => format!("end its transaction, or SELECT pg_terminate_backend({})", self.name),
            "prepared transaction" => format!("COMMIT PREPARED or ROLLBACK PREPARED '{}'", self.name),
            _ => format!("let its subscriber catch up, or SELECT pg_drop_replication_slot('{}')", self.name),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        f.write_str(" keeps dead rows from being cleared")?;
        if let Some(since) = self.since {
            write!(f, " since {} s", since.as_secs())?;
        }
        write!(f, ", {} transactions ago", self.transactions)
    }
}

/// The oldest pin that is there for `pinned_for` or longer, if any. Of other users' sessions the server tells only
/// those who may read all statistics (role `pg_read_all_stats`).
///
/// # Errors
/// As any statement.
pub async fn oldest_pin(database: &Database, pinned_for: Duration) -> Result<Option<Pin>, DbError> {
    let row: Option<(String, String, String, Option<f64>, i32)> = sqlx::query_as(
        "WITH pins AS (
           SELECT 'session' AS kind, pid::text AS name,
                  concat_ws(', ', usename, NULLIF(application_name, ''), host(client_addr), state) AS detail,
                  EXTRACT(epoch FROM clock_timestamp() - COALESCE(xact_start, backend_start))::float8 AS seconds,
                  GREATEST(age(backend_xmin), age(backend_xid)) AS transactions
           FROM pg_stat_activity
           WHERE pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
             AND (datname = current_database() OR backend_type = 'walsender')
             AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
           UNION ALL
           SELECT 'prepared transaction', gid, '', EXTRACT(epoch FROM clock_timestamp() - prepared)::float8,
                  age(transaction)
           FROM pg_prepared_xacts WHERE database = current_database()
           UNION ALL
           SELECT 'replication slot', slot_name::text, '', NULL, age(xmin)
           FROM pg_replication_slots WHERE xmin IS NOT NULL
         )
         SELECT kind, name, detail, seconds, transactions FROM pins
         WHERE seconds >= $1 OR (seconds IS NULL AND transactions >= $2)
         ORDER BY transactions DESC LIMIT 1",
    )
    .bind(pinned_for.as_secs_f64())
    .bind(SLOT_AGE_MIN)
    .fetch_optional(database)
    .await?;
    Ok(row.map(|(kind, name, detail, seconds, transactions)| {
        let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Pin { kind, name, detail, since, transactions }
    }))
}
