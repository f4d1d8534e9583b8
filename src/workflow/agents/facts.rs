//! What is known of agents: their last runs in `job_results`, and those that are under way in `oban_jobs`.

use std::collections::BTreeMap;

use sqlx::postgres::types::PgInterval;

use super::registry::Candidate;
use super::task::AGENT_TASK;
use crate::config::Config;
use crate::postgres::{Database, DbError};

/// Runs that count for an agent's share of successes: the last so many of all agents together.
pub const RUNS_MAX: i64 = 2_000;
/// Days back to which runs count.
pub const RUNS_DAYS: i32 = 7;

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct Facts {
    db: Database,
}

impl Facts {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// All configured agents with what is known of them now.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn candidates(&self, config: &Config) -> Result<Vec<Candidate>, DbError> {
        let back = PgInterval { months: 0, days: RUNS_DAYS, microseconds: 0 };
        let runs = sqlx::query!(
            r#"SELECT r.agent AS "agent!", count(*) FILTER (WHERE r.success) AS "successes!",
                      -- What the agent cannot help (the network, a limit, the database) says nothing about it.
                      count(*) FILTER (
                        WHERE NOT r.success AND COALESCE(r.outcome, 'failure') IN ('failure', 'refused')
                      ) AS "failures!"
               FROM (SELECT input_summary ->> 'agent' AS agent, success, outcome FROM job_results
                     WHERE job_type = $1 AND completed_at > now() - $2::interval
                     ORDER BY completed_at DESC LIMIT $3) r
               WHERE r.agent IS NOT NULL GROUP BY r.agent"#,
            AGENT_TASK,
            back,
            RUNS_MAX,
        )
        .fetch_all(&self.db)
        .await?;
        let running = sqlx::query!(
            r#"SELECT args ->> 'agent' AS "agent!", count(*) AS "running!" FROM oban_jobs
               WHERE state = 'executing' AND worker = $1 AND args ->> 'agent' IS NOT NULL GROUP BY 1"#,
            AGENT_TASK,
        )
        .fetch_all(&self.db)
        .await?;
        let running: BTreeMap<&str, i64> = running.iter().map(|row| (row.agent.as_str(), row.running)).collect();
        let candidate = |(name, agent): (&String, &crate::config::Agent)| {
            let row = runs.iter().find(|row| row.agent == *name);
            Candidate {
                name: name.clone(),
                capabilities: agent.capabilities.clone(),
                parallel: agent.parallel,
                running: small(running.get(name.as_str()).copied().unwrap_or(0)),
                successes: small(row.map_or(0, |row| row.successes)),
                failures: small(row.map_or(0, |row| row.failures)),
            }
        };
        Ok(config.agents.iter().map(candidate).collect())
    }
}

fn small(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
