//! `singularity job cancel`, `retry`, `delete` and `update`. Of jobs named by id each is tried, whatever becomes of the
//! others.

use clap::Args;
use serde::Serialize;

use super::change_many::{self, Bounds};
use super::filter::FilterArgs;
use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{known, output};
use crate::queue::engine::Changed;
use crate::queue::{Change, Engine, QueueError, State};

/// Which jobs: by id, or all that fit the options.
#[derive(Debug, Args)]
pub(crate) struct WhichArgs {
    /// Ids of the jobs
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i64).range(1..), conflicts_with = "filter")]
    ids: Vec<i64>,
    #[command(flatten)]
    filter: FilterArgs,
    /// All jobs there are
    #[arg(long, conflicts_with_all = ["ids", "filter"])]
    all: bool,
    /// At most so many of those that fit, the oldest first
    #[arg(long, value_name = "N", conflicts_with = "ids", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Tell what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON document: with ids one object a job, else counts by state
    #[arg(long)]
    json: bool,
}

/// States of jobs that are retried together where none was named: they failed or were stopped. Jobs that are completed
/// would do their work again, and those that are scheduled have a time that somebody chose.
const RETRIED_TOGETHER: [State; 3] = [State::Retryable, State::Discarded, State::Cancelled];

/// Which jobs, and that they may be deleted.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Delete all that fit without asking
    #[arg(long)]
    yes: bool,
}

/// Word for a job that it was done to.
pub(super) const fn done(change: &Change) -> &'static str {
    match change {
        Change::Cancel => "cancelled",
        Change::Retry => "made available",
        Change::Delete => "deleted",
        Change::Update(_) => "updated",
    }
}

/// The states that allow it, as a refusal names them.
pub(super) fn allowed(change: &Change) -> String {
    let states: Vec<_> = change.states().into_iter().map(State::as_str).collect();
    states.join(", ")
}

/// What helps when a job in `state` was refused.
fn way_out(change: &Change, state: State) -> &'static str {
    match (change, state) {
        (Change::Retry, State::Available) => "it runs as soon as a slot of its queue is free",
        (Change::Cancel, _) => "it is finished; `singularity job retry` runs it again",
        (Change::Update(_), State::Executing) => "cancel it first, or wait until it is finished",
        (Change::Update(_), _) => "`singularity job retry` makes it available; then its time can be changed",
        (Change::Delete | Change::Retry, _) => "cancel it first, or wait until it is finished",
    }
}

#[derive(Serialize)]
struct Report {
    action: &'static str,
    dry_run: bool,
    jobs: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    id: i64,
    /// `changed`, `refused` or `not_found`.
    outcome: &'static str,
    state_before: Option<State>,
    /// Absent when the job is gone.
    state: Option<State>,
}

/// As [`run`], where a deletion of all that fit needs `--yes`.
pub(super) async fn delete(args: DeleteArgs, context: &Context) -> Result<(), Failure> {
    change(Change::Delete, args.which, args.yes, context).await
}

pub(super) async fn run(wanted: Change, which: WhichArgs, context: &Context) -> Result<(), Failure> {
    change(wanted, which, false, context).await
}

async fn change(change: Change, which: WhichArgs, yes: bool, context: &Context) -> Result<(), Failure> {
    if !which.ids.is_empty() {
        return by_id(change, which, context).await;
    }
    if which.filter.is_empty() && !which.all {
        let text = format!("which jobs to {} is not said; ids, filter options or --all are required", change.name());
        return Err(Failure::new(Exit::Usage, codes::NO_CHOICE, text)
            .hint(format!("`singularity job {} --help` shows the options", change.name())));
    }
    let bounds = Bounds { limit: which.limit, dry_run: which.dry_run, yes, json: which.json };
    let mut filter = which.filter.filter()?;
    if change == Change::Retry && filter.states.is_none() {
        filter.states = Some(RETRIED_TOGETHER.into());
        output::note("only jobs that are retryable, discarded or cancelled; name others with --state");
    }
    context
        .with_tables(async |storage| {
            known::queues(storage, context, filter.queues.as_deref()).await?;
            change_many::run(change, filter, bounds, storage).await
        })
        .await
}

async fn by_id(change: Change, which: WhichArgs, context: &Context) -> Result<(), Failure> {
    let (ids, dry_run) = (super::distinct(&which.ids), which.dry_run);
    let changes = context
        .with_tables(async |storage| {
            let engine = Engine::new(storage.db().clone());
            if dry_run {
                return Ok(planned(&change, &ids, &engine.states(&ids).await?));
            }
            let mut changes = Vec::with_capacity(ids.len());
            for id in ids {
                changes.push((id, on(&engine, &change, id).await?));
            }
            Ok(changes)
        })
        .await?;
    if which.json {
        let jobs = changes.iter().map(|(id, changed)| line(&change, *id, *changed)).collect();
        output::document("singularity.job_change.v1", &Report { action: change.name(), dry_run, jobs })?;
    } else {
        for (id, changed) in &changes {
            match changed {
                Changed::Yes(before) if dry_run => {
                    output::line(format!("would {} job {id}, which is {before}", change.name()));
                }
                Changed::Yes(before) => output::line(format!("job {id} {} (was {before})", done(&change))),
                Changed::No(_) | Changed::NotFound => {}
            }
        }
    }
    verdict(&change, &changes)
}

async fn on(engine: &Engine, change: &Change, id: i64) -> Result<Changed, QueueError> {
    match change {
        Change::Cancel => engine.cancel(id).await,
        Change::Retry => engine.retry(id).await,
        Change::Delete => engine.delete(id).await,
        Change::Update(update) => engine.update(id, (**update).clone()).await,
    }
}

fn planned(change: &Change, ids: &[i64], states: &[(i64, State)]) -> Vec<(i64, Changed)> {
    let of = |id: &i64| match states.iter().find(|(known, _)| known == id) {
        Some((_, state)) if change.allows(*state) => Changed::Yes(*state),
        Some((_, state)) => Changed::No(*state),
        None => Changed::NotFound,
    };
    ids.iter().map(|id| (*id, of(id))).collect()
}

fn line(change: &Change, id: i64, changed: Changed) -> Line {
    match changed {
        Changed::Yes(before) => {
            Line { id, outcome: "changed", state_before: Some(before), state: change.after(before) }
        }
        Changed::No(state) => Line { id, outcome: "refused", state_before: Some(state), state: Some(state) },
        Changed::NotFound => Line { id, outcome: "not_found", state_before: None, state: None },
    }
}

/// Missing jobs weigh more than refused ones: a wrong id is a mistake, a state may be chance.
fn verdict(change: &Change, changes: &[(i64, Changed)]) -> Result<(), Failure> {
    let missing: Vec<i64> =
        changes.iter().filter(|(_, changed)| *changed == Changed::NotFound).map(|(id, _)| *id).collect();
    let refused: Vec<(i64, State)> = changes
        .iter()
        .filter_map(|(id, changed)| if let Changed::No(state) = changed { Some((*id, *state)) } else { None })
        .collect();
    let refusal = refused.first().map(|(_, state)| {
        let jobs: Vec<String> = refused.iter().map(|(id, state)| format!("job {id} is {state}")).collect();
        Failure::new(
            Exit::Conflict,
            codes::STATE_REFUSES,
            format!("{}; {} is allowed for {}", jobs.join(", "), change.name(), allowed(change)),
        )
        .hint(way_out(change, *state))
    });
    match (missing.is_empty(), refusal) {
        (true, None) => Ok(()),
        (true, Some(refusal)) => Err(refusal),
        (false, refusal) => {
            let mut failure = super::not_found(&missing);
            let texts = refusal.and_then(|refusal| refusal.message).into_iter().chain(failure.message.take());
            failure.message = Some(texts.collect::<Vec<_>>().join("\n"));
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_state_and_the_allowed_ones() {
        let changes = [(1, Changed::Yes(State::Discarded)), (2, Changed::No(State::Executing))];
        let failure = verdict(&Change::Retry, &changes).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        let text = failure.message.unwrap();
        assert!(
            text.contains("job 2 is executing") && text.contains("discarded") && !text.contains("available"),
            "{text}"
        );
        assert!(failure.hint.is_some());
    }

    #[test]
    fn a_missing_job_weighs_more_than_a_refused_one() {
        let changes = [(1, Changed::No(State::Completed)), (2, Changed::NotFound), (3, Changed::NotFound)];
        let failure = verdict(&Change::Cancel, &changes).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        let text = failure.message.unwrap();
        assert!(text.contains("no jobs 2, 3") && text.contains("job 1 is completed"), "{text}");
    }
}
