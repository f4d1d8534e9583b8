//! Jobs that a workflow enqueues and waits for.
//!
//! A step of this kind is a plan: it is asked again and again, with what its children came to so far, and says which
//! further jobs to enqueue or what it all comes to. While children are under way the parent's job is scheduled and
//! holds no slot; the end of a child that it waits for wakes it, and a look every [`CHILDREN_POLL`] does where that was
//! missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::{StepContext, StepError, StepOutput};
use crate::queue::{NewJob, State};

/// Children of one step.
pub const CHILDREN_MAX: usize = 1_000;
/// Longest key of a child in characters.
pub const CHILD_KEY_CHARS_MAX: usize = 255;
/// How often a parent that nobody wakes looks after its children.
pub const CHILDREN_POLL: Duration = Duration::from_secs(15);

/// Key in a child's `meta` under which the id of its parent's job stands.
pub const META_PARENT_JOB: &str = crate::queue::META_PARENT_JOB;
/// Key in a child's `meta` under which the id of its parent's run stands.
pub const META_PARENT_RUN: &str = "parent_run";

/// A job that a plan wants.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildJob {
    /// Name within the step, 1 to [`CHILD_KEY_CHARS_MAX`] characters. A key that was enqueued already is not enqueued
    /// again, so a plan may be repeated.
    pub key: String,
    /// The job. Uniqueness is not for children: each is its parent's alone.
    pub job: NewJob,
}

/// A child as its parent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Child {
    /// Name within the step.
    pub key: String,
    /// Its job.
    pub job_id: i64,
    /// Where it is; `None` when its row was deleted before the parent saw its end.
    pub state: Option<State>,
    /// What it came to, where it completed: the result in `job_results`, else the output of its run, else what its
    /// worker recorded.
    pub output: Option<Value>,
    /// Text of its last error, where it did not complete.
    pub error: Option<String>,
}

/// What a plan knows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Children {
    /// All that were enqueued so far, by key.
    pub all: BTreeMap<String, Child>,
}

/// What wakes the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The end of all children.
    All,
    /// The end of any child that the plan has not seen ended.
    Any,
}

/// What a plan says.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan<T> {
    /// Enqueue these, as far as their keys are new, and ask again.
    Wait {
        /// Further children.
        enqueue: Vec<ChildJob>,
        /// When to ask.
        until: Wait,
    },
    /// The step is done.
    Done(T),
}

/// A plan as it is executed.
pub type PlanFn =
    Arc<dyn Fn(StepContext, Children) -> BoxFuture<'static, Result<Plan<StepOutput>, StepError>> + Send + Sync>;

impl Child {
    /// Whether it will not change any more.
    pub fn has_ended(&self) -> bool {
        self.state.is_none_or(State::is_terminal)
    }

    /// Whether it completed.
    pub fn has_completed(&self) -> bool {
        self.state == Some(State::Completed)
    }

    /// What it came to, as `T`.
    ///
    /// # Errors
    /// A [`StepError`] that discards the parent, when the child did not complete or its output is of another form: the
    /// child's own attempts are over, so a further attempt of the parent would find the same.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        if !self.has_completed() {
            let state = self.state.map_or("deleted", State::as_str);
            let error = self.error.as_deref().and_then(|error| error.lines().next()).unwrap_or("no error was stored");
            let (key, id) = (&self.key, self.job_id);
            return Err(super::error::discarded(
                super::error::CHILD_FAILED,
                format!("child {key:?}, job {id}, was {state}: {error}"),
            ));
        }
        T::deserialize(self.output.as_ref().unwrap_or(&Value::Null)).map_err(|error| {
            let (key, id) = (&self.key, self.job_id);
            super::error::discarded(
                super::error::CHILD_FAILED,
                format!("what child {key:?}, job {id}, came to is of another form: {error}"),
            )
        })
    }
}

impl Children {
    /// The child of this key, where it was enqueued.
    pub fn get(&self, key: &str) -> Option<&Child> {
        self.all.get(key)
    }

    /// Whether no child is under way.
    pub fn have_ended(&self) -> bool {
        self.all.values().all(Child::has_ended)
    }
}
