//! A run with its checkpoints, as people read it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// A row of `workflow_runs` and its checkpoints. Field names are column names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredRun {
    /// The run.
    pub id: Uuid,
    /// Name of the workflow, as in the `worker` column of its job.
    pub workflow: String,
    /// `running`, `completed`, or `failed` while its last attempt is one that said so.
    pub state: String,
    /// Instance that worked on it last.
    pub instance_id: String,
    /// When its first attempt began.
    pub started_at: DateTime<Utc>,
    /// When it was completed, or its last attempt failed.
    pub finished_at: Option<DateTime<Utc>>,
    /// Checkpoints in order.
    pub steps: Vec<StoredStep>,
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
    /// When it was stored.
    pub finished_at: DateTime<Utc>,
    /// Its result.
    pub output: Value,
}
