//! Stopping a node in order: stop claiming, let jobs finish, hand back the rest, say goodbye.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::assembly::{Node, beat};
use crate::cloud::{Ingest, Intake, SyncStore};
use crate::queue::{CANCEL_GRACE, StopCause};

/// How long handing back may take: the grace of job code, and a write.
const HAND_BACK_LIMIT: Duration = CANCEL_GRACE.saturating_add(Duration::from_secs(3));
/// How long the last statements may take when the database does not answer.
const GOODBYE_LIMIT: Duration = Duration::from_secs(3);

/// How long the tree may take to stop in order when the database does not answer, on which its actors wait.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// How long the last supervision events may take to be written.
pub(super) const HISTORY_LIMIT: Duration = Duration::from_secs(3);

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Jobs that had not finished, or whose result was not stored, when the grace was over, and that were told to stop.
    /// They are handed back, except for those that come to their end all the same before they notice.
    pub handed_back: usize,
    /// Those of them whose code did not stop: it never awaits, or blocks a thread. They are handed back when the node
    /// ends, so another instance may run them beside it; what it comes to changes nothing. It goes on until it returns
    /// or the process ends.
    pub still_running: usize,
    /// Whether the grace was cut short.
    pub forced: bool,
}

impl Node {
    /// Stops the node: no more claims; running jobs get the configured grace, or until `force` resolves; the rest is
    /// handed back as available without spending its attempt; the instance is marked offline.
    ///
    /// Code that cannot be stopped does not hold this up, and its job is handed back as well. So a program should end
    /// its process soon after: until then such a job may run here and elsewhere at once; see
    /// [`Drained::still_running`].
    ///
    /// Bounded in time also when the database is away: then jobs stay with this instance's name and are taken over by
    /// others.
    pub async fn shutdown(self, force: impl Future<Output = ()>) -> Drained {
        let drained = self.drain(force).await;
        self.end().await;
        drained
    }

    /// The first half of [`Node::shutdown`]: no more claims, and jobs finish or are handed back. The node can still be
    /// asked for what came out. Once it has been done, doing it again tells what is left and waits for nothing.
    pub async fn drain(&self, force: impl Future<Output = ()>) -> Drained {
        if self.drained.load(Ordering::Acquire) {
            let (left, stuck) = (self.queues.running(), self.stuck());
            return Drained { handed_back: left, still_running: stuck.len(), forced: false };
        }
        self.draining.store(true, Ordering::Release);
        self.queues.stop_claiming();
        let goodbye = beat(&self.queues, true);
        let told = self.presence.beat(&self.identity, &goodbye);
        report("draining was not announced", tokio::time::timeout(GOODBYE_LIMIT, told).await);

        let grace = self.config.runtime.shutdown_grace.get();
        let mut force = std::pin::pin!(force);
        let forced = tokio::select! {
            biased;
            () = self.queues.idle() => false,
            () = &mut force => true,
            () = tokio::time::sleep(grace) => false,
        };
        let handed_back = self.queues.running();
        if handed_back > 0 {
            tracing::info!(target: "instance", jobs = handed_back, "handing back jobs that did not finish");
            self.queues.stop_jobs(StopCause::HandBack);
            // What is left after the limit is caught below.
            drop(tokio::time::timeout(HAND_BACK_LIMIT, self.queues.idle()).await);
        }
        self.drained.store(true, Ordering::Release);
        let stuck = self.stuck();
        if !stuck.is_empty() {
            tracing::warn!(target: "instance", jobs = ?stuck, "code of jobs does not stop; they are handed back all the same");
        }
        Drained { handed_back, still_running: stuck.len(), forced }
    }

    /// Jobs whose code does not stop.
    fn stuck(&self) -> Vec<i64> {
        self.queues.iter().flat_map(|queue| queue.unfinished_ids()).collect()
    }

    /// Ends what runs, in order, and says goodbye.
    async fn end(self) {
        if self.database_is_away().await {
            tracing::warn!(target: "instance", "the database does not answer; what was not handed back is left to others");
            if tokio::time::timeout(STOP_LIMIT, self.running.stop()).await.is_err() {
                self.running.kill().await;
            }
            // Says in the log what is not kept.
            self.history.finish(Duration::ZERO).await;
            self.storage.close().await;
            return;
        }
        self.running.stop().await;
        if self.is_central {
            // The last report of this instance. Others, and the next start, find it as well.
            let taken = tokio::time::timeout(GOODBYE_LIMIT, Ingest::once(Intake::new(self.storage.db().clone()))).await;
            report("the last report was not taken in", taken);
        }

        for queue in self.queues.iter() {
            // The tree is down, so nobody here answers for a job any more. That of code which cannot be stopped is
            // handed back as well, as the end of the process is near, which ends the code.
            let rest = self.engine.recover(queue.name(), &self.identity.instance_id, queue.producer(), &[]);
            report("jobs were not handed back", tokio::time::timeout(GOODBYE_LIMIT, rest).await);
        }
        let left = self.presence.leave(&self.identity);
        report("the instance was not marked offline", tokio::time::timeout(GOODBYE_LIMIT, left).await);
        if self.identity.is_passing() {
            // Nobody of this name will follow the log again.
            let left = SyncStore::new(self.storage.db().clone());
            let left = tokio::time::timeout(GOODBYE_LIMIT, left.leave(&self.identity.instance_id)).await;
            report("its queue of learnings was not dropped", left);
        }
        self.history.finish(HISTORY_LIMIT).await;
        self.storage.close().await;
    }

    async fn database_is_away(&self) -> bool {
        !matches!(tokio::time::timeout(GOODBYE_LIMIT, self.storage.db().server_now()).await, Ok(Ok(_)))
    }
}

fn report<T, E: std::fmt::Display>(what: &str, result: Result<Result<T, E>, tokio::time::error::Elapsed>) {
    match result {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(target: "instance", %error, "{what}"),
        Err(_) => tracing::warn!(target: "instance", "{what}: the database did not answer"),
    }
}
