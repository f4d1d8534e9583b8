//! `singularity config`: what holds, and where it comes from.

use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output;
use crate::config::{self, Entry};
use crate::error::Coded;
use crate::llm::Gateway;

/// The configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Reports every problem of the configuration at once: `config check`
    Check,
    /// Every effective value with its origin, as TOML that can be loaded again: `config print`
    Print(PrintArgs),
}

/// How to print it.
#[derive(Debug, Args)]
pub(super) struct PrintArgs {
    /// As it is on the instance with this id: with what its table under [instances] changes
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing<'a> {
    /// The file that was read; absent when the built-in defaults hold.
    path: Option<String>,
    base_dir: String,
    values: &'a [Entry],
}

/// Does it. A configuration with problems does not get here: loading it reports all of them.
///
/// # Errors
/// Exit 78 for models and providers that cannot work.
pub(super) async fn run(command: ConfigCommand, context: &Context) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check => check(context),
        ConfigCommand::Print(args) => print(&args, context),
    }
}

fn check(context: &Context) -> Result<(), Failure> {
    if let Err(problems) = Gateway::new(&context.config) {
        let blocks: Vec<String> = problems
            .iter()
            .map(|problem| {
                let hint = problem.hint().map(|hint| format!("\n  try: {hint}")).unwrap_or_default();
                format!("error[{}]: {problem}{hint}", problem.code())
            })
            .collect();
        return Err(Failure { exit: Exit::Config, message: Some(blocks.join("\n\n")), hint: None });
    }
    output::line(format!("ok: {} is valid", source(context)));
    Ok(())
}

/// What was loaded, in words.
pub(super) fn source(context: &Context) -> String {
    match context.loaded.path.as_deref() {
        Some(path) => path.display().to_string(),
        None => format!("the built-in configuration (no {} here)", config::FILE_NAME),
    }
}

fn print(args: &PrintArgs, context: &Context) -> Result<(), Failure> {
    let loaded = match &args.instance {
        Some(instance_id) => &context.loaded.on_instance(instance_id),
        None => &context.loaded,
    };
    if args.json {
        let text = |path: &Path| path.display().to_string();
        let listing = Listing {
            path: loaded.path.as_deref().map(text),
            base_dir: text(&loaded.base_dir),
            values: &config::entries(loaded),
        };
        return output::document("singularity.config.v1", &listing);
    }
    output::line(config::print(loaded).trim_end());
    Ok(())
}
