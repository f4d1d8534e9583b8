//! Periodic jobs: how far each entry was decided, and inserting what is due.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::Engine;
use crate::postgres::Transaction;
use crate::queue::error::QueueError;
use crate::queue::new_job::NewJob;

/// An entry as the table of entries knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CronEntryKey<'a> {
    /// Name of the entry.
    pub name: &'a str,
    /// Expression, as it was written.
    pub expr: &'a str,
    /// Name of its zone.
    pub timezone: &'a str,
}

/// Where entries stand, in the order in which they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronStand {
    /// The database's clock, read after everything else.
    pub now: DateTime<Utc>,
    /// Up to which time each was decided; `None` when somebody else is just adding it.
    pub decided_until: Vec<Option<DateTime<Utc>>>,
    /// Of those that were decided up to a time that is far from having come, that time: each begins at the present.
    pub set_back: Vec<Option<DateTime<Utc>>>,
}

/// What becomes of the times of one entry.
#[derive(Debug, Clone, PartialEq)]
pub struct CronDecision {
    /// Name of the entry.
    pub name: String,
    /// Up to which time the entry was decided when this was: the guard.
    pub from: DateTime<Utc>,
    /// Up to which time it is decided now.
    pub until: DateTime<Utc>,
    /// Jobs to insert, with their times.
    pub jobs: Vec<(DateTime<Utc>, NewJob)>,
}

/// Entries, and who inserts their jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronOverview {
    /// The database's clock.
    pub now: DateTime<Utc>,
    /// Who leads.
    pub leader: Option<String>,
    /// Every entry that somebody ever led with, by name.
    pub rows: Vec<CronRow>,
}

/// An entry with its newest job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronRow {
    /// Name of the entry.
    pub name: String,
    /// Up to which time it was decided.
    pub decided_until: DateTime<Utc>,
    /// Time of the newest job.
    pub due_at: Option<DateTime<Utc>>,
    /// The newest job.
    pub job_id: Option<i64>,
    /// Its state; `None` when there is none, or it was deleted.
    pub state: Option<String>,
}

impl Engine {
    /// Says where `entries` stand, after adding those that are new. A new entry, and one with another expression or
    /// zone than before, begins at the present: it has missed nothing. So does one that was decided up to more than an
    /// hour from now: the database's clock was ahead then and was put right, and it would be silent until that time.
    /// Not `@reboot`: it has no times, and would be due again for the same start of its leader.
    ///
    /// One with another expression or zone begins `slack` before the present, but not before what was decided: where
    /// several with tables that differ ask in turns, each finds the time for which it woke.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn cron_stand(
        &self,
        oban: &str,
        entries: &[CronEntryKey<'_>],
        slack: Duration,
    ) -> Result<CronStand, QueueError> {
        let texts = |text: for<'a> fn(&CronEntryKey<'a>) -> &'a str| -> Vec<String> {
            entries.iter().map(|entry| text(entry).to_owned()).collect()
        };
        // In the order of the names, so that two who do this at once do not wait for each other.
        let rows = sqlx::query!(
            r#"WITH given AS MATERIALIZED (
                 SELECT * FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS g (name, expr, timezone, place)
               ), begun AS (
                 INSERT INTO cron_entries AS e (oban_name, name, expr, timezone, decided_until)
                 SELECT $1, name, expr, timezone, clock_timestamp() FROM given ORDER BY name
                 ON CONFLICT (oban_name, name) DO UPDATE
                 SET expr = excluded.expr, timezone = excluded.timezone,
                     decided_until = CASE WHEN e.decided_until > excluded.decided_until + interval '1 hour'
                                               AND e.expr <> '@reboot'
                                          THEN excluded.decided_until
                                          ELSE GREATEST(e.decided_until, excluded.decided_until
                                                                         - $5::bigint * interval '1 millisecond') END
                 WHERE (e.expr, e.timezone) <> (excluded.expr, excluded.timezone)
                    OR (e.decided_until > excluded.decided_until + interval '1 hour' AND e.expr <> '@reboot')
                 RETURNING e.name, e.decided_until
               ), known AS MATERIALIZED (
                 SELECT g.place, COALESCE(b.decided_until, e.decided_until) AS decided_until,
                        CASE WHEN e.decided_until > b.decided_until + interval '1 hour' THEN e.decided_until END AS was
                 FROM given g LEFT JOIN begun b ON b.name = g.name
                      LEFT JOIN cron_entries e ON e.oban_name = $1 AND e.name = g.name
               )
               SELECT k.decided_until, k.was, clock_timestamp() AS "now!" FROM known k ORDER BY k.place"#,
            oban,
            &texts(|entry| entry.name),
            &texts(|entry| entry.expr),
            &texts(|entry| entry.timezone),
            i64::try_from(slack.as_millis()).unwrap_or(i64::MAX),
        )
        .fetch_all(&self.db)
        .await?;
        let now = rows.iter().map(|row| row.now).max().ok_or(sqlx::Error::RowNotFound)?;
        let (decided_until, set_back) = rows.into_iter().map(|row| (row.decided_until, row.was)).unzip();
        Ok(CronStand { now, decided_until, set_back })
    }

    /// Moves entries forward and inserts their jobs, in one transaction; returns how many jobs each decision got, in
    /// order; unique ones that were there already are none of them. A decision whose entry stands elsewhere by
    /// now, because somebody else decided the same, changes nothing and gets `None`.
    ///
    /// Cancel safety: a call whose answer is lost may have been carried out; deciding anew then finds it so.
    ///
    /// # Errors
    /// [`QueueError`]; nothing is changed then.
    pub async fn cron_decide(
        &self,
        oban: &str,
        decisions: Vec<CronDecision>,
    ) -> Result<Vec<Option<usize>>, QueueError> {
        let jobs = decisions.iter().flat_map(|decision| decision.jobs.iter().map(|(_, job)| job));
        let statements = super::insert::statements(jobs);
        let deciding = async |mut tx: Transaction<'_>| -> Result<_, QueueError> {
            let counts = self.cron_decide_on(&mut tx, oban, decisions).await?;
            tx.commit().await?;
            Ok(counts)
        };
        self.db.transaction(statements, deciding).await
    }

    async fn cron_decide_on(
        &self,
        tx: &mut PgConnection,
        oban: &str,
        decisions: Vec<CronDecision>,
    ) -> Result<Vec<Option<usize>>, QueueError> {
        let names: Vec<String> = decisions.iter().map(|decision| decision.name.clone()).collect();
        let from: Vec<_> = decisions.iter().map(|decision| decision.from).collect();
        let until: Vec<_> = decisions.iter().map(|decision| decision.until).collect();
        // Locked in the order of the names; a row that somebody else holds is looked at again when they are done.
        let moved = sqlx::query_scalar!(
            r#"WITH given AS MATERIALIZED (
                 SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS g (name, from_at, until_at)
               ), held AS MATERIALIZED (
                 SELECT e.name, g.until_at FROM cron_entries e JOIN given g ON g.name = e.name
                 WHERE e.oban_name = $1 AND e.decided_until = g.from_at
                 ORDER BY e.name FOR UPDATE OF e
               )
               UPDATE cron_entries e SET decided_until = held.until_at FROM held
               WHERE e.oban_name = $1 AND e.name = held.name
               RETURNING e.name"#,
            oban,
            &names,
            &from,
            &until,
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut counts = Vec::with_capacity(decisions.len());
        // Of each job its time, and the number of its decision.
        let (mut jobs, mut due, mut of) = (Vec::new(), Vec::new(), Vec::new());
        for decision in decisions {
            let is_moved = moved.contains(&decision.name);
            if is_moved {
                for (at, job) in decision.jobs {
                    due.push((decision.name.clone(), at));
                    of.push(counts.len());
                    jobs.push(job);
                }
            }
            counts.push(is_moved.then_some(0));
        }
        if !jobs.is_empty() {
            let inserted = self.insert_many_on(&mut *tx, jobs).await?;
            for (_, number) in inserted.iter().zip(&of).filter(|(job, _)| !job.conflict) {
                if let Some(Some(count)) = counts.get_mut(*number) {
                    *count += 1;
                }
            }
            let ids: Vec<i64> = inserted.iter().map(|job| job.id).collect();
            let (names, times): (Vec<_>, Vec<_>) = due.into_iter().unzip();
            sqlx::query!(
                "UPDATE cron_entries e SET due_at = n.due_at, job_id = n.job_id
                 FROM (SELECT DISTINCT ON (name) name, due_at, job_id
                       FROM unnest($2::text[], $3::timestamptz[], $4::bigint[]) AS g (name, due_at, job_id)
                       ORDER BY name, due_at DESC, job_id DESC) n
                 WHERE e.oban_name = $1 AND e.name = n.name",
                oban,
                &names,
                &times,
                &ids,
            )
            .execute(&mut *tx)
            .await?;
        }
        Ok(counts)
    }

    /// Where every entry of this Oban's name stands, and who leads.
    ///
    /// # Errors
    /// [`QueueError::Db`].
    pub async fn cron_overview(&self, oban: &str) -> Result<CronOverview, QueueError> {
        let rows = sqlx::query_as!(
            CronRow,
            r#"SELECT e.name, e.decided_until, e.due_at, e.job_id, j.state::text AS state
               FROM cron_entries e LEFT JOIN oban_jobs j ON j.id = e.job_id
               WHERE e.oban_name = $1 ORDER BY e.name"#,
            oban,
        )
        .fetch_all(&self.db)
        .await?;
        let here = sqlx::query!(
            r#"SELECT clock_timestamp() AS "now!",
                      (SELECT node FROM oban_peers WHERE name = $1 AND expires_at > timezone('UTC', clock_timestamp())) AS leader"#,
            oban,
        )
        .fetch_one(&self.db)
        .await?;
        Ok(CronOverview { now: here.now, leader: here.leader, rows })
    }
}
