//! `singularity job cancel`, `retry` and `delete`: each id is tried, whatever becomes of the others.

use clap::Args;
use serde::Serialize;

use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::queue::engine::Changed;
use crate::queue::{Engine, QueueError, State};

/// Which jobs.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Ids of the jobs
    #[arg(required = true, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    ids: Vec<i64>,
    /// One JSON document with one object a job
    #[arg(long)]
    json: bool,
}

/// What to do with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Cancel,
    Retry,
    Delete,
}

impl Verb {
    async fn on(self, engine: &Engine, id: i64) -> Result<Changed, QueueError> {
        match self {
            Self::Cancel => engine.cancel(id).await,
            Self::Retry => engine.retry(id).await,
            Self::Delete => engine.delete(id).await,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Delete => "delete",
        }
    }

    /// Word for a job that it was done to.
    const fn done(self) -> &'static str {
        match self {
            Self::Cancel => "cancelled",
            Self::Retry => "available",
            Self::Delete => "deleted",
        }
    }

    /// Whether the engine accepts this state, so that a refusal can name those that it does accept.
    const fn allows(self, state: State) -> bool {
        match self {
            Self::Cancel => !state.is_terminal(),
            Self::Retry => !matches!(state, State::Available | State::Executing),
            Self::Delete => !matches!(state, State::Executing),
        }
    }

    fn allowed(self) -> String {
        let states: Vec<_> = State::ALL.into_iter().filter(|state| self.allows(*state)).map(State::as_str).collect();
        states.join(", ")
    }

    /// What helps when a job in `state` was refused.
    fn way_out(self, state: State) -> &'static str {
        match (self, state) {
            (Self::Delete, _) => "cancel it first, or wait until it is finished",
            (Self::Retry, State::Available) => "it runs as soon as a slot of its queue is free",
            (Self::Retry, _) => "cancel it first, or wait until it is finished",
            (Self::Cancel, _) => "it is finished; `singularity job retry` runs it again",
        }
    }
}

#[derive(Serialize)]
struct Report {
    action: &'static str,
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

pub(super) async fn run(verb: Verb, args: ChangeArgs, context: &Context) -> Result<(), Failure> {
    let ids = super::distinct(&args.ids);
    let changes = context
        .with_tables(async |storage| {
            let engine = Engine::new(storage.db().clone());
            let mut changes = Vec::with_capacity(ids.len());
            for id in ids {
                changes.push((id, verb.on(&engine, id).await?));
            }
            Ok(changes)
        })
        .await?;
    if args.json {
        let jobs = changes.iter().map(|(id, change)| line(verb, *id, *change)).collect();
        output::document("singularity.job_change.v1", &Report { action: verb.name(), jobs })?;
    } else {
        for (id, change) in &changes {
            if let Changed::Yes(before) = change {
                output::line(format!("job {id} {} (was {before})", verb.done()));
            }
        }
    }
    verdict(verb, &changes)
}

fn line(verb: Verb, id: i64, change: Changed) -> Line {
    let after = match verb {
        Verb::Cancel => Some(State::Cancelled),
        Verb::Retry => Some(State::Available),
        Verb::Delete => None,
    };
    match change {
        Changed::Yes(before) => Line { id, outcome: "changed", state_before: Some(before), state: after },
        Changed::No(state) => Line { id, outcome: "refused", state_before: Some(state), state: Some(state) },
        Changed::NotFound => Line { id, outcome: "not_found", state_before: None, state: None },
    }
}

/// Missing jobs weigh more than refused ones: a wrong id is a mistake, a state may be chance.
fn verdict(verb: Verb, changes: &[(i64, Changed)]) -> Result<(), Failure> {
    let missing: Vec<i64> =
        changes.iter().filter(|(_, change)| *change == Changed::NotFound).map(|(id, _)| *id).collect();
    let refused: Vec<(i64, State)> = changes
        .iter()
        .filter_map(|(id, change)| if let Changed::No(state) = change { Some((*id, *state)) } else { None })
        .collect();
    let refusal = refused.first().map(|(_, state)| {
        let jobs: Vec<String> = refused.iter().map(|(id, state)| format!("job {id} is {state}")).collect();
        Failure::new(
            Exit::Conflict,
            codes::STATE_REFUSES,
            format!("{}; {} is allowed for {}", jobs.join(", "), verb.name(), verb.allowed()),
        )
        .hint(verb.way_out(*state))
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
        let failure = verdict(Verb::Retry, &[(1, Changed::Yes(State::Discarded)), (2, Changed::No(State::Executing))]);
        let failure = failure.unwrap_err();
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
        let failure = verdict(Verb::Cancel, &changes).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        let text = failure.message.unwrap();
        assert!(text.contains("no jobs 2, 3") && text.contains("job 1 is completed"), "{text}");
    }
}
