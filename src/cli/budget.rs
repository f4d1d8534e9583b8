//! `singularity budget`: what calls of models may still cost, and when a budget is full again.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::{codes, output};
use crate::config::{BudgetPeriod, nearest};
use crate::workflow::{Budgets, Limited, Window};

/// Budgets of calls to models.
#[derive(Debug, Subcommand)]
pub(super) enum BudgetCommand {
    /// Budgets of the configuration with what is left of their present period
    List(ListArgs),
    /// One budget
    Show(ShowArgs),
}

/// How to list them.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Which one.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Name of the budget, as in [budgets.NAME]
    name: String,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// A budget as it stands.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    route: Option<String>,
    provider: Option<String>,
    period: BudgetPeriod,
    timezone: String,
    limit_nanousd: Option<i64>,
    limit_requests: Option<i64>,
    /// What nobody has spent or holds; `null` where it is not limited.
    remaining_nanousd: Option<i64>,
    remaining_requests: Option<i64>,
    #[serde(flatten)]
    window: Window,
}

#[derive(Debug, Serialize)]
struct Listing {
    budgets: Vec<Line>,
}

/// Does it.
///
/// # Errors
/// Those of the database; a budget that is not configured.
pub(super) async fn run(command: BudgetCommand, context: &Context) -> Result<(), Failure> {
    match command {
        BudgetCommand::List(args) => list(args, context).await,
        BudgetCommand::Show(args) => show(args, context).await,
    }
}

async fn list(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let configured = Limited::all(&context.config);
    let (budgets, now) = lines(context, &configured).await?;
    if args.json {
        return output::document("singularity.budget_list.v1", &Listing { budgets });
    }
    let head = ["budget", "calls", "spent", "of", "requests", "of", "held", "left", "full again"];
    output::table(&head, budgets.iter().map(|line| row(line, now)).collect());
    if budgets.is_empty() {
        output::note("no budget limits anything; set budgets.total.usd or .requests, or add a table [budgets.NAME]");
    }
    Ok(())
}

async fn show(args: ShowArgs, context: &Context) -> Result<(), Failure> {
    let all = Limited::all(&context.config);
    let Some(limit) = all.iter().find(|limit| limit.name == args.name) else {
        let message = format!("there is no budget {:?} that limits anything", args.name);
        let near = nearest(&args.name, all.iter().map(|limit| limit.name.as_str()));
        let hint = match near {
            Some(near) => format!("did you mean {near:?}?"),
            None => "see `singularity budget list`, or add it as [budgets.NAME] with usd or requests".to_owned(),
        };
        return Err(Failure::new(Exit::NotFound, codes::NO_BUDGET, message).hint(hint));
    };
    let (lines, now) = lines(context, std::slice::from_ref(limit)).await?;
    let Some(line) = lines.into_iter().next() else { return Ok(()) };
    if args.json {
        return output::document("singularity.budget.v1", &line);
    }
    output::pairs(&pairs(&line, now));
    Ok(())
}

async fn lines(context: &Context, limits: &[Limited]) -> Result<(Vec<Line>, DateTime<Utc>), Failure> {
    let (windows, now) = context
        .with_tables(async |storage| {
            let windows = Budgets::new(storage.db().clone()).windows(limits).await?;
            Ok((windows, storage.db().server_now().await?))
        })
        .await?;
    let line = |(limit, window): (&Limited, Window)| Line {
        name: limit.name.clone(),
        route: limit.budget.route.clone(),
        provider: limit.budget.provider.clone(),
        period: limit.budget.period,
        timezone: limit.budget.timezone.clone(),
        limit_nanousd: limit.nanousd(),
        limit_requests: limit.requests(),
        remaining_nanousd: window.remaining_nanousd(limit),
        remaining_requests: window.remaining_requests(limit),
        window,
    };
    Ok((limits.iter().zip(windows).map(line).collect(), now))
}

/// Which calls it is about.
fn calls(line: &Line) -> String {
    match (&line.route, &line.provider) {
        (None, None) => "all".to_owned(),
        (Some(route), None) => route.clone(),
        (None, Some(provider)) => format!("to {provider}"),
        (Some(route), Some(provider)) => format!("{route} to {provider}"),
    }
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn money(nanousd: Option<i64>) -> String {
    nanousd.map_or_else(|| "-".to_owned(), |nanousd| output::dollars(Some(nanousd)))
}

/// What is left, of what is limited.
fn left(line: &Line) -> String {
    let money = line.remaining_nanousd.map(|left| output::dollars(Some(left)));
    let calls = line.remaining_requests.map(|left| format!("{left} requests"));
    money.into_iter().chain(calls).collect::<Vec<_>>().join(", ")
}

fn row(line: &Line, now: DateTime<Utc>) -> Vec<String> {
    let window = &line.window;
    vec![
        line.name.clone(),
        calls(line),
        output::dollars(Some(window.spent_nanousd)),
        money(line.limit_nanousd),
        window.requests.to_string(),
        number(line.limit_requests),
        format!("{}, {} calls", output::dollars(Some(window.reserved_nanousd)), window.reserved_requests),
        left(line),
        output::relative(window.ends_at, now),
    ]
}

fn pairs(line: &Line, now: DateTime<Utc>) -> Vec<(String, String)> {
    let window = &line.window;
    let moment = |at: DateTime<Utc>| {
        format!("{} ({})", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true), output::relative(at, now))
    };
    let mut pairs = vec![
        ("budget", line.name.clone()),
        ("calls", calls(line)),
        ("period", format!("{}, {}", line.period.as_str(), line.timezone)),
        ("begun", moment(window.starts_at)),
        ("full again", moment(window.ends_at)),
        ("spent", format!("{} of {}", output::dollars(Some(window.spent_nanousd)), money(line.limit_nanousd))),
        ("requests", format!("{} of {}", window.requests, number(line.limit_requests))),
        (
            "held",
            format!(
                "{} by {} calls under way",
                output::dollars(Some(window.reserved_nanousd)),
                window.reserved_requests
            ),
        ),
        ("left", left(line)),
    ];
    if window.unpriced > 0 {
        pairs.push((
            "unknown",
            format!("{} calls whose cost is not known, so it is not in what is spent", window.unpriced),
        ));
    }
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
