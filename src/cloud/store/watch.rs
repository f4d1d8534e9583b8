//! What somebody sees who watches a fleet work: claims, results, totals at both ends, and what was learned.

use chrono::{DateTime, Utc};

use crate::postgres::{Database, DbError};

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStanding {
    /// The job.
    pub job_id: i64,
    /// Its state in Oban's words.
    pub state: String,
    /// Attempts begun.
    pub attempt: i32,
    /// Instance of the last attempt.
    pub instance_id: Option<String>,
}

/// A job's success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSuccess {
    /// The job.
    pub job_id: i64,
    /// Instance that did it.
    pub instance_id: String,
    /// Attempt that did it.
    pub attempt: i32,
    /// Model that answered.
    pub model: Option<String>,
    /// What it cost; `None` where no price is known.
    pub cost_nanousd: Option<i64>,
    /// Number of the learning that chose the model.
    pub policy_version: Option<i64>,
}

/// What one instance, or one model, did of some jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The instance or the model.
    pub name: String,
    /// Attempts that succeeded.
    pub successes: i64,
    /// Attempts that did not.
    pub failures: i64,
    /// Sum of the known costs.
    pub cost_nanousd: i64,
}

/// Sums over attempts, to be compared between the instances' rows and CentralCloud's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Attempts.
    pub attempts: i64,
    /// Jobs that succeeded.
    pub successes: i64,
    /// Known costs.
    pub cost_nanousd: i64,
    /// Tokens, in and out.
    pub tokens: i64,
}

/// A published learning in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LearningLine {
    /// Its number.
    pub id: i64,
    /// Its type.
    pub kind: String,
    /// What it is about.
    pub key: String,
    /// What it says.
    pub summary: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// The statements, bound to one database. They only read.
#[derive(Debug, Clone)]
pub struct Watch {
    db: Database,
}

impl Watch {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// The jobs as they stand, by number; those that are gone are left out.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn standing(&self, job_ids: &[i64]) -> Result<Vec<JobStanding>, DbError> {
        let rows = sqlx::query_as!(
            JobStanding,
            r#"SELECT id AS job_id, state::text AS "state!", attempt, attempted_by[1] AS instance_id
               FROM oban_jobs WHERE id = ANY($1) ORDER BY id"#,
            job_ids,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// The successes of these jobs, in the order in which they were stored.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn successes(&self, job_ids: &[i64]) -> Result<Vec<JobSuccess>, DbError> {
        let rows = sqlx::query_as!(
            JobSuccess,
            "SELECT job_id, instance_id, attempt, model_used AS model, cost_nanousd, policy_version
             FROM job_results WHERE success AND job_id = ANY($1) ORDER BY id",
            job_ids,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// What each instance did, all jobs since the beginning.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn by_instance(&self) -> Result<Vec<Share>, DbError> {
        let rows = sqlx::query_as!(
            Share,
            r#"SELECT instance_id AS name, count(*) FILTER (WHERE success) AS "successes!",
                      count(*) FILTER (WHERE NOT success) AS "failures!", coalesce(sum(cost_nanousd), 0)::bigint AS "cost_nanousd!"
               FROM job_results GROUP BY 1 ORDER BY 1"#
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// What each model did of these jobs.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn by_model(&self, job_ids: &[i64]) -> Result<Vec<Share>, DbError> {
        let rows = sqlx::query_as!(
            Share,
            r#"SELECT coalesce(model_used, '') AS "name!", count(*) FILTER (WHERE success) AS "successes!",
                      count(*) FILTER (WHERE NOT success) AS "failures!", coalesce(sum(cost_nanousd), 0)::bigint AS "cost_nanousd!"
               FROM job_results WHERE job_id = ANY($1) GROUP BY 1 ORDER BY 1"#,
            job_ids,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// The sums of the instances' own rows.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn at_the_source(&self) -> Result<Tally, DbError> {
        let totals = sqlx::query_as!(
            Tally,
            r#"SELECT count(*) AS "attempts!", count(*) FILTER (WHERE success) AS "successes!",
                      coalesce(sum(cost_nanousd), 0)::bigint AS "cost_nanousd!",
                      coalesce(sum(coalesce(tokens_input, 0) + coalesce(tokens_output, 0)), 0)::bigint AS "tokens!"
               FROM job_results"#
        )
        .fetch_one(&self.db)
        .await?;
        Ok(totals)
    }

    /// The sums of what CentralCloud keeps of all models.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn at_the_centre(&self) -> Result<Tally, DbError> {
        let totals = sqlx::query_as!(
            Tally,
            r#"SELECT coalesce(sum(attempts), 0)::bigint AS "attempts!", coalesce(sum(successes), 0)::bigint AS "successes!",
                      coalesce(sum(cost_nanousd), 0)::bigint AS "cost_nanousd!",
                      coalesce(sum(tokens_input + tokens_output), 0)::bigint AS "tokens!"
               FROM model_performance"#
        )
        .fetch_one(&self.db)
        .await?;
        Ok(totals)
    }

    /// Learnings after this number, in order.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn published(&self, after: i64) -> Result<Vec<LearningLine>, DbError> {
        let rows = sqlx::query_as!(
            LearningLine,
            "SELECT id, type AS kind, key, summary, created_at FROM learnings WHERE id > $1 ORDER BY id",
            after,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows)
    }

    /// Up to which learning each instance has looked.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn synced(&self) -> Result<Vec<(String, i64)>, DbError> {
        let rows = sqlx::query!("SELECT instance_id, learning_id FROM learning_cursors ORDER BY instance_id")
            .fetch_all(&self.db)
            .await?;
        Ok(rows.into_iter().map(|row| (row.instance_id, row.learning_id)).collect())
    }
}
