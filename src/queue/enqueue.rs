//! Where code of a program puts its jobs, so that tests can put something else in the place of the database.

use std::future::Future;

use super::engine::{Engine, Inserted};
use super::error::QueueError;
use super::new_job::NewJob;

/// Takes jobs: an [`Engine`], or in tests [`Inline`](crate::testing::Inline). Code that is given `&impl Enqueue` runs
/// with both.
pub trait Enqueue: Sync {
    /// Takes one job.
    fn enqueue(&self, job: NewJob) -> impl Future<Output = Result<Inserted, QueueError>> + Send;

    /// Takes all of `jobs`, in their order.
    fn enqueue_all(&self, jobs: Vec<NewJob>) -> impl Future<Output = Result<Vec<Inserted>, QueueError>> + Send;
}

impl Enqueue for Engine {
    /// As [`Engine::insert`].
    async fn enqueue(&self, job: NewJob) -> Result<Inserted, QueueError> {
        self.insert(job).await
    }

    /// As [`Engine::insert_many`]: all or none.
    async fn enqueue_all(&self, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, QueueError> {
        self.insert_many(jobs).await
    }
}
