//! The command line as types.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::exit::EXIT_CODES;

/// Oban's queues in Rust, under OTP supervision: prompts in, answers and costs out.
#[derive(Debug, Parser)]
#[command(name = "singularity", version, propagate_version = true)]
#[command(after_help = EXIT_CODES, arg_required_else_help = true)]
pub(super) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Heading of the options that every command has, so that they do not stand between its own.
const EVERYWHERE: &str = "Options of every command";

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(super) struct Global {
    /// Configuration file; without it actors.toml in this folder, else the built-in defaults
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILE", env = "SINGULARITY_CONFIG")]
    pub config: Option<PathBuf>,
    /// Overrides one value of the configuration, for example queues.default.limit=20
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs every request of a file and prints answers and costs
    Run(super::run::RunArgs),
    /// Starts a node and runs it until it is told to stop
    Start(super::start::StartArgs),
    /// Jobs: enqueue, look, wait, cancel, retry, delete, update
    #[command(subcommand)]
    Job(super::job::JobCommand),
    /// Runs of workflows: run one, list, show its steps
    #[command(subcommand)]
    Workflow(super::workflow::WorkflowCommand),
    /// Queues
    #[command(subcommand)]
    Queue(super::queue::QueueCommand),
    /// Periodic jobs
    #[command(subcommand)]
    Cron(super::cron::CronCommand),
    /// What calls of models may still cost
    #[command(subcommand)]
    Budget(super::budget::BudgetCommand),
    /// Stored vectors of texts
    #[command(subcommand)]
    Embedding(super::embedding::EmbeddingCommand),
    /// Instances
    #[command(subcommand)]
    Instance(super::instance::InstanceCommand),
    /// What instances report, and what CentralCloud has
    #[command(subcommand)]
    Cloud(super::cloud::CloudCommand),
    /// Which model serves which requests, why, and orders about it
    #[command(subcommand)]
    Routing(super::routing::RoutingCommand),
    /// What the fleet learned
    #[command(subcommand)]
    Learning(super::learning::LearningCommand),
    /// Ways of working that succeeded again and again
    #[command(subcommand)]
    Pattern(super::pattern::PatternCommand),
    /// What the work cost
    #[command(subcommand)]
    Cost(super::cost::CostCommand),
    /// The live supervision tree of a node
    Tree(super::tree::TreeArgs),
    /// Tables of the database
    #[command(subcommand)]
    Migrate(super::migrate::MigrateCommand),
    /// The configuration
    #[command(subcommand)]
    Config(super::config::ConfigCommand),
    /// Measures the queue beside bare SQL on the same server
    #[command(subcommand)]
    Bench(super::bench::BenchCommand),
    /// The whole story on this machine: three instances, one is killed, results go up, learnings come down
    #[cfg(feature = "embedded-postgres")]
    Demo(super::demo::DemoArgs),
    /// What a shell needs to complete commands: `completions bash`
    Completions(super::completions::CompletionsArgs),
    /// Checks everything that a node needs
    Doctor(super::doctor::DoctorArgs),
    /// Stops an embedded server that nobody uses any more
    #[cfg(feature = "embedded-postgres")]
    #[command(name = "__postgres-guardian", hide = true)]
    Guardian {
        /// Folder of the server, and how long to wait.
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        args: Vec<std::ffi::OsString>,
    },
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE, for example queues.default.limit=20")?;
    Ok((key.to_owned(), value.to_owned()))
}
