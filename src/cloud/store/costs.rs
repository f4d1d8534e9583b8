//! What attempts cost and came to, in sums by group: every statement behind `cost summary`.

use serde::Serialize;

use crate::postgres::{Database, DbError};

/// Groups in one summary, those of the highest cost.
const GROUPS_MAX: i64 = 1_000;

/// What attempts are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// The model that served them.
    Model,
    /// The workflow.
    Workflow,
    /// The instance that executed them.
    Instance,
    /// The queue of their job, while the job is kept.
    Queue,
}

impl GroupBy {
    fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Workflow => "workflow",
            Self::Instance => "instance",
            Self::Queue => "queue",
        }
    }
}

/// Sums over the attempts of a group. All are exact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CostGroup {
    /// Name of the group; `None` where it is not known, for example the queue of a job that was deleted.
    pub name: Option<String>,
    /// Jobs.
    pub jobs: i64,
    /// Attempts that left a result.
    pub attempts: i64,
    /// Attempts that succeeded; a job does once.
    pub successes: i64,
    /// Attempts whose answer was made up.
    pub simulated: i64,
    /// Attempts of unknown cost.
    pub unpriced: i64,
    /// Cost of all others, in nano-dollars.
    pub cost_nanousd: i128,
    /// Tokens in.
    pub tokens_input: i128,
    /// Tokens out.
    pub tokens_output: i128,
    /// Time from claim to result, all attempts together.
    pub duration_ms: i128,
}

impl CostGroup {
    /// What a success cost, the failed attempts included, rounded to whole nano-dollars; `None` without a success or
    /// where a cost is unknown.
    pub fn per_success_nanousd(&self) -> Option<i128> {
        let successes = i128::from(self.successes);
        (successes > 0 && self.unpriced == 0).then(|| (self.cost_nanousd + successes / 2).div_euclid(successes))
    }

    /// Adds another group's sums. Jobs in both are counted twice, so the caller sets them.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            name: self.name,
            jobs: self.jobs + other.jobs,
            attempts: self.attempts + other.attempts,
            successes: self.successes + other.successes,
            simulated: self.simulated + other.simulated,
            unpriced: self.unpriced + other.unpriced,
            cost_nanousd: self.cost_nanousd + other.cost_nanousd,
            tokens_input: self.tokens_input + other.tokens_input,
            tokens_output: self.tokens_output + other.tokens_output,
            duration_ms: self.duration_ms + other.duration_ms,
        }
    }
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct CostStore {
    db: Database,
}

impl CostStore {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// Sums of the attempts that ended in the last `since_ms`, or of all, the group of the highest cost first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn summary(&self, by: GroupBy, since_ms: Option<i64>) -> Result<Vec<CostGroup>, DbError> {
        let rows = sqlx::query!(
            r#"SELECT CASE $1::text WHEN 'model' THEN r.model_used WHEN 'workflow' THEN r.job_type
                        WHEN 'instance' THEN r.instance_id ELSE j.queue END AS name,
                      count(DISTINCT r.job_id) AS "jobs!", count(*) AS "attempts!",
                      count(*) FILTER (WHERE r.success) AS "successes!",
                      count(*) FILTER (WHERE r.simulated) AS "simulated!",
                      count(*) FILTER (WHERE r.cost_nanousd IS NULL) AS "unpriced!",
                      coalesce(sum(r.cost_nanousd), 0)::text AS "cost!",
                      coalesce(sum(r.tokens_input), 0)::text AS "tokens_input!",
                      coalesce(sum(r.tokens_output), 0)::text AS "tokens_output!",
                      coalesce(sum(r.duration_ms), 0)::text AS "duration!"
               FROM job_results r LEFT JOIN oban_jobs j ON $1 = 'queue' AND j.id = r.job_id
               WHERE $2::bigint IS NULL OR r.completed_at >= now() - $2 * interval '1 millisecond'
               GROUP BY 1 ORDER BY sum(r.cost_nanousd) DESC NULLS LAST, 1 LIMIT $3"#,
            by.as_str(),
            since_ms,
            GROUPS_MAX,
        )
        .fetch_all(&self.db)
        .await?;
        // Sums of whole numbers are whole numbers, as text too.
        let whole = |text: &str| text.parse().unwrap_or(i128::MAX);
        let groups = rows.into_iter().map(|row| CostGroup {
            name: row.name,
            jobs: row.jobs,
            attempts: row.attempts,
            successes: row.successes,
            simulated: row.simulated,
            unpriced: row.unpriced,
            cost_nanousd: whole(&row.cost),
            tokens_input: whole(&row.tokens_input),
            tokens_output: whole(&row.tokens_output),
            duration_ms: whole(&row.duration),
        });
        Ok(groups.collect())
    }

    /// Jobs that left a result in the last `since_ms`, or ever. Groups may share some.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn jobs(&self, since_ms: Option<i64>) -> Result<i64, DbError> {
        let jobs = sqlx::query_scalar!(
            r#"SELECT count(DISTINCT job_id) AS "jobs!" FROM job_results
               WHERE $1::bigint IS NULL OR completed_at >= now() - $1 * interval '1 millisecond'"#,
            since_ms,
        )
        .fetch_one(&self.db)
        .await?;
        Ok(jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_costs_what_all_attempts_cost_and_nothing_is_known_where_one_is_not() {
        let group = CostGroup { attempts: 4, successes: 3, cost_nanousd: 1_000_000_001, ..CostGroup::default() };
        assert_eq!(group.per_success_nanousd(), Some(333_333_334));
        assert_eq!(CostGroup { successes: 0, ..group.clone() }.per_success_nanousd(), None);
        assert_eq!(CostGroup { unpriced: 1, ..group }.per_success_nanousd(), None);
    }
}
