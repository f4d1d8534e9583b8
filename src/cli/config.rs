//! `singularity config`: what holds, and where it comes from.

mod check;

use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::exit::Failure;
use super::output;
use crate::config::{self, ConfigErrors, Entry};

pub(super) use check::{Finding, findings, overlooked};

/// The configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Reports every problem of the configuration at once, and what is probably a mistake: `config check`
    Check(check::CheckArgs),
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

/// Does it. A configuration that cannot be loaded does not get here, but to [`unloadable`].
///
/// # Errors
/// Exit 78 for what loading does not find.
pub(super) async fn run(command: ConfigCommand, context: &Context) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(args) => check::run(&args, context),
        ConfigCommand::Print(args) => print(&args, context),
    }
}

/// The failure of this command for a configuration that cannot be loaded; told already where it was to be told as JSON.
pub(super) fn unloadable(command: &ConfigCommand, errors: ConfigErrors) -> Failure {
    match command {
        ConfigCommand::Check(args) => check::unloadable(args, errors),
        ConfigCommand::Print(_) => errors.into(),
    }
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
