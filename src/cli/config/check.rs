//! `config check`: what would be refused or overlooked later, all of it, before anything is started.
//!
//! Loading a configuration checks its values. What is looked at here needs to know more: the built-in workflows, the
//! providers, and the environment of this process.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::source;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::job::enqueue;
use crate::cli::{output, start};
use crate::config::{self, ConfigErrors, Cron, Excerpt, Origin, Overlooked, Problem, nearest};
use crate::error::Coded;
use crate::instance::Identity;
use crate::llm::Gateway;
use crate::queue::{CronEntry, Workers};
use crate::workflow::agents::{AGENT_COORDINATION, AGENT_TASK};
use crate::workflow::{EMBEDDING, LLM_REQUEST};

/// How to say it.
#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    /// One JSON document, also when there are problems
    #[arg(long)]
    pub(super) json: bool,
}

/// One thing that is wrong, or that may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Finding {
    /// Stable code of an error; a warning has none.
    code: Option<String>,
    /// Where it was said.
    origin: Option<Origin>,
    /// Dotted key, empty where there is none.
    key: String,
    message: String,
    pub(in crate::cli) suggestion: Option<String>,
    /// The line of the file.
    excerpt: Option<Excerpt>,
}

/// What is found in a configuration that was loaded.
#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct Findings {
    /// What a node, or each job, would be refused for.
    pub(in crate::cli) problems: Vec<Finding>,
    /// What is probably a mistake.
    pub(in crate::cli) warnings: Vec<Finding>,
}

#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    /// The file that was read; null when the built-in defaults hold, or where it could not be loaded.
    path: Option<String>,
    #[serde(flatten)]
    findings: &'a Findings,
}

pub(super) fn run(args: &CheckArgs, context: &Context) -> Result<(), Failure> {
    let mut findings = findings(context);
    if let Err(problems) = Gateway::new(&context.config) {
        findings.problems.extend(problems.iter().map(|problem| Finding::coded(problem, None)));
    }
    if args.json {
        let path = context.loaded.path.as_deref().map(|path| path.display().to_string());
        document(path, &findings)?;
        return if findings.problems.is_empty() { Ok(()) } else { Err(Failure::silent(Exit::Config)) };
    }
    findings.warnings.iter().for_each(|warning| output::note(format!("{warning}\n")));
    if findings.problems.is_empty() {
        output::line(format!("ok: {} is valid", source(context)));
        return Ok(());
    }
    let count = findings.problems.len();
    let mut blocks: Vec<String> = findings.problems.iter().map(ToString::to_string).collect();
    blocks.push(format!("{count} {} in the configuration", if count == 1 { "problem" } else { "problems" }));
    Err(Failure { exit: Exit::Config, message: Some(blocks.join("\n\n")), hint: None })
}

/// A configuration that cannot be loaded, where it was to be checked.
pub(super) fn unloadable(args: &CheckArgs, errors: ConfigErrors) -> Failure {
    if !args.json {
        return errors.into();
    }
    let problems = errors.problems().iter().map(Finding::of).collect();
    match document(None, &Findings { problems, warnings: Vec::new() }) {
        Ok(()) => Failure::silent(Exit::Config),
        Err(failure) => failure,
    }
}

fn document(path: Option<String>, findings: &Findings) -> Result<(), Failure> {
    output::document("singularity.config_check.v1", &Document { ok: findings.problems.is_empty(), path, findings })
}

/// Everything that can be said of it without a database, but for models and providers.
pub(in crate::cli) fn findings(context: &Context) -> Findings {
    let mut findings = Findings::default();
    if let Err(error) = Identity::of_this_process(&start::instance_id(None, context)) {
        let origin = Origin::Environment { name: "INSTANCE_ID".to_owned() };
        findings.problems.push(Finding::coded(&error, Some(origin)));
    }
    for (name, entry) in &context.config.cron {
        findings.problems.extend(refused(context, name, entry));
        findings.warnings.extend(misnamed(context, name, entry));
    }
    findings.warnings.extend(overlooked(context).into_iter().map(|one| Finding {
        origin: Some(Origin::Environment { name: one.name }),
        suggestion: Some(format!("did you mean {}?", one.meant)),
        ..Finding::warning("nothing reads this variable")
    }));
    findings
}

/// Variables of this process that were meant for the configuration and do not get there.
pub(in crate::cli) fn overlooked(context: &Context) -> Vec<Overlooked> {
    let names: Vec<String> = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    config::overlooked(names.iter().map(String::as_str), &context.loaded)
}

/// What each job of a periodic entry would be refused for: the rules are those of `job enqueue`.
fn refused(context: &Context, name: &str, entry: &Cron) -> Option<Finding> {
    let job = enqueue::of_worker(entry.worker.clone(), entry.args.0.clone().into(), &context.config);
    let failure = match job {
        Err(failure) => failure,
        Ok(_) => CronEntry::new(name, entry, &Workers::default()).err()?.into(),
    };
    let (key, origin) = place(context, name, "args");
    let (code, message) = failure.parts();
    let code = code.map(str::to_owned);
    Some(Finding { code, origin, key, suggestion: failure.hint.clone(), ..Finding::warning(message) })
}

/// A worker or a queue that is nearly one of this configuration; others may have what is only there.
fn misnamed(context: &Context, name: &str, entry: &Cron) -> Vec<Finding> {
    let built_in = [LLM_REQUEST, EMBEDDING, AGENT_COORDINATION, AGENT_TASK];
    let worker = nearest(&entry.worker, built_in).filter(|near| *near != entry.worker);
    let queue = entry.queue.as_deref().unwrap_or_default();
    let near_queue = nearest(queue, context.config.queues.keys().map(String::as_str)).filter(|near| *near != queue);
    let found = [("worker", entry.worker.as_str(), worker), ("queue", queue, near_queue)];
    let finding = |(field, given, near): (&str, &str, Option<&str>)| {
        let near = near?;
        let (key, origin) = place(context, name, field);
        let message = format!("{field} \"{given}\" is none of this instance, so jobs wait for one that has it");
        let suggestion = Some(format!("did you mean \"{near}\"?"));
        Some(Finding { origin, key, suggestion, ..Finding::warning(message) })
    };
    found.into_iter().filter_map(finding).collect()
}

/// The key of a field of a periodic entry and where it was given, or else the entry's worker, which each has.
fn place(context: &Context, name: &str, field: &str) -> (String, Option<Origin>) {
    let key = format!("cron.{name}.{field}");
    let origin = |key: &str| context.loaded.origins.get(key).cloned();
    let place = origin(&key).or_else(|| origin(&format!("cron.{name}.worker")));
    (key, place)
}

impl Finding {
    fn warning(message: impl Into<String>) -> Self {
        Self { code: None, origin: None, key: String::new(), message: message.into(), suggestion: None, excerpt: None }
    }

    /// Where and what, on one line.
    pub(in crate::cli) fn sentence(&self) -> String {
        let code = self.code.iter().map(|code| format!(" [{code}]"));
        let place = self.origin.iter().map(|origin| format!("{origin}: "));
        let key = Some(&self.key).filter(|key| !key.is_empty()).map(|key| format!("{key}: "));
        place.chain(key).chain([self.message.clone()]).chain(code).collect()
    }

    fn of(problem: &Problem) -> Self {
        Self {
            code: Some(problem.fault.code().to_owned()),
            origin: Some(problem.origin.clone()),
            key: problem.key.clone(),
            message: problem.message.clone(),
            suggestion: problem.suggestion.clone(),
            excerpt: problem.excerpt.clone(),
        }
    }

    fn coded(error: &impl Coded, origin: Option<Origin>) -> Self {
        let code = Some(error.code().to_owned());
        Self { code, origin, suggestion: error.hint(), ..Self::warning(error.to_string()) }
    }
}

/// In the form of a problem of loading.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "error[{code}]: ")?,
            None => f.write_str("warning: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        self.origin.iter().try_for_each(|origin| write!(f, "\n  at {origin}"))?;
        self.suggestion.iter().try_for_each(|suggestion| write!(f, "\n  try: {suggestion}"))
    }
}
