//! What budgets allow: money and a request promised to a call before it is made, and in their place what it cost. A job
//! that has to wait for a budget says in its `meta` why and until when.

use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::budget::{Exhausted, Limited};
use super::store::{Budgets, Calls, FailedCall, Holder, Spent};
use crate::config::Config;
use crate::llm::{ErrorClass, LlmError};
use crate::postgres::{Database, DbError};
use crate::queue::Job;
use crate::workflow::store::Owner;
use crate::workflow::walk::persist;

/// How much longer a promise of money lasts than the call may take.
const PROMISE_SLACK: Duration = Duration::from_secs(60);
/// Jobs that wait for a budget come back within this share of their wait, and at least within this time, one by one.
const SPREAD_SHARE: f64 = 0.02;
const SPREAD_MIN: Duration = Duration::from_secs(2);

/// Time of an attempt that is kept for writing down what its calls came to: this long, and not more than this share of
/// what is left.
const RECORDING: Duration = Duration::from_secs(3);
const RECORDING_SHARE: u32 = 4;

/// The budgets of a configuration, in one database.
#[derive(Debug, Clone)]
pub(in crate::workflow) struct Purse {
    config: Arc<Config>,
    budgets: Budgets,
    calls: Calls,
}

/// Who calls: a job at its present attempt, and what fires when it shall stop.
#[derive(Debug, Clone, Copy)]
pub(in crate::workflow) struct Caller<'a> {
    /// The job.
    pub(in crate::workflow) job: &'a Job,
    /// Ends whatever waits for the database.
    pub(in crate::workflow) cancelled: &'a CancellationToken,
}

/// A budget has no room for a call.
#[derive(Debug)]
pub(in crate::workflow) struct NoRoom {
    /// Which, and until when.
    pub(in crate::workflow) exhausted: Exhausted,
    /// Whether it limits calls of other providers as well.
    pub(in crate::workflow) is_everybodys: bool,
}

impl NoRoom {
    /// When to ask again: later by a little than there is room, each job by another.
    pub(in crate::workflow) fn wait(&self) -> Duration {
        let wait = self.exhausted.wait;
        wait.saturating_add(wait.mul_f64(SPREAD_SHARE).max(SPREAD_MIN).mul_f64(rand::random()))
    }
}

impl Purse {
    /// The budgets of `config`.
    pub(in crate::workflow) fn new(config: Arc<Config>, db: Database) -> Self {
        Self { config, budgets: Budgets::new(db.clone()), calls: Calls::new(db) }
    }

    /// Reserves a request and `nanousd` for a call of this provider; `None` when no budget limits it.
    ///
    /// Cancel safety: what was promised to a call that is never settled is given back at the job's next attempt, or
    /// when the promise expires.
    ///
    /// # Errors
    /// [`DbError`].
    pub(in crate::workflow) async fn promise(
        &self,
        caller: Caller<'_>,
        route: Option<&str>,
        provider: &str,
        nanousd: i64,
    ) -> Result<Result<Option<Uuid>, NoRoom>, DbError> {
        let limits = Limited::of_call(&self.config, route, provider);
        if limits.is_empty() {
            return Ok(Ok(None));
        }
        let id = Uuid::now_v7();
        let total = self.config.providers.get(provider).map_or(Duration::ZERO, |it| it.timeouts.total.get());
        let expires_in = total.saturating_add(PROMISE_SLACK);
        let instance_id = caller.job.attempted_by.first().map_or("", String::as_str);
        let holder = Holder { job_id: caller.job.id, instance_id, attempted_at: caller.job.attempted_at };
        let reserved =
            persist(caller.cancelled, || self.budgets.reserve(&limits, id, nanousd, holder, expires_in)).await?;
        Ok(reserved.map(|()| Some(id)).map_err(|exhausted| {
            let of = limits.iter().find(|limit| limit.name == exhausted.budget);
            let is_everybodys = of.is_none_or(|limit| limit.budget.provider.is_none());
            NoRoom { exhausted, is_everybodys }
        }))
    }

    /// Puts what a call cost in the place of what was promised to it.
    ///
    /// # Errors
    /// [`DbError`].
    pub(in crate::workflow) async fn settle(
        &self,
        caller: Caller<'_>,
        promise: Option<Uuid>,
        spent: Spent,
    ) -> Result<(), DbError> {
        match promise {
            Some(id) => persist(caller.cancelled, || self.budgets.settle(id, spent)).await,
            None => Ok(()),
        }
    }

    /// Writes down why the job will wait, for people who look at it.
    ///
    /// # Errors
    /// [`DbError`].
    pub(in crate::workflow) async fn park(
        &self,
        caller: Caller<'_>,
        reason: &str,
        wait: Duration,
    ) -> Result<(), DbError> {
        let until = Utc::now() + TimeDelta::from_std(wait).unwrap_or(TimeDelta::zero());
        tracing::info!(target: "job", id = caller.job.id, reason, ?wait, "the job waits");
        let owner = owner(caller.job);
        persist(caller.cancelled, || self.calls.park(&owner, reason, until)).await
    }

    /// Takes the reason away that the job came back with; one that was written since stays.
    ///
    /// # Errors
    /// [`DbError`].
    pub(in crate::workflow) async fn unpark(&self, caller: Caller<'_>) -> Result<(), DbError> {
        let Some(waiting) = caller.job.meta.get("waiting") else { return Ok(()) };
        let owner = owner(caller.job);
        persist(caller.cancelled, || self.calls.unpark(&owner, waiting)).await
    }

    /// Stores a call that failed, in a row of its own.
    ///
    /// # Errors
    /// [`DbError`].
    pub(super) async fn failed(&self, caller: Caller<'_>, call: &FailedCall<'_>) -> Result<(), DbError> {
        let owner = owner(caller.job);
        persist(caller.cancelled, || self.calls.failed(&owner, call)).await
    }
}

/// When the calls of an attempt that ends at `deadline` must be over. With its end whatever still runs is dropped, and
/// with a call what it cost, which was promised money: so calls end a little before, and are settled and recorded.
pub(in crate::workflow) fn calls_until(deadline: Option<std::time::Instant>) -> Option<Instant> {
    let deadline = Instant::from_std(deadline?);
    let left = deadline.saturating_duration_since(Instant::now());
    Some(deadline - RECORDING.min(left / RECORDING_SHARE))
}

/// What a budget is charged for a call with this result, of which an answer cost so much.
pub(in crate::workflow) fn spent(called: Result<Option<i64>, &LlmError>) -> Spent {
    match called {
        Ok(nanousd) => Spent::Call(nanousd),
        Err(error) => match (&error.partial, error.class) {
            (Some(partial), _) => Spent::Call(partial.cost.nanousd),
            (None, ErrorClass::Refused) => Spent::Call(Some(0)),
            // An answer with an error status costs nothing. When none came that could be read, whether it was billed is
            // unknown.
            (None, ErrorClass::Transient | ErrorClass::Permanent)
                if error.sent && error.status.is_none_or(|status| status < 400) =>
            {
                Spent::Call(None)
            }
            (None, _) => Spent::Nothing,
        },
    }
}

fn owner(job: &Job) -> Owner {
    Owner {
        job_id: job.id,
        attempt: job.attempt,
        producer: job.attempted_by.get(1).cloned().unwrap_or_default(),
        instance_id: job.attempted_by.first().cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_end_a_little_before_their_attempt() {
        let now = Instant::now();
        for (left_ms, calls_ms) in [(600_000, 597_000), (12_000, 9_000), (4_000, 3_000), (100, 75), (0, 0)] {
            let deadline = now + Duration::from_millis(left_ms);
            assert_eq!(calls_until(Some(deadline.into_std())), Some(now + Duration::from_millis(calls_ms)));
        }
        assert_eq!(calls_until(None), None);
    }
}
