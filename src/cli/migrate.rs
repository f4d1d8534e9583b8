//! `singularity migrate`: the tables of the database.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::Failure;
use super::output;
use crate::config::Indexes;
use crate::node::NodeError;
use crate::postgres::Database;
use crate::postgres::migrate::{self, IndexState, IndexStep, MigrateError, ObanTables, Report, Status};
use crate::postgres::pgmq::Installation;

/// Migrations.
#[derive(Debug, Subcommand)]
pub(super) enum MigrateCommand {
    /// Brings the tables up to date; safe to repeat: `migrate up`
    Up(MigrateArgs),
    /// Shows what is applied and what is pending, and changes nothing: `migrate status`
    Status(MigrateArgs),
    /// Switches the indexes of oban_jobs beside running nodes: `migrate indexes lean`
    Indexes(IndexesArgs),
}

/// Which indexes.
#[derive(Debug, Args)]
pub(super) struct IndexesArgs {
    /// Oban's own, or fewer and smaller ones
    #[arg(value_name = "oban|lean", value_parser = profile)]
    profile: Indexes,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

fn profile(text: &str) -> Result<Indexes, String> {
    let known = [Indexes::Oban, Indexes::Lean].into_iter().find(|profile| profile.as_str() == text);
    known.ok_or_else(|| "write oban or lean".into())
}

/// What these commands log: for whom they wait, too.
pub(super) const LOG_FILTER: &str = "error,postgres=warn";

/// What is different with the lean indexes, for whoever switches to them.
const LEAN_MEANS: &str = "lean: claims and completions cost less. Without Oban's indexes, searches in arguments and meta, looks for \
                          unique jobs and dashboards read the whole table, and Oban's reindexer reports that its indexes are missing. \
                          Oban nodes go on working. Back with: singularity migrate indexes oban";

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
    indexes: IndexesFound,
    tuning: Option<String>,
    pgmq: Option<Queue>,
}

#[derive(Serialize)]
struct IndexesDocument {
    database_schema: String,
    indexes: &'static str,
    created: Vec<&'static str>,
    dropped: Vec<&'static str>,
}

#[derive(Serialize)]
struct IndexesFound {
    /// `oban`, `lean`, or none of both as a whole.
    profile: Option<&'static str>,
    oban: Vec<String>,
    lean: Vec<String>,
    invalid: Vec<String>,
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
            let report =
                context.with_new_database(async |storage| migrate::up(storage.db()).await.map_err(failed)).await?;
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
        MigrateCommand::Indexes(args) => {
            let steps = context.with_tables(async |storage| switch(storage.db(), &args).await).await?;
            let names =
                |wanted: fn(&IndexStep) -> bool| steps.iter().filter(move |step| wanted(step)).map(IndexStep::index);
            if args.json {
                let document = IndexesDocument {
                    database_schema: schema.clone(),
                    indexes: args.profile.as_str(),
                    created: names(|step| matches!(step, IndexStep::Create(_))).collect(),
                    dropped: names(|step| !matches!(step, IndexStep::Create(_))).collect(),
                };
                return output::document("singularity.migrate_indexes.v1", &document);
            }
            output::line(match steps.len() {
                0 => format!("oban_jobs in schema {schema} has the {} indexes already", args.profile.as_str()),
                _ => format!("oban_jobs in schema {schema} has the {} indexes now", args.profile.as_str()),
            });
            if args.profile == Indexes::Lean {
                output::note(LEAN_MEANS);
            }
            Ok(())
        }
    }
}

/// Switches and tells each step as it begins, because a step on a large table takes minutes.
async fn switch(db: &Database, args: &IndexesArgs) -> Result<Vec<IndexStep>, Failure> {
    let mut steps = Vec::new();
    let tell = |step: &IndexStep| {
        output::note(match step {
            IndexStep::Create(name) => format!("building {name}; readers and writers go on"),
            IndexStep::Drop(name) => format!("dropping {name}"),
            IndexStep::DropInvalid(name) => format!("dropping {name}, which an earlier build left unfinished"),
        });
        steps.push(step.clone());
    };
    migrate::switch_indexes(db, args.profile, tell).await.map_err(failed)?;
    Ok(steps)
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
    if let Some(tuning) = &status.tuning {
        output::line(format!("oban_jobs: {}", describe_indexes(&status.indexes)));
        output::line(format!("oban_jobs: {}", tuning.describe()));
    }
    output::line(describe_pgmq(status.pgmq.as_ref()));
    if !status.is_current() {
        output::note(if status.migrations.iter().all(|migration| migration.known) {
            "try: singularity migrate up"
        } else {
            "the tables are newer than this program; use the release that made them"
        });
    }
}

/// One line about the indexes, after the table's name.
pub(super) fn describe_indexes(indexes: &IndexState) -> String {
    match indexes.profile() {
        Some(profile) => format!("{} indexes", profile.as_str()),
        None if indexes.invalid.is_empty() => {
            format!("{} of Oban's indexes and {} of the lean ones", indexes.oban.len(), indexes.lean.len())
        }
        None => format!("unfinished indexes: {}", indexes.invalid.join(", ")),
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
        tuning: status.tuning.map(|tuning| tuning.describe()),
        indexes: IndexesFound {
            profile: status.indexes.profile().map(Indexes::as_str),
            oban: status.indexes.oban,
            lean: status.indexes.lean,
            invalid: status.indexes.invalid,
        },
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
