//! Which indexes `oban_jobs` has: Oban's own, or fewer and smaller ones that make claims and completions cheaper.
//!
//! A row is written three times in its life, and each time every index that covers all states gets an entry. The lean
//! profile covers each state once, by what that state is looked up for. Switching happens beside running nodes: what is
//! wanted is built first, then the rest is dropped, so that claims have an index at every moment; a switch that was cut
//! short goes on when it is asked for again. Indexes under other names are nobody's business here.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{LOCK_KEY, LOCK_TIMEOUT, MigrateError};
use crate::config::Indexes;
use crate::postgres::{Database, DbError, SchemaName};

/// Key of the advisory lock around a switch. Not that of migrations, and never waited for: a session that waits for a
/// lock holds a snapshot, and a build waits for all snapshots.
const SWITCH_KEY: i64 = LOCK_KEY + 1;

/// An index of `oban_jobs`: its name, and what follows the table's name in its definition.
type Index = (&'static str, &'static str);

/// Oban's, as its migrations make them at version 14.
const OBAN: [Index; 5] = [
    ("oban_jobs_state_queue_priority_scheduled_at_id_index", "(state, queue, priority, scheduled_at, id)"),
    ("oban_jobs_args_index", "USING gin (args)"),
    ("oban_jobs_meta_index", "USING gin (meta)"),
    ("oban_jobs_state_cancelled_at_index", "(state, cancelled_at)"),
    ("oban_jobs_state_discarded_at_index", "(state, discarded_at)"),
];

/// Each state by what it is looked up for: claiming, rescuing, staging, pruning.
const LEAN: [Index; 6] = [
    ("oban_jobs_lean_available_index", "(queue, priority, scheduled_at, id) WHERE state = 'available'"),
    ("oban_jobs_lean_executing_index", "(queue, id) WHERE state = 'executing'"),
    ("oban_jobs_lean_staging_index", "(scheduled_at, id) INCLUDE (queue) WHERE state IN ('scheduled', 'retryable')"),
    ("oban_jobs_lean_pruning_index", "(scheduled_at, id) WHERE state = 'completed'"),
    ("oban_jobs_lean_cancelled_index", "(cancelled_at, id) WHERE state = 'cancelled'"),
    ("oban_jobs_lean_discarded_index", "(discarded_at, id) WHERE state = 'discarded'"),
];

/// Of earlier versions of the lean profile: nothing looks them up any more.
const RETIRED: [&str; 1] = ["oban_jobs_lean_completed_index"];

/// What the table has of both profiles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IndexState {
    /// Indexes of Oban's profile that are there and valid.
    pub oban: Vec<String>,
    /// Those of the lean profile.
    pub lean: Vec<String>,
    /// Of either profile, left by a build that was cut short or by an earlier version; they cost and serve nothing.
    pub invalid: Vec<String>,
}

/// One step of a switch, as it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexStep {
    /// An index is built; readers and writers go on meanwhile.
    Create(&'static str),
    /// An index is dropped.
    Drop(&'static str),
    /// What a build that was cut short or an earlier version left is dropped.
    DropInvalid(&'static str),
}

impl IndexState {
    /// The profile that is whole and alone; `None` in between, and where indexes are others than ours and Oban's.
    pub fn profile(&self) -> Option<Indexes> {
        match (self.oban.len(), self.lean.len(), self.invalid.is_empty()) {
            (count, 0, true) if count == OBAN.len() => Some(Indexes::Oban),
            (0, count, true) if count == LEAN.len() => Some(Indexes::Lean),
            _ => None,
        }
    }

    /// Whether claims have an index, and nothing is half done. Tables that Oban for Python made have some of Oban's.
    pub fn is_settled(&self) -> bool {
        let serves_claims = self.has(OBAN[0].0) || self.has(LEAN[0].0);
        serves_claims && self.invalid.is_empty() && (self.oban.is_empty() || self.lean.is_empty())
    }

    pub(super) async fn find(connection: &mut PgConnection, schema: &SchemaName) -> Result<Self, DbError> {
        let rows: Vec<(String, bool)> = sqlx::query_as(
            "SELECT c.relname::text, i.indisvalid AND i.indisready
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
             WHERE i.indrelid = to_regclass($1) ORDER BY 1",
        )
        .bind(schema.qualify("oban_jobs"))
        .fetch_all(connection)
        .await?;
        let mut state = Self::default();
        for (name, is_valid) in rows {
            let known = |indexes: &[Index]| indexes.iter().any(|(index, _)| *index == name);
            match (known(&OBAN), known(&LEAN)) {
                (false, false) if RETIRED.contains(&&*name) => state.invalid.push(name),
                (false, false) => {}
                _ if !is_valid => state.invalid.push(name),
                (true, _) => state.oban.push(name),
                (_, true) => state.lean.push(name),
            }
        }
        Ok(state)
    }

    fn has(&self, name: &str) -> bool {
        self.oban.iter().chain(&self.lean).any(|index| index == name)
    }

    /// What is left to do until `wanted` is whole and alone, in order.
    fn steps(&self, wanted: Indexes) -> Vec<(IndexStep, String)> {
        let (wanted, others): (&[Index], &[Index]) = match wanted {
            Indexes::Oban => (&OBAN, &LEAN),
            Indexes::Lean => (&LEAN, &OBAN),
        };
        let drop = |name: &str| format!("DROP INDEX CONCURRENTLY IF EXISTS {name}");
        let all = wanted.iter().chain(others).map(|(name, _)| name).chain(&RETIRED);
        let invalid = all.filter(|name| self.invalid.iter().any(|index| index == *name));
        let missing = wanted.iter().filter(|(name, _)| !self.has(name));
        let unwanted = others.iter().filter(|(name, _)| self.has(name));
        invalid
            .map(|name| (IndexStep::DropInvalid(name), drop(name)))
            .chain(missing.map(|(name, definition)| {
                (IndexStep::Create(name), format!("CREATE INDEX CONCURRENTLY {name} ON oban_jobs {definition}"))
            }))
            .chain(unwanted.map(|(name, _)| (IndexStep::Drop(name), drop(name))))
            .collect()
    }
}

/// What brings a table of jobs that was made in this transaction, with Oban's indexes, to `wanted`.
pub(super) fn of_new_table(wanted: Indexes) -> String {
    let made = IndexState { oban: OBAN.iter().map(|(name, _)| (*name).to_owned()).collect(), ..IndexState::default() };
    made.steps(wanted).into_iter().map(|(_, sql)| format!("{};", sql.replace(" CONCURRENTLY", ""))).collect()
}

/// Brings the indexes of `oban_jobs` to `wanted` beside whatever runs; `tell` hears of each step before it is done.
///
/// Cancel safety: the statement under way may leave an invalid index; the next call drops it and goes on.
///
/// # Errors
/// `E0309` when a step failed, for example because a long transaction held it up for more than a minute; what was done
/// stays. `E0310` while somebody else switches. Those of [`DbError`].
pub async fn switch_indexes(
    database: &Database,
    wanted: Indexes,
    mut tell: impl FnMut(&IndexStep),
) -> Result<(), MigrateError> {
    // A session of its own: such statements may run in no transaction, and for as long as they need.
    let mut connection = PgConnection::connect_with(&database.session_unlimited()).await?;
    sqlx::query("SELECT set_config('lock_timeout', $1, false)").bind(LOCK_TIMEOUT).execute(&mut connection).await?;
    let is_alone: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(SWITCH_KEY).fetch_one(&mut connection).await?;
    if !is_alone {
        return Err(MigrateError::IndexBusy { schema: database.schema().to_string() });
    }
    let state = IndexState::find(&mut connection, database.schema()).await?;
    for (step, sql) in state.steps(wanted) {
        tell(&step);
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        done.map_err(|error| MigrateError::Index { name: step.index(), error: error.into() })?;
    }
    connection.close().await?;
    Ok(())
}

impl IndexStep {
    /// The index that it is about.
    pub fn index(&self) -> &'static str {
        match self {
            Self::Create(name) | Self::Drop(name) | Self::DropInvalid(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(indexes: &[Index]) -> Vec<String> {
        indexes.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_wanted_is_built_before_the_rest_is_dropped_and_leftovers_go_first() {
        let mut state = IndexState { oban: names(&OBAN), ..IndexState::default() };
        assert_eq!(state.profile(), Some(Indexes::Oban));
        assert_eq!(state.steps(Indexes::Oban), []);
        state.invalid.extend([LEAN[1].0.to_owned(), RETIRED[0].to_owned()]);
        state.lean.push(LEAN[0].0.to_owned());
        assert_eq!(state.profile(), None);
        let steps: Vec<_> = state.steps(Indexes::Lean).into_iter().map(|(step, _)| step).collect();
        let builds = LEAN[1..].iter().map(|(name, _)| IndexStep::Create(name));
        let drops = OBAN.iter().map(|(name, _)| IndexStep::Drop(name));
        assert_eq!(
            steps,
            [LEAN[1].0, RETIRED[0]]
                .map(IndexStep::DropInvalid)
                .into_iter()
                .chain(builds)
                .chain(drops)
                .collect::<Vec<_>>()
        );
    }
}
