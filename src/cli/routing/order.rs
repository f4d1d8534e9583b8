//! `routing pin`, `unpin`, `off`, `on`, `learning`: what people order, kept with author, reason and expiry, and what
//! each instance holds afterwards.

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use super::fleet::{self, Answer};
use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cli::routing::show::{barred, percent};
use crate::cli::tree::ask;
use crate::config::{Config, Period, nearest};
use crate::instance::{Authorship, Settings};
use crate::routing::{Line, Orders, Policy, Wish, asked, table};
use crate::workflow::LLM_REQUEST;

/// Whom an order is for.
#[derive(Debug, Args)]
pub(in crate::cli) struct Whom {
    /// The instance that it is for; without it all, also those that start later
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Longest wait for the instances' answers
    #[arg(long, value_name = "PERIOD", default_value = "10s")]
    timeout: Period,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Why, and for how long.
#[derive(Debug, Args)]
pub(in crate::cli) struct Why {
    /// Why, for those who read `routing show` afterwards
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// For so long; without it until it is taken back
    #[arg(long = "for", value_name = "PERIOD")]
    lasts: Option<Period>,
}

/// `routing pin`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PinArgs {
    /// The route: a complexity
    route: String,
    /// The model that serves it
    model: String,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    whom: Whom,
}

/// `routing unpin`.
#[derive(Debug, Args)]
pub(in crate::cli) struct UnpinArgs {
    /// The route
    route: String,
    #[command(flatten)]
    whom: Whom,
}

/// `routing off`, `on`.
#[derive(Debug, Args)]
pub(in crate::cli) struct SwitchArgs {
    /// The model
    model: String,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    whom: Whom,
}

/// `routing learning`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LearningArgs {
    /// Whether it counts
    switch: Switch,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    whom: Whom,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Switch {
    /// It counts.
    On,
    /// It does not.
    Off,
}

#[derive(Serialize)]
struct Done<'a> {
    key: &'a str,
    /// `null` where the order was taken back.
    value: Option<&'a Value>,
    /// Every instance that is online and that it is for.
    instances: &'a [Answer],
}

pub(in crate::cli) async fn pin(args: PinArgs, context: &Context) -> Result<(), Failure> {
    check_route(&args.route, &context.config)?;
    check_model(&args.model, &context.config)?;
    check_chat(&args.model, &context.config)?;
    set(&Orders::pin_key(&args.route), &args.model.into(), &args.why, &args.whom, context).await
}

pub(in crate::cli) async fn unpin(args: UnpinArgs, context: &Context) -> Result<(), Failure> {
    forget(&Orders::pin_key(&args.route), &args.whom, context).await
}

pub(in crate::cli) async fn switch(args: SwitchArgs, off: bool, context: &Context) -> Result<(), Failure> {
    let key = Orders::off_key(&args.model);
    if !off {
        return forget(&key, &args.whom, context).await;
    }
    check_model(&args.model, &context.config)?;
    set(&key, &true.into(), &args.why, &args.whom, context).await
}

pub(in crate::cli) async fn learning(args: LearningArgs, context: &Context) -> Result<(), Failure> {
    match args.switch {
        Switch::On => forget(Orders::LEARNING_KEY, &args.whom, context).await,
        Switch::Off => set(Orders::LEARNING_KEY, &"off".into(), &args.why, &args.whom, context).await,
    }
}

fn check_route(route: &str, config: &Config) -> Result<(), Failure> {
    let known = routes(config);
    if known.iter().any(|known| known == route) {
        return Ok(());
    }
    let text = format!("there is no route \"{route}\"; there are {}", known.join(", "));
    let failure = Failure::new(Exit::NotFound, codes::NO_ROUTE, text);
    Err(match nearest(route, known.iter().map(String::as_str)) {
        Some(near) => failure.hint(format!("did you mean \"{near}\"?")),
        None => failure.hint("see `singularity routing show`"),
    })
}

/// Routes of this configuration, in the order of the table.
fn routes(config: &Config) -> Vec<String> {
    let table = table(config, &Policy::default(), LLM_REQUEST, &|_| false);
    let mut routes: Vec<String> =
        table.iter().filter_map(|line| Some(line.cell.split_once('/')?.1.to_owned())).collect();
    routes.dedup();
    routes
}

fn check_model(model: &str, config: &Config) -> Result<(), Failure> {
    if config.models.contains_key(model) {
        return Ok(());
    }
    let names = || config.models.keys().map(String::as_str);
    let text = format!("there is no model \"{model}\"; there are {}", names().collect::<Vec<_>>().join(", "));
    let failure = Failure::new(Exit::NotFound, codes::NO_MODEL, text);
    Err(match nearest(model, names()) {
        Some(near) => failure.hint(format!("did you mean \"{near}\"?")),
        None => failure.hint("add it to [models] in actors.toml"),
    })
}

/// Requests for text are what routes are for.
fn check_chat(model: &str, config: &Config) -> Result<(), Failure> {
    let wish = Wish { model: Some(model), route: None, complexity: None, task_type: None };
    asked(wish, config).map(drop).map_err(|error| Failure::coded(Exit::Usage, &error))
}

async fn set(key: &str, value: &Value, why: &Why, whom: &Whom, context: &Context) -> Result<(), Failure> {
    let answers = context.with_tables(async |storage| {
        fleet::check(storage, whom.instance.as_deref()).await?;
        let author = ask::by()?;
        let lasts = why.lasts.map(|lasts| lasts.get());
        let by = Authorship { author: &author, reason: why.reason.as_deref(), lasts };
        let values = [(key.to_owned(), value.clone())];
        Settings::new(storage.db().clone()).keep(whom.instance.as_deref(), &values, &by).await?;
        fleet::ask_all(storage, whom.instance.as_deref(), whom.timeout.get()).await
    });
    let answers = Box::pin(answers).await?;
    tell(key, Some(value), &answers, whom)
}

async fn forget(key: &str, whom: &Whom, context: &Context) -> Result<(), Failure> {
    let done = context.with_tables(async |storage| {
        let settings = Settings::new(storage.db().clone());
        let forgotten = settings.forget(whom.instance.as_deref(), &[key.to_owned()]).await?;
        Ok((forgotten, fleet::ask_all(storage, whom.instance.as_deref(), whom.timeout.get()).await?))
    });
    let (forgotten, answers) = Box::pin(done).await?;
    if forgotten == 0 {
        let text = format!("there is no order {key}");
        return Err(Failure::new(Exit::NotFound, codes::NOTHING_ORDERED, text).hint("see `singularity routing show`"));
    }
    tell(key, None, &answers, whom)
}

fn tell(key: &str, value: Option<&Value>, answers: &[Answer], whom: &Whom) -> Result<(), Failure> {
    if whom.json {
        output::document("singularity.routing_order.v1", &Done { key, value, instances: answers })?;
    } else {
        let head = ["instance", "cell", "model", "share", "note"];
        output::table(&head, answers.iter().flat_map(rows).collect());
    }
    if answers.is_empty() {
        output::note("no instance that it is for is online; it holds from their next start");
    }
    fleet::unanswered(answers).map_or(Ok(()), Err)
}

/// The models that serve each cell now.
fn rows(answer: &Answer) -> Vec<Vec<String>> {
    let Some(holds) = &answer.holds else {
        return vec![vec![answer.instance_id.clone(), "no answer".into()]];
    };
    let shown = holds.table.iter().filter(|line| line.share > 0.0 || line.pinned || line.barred.is_some());
    let row = |line: &Line| {
        let pinned = line.pinned.then_some("pinned");
        let note: Vec<&str> = pinned.into_iter().chain(line.barred.map(barred)).collect();
        let share = percent(line.share);
        vec![answer.instance_id.clone(), line.cell.clone(), line.model.clone(), share, note.join(", ")]
    };
    shown.map(row).collect()
}
