//! The command line: one file a verb. `output` is the only place that prints, `exit` knows all exit codes.

mod args;
mod bench;
mod budget;
mod cloud;
mod codes;
mod completions;
mod config;
mod context;
mod cost;
mod cron;
#[cfg(feature = "embedded-postgres")]
mod demo;
mod doctor;
mod embedding;
mod exit;
mod instance;
mod job;
mod known;
mod learning;
mod live;
mod migrate;
mod output;
mod pattern;
mod queue;
mod routing;
mod run;
mod signals;
mod start;
mod table;
mod tree;
mod usage;
mod workflow;

use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tokio::runtime::{Builder, Runtime};

use self::args::{Cli, Command};
use self::context::Context;
use self::exit::{Exit, Failure};
use crate::telemetry::logs;

/// Threads of the control runtime: supervisors, heartbeat, producers and the notifier wait far more than they compute.
const CONTROL_THREADS: usize = 1;
/// How long job code that does not end may hold up the end of the process.
const JOB_RUNTIME_LIMIT: Duration = Duration::from_millis(500);
/// What commands beside `start` log: only what the person should act on.
const QUIET: &str = "error";

/// Runs the program with this process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error),
    };
    match dispatch(cli).and_then(|()| output::unwritten().map_or(Ok(()), Err)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help and version are printed where clap prints them; all else is told as every other error. Where a command is
/// missing the help comes first.
fn refused(error: &clap::Error) -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut command = Cli::command();
    command.build();
    let failure = usage::failure(error, &command, &args);
    if failure.is_none() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        drop(error.print());
    }
    let Some(failure) = failure else { return ExitCode::SUCCESS };
    output::failure(&failure);
    ExitCode::from(failure.exit as u8)
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    #[cfg(feature = "embedded-postgres")]
    if let Command::Guardian { args } = cli.command {
        return crate::postgres::embedded::guardian_main(args).map_err(|error| Failure::coded(Exit::Failed, &error));
    }
    if let Command::Completions(args) = &cli.command {
        return completions::run(args);
    }
    let context = Context::load(&cli.global).map_err(|errors| match &cli.command {
        Command::Config(command) => config::unloadable(command, errors),
        _ => errors.into(),
    })?;
    let filter = match &cli.command {
        Command::Start(_) => context.config.log.filter.as_str(),
        Command::Run(args) if args.verbose => context.config.log.filter.as_str(),
        Command::Run(_) => run::LOG_FILTER,
        Command::Migrate(_) => migrate::LOG_FILTER,
        _ => QUIET,
    };
    logs::init(&context.config.log, filter).map_err(|error| Failure::new(Exit::Config, codes::LOG, error))?;
    let control = runtime("control", CONTROL_THREADS)?;
    let jobs = match &cli.command {
        Command::Start(_) | Command::Run(_) | Command::Bench(_) | Command::Workflow(_) => {
            Some(runtime("jobs", context.config.runtime.job_threads)?)
        }
        _ => None,
    };
    let handle = jobs.as_ref().map_or_else(|| control.handle().clone(), |jobs| jobs.handle().clone());
    let result = control.block_on(async {
        match cli.command {
            Command::Run(args) => Box::pin(run::run(args, &context, handle)).await,
            Command::Start(args) => Box::pin(start::run(args, &context, handle)).await,
            Command::Job(command) => Box::pin(job::run(command, &context)).await,
            Command::Workflow(command) => Box::pin(workflow::run(command, &context, handle)).await,
            Command::Queue(command) => queue::run(command, &context).await,
            Command::Budget(command) => budget::run(command, &context).await,
            Command::Cron(command) => cron::run(command, &context).await,
            Command::Embedding(command) => Box::pin(embedding::run(command, &context)).await,
            Command::Instance(command) => instance::run(command, &context).await,
            Command::Cloud(command) => cloud::run(command, &context).await,
            Command::Routing(command) => routing::run(command, &context).await,
            Command::Learning(command) => learning::run(command, &context).await,
            Command::Pattern(command) => pattern::run(command, &context).await,
            Command::Cost(command) => cost::run(command, &context).await,
            Command::Tree(args) => Box::pin(tree::run(args, &context)).await,
            Command::Migrate(command) => migrate::run(command, &context).await,
            Command::Config(command) => config::run(command, &context).await,
            Command::Bench(command) => Box::pin(bench::run(command, &context, handle)).await,
            #[cfg(feature = "embedded-postgres")]
            Command::Demo(args) => Box::pin(demo::run(args)).await,
            Command::Doctor(args) => Box::pin(doctor::run(args, &context)).await,
            Command::Completions(_) => Ok(()),
            #[cfg(feature = "embedded-postgres")]
            Command::Guardian { .. } => Ok(()),
        }
    });
    if let Some(jobs) = jobs {
        jobs.shutdown_timeout(JOB_RUNTIME_LIMIT);
    }
    control.shutdown_timeout(JOB_RUNTIME_LIMIT);
    result
}

/// A runtime of so many threads; 0 means one per core.
fn runtime(name: &str, threads: usize) -> Result<Runtime, Failure> {
    let mut builder = Builder::new_multi_thread();
    if threads > 0 {
        builder.worker_threads(threads);
    }
    builder.thread_name(name).enable_all().build().map_err(|error| {
        Failure::new(Exit::Failed, codes::THREADS, format!("threads of the {name} runtime cannot be started: {error}"))
    })
}
