//! `singularity cost`: what the work cost, in exact sums.

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::context::Context;
use super::exit::Failure;
use super::output;
use super::routing::percent;
use crate::cloud::{CostGroup, CostStore, GroupBy};
use crate::config::Period;

/// What work cost.
#[derive(Debug, Subcommand)]
pub(super) enum CostCommand {
    /// Costs and successes by model, workflow, instance or queue: `cost summary --by model --since 1d`
    Summary(SummaryArgs),
}

/// Of what.
#[derive(Debug, Args)]
pub(super) struct SummaryArgs {
    /// What to put together
    #[arg(long, value_name = "WHAT", default_value = "model")]
    by: Group,
    /// Only what ended in this last time, for example 1d; without it everything
    #[arg(long, value_name = "PERIOD")]
    since: Option<Period>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// What attempts are put together by.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Group {
    Model,
    Workflow,
    Instance,
    Queue,
}

impl Group {
    fn by(self) -> (GroupBy, &'static str) {
        match self {
            Self::Model => (GroupBy::Model, "model"),
            Self::Workflow => (GroupBy::Workflow, "workflow"),
            Self::Instance => (GroupBy::Instance, "instance"),
            Self::Queue => (GroupBy::Queue, "queue"),
        }
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    by: &'static str,
    groups: Vec<Line<'a>>,
    total: Line<'a>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    sums: &'a CostGroup,
    /// `null` without a success, or where a cost is unknown.
    cost_per_success_nanousd: Option<i128>,
}

impl<'a> Line<'a> {
    fn of(sums: &'a CostGroup) -> Self {
        Self { sums, cost_per_success_nanousd: sums.per_success_nanousd() }
    }
}

/// Does it.
///
/// # Errors
/// Those of the database.
pub(super) async fn run(command: CostCommand, context: &Context) -> Result<(), Failure> {
    let CostCommand::Summary(args) = command;
    let since_ms = args.since.map(|since| i64::try_from(since.get().as_millis()).unwrap_or(i64::MAX));
    let (by, name) = args.by.by();
    let (groups, jobs) = context
        .with_tables(async |storage| {
            let store = CostStore::new(storage.db().clone());
            Ok((store.summary(by, since_ms).await?, store.jobs(since_ms).await?))
        })
        .await?;
    let total =
        CostGroup { jobs, name: Some("total".into()), ..groups.iter().fold(CostGroup::default(), CostGroup::plus) };
    if args.json {
        let summary = Summary { by: name, groups: groups.iter().map(Line::of).collect(), total: Line::of(&total) };
        return output::document("singularity.cost_summary.v1", &summary);
    }
    let head = [
        name,
        "jobs",
        "attempts",
        "success",
        "cost",
        "unknown",
        "per success",
        "tokens in",
        "tokens out",
        "per attempt",
    ];
    output::table(&head, groups.iter().chain([&total]).map(row).collect());
    if total.unpriced > 0 {
        let text = "attempts of unknown cost are in no sum; where there are some, the cost of a success is not known";
        output::note(format!("{} {text}", total.unpriced));
    }
    if total.simulated > 0 {
        output::note(format!("{} attempts were answered by simulated models", total.simulated));
    }
    Ok(())
}

fn row(of: &CostGroup) -> Vec<String> {
    let money = |nanousd: i128| output::dollars(i64::try_from(nanousd).ok());
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let share = of.successes as f64 / of.attempts.max(1) as f64;
    let mean_ms = of.duration_ms / i128::from(of.attempts.max(1));
    vec![
        of.name.clone().unwrap_or_else(|| "?".into()),
        of.jobs.to_string(),
        of.attempts.to_string(),
        if of.attempts == 0 { "-".into() } else { percent(share) },
        money(of.cost_nanousd),
        of.unpriced.to_string(),
        of.per_success_nanousd().map_or_else(|| "?".into(), money),
        of.tokens_input.to_string(),
        of.tokens_output.to_string(),
        output::millis(i64::try_from(mean_ms).unwrap_or(i64::MAX)),
    ]
}
