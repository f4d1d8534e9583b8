//! Every statement of the learner: what is known about a cell, and what was decided about it.
//!
//! Invariant: what is read, decided and published about a cell is one transaction under one lock, so that of several
//! CentralClouds one decides at a time, on what the one before has published. Nothing is kept beside the tables:
//! after a restart the same is known as before.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use super::publish::publish;
use crate::cloud::central::learner::{
    CellView, Decision, InForce, ModelView, PatternCount, Row, Settings, Sums, falls,
};
use crate::cloud::learning::{Cell, Kind, Payload};
use crate::cloud::names::Names;
use crate::postgres::{Database, DbError, Transaction};

/// Key of the lock that the learner that decides has.
const LEARNER_LOCK_KEY: i64 = 0x73696e_6c656e72;

/// Cells that are looked at in one round.
const CELLS_MAX: i64 = 1_000;

/// Patterns that are looked at in one round, those that were seen last first.
const PATTERNS_MAX: i64 = 1_000;

/// Rollbacks of a cell that are remembered.
const ROLLBACKS_MAX: i64 = 100;

/// Notes of the history that are deleted in one round.
const NOTES_MAX: i64 = 10_000;

/// How long one look may take, all statements together.
const LOOK_LIMIT: Duration = Duration::from_secs(300);

/// SQLSTATE of a table that does not exist: the queue of an instance was dropped while it was sent to.
const UNDEFINED_TABLE: &str = "42P01";

/// How often a transaction is repeated for that reason.
const REPEATS_MAX: u32 = 5;

/// A cell with results, and how many attempts were counted there ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The cell.
    pub cell: Cell,
    /// Attempts.
    pub attempts: i64,
}

/// What a look at a cell came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Looked {
    /// Another learner has the lock.
    Busy,
    /// Another learner has decided about it just now.
    Recent,
    /// What was decided, with the numbers of what was published.
    Decided(Vec<(Decision, Option<i64>)>),
}

/// The statements, bound to one database.
#[derive(Debug, Clone)]
pub struct LearnerStore {
    db: Database,
    names: Names,
}

impl LearnerStore {
    /// Statements for `db`.
    pub fn new(db: Database) -> Self {
        let names = Names::new(db.schema());
        Self { db, names }
    }

    /// The cells of which there are results within the window.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn cells(&self, window: Duration) -> Result<Vec<Seen>, DbError> {
        let rows = sqlx::query!(
            r#"SELECT job_type, route, sum(attempts)::bigint AS "attempts!" FROM model_performance WHERE route <> ''
               GROUP BY job_type, route HAVING max(last_at) > now() - $1::bigint * interval '1 millisecond'
               ORDER BY job_type, route LIMIT $2"#,
            millis(window),
            CELLS_MAX,
        )
        .fetch_all(&self.db)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Seen { cell: Cell::new(row.job_type, row.route), attempts: row.attempts })
            .collect())
    }

    /// Looks at a cell, has `decide` decide, and publishes, all or nothing. `models` are those of its route, the
    /// reference first. Nothing is decided where the history has a decision about it of the last `pause`.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn look(
        &self,
        cell: &Cell,
        models: &[String],
        settings: &Settings,
        pause: Duration,
        decide: impl Fn(&CellView, DateTime<Utc>) -> Vec<Decision> + Send + Sync,
    ) -> Result<Looked, DbError> {
        let mut repeats = 0;
        loop {
            match self.look_once(cell, models, settings, pause, &decide).await {
                Err(error) if is_repeated(&error, &mut repeats) => {}
                result => return result,
            }
        }
    }

    async fn look_once(
        &self,
        cell: &Cell,
        models: &[String],
        settings: &Settings,
        pause: Duration,
        decide: &(impl Fn(&CellView, DateTime<Utc>) -> Vec<Decision> + Send + Sync),
    ) -> Result<Looked, DbError> {
        let name = cell.to_string();
        let looking = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            let now = match begin(&mut transaction, &name, pause).await? {
                Begun::Busy => return Ok(Looked::Busy),
                Begun::Recent => return Ok(Looked::Recent),
                Begun::At(now) => now,
            };
            let view = view(&mut transaction, cell, models, settings, now).await?;
            let decided = self.record(&mut transaction, Some(&name), decide(&view, now), now).await?;
            transaction.commit().await?;
            Ok(Looked::Decided(decided))
        };
        self.db.transaction_within(LOOK_LIMIT, looking).await
    }

    /// Looks at the library of patterns, as [`look`](Self::look) does at a cell.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn look_at_patterns(
        &self,
        decide: impl Fn(&[PatternCount], DateTime<Utc>) -> Vec<Decision> + Send + Sync,
    ) -> Result<Looked, DbError> {
        let mut repeats = 0;
        loop {
            match self.look_at_patterns_once(&decide).await {
                Err(error) if is_repeated(&error, &mut repeats) => {}
                result => return result,
            }
        }
    }

    async fn look_at_patterns_once(
        &self,
        decide: &(impl Fn(&[PatternCount], DateTime<Utc>) -> Vec<Decision> + Send + Sync),
    ) -> Result<Looked, DbError> {
        let looking = async |mut transaction: Transaction<'_>| -> Result<_, DbError> {
            let Begun::At(now) = begin(&mut transaction, "", Duration::ZERO).await? else { return Ok(Looked::Busy) };
            let counts = patterns(&mut transaction).await?;
            let decided = self.record(&mut transaction, None, decide(&counts, now), now).await?;
            transaction.commit().await?;
            Ok(Looked::Decided(decided))
        };
        self.db.transaction_within(LOOK_LIMIT, looking).await
    }

    /// Deletes notes of the history that are older than `keep`; what was published stays.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn forget(&self, keep: Duration) -> Result<u64, DbError> {
        let deleted = sqlx::query!(
            "DELETE FROM learning_history WHERE id IN (
               SELECT id FROM learning_history
               WHERE at < now() - $1::bigint * interval '1 millisecond' AND learning_id IS NULL ORDER BY at LIMIT $2)",
            millis(keep),
            NOTES_MAX,
        )
        .execute(&self.db)
        .await?;
        Ok(deleted.rows_affected())
    }

    /// Writes decisions into the history, and publishes those that are to be.
    async fn record(
        &self,
        connection: &mut PgConnection,
        cell: Option<&str>,
        decisions: Vec<Decision>,
        now: DateTime<Utc>,
    ) -> Result<Vec<(Decision, Option<i64>)>, DbError> {
        let mut recorded = Vec::new();
        for decision in decisions {
            let id = match &decision.draft {
                Some(draft) => Some(publish(&mut *connection, &self.names, draft, now).await?),
                None => None,
            };
            sqlx::query!(
                "INSERT INTO learning_history (decision, cell, learning_id, detail) VALUES ($1, $2, $3, $4)",
                decision.name,
                cell,
                id,
                decision.detail,
            )
            .execute(&mut *connection)
            .await?;
            recorded.push((decision, id));
        }
        Ok(recorded)
    }
}

fn millis(period: Duration) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX)
}

/// Whether the queue of an instance was dropped while it was sent to, so that the transaction is to be repeated.
fn is_repeated(error: &DbError, repeats: &mut u32) -> bool {
    *repeats += 1;
    let gone = error.sqlstate().as_deref() == Some(UNDEFINED_TABLE) && *repeats <= REPEATS_MAX;
    if gone {
        tracing::debug!(target: "cloud", %error, "a queue was dropped while it was sent to; once more");
    }
    gone
}

/// What the beginning of a look found.
enum Begun {
    /// Another learner has the lock.
    Busy,
    /// The cell was decided about just now.
    Recent,
    /// The lock is held; the database's time.
    At(DateTime<Utc>),
}

async fn begin(connection: &mut PgConnection, cell: &str, pause: Duration) -> Result<Begun, DbError> {
    let locked = sqlx::query_scalar!(r#"SELECT pg_try_advisory_xact_lock($1) AS "locked!""#, LEARNER_LOCK_KEY)
        .fetch_one(&mut *connection)
        .await?;
    if !locked {
        return Ok(Begun::Busy);
    }
    // In a statement of its own: what the one before has committed must be seen.
    let found = sqlx::query!(
        r#"SELECT clock_timestamp() AS "now!", EXISTS (
             SELECT FROM learning_history
             WHERE at > clock_timestamp() - $2::bigint * interval '1 millisecond' AND cell = $1) AS "recent!""#,
        cell,
        millis(pause),
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(if found.recent { Begun::Recent } else { Begun::At(found.now) })
}

async fn view(
    connection: &mut PgConnection,
    cell: &Cell,
    models: &[String],
    settings: &Settings,
    now: DateTime<Utc>,
) -> Result<CellView, DbError> {
    let key = cell.to_string();
    let mut views: BTreeMap<&str, ModelView> =
        models.iter().map(|model| (&**model, ModelView { model: model.clone(), ..ModelView::default() })).collect();
    for (model, since) in changes(&mut *connection, &key).await? {
        if let Some(view) = views.get_mut(&*model) {
            view.since = view.since.max(Some(since));
        }
    }
    add_rows(&mut *connection, cell, models, settings.window, &mut views).await?;
    add_sums(&mut *connection, cell, models, settings.window, &mut views).await?;
    add_parents(&mut *connection, cell, models, &mut views).await?;
    let (mut rule, mut claim, mut benchmarks) = (None, None, None);
    for (id, rolls_back, payload, created_at, expires_at) in in_force(connection, &key, now).await? {
        match payload {
            Payload::ModelRouting(routing) => {
                let value = routing.routing_rules.into_iter().next();
                rule = value.map(|value| InForce { id, value, created_at, expires_at });
            }
            // A claim that was taken back is none.
            Payload::CostOptimization(_) if rolls_back => {}
            Payload::CostOptimization(value) => claim = Some(InForce { id, value, created_at, expires_at }),
            Payload::PerformanceBenchmark(measured) => {
                benchmarks = Some(InForce { id, value: measured.benchmarks, created_at, expires_at });
            }
            Payload::PatternDiscovery(_) => {}
        }
    }
    let models = models.iter().filter_map(|model| views.remove(&**model)).collect();
    Ok(CellView { cell: cell.clone(), models, rule, claim, benchmarks })
}

/// When which models of a cell changed, as the rollbacks say.
async fn changes(connection: &mut PgConnection, key: &str) -> Result<Vec<(String, DateTime<Utc>)>, DbError> {
    let rows = sqlx::query_scalar!(
        "SELECT evidence FROM learnings WHERE type = 'model_routing' AND key = $1 AND rolls_back IS NOT NULL
         ORDER BY id DESC LIMIT $2",
        key,
        ROLLBACKS_MAX,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().flat_map(falls).collect())
}

/// Attempts that infrastructure failed are limited apart, so that no outage hides how good and dear a model was before.
async fn add_rows(
    connection: &mut PgConnection,
    cell: &Cell,
    models: &[String],
    window: Duration,
    views: &mut BTreeMap<&str, ModelView>,
) -> Result<(), DbError> {
    let rows = sqlx::query!(
        r#"SELECT m.model AS "model!", r.outcome AS "outcome!", r.cost_nanousd, r.duration_ms AS "duration_ms!",
                  r.completed_at AS "completed_at!", r.policy_version, r.propensity
           FROM unnest($3::text[]) AS m (model),
             (VALUES ('{success,failure,refused}'::text[]), ('{infrastructure}')) AS o (outcomes), LATERAL (
             SELECT * FROM central_results c
             WHERE c.job_type = $1 AND c.route = $2 AND c.model = m.model AND c.outcome = ANY (o.outcomes)
               AND c.completed_at > now() - $4::bigint * interval '1 millisecond'
             ORDER BY c.completed_at DESC LIMIT $5
           ) r ORDER BY r.completed_at, r.job_id, r.attempt"#,
        cell.job_type,
        cell.route,
        models,
        millis(window),
        ModelView::ROWS_MAX as i64,
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        // An outcome of a later version says nothing here.
        let (Some(view), Ok(outcome)) = (views.get_mut(&*row.model), row.outcome.parse()) else { continue };
        view.rows.push(Row {
            outcome,
            cost_nanousd: row.cost_nanousd,
            duration_ms: row.duration_ms,
            completed_at: row.completed_at,
            policy_version: row.policy_version,
            propensity: row.propensity,
        });
    }
    Ok(())
}

/// What comparisons count: attempts whose model was chosen for them, which was chance within one policy. What an
/// alternative answered after another model had failed was left to it by that failure, and is harder than the rest.
async fn add_sums(
    connection: &mut PgConnection,
    cell: &Cell,
    models: &[String],
    window: Duration,
    views: &mut BTreeMap<&str, ModelView>,
) -> Result<(), DbError> {
    let since: Vec<_> = models.iter().map(|model| views.get(&**model).and_then(|view| view.since)).collect();
    let rows = sqlx::query!(
        r#"SELECT m.model AS "model!", coalesce(c.policy_version, 0) AS "version!",
                  count(*) FILTER (WHERE c.outcome IN ('success', 'failure', 'refused')) AS "n!",
                  count(*) FILTER (WHERE c.outcome = 'success') AS "successes!",
                  count(c.cost_nanousd) FILTER (WHERE c.outcome <> 'infrastructure') AS "priced!",
                  coalesce(sum(c.cost_nanousd::float8) FILTER (WHERE c.outcome <> 'infrastructure'), 0) AS "cost!",
                  coalesce(sum(c.cost_nanousd::float8 ^ 2) FILTER (WHERE c.outcome <> 'infrastructure'), 0)
                    AS "cost_squared!",
                  coalesce(sum(c.cost_nanousd::float8) FILTER (WHERE c.outcome = 'success'), 0) AS "cost_of_successes!",
                  coalesce(sum(c.cost_nanousd::float8) FILTER (WHERE c.outcome = 'infrastructure'), 0) AS "lost!",
                  coalesce(sum(c.cost_nanousd::float8 ^ 2) FILTER (WHERE c.outcome = 'infrastructure'), 0)
                    AS "lost_squared!"
           FROM unnest($3::text[], $4::timestamptz[]) AS m (model, since)
           JOIN central_results c ON c.job_type = $1 AND c.route = $2 AND c.model = m.model
             AND c.completed_at > now() - $5::bigint * interval '1 millisecond'
             AND (m.since IS NULL OR c.completed_at >= m.since)
             AND c.outcome IN ('success', 'failure', 'refused', 'infrastructure') AND c.propensity IS NOT NULL
           GROUP BY 1, 2"#,
        cell.job_type,
        cell.route,
        models,
        &since as &[Option<DateTime<Utc>>],
        millis(window),
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let Some(view) = views.get_mut(&*row.model) else { continue };
        let sums = Sums {
            n: row.n.unsigned_abs(),
            successes: row.successes.unsigned_abs(),
            priced: row.priced.unsigned_abs(),
            cost: row.cost,
            cost_squared: row.cost_squared,
            cost_of_successes: row.cost_of_successes,
            lost: row.lost,
            lost_squared: row.lost_squared,
        };
        view.sums.insert(row.version, sums);
    }
    Ok(())
}

async fn add_parents(
    connection: &mut PgConnection,
    cell: &Cell,
    models: &[String],
    views: &mut BTreeMap<&str, ModelView>,
) -> Result<(), DbError> {
    let rows = sqlx::query!(
        r#"SELECT model, sum(successes)::bigint AS "successes!", sum(successes + failures + refusals)::bigint AS "n!"
           FROM model_performance WHERE job_type = $1 AND route <> $2 AND model = ANY ($3) GROUP BY model"#,
        cell.job_type,
        cell.route,
        models,
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        if let Some(view) = views.get_mut(&*row.model) {
            view.parent = (row.successes.unsigned_abs(), row.n.unsigned_abs());
        }
    }
    Ok(())
}

/// The latest learning of each type about a cell, where it has not ended and can be read.
async fn in_force(
    connection: &mut PgConnection,
    key: &str,
    now: DateTime<Utc>,
) -> Result<Vec<(i64, bool, Payload, DateTime<Utc>, Option<DateTime<Utc>>)>, DbError> {
    let kinds =
        [Kind::ModelRouting, Kind::CostOptimization, Kind::PerformanceBenchmark].map(|kind| kind.as_str().to_owned());
    let rows = sqlx::query!(
        r#"SELECT DISTINCT ON (type) id, type AS kind, schema_version, rolls_back, payload, created_at, expires_at
           FROM learnings WHERE key = $1 AND type = ANY ($2) ORDER BY type, id DESC"#,
        key,
        &kinds[..],
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter().filter(|row| row.expires_at.is_none_or(|at| at > now));
    let read = rows.filter_map(|row| {
        let payload: Value = row.payload;
        let payload = Payload::read(&row.kind, row.schema_version, &payload).ok()?;
        Some((row.id, row.rolls_back.is_some(), payload, row.created_at, row.expires_at))
    });
    Ok(read.collect())
}

async fn patterns(connection: &mut PgConnection) -> Result<Vec<PatternCount>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT p.name, p.definition, p.occurrences, p.successes,
                  (SELECT coalesce(l.expires_at, now() + interval '1000 years') FROM learnings l
                   WHERE l.type = 'pattern_discovery' AND l.key = p.name ORDER BY l.id DESC LIMIT 1) AS published_until
           FROM pattern_library p ORDER BY p.last_seen DESC LIMIT $1"#,
        PATTERNS_MAX,
    )
    .fetch_all(connection)
    .await?;
    let count = |count: i64| u64::try_from(count).unwrap_or_default();
    Ok(rows
        .into_iter()
        .map(|row| PatternCount {
            name: row.name,
            definition: row.definition,
            occurrences: count(row.occurrences),
            successes: count(row.successes),
            published_until: row.published_until,
        })
        .collect())
}
