//! Enqueues a file of requests once: requests that name themselves are answered once for ever, the others once a batch,
//! and the same command finishes what an interrupted one left.
//!
//! Everything happens in one transaction under one lock, so a crash enqueues all or nothing.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Coded;
use crate::postgres::{DbError, Transaction};
use crate::queue::engine::INSERT_BATCH_MAX;
use crate::queue::{Engine, NewJob, QueueError, State};

/// Requests in one batch.
pub const BATCH_REQUESTS_MAX: usize = 1_000_000;

/// How long enqueuing a batch may take, all statements together.
const ENQUEUE_LIMIT: Duration = Duration::from_secs(3_600);

/// One request of a batch.
#[derive(Debug, Clone)]
pub struct BatchRequest {
    /// Its own id, where it has one.
    pub id: Option<String>,
    /// SHA-256 of what it asks.
    pub fingerprint: String,
    /// Arguments of its job.
    pub args: Value,
}

/// A file of requests.
#[derive(Debug, Clone)]
pub struct Batch {
    /// SHA-256 of the whole input.
    pub fingerprint: String,
    /// Instance that runs it.
    pub instance_id: String,
    /// Queue of the jobs.
    pub queue: String,
    /// Attempts of each job.
    pub max_attempts: i32,
    /// In the order of the input.
    pub requests: Vec<BatchRequest>,
}

/// A batch whose requests all have a job.
#[derive(Debug, Clone)]
pub struct EnqueuedBatch {
    /// The batch.
    pub id: Uuid,
    /// Whether an interrupted batch with the same input goes on.
    pub resumed: bool,
    /// Job of each request, in the order of the input.
    pub job_ids: Vec<i64>,
    /// How many of them were there already.
    pub known: usize,
}

/// An id that was used for another question before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Place in the input, from 0.
    pub index: usize,
    /// The id.
    pub id: String,
    /// The job that has it; `None` for an id that stands twice in the input.
    pub job_id: Option<i64>,
}

/// Why a batch was not enqueued. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum RequestsError {
    /// Ids that belong to other questions.
    #[error("{} ids are used for several different requests{}", .0.len(), first(.0))]
    Conflicts(Vec<Conflict>),
    /// More than [`BATCH_REQUESTS_MAX`].
    #[error("{0} requests in one input; at most {BATCH_REQUESTS_MAX} are allowed")]
    TooMany(usize),
    /// The jobs could not be inserted.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.job_id {
            Some(job_id) => write!(f, "{:?} of job {job_id}", self.id),
            None => write!(f, "{:?}, which stands twice in this input", self.id),
        }
    }
}

fn first(conflicts: &[Conflict]) -> String {
    conflicts.first().map_or_else(String::new, |first| format!(", the first is {first}"))
}

impl From<sqlx::Error> for RequestsError {
    fn from(error: sqlx::Error) -> Self {
        Self::Queue(QueueError::Db(DbError::from(error)))
    }
}

impl Coded for RequestsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Conflicts(_) => "E0605",
            Self::TooMany(_) => "E0606",
            Self::Queue(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Conflicts(_) => Some("give a changed request a new id".into()),
            Self::TooMany(_) => Some("split the file".into()),
            Self::Queue(error) => error.hint(),
        }
    }
}

/// The statements on request keys and batches.
#[derive(Debug, Clone)]
pub struct Requests {
    engine: Engine,
}

/// What a key leads to.
struct Known {
    job_id: i64,
    fingerprint: String,
    /// `None` when the job's row is gone.
    state: Option<State>,
    answered: bool,
}

impl Requests {
    /// Statements on top of `engine`.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Gives every request of `batch` a job. A request that is known keeps its job; one whose job failed is tried
    /// again.
    ///
    /// # Errors
    /// [`RequestsError`]; nothing is enqueued then.
    pub async fn enqueue(&self, batch: &Batch) -> Result<EnqueuedBatch, RequestsError> {
        if batch.requests.len() > BATCH_REQUESTS_MAX {
            return Err(RequestsError::TooMany(batch.requests.len()));
        }
        let enqueuing = async |mut tx: Transaction<'_>| -> Result<_, RequestsError> {
            // A million rows take longer than any single statement of daily work may.
            sqlx::query!("SELECT set_config('statement_timeout', '300s', true)").fetch_one(&mut *tx).await?;
            sqlx::query!(
                "SELECT pg_advisory_xact_lock(hashtextextended('singularity requests ' || current_schema(), 0))"
            )
            .execute(&mut *tx)
            .await?;
            let (id, resumed) = open_batch(&mut tx, batch).await?;
            let keys: Vec<String> = batch
                .requests
                .iter()
                .enumerate()
                .map(|(index, request)| match &request.id {
                    Some(id) => format!("id:{}", shortened(id)),
                    None => format!("batch:{id}:{index}"),
                })
                .collect();
            let mut jobs = known(&mut tx, &keys).await?;
            let conflicts = conflicts(batch, &keys, &jobs);
            if !conflicts.is_empty() {
                return Err(RequestsError::Conflicts(conflicts));
            }
            let known_count = keys.iter().filter(|key| jobs.contains_key(*key)).count();
            self.insert_missing(&mut tx, batch, &keys, &mut jobs).await?;
            let again: Vec<i64> = jobs.values().filter(|known| known.wants_retry()).map(|known| known.job_id).collect();
            retry(&mut tx, &again).await?;
            tx.commit().await?;
            let job_ids = keys.iter().filter_map(|key| jobs.get(key)).map(|known| known.job_id).collect();
            Ok(EnqueuedBatch { id, resumed, job_ids, known: known_count })
        };
        self.engine.db().transaction_within(ENQUEUE_LIMIT, enqueuing).await
    }

    /// Records that every request of a batch was reported, so that the same input begins anew next time.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn finish(&self, batch: Uuid) -> Result<(), DbError> {
        sqlx::query!("UPDATE run_batches SET finished_at = now() WHERE id = $1 AND finished_at IS NULL", batch)
            .execute(self.engine.db())
            .await?;
        Ok(())
    }

    async fn insert_missing(
        &self,
        tx: &mut PgConnection,
        batch: &Batch,
        keys: &[String],
        jobs: &mut HashMap<String, Known>,
    ) -> Result<(), RequestsError> {
        let mut missing: Vec<(&String, &BatchRequest)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (key, request) in keys.iter().zip(&batch.requests) {
            // The same id twice in one input is one request.
            let is_missing = jobs.get(key).is_none_or(|known| known.state.is_none() && !known.answered);
            if is_missing && seen.insert(key) {
                missing.push((key, request));
            }
        }
        for chunk in missing.chunks(INSERT_BATCH_MAX) {
            let new = chunk
                .iter()
                .map(|(_, request)| {
                    NewJob::new(super::LLM_REQUEST, request.args.clone())
                        .queue(batch.queue.clone())
                        .max_attempts(batch.max_attempts)
                })
                .collect();
            let inserted = self.engine.insert_many_on(tx, new).await?;
            sqlx::query!(
                "INSERT INTO request_keys (key, job_id, fingerprint)
                 SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
                 ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, fingerprint = excluded.fingerprint",
                &chunk.iter().map(|(key, _)| (*key).clone()).collect::<Vec<_>>(),
                &inserted.iter().map(|job| job.id).collect::<Vec<_>>(),
                &chunk.iter().map(|(_, request)| request.fingerprint.clone()).collect::<Vec<_>>(),
            )
            .execute(&mut *tx)
            .await?;
            for ((key, request), job) in chunk.iter().zip(inserted) {
                let known = Known {
                    job_id: job.id,
                    fingerprint: request.fingerprint.clone(),
                    state: Some(State::Available),
                    answered: false,
                };
                jobs.insert((*key).clone(), known);
            }
        }
        Ok(())
    }
}

impl Known {
    fn wants_retry(&self) -> bool {
        !self.answered && matches!(self.state, Some(State::Discarded | State::Cancelled))
    }
}

/// The interrupted batch with this input, or a new one. A batch whose instance still works on it is not taken over.
async fn open_batch(tx: &mut PgConnection, batch: &Batch) -> Result<(Uuid, bool), RequestsError> {
    let open = sqlx::query_scalar!(
        "UPDATE run_batches SET instance_id = $2
         WHERE id = (
           SELECT b.id FROM run_batches b
           WHERE b.fingerprint = $1 AND b.finished_at IS NULL
             AND (b.instance_id = $2 OR NOT EXISTS (
               SELECT FROM instance_registry r WHERE r.instance_id = b.instance_id AND r.status <> 'offline'))
           ORDER BY b.started_at LIMIT 1
         )
         RETURNING id",
        batch.fingerprint,
        batch.instance_id,
    )
    .fetch_optional(&mut *tx)
    .await?;
    if let Some(id) = open {
        return Ok((id, true));
    }
    let id = Uuid::now_v7();
    sqlx::query!(
        "INSERT INTO run_batches (id, fingerprint, requests, instance_id) VALUES ($1, $2, $3, $4)",
        id,
        batch.fingerprint,
        i32::try_from(batch.requests.len()).unwrap_or(i32::MAX),
        batch.instance_id,
    )
    .execute(tx)
    .await?;
    Ok((id, false))
}

async fn known(tx: &mut PgConnection, keys: &[String]) -> Result<HashMap<String, Known>, RequestsError> {
    let rows = sqlx::query!(
        r#"SELECT k.key AS "key!", k.job_id AS "job_id!", k.fingerprint AS "fingerprint!", j.state::text AS "state?",
                  EXISTS (SELECT FROM job_results r WHERE r.job_id = k.job_id AND r.success) AS "answered!"
           FROM request_keys k LEFT JOIN oban_jobs j ON j.id = k.job_id
           WHERE k.key = ANY($1)"#,
        keys,
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let state = row.state.map(|state| state.parse()).transpose();
            let state = state.map_err(|error: String| sqlx::Error::Decode(error.into()))?;
            let known = Known { job_id: row.job_id, fingerprint: row.fingerprint, state, answered: row.answered };
            Ok((row.key, known))
        })
        .collect()
}

fn conflicts(batch: &Batch, keys: &[String], jobs: &HashMap<String, Known>) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    // The same id twice in one input is one request, so it must ask the same.
    let mut first: HashMap<&str, &str> = HashMap::new();
    for (index, (key, request)) in keys.iter().zip(&batch.requests).enumerate() {
        let Some(id) = &request.id else { continue };
        if let Some(known) = jobs.get(key).filter(|known| known.fingerprint != request.fingerprint) {
            conflicts.push(Conflict { index, id: id.clone(), job_id: Some(known.job_id) });
        } else if *first.entry(key).or_insert(&request.fingerprint) != request.fingerprint {
            conflicts.push(Conflict { index, id: id.clone(), job_id: None });
        }
    }
    conflicts
}

/// As [`Engine::retry`], for many and in this transaction, without a notice.
async fn retry(tx: &mut PgConnection, job_ids: &[i64]) -> Result<(), RequestsError> {
    if job_ids.is_empty() {
        return Ok(());
    }
    // The running node finds them with its next poll, at most a second later.
    sqlx::query!(
        "UPDATE oban_jobs
         SET state = 'available', scheduled_at = timezone('UTC', clock_timestamp()),
             max_attempts = GREATEST(max_attempts, attempt + 1), cancelled_at = NULL, discarded_at = NULL
         WHERE id = ANY($1) AND state IN ('discarded', 'cancelled')",
        job_ids,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Keys hold 255 characters, and ids may have as many without the prefix: a long one is kept by its start and its hash.
fn shortened(id: &str) -> String {
    use sha2::{Digest, Sha256};
    const CHARS_MAX: usize = 180;
    if id.chars().count() <= CHARS_MAX {
        return id.to_owned();
    }
    let hash: String = Sha256::digest(id).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}#{hash}", id.chars().take(CHARS_MAX).collect::<String>())
}
