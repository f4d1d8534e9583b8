//! `completions`: what a shell needs to complete commands and options, made from the same types that read them.

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::args::Cli;
use super::exit::Failure;
use super::output;

/// What the program is called.
const NAME: &str = env!("CARGO_PKG_NAME");

/// For whom.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Known,
}

/// Shells for which it is tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let shell = match args.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    // Without what is hidden: generators tell of it, and nobody shall complete to it.
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|below| !below.is_hide_set());
    let mut command = Command::new(NAME).args(all.get_arguments().cloned()).subcommands(shown.cloned());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    output::script(&String::from_utf8_lossy(&script));
    Ok(())
}
