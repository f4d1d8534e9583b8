//! `singularity migrate`: the tables of the database.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::Failure;
use super::output;
use crate::node::NodeError;
use crate::postgres::migrate::{self, MigrateError, ObanTables, Report, Status};
use crate::postgres::pgmq::Installation;

/// Migrations.
#[derive(Debug, Subcommand)]
pub(super) enum MigrateCommand {
    /// Brings the tables up to date; safe to repeat: `migrate up`
    Up(MigrateArgs),
    /// Shows what is applied and what is pending, and changes nothing: `migrate status`
    Status(MigrateArgs),
}

/// How to say it.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct UpDocument {
    database_schema: String,
    applied: Vec<Step>,
    pgmq: Queue,
}

#[derive(Serialize)]
struct StatusDocument {
    database_schema: String,
    is_current: bool,
    migrations: Vec<Step>,
    oban: Option<Oban>,
    pgmq: Option<Queue>,
}

#[derive(Serialize)]
struct Step {
    version: i32,
    name: String,
    /// `applied`, `pending` or `unknown`, which a newer program applied.
    state: &'static str,
    applied_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
struct Oban {
    version: String,
    missing_columns: Vec<String>,
    has_peers: bool,
}

#[derive(Serialize)]
struct Queue {
    kind: &'static str,
    version: Option<String>,
    has_topics: bool,
}

/// Does it.
///
/// # Errors
/// Exit 1 when the tables must not be touched or a migration failed, and those of the database.
pub(super) async fn run(command: MigrateCommand, context: &Context) -> Result<(), Failure> {
    let schema = &context.config.database.schema;
    match command {
        MigrateCommand::Up(args) => {
            let report = context.with_database(async |storage| migrate::up(storage.db()).await.map_err(failed)).await?;
            if args.json {
                return output::document("singularity.migrate_up.v1", &up_document(schema, report));
            }
            show_up(schema, &report);
            Ok(())
        }
        MigrateCommand::Status(args) => {
            let status =
                context.with_database(async |storage| migrate::status(storage.db()).await.map_err(failed)).await?;
            if args.json {
                return output::document("singularity.migrate_status.v1", &status_document(status));
            }
            show_status(&status);
            Ok(())
        }
    }
}

fn failed(error: MigrateError) -> Failure {
    NodeError::from(error).into()
}

fn show_up(schema: &str, report: &Report) {
    for (version, name) in &report.applied {
        output::line(format!("applied {version} {name}"));
    }
    if report.applied.is_empty() {
        output::line(format!("schema {schema} is up to date"));
    }
    output::line(describe_pgmq(Some(&report.pgmq)));
}

fn show_status(status: &Status) {
    let rows = steps(status).into_iter().map(|step| {
        let at = step.applied_at.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        vec![step.version.to_string(), step.name, step.state.to_owned(), at.unwrap_or_default()]
    });
    output::table(&["version", "name", "state", "applied_at"], rows.collect());
    output::line(match &status.oban {
        Some(oban) if oban.missing_columns.is_empty() => format!("oban_jobs: version {}", oban.version),
        Some(oban) => format!("oban_jobs: version {}, without {}", oban.version, oban.missing_columns.join(", ")),
        None => "oban_jobs: not there".to_owned(),
    });
    output::line(describe_pgmq(status.pgmq.as_ref()));
    if !status.is_current() {
        output::note(if status.migrations.iter().all(|migration| migration.known) {
            "try: singularity migrate up"
        } else {
            "the tables are newer than this program; use the release that made them"
        });
    }
}

fn describe_pgmq(pgmq: Option<&Installation>) -> String {
    match pgmq {
        Some(pgmq) => {
            format!("pgmq: {} {}", pgmq.kind.as_str(), pgmq.version.as_deref().unwrap_or("of unknown version"))
        }
        None => "pgmq: not there".to_owned(),
    }
}

fn up_document(schema: &str, report: Report) -> UpDocument {
    let applied = report.applied.into_iter().map(|(version, name)| Step {
        version,
        name: name.to_owned(),
        state: "applied",
        applied_at: None,
    });
    UpDocument { database_schema: schema.to_owned(), applied: applied.collect(), pgmq: queue(report.pgmq) }
}

fn status_document(status: Status) -> StatusDocument {
    StatusDocument {
        is_current: status.is_current(),
        migrations: steps(&status),
        database_schema: status.schema,
        oban: status.oban.map(|ObanTables { version, missing_columns, has_peers, .. }| Oban {
            version: version.to_string(),
            missing_columns,
            has_peers,
        }),
        pgmq: status.pgmq.map(queue),
    }
}

fn steps(status: &Status) -> Vec<Step> {
    let step = |migration: &migrate::MigrationStatus| Step {
        version: migration.version,
        name: migration.name.clone(),
        state: match (migration.known, migration.applied_at) {
            (false, _) => "unknown",
            (true, Some(_)) => "applied",
            (true, None) => "pending",
        },
        applied_at: migration.applied_at,
    };
    status.migrations.iter().map(step).collect()
}

fn queue(pgmq: Installation) -> Queue {
    Queue { kind: pgmq.kind.as_str(), has_topics: pgmq.has_topics(), version: pgmq.version }
}
