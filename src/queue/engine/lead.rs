//! The leader's lease: Oban's row in `oban_peers`, one for each Oban name.

use std::time::Duration;

use chrono::NaiveDateTime;

use super::Engine;
use crate::queue::error::QueueError;

/// What an election came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Election {
    /// This instance leads.
    Won {
        /// Beginning of its term, by the database's clock: with name and node the identity of its lease.
        started_at: NaiveDateTime,
    },
    /// Somebody else does.
    Lost {
        /// Who; `None` when the lease changed hands in this moment.
        node: Option<String>,
        /// How much of that lease is left, by the database's clock; 0 when it is not known.
        remaining: Duration,
    },
}

impl Engine {
    /// Takes the lease `name` for `node` if nobody has it, or prolongs it if `term` is the beginning of node's own.
    ///
    /// The row is Oban's: name, node, `started_at`, and `expires_at` a lease away. Another node's row is respected
    /// until it expires, by the database's clock. Oban prolongs for an equal node name alone, so that two processes of
    /// one name both lead; here the term must be the same as well, and an earlier process's row is another's row.
    ///
    /// Cancel safety: an election whose reply is lost may have been won; the lease then runs out unused.
    ///
    /// # Errors
    /// [`QueueError::Db`]; whoever led must then take it that it leads no more.
    pub async fn elect(
        &self,
        name: &str,
        node: &str,
        term: Option<NaiveDateTime>,
        lease: Duration,
    ) -> Result<Election, QueueError> {
        let row = sqlx::query!(
            r#"WITH won AS (
                 INSERT INTO oban_peers AS p (name, node, started_at, expires_at)
                 VALUES ($1, $2, timezone('UTC', clock_timestamp()),
                         timezone('UTC', clock_timestamp()) + $4::bigint * interval '1 millisecond')
                 ON CONFLICT (name) DO UPDATE
                 SET node = excluded.node, expires_at = excluded.expires_at,
                     started_at = CASE WHEN p.node = excluded.node AND p.started_at = $3 THEN p.started_at
                                       ELSE excluded.started_at END
                 WHERE p.expires_at < timezone('UTC', clock_timestamp())
                       OR (p.node = excluded.node AND p.started_at = $3)
                 RETURNING p.started_at
               )
               SELECT (SELECT started_at FROM won) AS started_at, p.node AS "node?",
                      (extract(epoch FROM p.expires_at - timezone('UTC', clock_timestamp())) * 1000)::bigint AS left_ms
               FROM (VALUES (1)) one LEFT JOIN oban_peers p ON p.name = $1"#,
            name,
            node,
            term,
            millis(lease),
        )
        .fetch_one(&self.db)
        .await?;
        Ok(match row.started_at {
            Some(started_at) => Election::Won { started_at },
            None => Election::Lost {
                node: row.node,
                remaining: Duration::from_millis(row.left_ms.and_then(|left| u64::try_from(left).ok()).unwrap_or(0)),
            },
        })
    }

    /// Gives the lease of this term back and tells the others, in one statement, so that one of them leads at once.
    /// Returns whether there was anything to give back.
    ///
    /// # Errors
    /// [`QueueError::Db`]; the lease then runs out by itself.
    pub async fn resign(&self, name: &str, node: &str, term: NaiveDateTime) -> Result<bool, QueueError> {
        let told = sqlx::query_scalar!(
            r#"WITH gone AS (
                 DELETE FROM oban_peers WHERE name = $1 AND node = $2 AND started_at = $3 RETURNING name
               )
               SELECT count(pg_notify($4, json_build_object('down', name)::text)) AS "told!" FROM gone"#,
            name,
            node,
            term,
            self.db.channel("leader"),
        )
        .fetch_one(&self.db)
        .await?;
        Ok(told > 0)
    }
}

pub(super) fn millis(period: Duration) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}
