//! `routing explain JOB`: why a job got its model, from what was stored when it was chosen; the draw is made again.

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::show::{barred, percent};
use crate::cli::codes;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{job, output};
use crate::cloud::Learning;
use crate::cloud::{Application, LearningStore};
use crate::queue::Engine;
use crate::routing::{Choice, Decided, Reason, Share, draw};
use crate::workflow::{Store, StoredResult, StoredRun, StoredStep};

/// The step of a workflow that chooses a model.
const STEP: &str = "select_model";

/// Which job.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArgs {
    /// Id of the job
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    id: i64,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Everything that is known of the choice.
#[derive(Serialize)]
struct Explained<'a> {
    job_id: i64,
    /// Attempt that chose, and where.
    attempt: i32,
    instance_id: &'a str,
    choice: &'a Choice,
    /// The draw, made again now; it equals the stored one.
    draw: f64,
    /// The learning whose rule chose, with its evidence.
    learning: Option<&'a Learning>,
    /// What the instance made of that learning.
    application: Option<&'a Application>,
    /// What the job came to.
    result: Option<&'a StoredResult>,
}

pub(in crate::cli) async fn run(args: ExplainArgs, context: &Context) -> Result<(), Failure> {
    let id = args.id;
    let found = context.with_tables(async |storage| {
        let store = Store::new(storage.db().clone());
        let Some(run) = store.run(id).await? else {
            let known = Engine::new(storage.db().clone()).get(id).await?.is_some();
            return Err(if known { no_choice(id, "no attempt has begun a workflow") } else { job::not_found(&[id]) });
        };
        let Some((step, choice)) = chosen(&run) else {
            return Err(no_choice(id, &format!("workflow {} has chosen no model yet", run.workflow)));
        };
        let learnings = LearningStore::new(storage.db().clone());
        let (learning, application) = match choice.policy_version {
            Some(version) => {
                let applications = learnings.applications(version).await?;
                let here = applications.into_iter().find(|row| row.instance_id == step.instance_id);
                (learnings.get(version).await?, here)
            }
            None => (None, None),
        };
        Ok((step, choice, learning, application, store.results(&[id]).await?.pop()))
    });
    let (step, choice, learning, application, result) = Box::pin(found).await?;
    let explained = Explained {
        job_id: id,
        attempt: step.attempt,
        instance_id: &step.instance_id,
        choice: &choice,
        draw: draw(id, step.attempt),
        learning: learning.as_ref(),
        application: application.as_ref(),
        result: result.as_ref(),
    };
    if args.json {
        return output::document("singularity.routing_explain.v1", &explained);
    }
    output::pairs(&lines(&explained));
    Ok(())
}

fn no_choice(id: i64, reason: &str) -> Failure {
    let text = format!("job {id} got no model: {reason}");
    Failure::new(Exit::NotFound, codes::NO_CHOICE_OF_MODEL, text).hint("see `singularity job show ID`")
}

/// The step that chose, and what it stored.
fn chosen(run: &StoredRun) -> Option<(StoredStep, Choice)> {
    let step = run.steps.iter().find(|step| step.step == STEP)?;
    let choice = serde_json::from_value(step.output.clone()).ok()?;
    Some((step.clone(), choice))
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn lines(of: &Explained<'_>) -> Vec<(String, String)> {
    let choice = of.choice;
    let mut lines = vec![
        pair("job", format!("{}, chosen in attempt {} on {}", of.job_id, of.attempt, of.instance_id)),
        pair("asked for", asked(choice)),
    ];
    if let Some(basis) = &choice.basis {
        lines.push(pair("cell", &*basis.cell));
        lines.push(pair("decided by", decided(basis.decided, choice)));
        lines.extend(basis.shares.iter().map(|share| pair("weight", weight(share))));
        let again = if basis.draw.to_bits() == of.draw.to_bits() { "the same again" } else { "another now" };
        lines.push(pair("draw", format!("{:.6} ({again} from job and attempt)", basis.draw)));
    }
    lines.push(pair("model", format!("{}, with probability {}", choice.model, percent(choice.propensity))));
    if !choice.fallbacks.is_empty() {
        lines.push(pair("fallbacks", choice.fallbacks.join(", ")));
    }
    if let Some(learning) = of.learning {
        lines.push(pair("learning", format!("{}: {}", learning.id, learning.summary)));
        lines.extend(evidence(&learning.evidence));
        if let Some(own) = of.application {
            let at = own.decided_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
            lines.push(pair("applied", format!("{} by {} at {at}", own.state, own.decided_by)));
        }
    }
    if let Some(result) = of.result {
        lines.push(pair("result", came_to(result, choice)));
    }
    lines
}

fn asked(choice: &Choice) -> String {
    let route = choice.route.as_deref().or(choice.complexity.map(|complexity| complexity.as_str())).unwrap_or("-");
    match choice.reason {
        Reason::ExplicitModel => format!("model {}, by its name; no policy has a say", choice.model),
        Reason::TaskType => format!("route {route}, that of its task type"),
        Reason::DefaultComplexity => format!("route {route}, the default"),
        _ => format!("route {route}, named by the request"),
    }
}

fn decided(decided: Decided, choice: &Choice) -> String {
    match (decided, choice.policy_version) {
        (Decided::Pin, _) => "a pin".to_owned(),
        (Decided::Rule, Some(version)) => format!("the rule of learning {version}"),
        (Decided::Rule, None) => "a rule".to_owned(),
        (Decided::Reference, _) => "the configuration: no rule held".to_owned(),
    }
}

/// `sonnet 80.0% → 100.0%`, `flash 20.0%, held back by its breaker`
fn weight(share: &Share) -> String {
    match share.barred {
        Some(reason) => format!("{} {}, {}", share.model, percent(share.weight), barred(reason)),
        None => format!("{} {} → {}", share.model, percent(share.weight), percent(share.share)),
    }
}

/// One line a key of the evidence.
pub(in crate::cli) fn evidence(evidence: &Value) -> Vec<(String, String)> {
    let of = |(key, value): (&String, &Value)| match value {
        Value::String(text) => pair(&format!("evidence {key}"), &**text),
        other => pair(&format!("evidence {key}"), other.to_string()),
    };
    evidence.as_object().into_iter().flatten().map(of).collect()
}

fn came_to(result: &StoredResult, choice: &Choice) -> String {
    let outcome = if result.success { "success" } else { "failure" };
    let model = result.model_used.as_deref().unwrap_or("?");
    let other = if model == choice.model { "" } else { ", not the model that was chosen" };
    let mark = if result.simulated { " (simulated)" } else { "" };
    let cost = output::dollars(result.cost_nanousd);
    format!("{outcome} of attempt {} by {model}{mark}, {cost}{other}", result.attempt)
}
