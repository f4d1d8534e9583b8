//! A job as it stands in `oban_jobs`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::State;

/// One row of `oban_jobs`. Field names are column names, but for the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Given by the database; rises in the order of insertion.
    pub id: i64,
    /// Where it is in its life.
    pub state: State,
    /// Queue that runs it.
    pub queue: String,
    /// Name of the code that performs it.
    pub worker: String,
    /// Arguments, a JSON object.
    pub args: Value,
    /// Free data beside the arguments; unknown keys belong to others and are kept.
    pub meta: Value,
    /// Lower-case words to find it by.
    pub tags: Vec<String>,
    /// One element a failed attempt, oldest first: `at`, `attempt`, `error`.
    pub errors: Vec<Value>,
    /// Attempts begun so far; during an execution the number of the present one, from 1.
    pub attempt: i32,
    /// Attempts allowed.
    pub max_attempts: i32,
    /// 0 is most urgent, 9 least.
    pub priority: i32,
    /// Instance and producer that claimed it last.
    pub attempted_by: Vec<String>,
    /// When it was stored.
    pub inserted_at: DateTime<Utc>,
    /// When it is, or was, due.
    pub scheduled_at: DateTime<Utc>,
    /// When it was claimed last.
    pub attempted_at: Option<DateTime<Utc>>,
    /// When it succeeded.
    pub completed_at: Option<DateTime<Utc>>,
    /// When it was given up.
    pub discarded_at: Option<DateTime<Utc>>,
    /// When it was cancelled.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// What of the row cannot be read, and why: JSON that is nested too deep or has a number beyond a double, an array
    /// of arrays. Those columns are empty here. Such a job is not performed: its attempt fails, and says this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

impl Job {
    /// The result that its worker recorded; `None` where there is none, or where another runtime recorded something
    /// that JSON cannot say.
    pub fn recorded(&self) -> Option<Value> {
        super::recorded::recorded(&self.meta)
    }
}
