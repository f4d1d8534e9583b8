//! Nodes of Oban in other languages on this database, as its tables show them, and the lease of Oban for Python.
//!
//! Oban for Elixir elects in `oban_peers`, Oban for Python in `oban_leaders`, and neither looks at the other's table.
//! Whoever leads here holds both, where both are there. `oban_leaders` and `oban_producers` are Python's own and mostly
//! absent, so their statements cannot be checked when this is compiled.

use std::time::Duration;

use chrono::NaiveDateTime;

use super::lead::millis;
use super::{Election, Engine};
use crate::queue::error::QueueError;
use crate::queue::role::{Foreigner, Sight};

/// What a look at the tables found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Foreigners {
    /// Whether the tables of Oban for Python are there.
    pub has_python: bool,
    /// Nodes that are in no row of `instance_registry`.
    pub found: Vec<Foreigner>,
}

/// Leases and producers of Python nodes. A producer that was not refreshed for a minute is gone: they refresh four
/// times as often.
const PYTHON: &str = "
    SELECT l.node, 'leads' AS sight,
           greatest((extract(epoch FROM l.expires_at - timezone('UTC', clock_timestamp())) * 1000)::bigint, 0) AS left_ms
    FROM oban_leaders l
    WHERE l.expires_at > timezone('UTC', now())
      AND NOT EXISTS (SELECT FROM instance_registry r WHERE r.instance_id = l.node)
    UNION ALL
    SELECT DISTINCT p.node, 'works', NULL::bigint FROM oban_producers p
    WHERE p.updated_at > timezone('UTC', now()) - interval '1 minute'
      AND NOT EXISTS (SELECT FROM instance_registry r WHERE r.instance_id = p.node)";

/// Queues of Python nodes that work.
const PYTHON_QUEUES: &str = "
    SELECT DISTINCT queue FROM oban_producers WHERE updated_at > timezone('UTC', now()) - interval '1 minute'";

/// Takes or prolongs Python's lease; `elected_at` is the beginning of the term in `oban_peers`.
const ELECT: &str = "
    WITH won AS (
      INSERT INTO oban_leaders AS l (name, node, elected_at, expires_at)
      VALUES ($1, $2, $3, timezone('UTC', clock_timestamp()) + $4::bigint * interval '1 millisecond')
      ON CONFLICT (name) DO UPDATE
      SET node = excluded.node, elected_at = excluded.elected_at, expires_at = excluded.expires_at
      WHERE l.expires_at < timezone('UTC', clock_timestamp()) OR (l.node = excluded.node AND l.elected_at = $3)
      RETURNING l.node
    )
    SELECT EXISTS (SELECT FROM won), l.node,
           (extract(epoch FROM l.expires_at - timezone('UTC', clock_timestamp())) * 1000)::bigint
    FROM (VALUES (1)) one LEFT JOIN oban_leaders l ON l.name = $1";

/// Gives Python's lease back, in Python's words.
const RESIGN: &str = "
    WITH gone AS (DELETE FROM oban_leaders WHERE name = $1 AND node = $2 AND elected_at = $3 RETURNING name, node)
    SELECT count(pg_notify($4, json_build_object('action', 'resign', 'node', node, 'name', name)::text)) FROM gone";

impl Engine {
    /// Nodes of other runtimes: who holds a lease that has not run out, under whatever name, which Python nodes work,
    /// and those of `heard` that are no instance of ours.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn foreigners(&self, heard: &[String]) -> Result<Foreigners, QueueError> {
        let rows = sqlx::query!(
            r#"SELECT to_regclass('oban_leaders') IS NOT NULL AND to_regclass('oban_producers') IS NOT NULL AS "has_python!",
                      f.node AS "node?", f.left_ms AS "left_ms?"
               FROM (VALUES (1)) one LEFT JOIN (
                 SELECT p.node,
                   greatest((extract(epoch FROM p.expires_at - timezone('UTC', clock_timestamp())) * 1000)::bigint, 0) AS left_ms
                 FROM oban_peers p
                 WHERE p.expires_at > timezone('UTC', now())
                   AND NOT EXISTS (SELECT FROM instance_registry r WHERE r.instance_id = p.node)
                 UNION ALL
                 SELECT h.node, NULL::bigint FROM unnest($1::text[]) AS h (node)
                 WHERE NOT EXISTS (SELECT FROM instance_registry r WHERE r.instance_id = h.node)
               ) f ON true"#,
            heard,
        )
        .fetch_all(&self.db)
        .await?;
        let has_python = rows.iter().any(|row| row.has_python);
        let mut found: Vec<Foreigner> = rows
            .into_iter()
            .filter_map(|row| {
                let sight = row.left_ms.map_or(Sight::Heard, |left| Sight::LeadsElixir(from_millis(left)));
                Some(Foreigner { node: row.node?, sight })
            })
            .collect();
        if has_python {
            let rows: Vec<(String, String, Option<i64>)> = sqlx::query_as(PYTHON).fetch_all(&self.db).await?;
            found.extend(rows.into_iter().map(|(node, _, left)| Foreigner {
                node,
                sight: left.map_or(Sight::WorksPython, |left| Sight::LeadsPython(from_millis(left))),
            }));
        }
        Ok(Foreigners { has_python, found })
    }

    /// Queues that Python nodes work on; none where their tables are not there.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn python_queues(&self) -> Result<Vec<String>, QueueError> {
        match self.foreigners(&[]).await?.has_python {
            true => Ok(sqlx::query_scalar(PYTHON_QUEUES).fetch_all(&self.db).await?),
            false => Ok(Vec::new()),
        }
    }

    /// As [`Engine::elect`] in `oban_leaders`, for the term that was won in `oban_peers`. Only where the table is
    /// there.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn elect_python(
        &self,
        name: &str,
        node: &str,
        term: NaiveDateTime,
        lease: Duration,
    ) -> Result<Election, QueueError> {
        let (won, node, left): (bool, Option<String>, Option<i64>) =
            sqlx::query_as(ELECT).bind(name).bind(node).bind(term).bind(millis(lease)).fetch_one(&self.db).await?;
        Ok(if won {
            Election::Won { started_at: term }
        } else {
            Election::Lost { node, remaining: from_millis(left.unwrap_or(0)) }
        })
    }

    /// As [`Engine::resign`] in `oban_leaders`.
    ///
    /// # Errors
    /// [`QueueError::Db`]; the lease then runs out by itself.
    pub async fn resign_python(&self, name: &str, node: &str, term: NaiveDateTime) -> Result<bool, QueueError> {
        let told: i64 = sqlx::query_scalar(RESIGN)
            .bind(name)
            .bind(node)
            .bind(term)
            .bind(self.db.channel("leader"))
            .fetch_one(&self.db)
            .await?;
        Ok(told > 0)
    }
}

fn from_millis(left: i64) -> Duration {
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}
