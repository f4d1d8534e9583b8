//! Single inserts that come at the same time are one statement.
//!
//! While one statement is under way, further callers wait together; the next statement takes all of them. A caller who
//! is alone waits for nobody. So many tasks that insert one job each cost the server one commit, and one notice a
//! queue, for all of them.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedMutexGuard, oneshot};

use super::Engine;
use super::insert::Inserted;
use crate::queue::error::QueueError;
use crate::queue::new_job::{NewJob, Schedule};

/// Jobs in one statement: bounds what one statement holds, whatever the size of their arguments.
const GATHER_MAX: usize = 100;

/// Callers who wait; at most as many as there are. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(super) struct Gather {
    waiting: Arc<Mutex<Vec<Waiting>>>,
    /// Held by the statement that is under way.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Waiting {
    job: NewJob,
    answer: oneshot::Sender<Result<Inserted, QueueError>>,
}

impl Gather {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no statement is under way that a job could wait for, together with others.
    fn is_idle(&self) -> bool {
        self.turn.try_lock().is_ok()
    }

    /// The callers who wait longest. Whoever has given up by now is left out, and nothing is inserted for him.
    fn batch(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        waiting.retain(|one| !one.answer.is_closed());
        let count = waiting.len().min(GATHER_MAX);
        waiting.drain(..count).collect()
    }
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("waiting", &self.waiting().len()).finish()
    }
}

impl Engine {
    /// Inserts one job that was checked and is not unique.
    ///
    /// Cancel safety: dropped before its statement begins nothing is inserted; later the job may be.
    pub(super) async fn insert_gathered(&self, job: NewJob) -> Result<Inserted, QueueError> {
        let job = match &self.starts {
            Some(starts) if job.schedule == Schedule::Now && self.gather.is_idle() => {
                match starts.start(Box::new(job)).await {
                    Ok(inserted) => return inserted,
                    Err(job) => *job,
                }
            }
            _ => job,
        };
        let (answer, mut answered) = oneshot::channel();
        self.gather.waiting().push(Waiting { job, answer });
        loop {
            let turn = tokio::select! {
                biased;
                answer = &mut answered => return answer.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed.into())),
                turn = Arc::clone(&self.gather.turn).lock_owned() => turn,
            };
            // The last one to have the turn may have answered meanwhile.
            if let Ok(answer) = answered.try_recv() {
                return answer;
            }
            let (engine, batch) = (self.clone(), self.gather.batch());
            if batch.len() == 1 {
                // Its own, so a caller that gives up takes nobody along, and no other thread need be woken for it.
                self.write(batch, turn).await;
                continue;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "it ends with a statement of limited time; a caller that gives up must not take others along"
            )]
            let _writes = tokio::spawn(async move { engine.write(batch, turn).await });
        }
    }

    async fn write(&self, batch: Vec<Waiting>, turn: OwnedMutexGuard<()>) {
        let (jobs, mut answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.job, one.answer)).unzip();
        // Needed again only if the server refuses one of several.
        let again = if jobs.len() > 1 { jobs.clone() } else { Vec::new() };
        // Whoever waited may have given up meanwhile, and then nobody reads the answer.
        match self.insert_plain(&self.inserts, jobs).await {
            Ok(inserted) => answers.into_iter().zip(inserted).for_each(|(answer, one)| drop(answer.send(Ok(one)))),
            Err(error) if error.is_unavailable() => {
                let text = error.to_string();
                let away = || sqlx::Error::Io(io::Error::other(text.clone())).into();
                answers.into_iter().for_each(|answer| drop(answer.send(Err(away()))));
            }
            Err(error) if again.is_empty() => drop(answers.pop().map(|answer| answer.send(Err(error)))),
            // With one of them all were refused: each by itself, so that only that one fails.
            Err(_) => {
                for (job, answer) in again.into_iter().zip(answers) {
                    let inserted = self.insert_plain(&self.inserts, vec![job]).await;
                    let one = inserted.and_then(|all| all.first().copied().ok_or(sqlx::Error::RowNotFound.into()));
                    drop(answer.send(one));
                }
            }
        }
        drop(turn);
    }
}
