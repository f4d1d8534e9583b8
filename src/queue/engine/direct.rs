//! Inserting a job as one that executes already: what a claim would do a moment later, in the same statement.
//!
//! Between an insert and the claim that follows lie a commit, a notice and another commit, and the row is written
//! twice. Where the instance that inserts would be the one that claims, all of that is one statement. What decides
//! whether it may is the queue's producer, which alone claims for its queue; the engine only knows whom to ask.

use std::fmt;

use futures_util::future::BoxFuture;

use super::Engine;
use super::claim::Claim;
use super::insert::Inserted;
use super::row::job_query;
use crate::queue::error::QueueError;
use crate::queue::job::Job;
use crate::queue::new_job::NewJob;

/// What became of a job that was to be started where it is inserted; as an error the job itself, when nothing was
/// inserted and it has to go the usual way.
pub type DirectStart = Result<Result<Inserted, QueueError>, Box<NewJob>>;

/// Whoever may start a job where it is inserted.
pub trait StartsDirectly: fmt::Debug + Send + Sync {
    /// Inserts and starts `job`, which was checked, is due now and is not unique.
    fn start(&self, job: Box<NewJob>) -> BoxFuture<'_, DirectStart>;
}

impl Engine {
    /// Inserts `job` as the first attempt of the producer of `claim`, unless a job waits that this claim would take:
    /// then, and only then, nothing is inserted and `None` returned, because the others come first. Nobody is notified.
    ///
    /// One round trip and one commit for what are two of each by insert and claim. Planned once, as [`Engine::claim`]
    /// is, and durable for the same reason. The order, which EXISTS would not keep, holds the plan to the index of
    /// claims: the one by state alone looks as good while the table is empty, and would read what waits in all queues.
    ///
    /// Cancel safety: when the reply is lost the job may have been inserted; [`Engine::recover`] hands it back then.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn insert_claimed(&self, claim: &Claim<'_>, job: &NewJob) -> Result<Option<Job>, QueueError> {
        let row = job_query!(
            "INSERT INTO oban_jobs AS j (state, queue, worker, args, meta, tags, max_attempts, priority, attempt,
                                         attempted_at, attempted_by)
             SELECT 'executing', $1, $2, $3, $4, $5, $6, $7, 1, timezone('UTC', clock_timestamp()),
                    ARRAY[$8::text, $9::text]
             WHERE (
               SELECT id FROM oban_jobs
               WHERE state = 'available' AND queue = $1 AND attempt < max_attempts AND worker = ANY($10)
               ORDER BY priority, scheduled_at, id
               LIMIT 1
             ) IS NULL
             RETURNING ",
            "",
            claim.queue,
            &job.worker,
            &job.args,
            serde_json::Value::Object(job.meta.clone()),
            &job.tags,
            job.max_attempts,
            job.priority,
            claim.instance_id,
            claim.producer.to_string(),
            claim.workers,
        )
        .fetch_optional(&self.claims)
        .await?;
        Ok(row.map(Job::try_from).transpose()?)
    }
}
