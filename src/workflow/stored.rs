//! A run with its checkpoints, as people read it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// State of a run of which an attempt failed, and whose job has another one.
pub const RETRYING: &str = "retrying";

/// A row of `workflow_runs` and its checkpoints. Field names are column names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredRun {
    /// The run.
    pub id: Uuid,
    /// Its job.
    pub job_id: i64,
    /// Name of the workflow, as in the `worker` column of its job.
    pub workflow: String,
    /// `running`, `waiting` for children, `completed`, [`RETRYING`], `failed` when its last attempt said so or its job
    /// ended otherwise, or `cancelled` with its job.
    pub state: String,
    /// Hash of the definition that it was begun with.
    pub definition_hash: String,
    /// Instance that worked on it last.
    pub instance_id: String,
    /// When its first attempt began.
    pub started_at: DateTime<Utc>,
    /// When it was completed, or its last attempt failed, also where there will be another one.
    pub finished_at: Option<DateTime<Utc>>,
    /// Text of its last failure, until it is completed.
    pub error: Option<String>,
    /// What it came to.
    pub output: Option<Value>,
    /// Checkpoints in order.
    pub steps: Vec<StoredStep>,
    /// Checkpoints inside of steps, in order.
    pub parts: Vec<StoredPart>,
    /// Jobs that it enqueued, in the order of their steps and keys.
    pub children: Vec<StoredChild>,
}

/// A row of `workflow_steps`: a step that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredStep {
    /// Its place, from 0.
    pub position: i32,
    /// Its name.
    pub step: String,
    /// Attempt of the job that did it.
    pub attempt: i32,
    /// Instance that did it.
    pub instance_id: String,
    /// How long it took.
    pub duration_ms: i64,
    /// What it cost, where that is known.
    pub cost_nanousd: Option<i64>,
    /// When it was stored.
    pub finished_at: DateTime<Utc>,
    /// Its result.
    pub output: Value,
}

/// A row of `workflow_parts`: something that is done inside of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredPart {
    /// Position of the step and places inside of it, `2.17.0`.
    pub path: String,
    /// The same for people, `answer[17]/ask`.
    pub step: String,
    /// Attempt of the job that did it.
    pub attempt: i32,
    /// Instance that did it.
    pub instance_id: String,
    /// How long it took.
    pub duration_ms: i64,
    /// What it cost, where that is known.
    pub cost_nanousd: Option<i64>,
    /// When it was stored.
    pub finished_at: DateTime<Utc>,
    /// Its result.
    pub output: Value,
}

/// A row of `job_children`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredChild {
    /// The step that enqueued it, as a path.
    pub path: String,
    /// Its name within the step.
    pub key: String,
    /// Its job.
    pub job_id: i64,
    /// Its worker; absent when its row was deleted.
    pub worker: Option<String>,
    /// State of its job; absent when its row was deleted.
    pub state: Option<String>,
    /// What it cost, where that is known.
    pub cost_nanousd: Option<i64>,
    /// Text of its last error.
    pub error: Option<String>,
}

/// A line of a listing of runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedRun {
    /// The run.
    pub id: Uuid,
    /// Its job.
    pub job_id: i64,
    /// Name of the workflow.
    pub workflow: String,
    /// As in [`StoredRun`].
    pub state: String,
    /// State of its job; absent when its row was deleted.
    pub job_state: Option<String>,
    /// Instance that worked on it last.
    pub instance_id: String,
    /// When its first attempt began.
    pub started_at: DateTime<Utc>,
    /// When it was completed, or its last attempt failed, also where there will be another one.
    pub finished_at: Option<DateTime<Utc>>,
    /// Steps that are done.
    pub steps: i64,
    /// Children that it enqueued.
    pub children: i64,
    /// What all its attempts cost, where that is known: children have runs of their own.
    pub cost_nanousd: Option<i64>,
    /// Text of its last failure, until it is completed.
    pub error: Option<String>,
}
