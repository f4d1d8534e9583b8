//! The least SQL that claims, completes and inserts: Oban's statements on one connection, nothing decoded, nobody
//! notified. It is the floor that the engine is compared with.

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row};

use super::fixture::{Bench, QUEUE, WORKER};

const CLAIM: &str = "
    WITH subset AS MATERIALIZED (
      SELECT id FROM oban_jobs WHERE state = 'available' AND queue = $1
      ORDER BY priority, scheduled_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE oban_jobs j
    SET state = 'executing', attempt = attempt + 1, attempted_at = timezone('UTC', now()), attempted_by = $3
    FROM subset WHERE j.id = subset.id AND j.attempt < j.max_attempts RETURNING j.*";

const COMPLETE: &str = "
    UPDATE oban_jobs SET state = 'completed', completed_at = timezone('UTC', now())
    WHERE id = ANY($1) AND state = 'executing'";

const INSERT: &str = "
    INSERT INTO oban_jobs (queue, worker, args) SELECT * FROM unnest($1::text[], $2::text[], $3::jsonb[]) RETURNING id";

/// One connection.
pub struct Bare(PgConnection);

/// Columns of jobs to insert.
pub type Columns = (Vec<&'static str>, Vec<&'static str>, Vec<Value>);

/// Columns of so many jobs, the same as [`Bench::jobs`].
pub fn columns(count: usize) -> Columns {
    let args = (0..count).map(|number| json!({ "number": number, "text": "sixteen letters." })).collect();
    (vec![QUEUE; count], vec![WORKER; count], args)
}

impl Bare {
    pub fn on(bench: &Bench<'_>) -> Self {
        Self(bench.block_on(PgConnection::connect(bench.url.expose_secret())).unwrap())
    }

    pub async fn claim(&mut self, batch: usize) -> Vec<i64> {
        let rows = sqlx::query(CLAIM)
            .bind(QUEUE)
            .bind(i64::try_from(batch).unwrap())
            .bind(["bench", "bare"])
            .fetch_all(&mut self.0)
            .await
            .unwrap();
        assert_eq!(rows.len(), batch);
        rows.iter().map(|row| row.get("id")).collect()
    }

    pub async fn complete(&mut self, ids: &[i64]) {
        let done = sqlx::query(COMPLETE).bind(ids).execute(&mut self.0).await.unwrap();
        assert_eq!(done.rows_affected(), ids.len() as u64);
    }

    pub async fn insert(&mut self, (queues, workers, args): Columns) {
        let count = args.len();
        let rows = sqlx::query(INSERT).bind(queues).bind(workers).bind(args).fetch_all(&mut self.0).await.unwrap();
        assert_eq!(rows.len(), count);
    }
}
