//! `singularity doctor`: everything that a node needs, each thing with what to do about it.

mod database;
mod mode;
mod models;
mod system;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::{config, output};

/// How to say it.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// A node runs, and something will be missed.
    Warn,
    /// A node does not run, or jobs fail.
    Fail,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    /// What was looked at; stable.
    check: &'static str,
    status: Status,
    /// What was found.
    message: String,
    /// What to do about it.
    fix: Option<String>,
}

impl Check {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, message: message.into(), fix: None }
    }

    fn warn(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, message: message.into(), fix: Some(fix.into()) }
    }

    fn fail(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, status: Status::Fail, message: message.into(), fix: Some(fix.into()) }
    }

    /// Any error of the crate as a failed check.
    fn error(check: &'static str, error: &(impl crate::error::Coded + ?Sized)) -> Self {
        let message = format!("{error} [{}]", error.code());
        Self { check, status: Status::Fail, message, fix: error.hint() }
    }
}

#[derive(Serialize)]
struct Report {
    /// Whether nothing failed.
    ok: bool,
    checks: Vec<Check>,
}

/// Looks at everything and changes no table. Where no database is named, the embedded server is started for the time of
/// the look, as a node would do it.
///
/// # Errors
/// Exit 1 when anything failed.
pub(super) async fn run(args: DoctorArgs, context: &Context) -> Result<(), Failure> {
    // A configuration with problems was refused before, with all of them.
    let mut checks = configuration(context);
    checks.extend(database::checks(context).await);
    checks.extend(models::checks(&context.config));
    checks.push(system::file_descriptors(&context.config));
    let report = Report { ok: checks.iter().all(|check| check.status != Status::Fail), checks };
    if args.json {
        output::document("singularity.doctor.v1", &report)?;
    } else {
        report.checks.iter().for_each(print);
    }
    if report.ok { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}

/// What `config check` says.
fn configuration(context: &Context) -> Vec<Check> {
    let found = config::findings(context);
    let problems = found.problems.iter().map(|problem| (Status::Fail, problem));
    let all = problems.chain(found.warnings.iter().map(|warning| (Status::Warn, warning)));
    let check = |(status, finding): (Status, &config::Finding)| Check {
        check: "configuration",
        status,
        message: finding.sentence(),
        fix: finding.suggestion.clone(),
    };
    let checks: Vec<Check> = all.map(check).collect();
    if checks.is_empty() {
        return vec![Check::ok("configuration", format!("{} is valid", config::source(context)))];
    }
    checks
}

fn print(check: &Check) {
    let status = match check.status {
        Status::Ok => "OK",
        Status::Warn => "WARN",
        Status::Fail => "FAIL",
    };
    output::line(format!("{status:<4}  {:<17}  {}", check.check, check.message));
    if let Some(fix) = &check.fix {
        output::line(format!("      {:<17}  try: {fix}", ""));
    }
}
