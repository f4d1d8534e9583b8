//! Starting a job where it is inserted.
//!
//! A single job that is inserted through a node whose queue has nothing to do is not announced and claimed, but handed
//! to the queue's producer, which inserts it as executing and begins it: one commit before it runs instead of two with
//! a notice between them. The producer is asked only while it is idle, so that nobody waits behind its claims; whatever
//! speaks against it leaves the job where it is, and it is inserted as any other.
//!
//! Invariants: a job is inserted by its producer or by its inserter, never by both; order, limit, pause and lease hold
//! as for a claim, because it is one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::engine::{DirectStart, Inserted, StartsDirectly};
use super::error::QueueError;
use super::new_job::NewJob;
use super::producer::ProducerMsg;
use super::queues::Queues;
use super::slots::QueueState;

/// A producer that has not taken an offer by then does something else, or is suspended.
const TAKEN_WITHIN: Duration = Duration::from_millis(5);

/// A job that its inserter would like to have started.
#[derive(Debug)]
pub struct Offer {
    job: Kept,
    answer: oneshot::Sender<Result<Inserted, QueueError>>,
}

/// The job, for whoever takes it first: the producer, or its inserter when he has waited long enough.
#[derive(Debug, Clone)]
struct Kept(Arc<Mutex<Option<Box<NewJob>>>>);

impl Kept {
    fn take(&self) -> Option<Box<NewJob>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Offer {
    /// Takes the job, unless its inserter has given up. From then on he waits for an answer.
    pub(super) fn take(&self) -> Option<Box<NewJob>> {
        if self.answer.is_closed() { None } else { self.job.take() }
    }

    /// Leaves the job to its inserter after all: nothing was inserted.
    pub(super) fn give_back(self, job: Box<NewJob>) {
        *self.job.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
    }

    /// Says what became of it.
    pub(super) fn answer(self, inserted: Result<Inserted, QueueError>) {
        // Whoever has given up meanwhile reads no answer.
        drop(self.answer.send(inserted));
    }
}

impl StartsDirectly for Queues {
    fn start(&self, job: Box<NewJob>) -> BoxFuture<'_, DirectStart> {
        let queue = self.get(&job.queue);
        async move {
            match &queue {
                Some(queue) => offer(queue, job).await,
                None => Err(job),
            }
        }
        .boxed()
    }
}

/// Cancel safety: dropped before the producer takes the job nothing is inserted; later it may be.
async fn offer(queue: &QueueState, job: Box<NewJob>) -> DirectStart {
    let Some(_turn) = queue.turn_to_offer() else { return Err(job) };
    let kept = Kept(Arc::new(Mutex::new(Some(job))));
    let (answer, mut answered) = oneshot::channel();
    // Refused, it is dropped, and its answer with it.
    drop(queue.address().cast(ProducerMsg::Start(Offer { job: kept.clone(), answer })));
    let answer = match tokio::time::timeout(TAKEN_WITHIN, &mut answered).await {
        Ok(answer) => answer,
        Err(_) => match kept.take() {
            Some(job) => return Err(job),
            // The producer has it, and answers.
            None => answered.await,
        },
    };
    match (answer, kept.take()) {
        (Ok(inserted), _) => Ok(inserted),
        (Err(_), Some(job)) => Err(job),
        // The producer ended in the middle of its statement.
        (Err(_), None) => Ok(Err(sqlx::Error::WorkerCrashed.into())),
    }
}
