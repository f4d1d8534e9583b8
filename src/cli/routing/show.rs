//! `routing show`: the routing table of each instance at this moment, with what was measured beside it.

use clap::Args;
use serde::Serialize;

use super::fleet::{self, Answer};
use crate::cli::context::Context;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cloud::Benchmark;
use crate::cloud::sync::{Holding, held_by};
use crate::config::Period;
use crate::instance::{Setting, Settings};
use crate::routing::{Barred, Line, Orders};

/// What to show.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// The instance; without it all
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Longest wait for the instances' answers
    #[arg(long, value_name = "PERIOD", default_value = "10s")]
    timeout: Period,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    /// Pins and switches, by whom, why and until when.
    orders: &'a [Setting],
    /// What each instance that is online holds.
    instances: &'a [Answer],
    /// What the database says, where no instance was asked.
    stored: Option<&'a Holding>,
}

pub(in crate::cli) async fn run(args: ShowArgs, context: &Context) -> Result<(), Failure> {
    let shown = context.with_tables(async |storage| {
        fleet::check(storage, args.instance.as_deref()).await?;
        let answers = fleet::ask_all(storage, args.instance.as_deref(), args.timeout.get()).await?;
        let mut orders = Settings::new(storage.db().clone()).in_force(args.instance.as_deref()).await?;
        orders.retain(|setting| Orders::is_order(&setting.key));
        let stored = match &args.instance {
            _ if !answers.is_empty() => None,
            // One that is offline holds this when it comes back.
            instance => {
                let id = instance.as_deref().unwrap_or_default();
                let (learned, settings) = held_by(storage.db(), id).await?;
                let now = storage.db().server_now().await?;
                let (own, _) = Orders::read(settings.iter().map(|setting| (setting.key.as_str(), &setting.value)));
                let policy = learned.policy(own, now);
                Some(Holding::new(&context.config, (&learned, &policy, now), &|_| false))
            }
        };
        Ok((answers, orders, stored))
    });
    let (answers, orders, stored) = Box::pin(shown).await?;
    if args.json {
        let document = Shown { orders: &orders, instances: &answers, stored: stored.as_ref() };
        output::document("singularity.routing.v1", &document)?;
        return fleet::unanswered(&answers).map_or(Ok(()), Err);
    }
    for (holding, names) in alike(&answers) {
        output::line(format!("{}: {}", names.join(", "), state(holding)));
        people(holding);
    }
    if let Some(stored) = &stored {
        output::note(
            "no instance was asked, because none is online; this is what the database and this configuration say",
        );
        people(stored);
    }
    orders.iter().for_each(|setting| output::line(order_line(setting)));
    fleet::unanswered(&answers).map_or(Ok(()), Err)
}

/// Instances that hold the same, put together.
fn alike(answers: &[Answer]) -> Vec<(&Holding, Vec<&str>)> {
    let mut groups: Vec<(&Holding, Vec<&str>)> = Vec::new();
    for answer in answers {
        let Some(holds) = &answer.holds else { continue };
        match groups.iter_mut().find(|(other, _)| *other == holds) {
            Some((_, names)) => names.push(&answer.instance_id),
            None => groups.push((holds, vec![&answer.instance_id])),
        }
    }
    groups
}

fn state(holding: &Holding) -> String {
    let rules = match holding.policy_version {
        0 => "no rule learned".to_owned(),
        version => format!("policy of learning {version}"),
    };
    let off = if holding.learning_off { ", learning switched off" } else { "" };
    format!("{rules}, log followed to {}{off}", holding.cursor)
}

fn people(holding: &Holding) {
    let head = ["cell", "model", "weight", "share", "learning", "success", "per success", "p95", "note"];
    let mut cell = "";
    let mut rows = Vec::new();
    for line in &holding.table {
        let name = if cell == line.cell { "" } else { &line.cell };
        cell = &line.cell;
        rows.push(row(name, line, holding));
    }
    output::table(&head, rows);
    for claim in &holding.claims {
        output::line(format!("learning {}: {}", claim.learning_id, claim.summary));
    }
    for reason in &holding.unusable {
        output::note(format!("an order cannot be used: {reason}"));
    }
}

fn row(cell: &str, line: &Line, holding: &Holding) -> Vec<String> {
    let benchmark = holding.benchmarks.iter().find(|of| of.cell().to_string() == line.cell && of.model == line.model);
    let dash = || "-".to_owned();
    vec![
        cell.to_owned(),
        line.model.clone(),
        line.weight.map_or_else(dash, percent),
        percent(line.share),
        line.learning.map_or_else(dash, |id| id.to_string()),
        benchmark.map_or_else(dash, success),
        benchmark.map_or_else(dash, |of| output::dollars(of.cost_per_success_nanousd)),
        benchmark
            .and_then(|of| of.latency_p95_ms)
            .map_or_else(dash, |ms| output::millis(ms.try_into().unwrap_or(i64::MAX))),
        note(line),
    ]
}

/// `95.1% of 812 (93.4–96.4%)`
fn success(of: &Benchmark) -> String {
    format!("{} of {} ({}–{})", percent(of.success_rate), of.n, percent(of.success_low), percent(of.success_high))
}

/// A share with one decimal.
pub(in crate::cli) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn note(line: &Line) -> String {
    let barred = line.barred.map(barred);
    let words = [
        line.reference.then_some("reference"),
        line.preferred.then_some("preferred"),
        line.pinned.then_some("pinned"),
        barred,
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Why a model cannot be called, in words.
pub(in crate::cli) fn barred(barred: Barred) -> &'static str {
    match barred {
        Barred::Off => "switched off",
        Barred::NotConfigured => "not configured",
        Barred::HeldBack => "held back by its breaker",
    }
}

/// `routing.pin.complex = "opus" for all, by ann@host, 5m 3s ago, ends in 2d 0h: audit`
pub(in crate::cli) fn order_line(setting: &Setting) -> String {
    let whom = if setting.instance_id.is_empty() { "all" } else { &setting.instance_id };
    let now = chrono::Utc::now();
    let until = setting.expires_at.map(|at| format!(", ends {}", output::relative(at, now))).unwrap_or_default();
    let reason = setting.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let Setting { key, value, author, .. } = setting;
    format!("{key} = {value} for {whom}, by {author}, {}{until}{reason}", output::relative(setting.set_at, now))
}
