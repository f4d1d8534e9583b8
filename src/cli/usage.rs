//! Wrong arguments, said in the form of every other error: a code, the thing, its value, what is allowed, what to try.
//!
//! Clap finds what is wrong and what may have been meant; here are only the words.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::codes;
use super::exit::{Exit, Failure};
use crate::config::nearest;

/// What `error` is to the person who gave `args`, the words behind the program's name; none when help or the version
/// was asked for.
pub(super) fn failure(error: &clap::Error, command: &Command, args: &[String]) -> Option<Failure> {
    let called = Called::of(command, args);
    let text = |kind| text(error, kind);
    let first = |kind| texts(error, kind).into_iter().next();
    let what = text(ContextKind::InvalidArg).map(|arg| name(&arg));
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let help = format!("see `{} --help`", called.words);
    let meant = |near: Option<String>| near.map(|near| format!("did you mean \"{near}\"? Else {help}"));
    let (code, said, hint) = match (error.kind(), what) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => return None,
        (ErrorKind::InvalidSubcommand, _) => {
            let given = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let near = first(ContextKind::SuggestedSubcommand).or_else(|| called.near(&given));
            let said = format!("`{}` has no command \"{given}\"; there are {}", called.words, called.commands());
            (codes::UNKNOWN_COMMAND, said, meant(near))
        }
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand, _) => {
            let said = format!("`{}` lacks a command; there are {}", called.words, called.commands());
            (codes::MISSING_ARGUMENT, said, None)
        }
        (ErrorKind::UnknownArgument, Some(arg)) => {
            let near = first(ContextKind::SuggestedArg);
            let options = called.options();
            let said = match arg.starts_with('-') {
                true => format!("`{}` has no option \"{arg}\"; there are {options}", called.words),
                false => format!("`{}` takes no argument \"{arg}\" there", called.words),
            };
            (codes::UNKNOWN_ARGUMENT, said, meant(near).or_else(|| first(ContextKind::Suggested)))
        }
        (ErrorKind::MissingRequiredArgument, _) => {
            let missing = texts(error, ContextKind::InvalidArg);
            let about = missing.iter().map(|arg| match called.about(arg) {
                Some(about) => format!("{} ({about})", name(arg)),
                None => name(arg),
            });
            let said = format!("`{}` lacks {}", called.words, about.collect::<Vec<_>>().join(" and "));
            let usage =
                text(ContextKind::Usage).map(|usage| format!("write `{}`", usage.trim_start_matches("Usage: ")));
            (codes::MISSING_ARGUMENT, said, usage)
        }
        (ErrorKind::InvalidValue, Some(arg)) if value.is_empty() => {
            let allowed = allowed(&texts(error, ContextKind::ValidValue));
            (codes::MISSING_ARGUMENT, format!("{arg} has no value{allowed}"), None)
        }
        (ErrorKind::InvalidValue, Some(arg)) => {
            let values = texts(error, ContextKind::ValidValue);
            let near = first(ContextKind::SuggestedValue)
                .or_else(|| nearest(&value, values.iter().map(String::as_str)).map(str::to_owned));
            (codes::BAD_ARGUMENT, format!("{arg} is {value:?}{}", allowed(&values)), meant(near))
        }
        (ErrorKind::ValueValidation, Some(arg)) => {
            let reason = std::error::Error::source(error).map(|source| reason(&source.to_string(), &value));
            (codes::BAD_ARGUMENT, format!("{arg} is {value:?}; {}", reason.unwrap_or_default()), None)
        }
        (ErrorKind::ArgumentConflict, Some(arg)) => {
            let others: Vec<String> = texts(error, ContextKind::PriorArg).iter().map(|arg| name(arg)).collect();
            let said = match others.as_slice() {
                [] => format!("{arg} cannot be used with the other arguments"),
                [same] if *same == arg => format!("{arg} is given twice, and can be given once"),
                others => format!("{arg} cannot be used with {}", others.join(" and ")),
            };
            (codes::ARGUMENTS_CONFLICT, said, Some(format!("leave one of them out; {help}")))
        }
        _ => {
            // Rare kinds, in clap's own words.
            let rendered = error.to_string();
            let said = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            (codes::BAD_ARGUMENT, said, None)
        }
    };
    Some(Failure::new(Exit::Usage, code, said).hint(hint.unwrap_or(help)))
}

/// The command that the words lead to.
struct Called<'a> {
    command: &'a Command,
    /// As a person writes it.
    words: String,
}

impl<'a> Called<'a> {
    fn of(command: &'a Command, args: &[String]) -> Self {
        let mut called = Self { command, words: command.get_name().to_owned() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--config" || arg == "--set" {
                args.next();
            } else if let Some(below) = called.command.get_subcommands().find(|below| below.get_name() == arg) {
                called.words = format!("{} {arg}", called.words);
                called.command = below;
            }
        }
        called
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.command
            .get_subcommands()
            .filter(|below| !below.is_hide_set() && below.get_name() != "help")
            .map(Command::get_name)
    }

    fn commands(&self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }

    /// The command that may have been meant.
    fn near(&self, given: &str) -> Option<String> {
        nearest(given, self.names()).map(str::to_owned)
    }

    fn options(&self) -> String {
        let longs = self.command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
        longs.map(|long| format!("--{long}")).collect::<Vec<_>>().join(", ")
    }

    /// The first sentence of the help of an argument, as clap shows its name.
    fn about(&self, shown: &str) -> Option<String> {
        let arg = self.command.get_arguments().find(|arg| arg.to_string() == shown)?;
        let help = arg.get_help()?.to_string();
        Some(help.lines().next()?.to_owned())
    }
}

/// `--limit` of `--limit <N>`; an argument without a name of its own stays `<N>`.
fn name(shown: &str) -> String {
    match shown.split_once([' ', '=']) {
        Some((name, _)) if name.starts_with('-') => name.to_owned(),
        _ => shown.to_owned(),
    }
}

fn allowed(values: &[String]) -> String {
    if values.is_empty() { String::new() } else { format!("; allowed are {}", values.join(", ")) }
}

/// Why a value does not do: the standard library's and clap's words about numbers speak of digits and ranges of Rust.
fn reason(told: &str, value: &str) -> String {
    if let Some((least, most)) =
        told.strip_prefix(&format!("{value} is not in ")).and_then(|range| range.split_once(".."))
    {
        return match most.strip_prefix('=') {
            Some(most) => format!("allowed are {least} to {most}"),
            None if most.is_empty() => format!("allowed are {least} and more"),
            None => format!("allowed are {least} and more, below {most}"),
        };
    }
    match told {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "a whole number is expected".to_owned()
        }
        other => other.to_owned(),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    texts(error, kind).into_iter().next()
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        Some(ContextValue::StyledStr(text)) => vec![text.to_string()],
        Some(ContextValue::StyledStrs(texts)) => texts.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::args::Cli;

    fn said(line: &str) -> Option<String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let error = Cli::try_parse_from(["singularity".to_owned()].iter().chain(&args)).err()?;
        // As the program does: built, so that commands know the options of all.
        let mut command = Cli::command();
        command.build();
        let failure = failure(&error, &command, &args)?;
        assert_eq!(failure.exit, Exit::Usage);
        Some(failure.to_string())
    }

    #[test]
    fn whatever_is_wrong_is_named_with_what_is_allowed_and_what_to_try() {
        let cases = [
            ("jbo", "error[E0807]: `singularity` has no command \"jbo\"; there are run, start, job,"),
            ("jbo", "\ntry: did you mean \"job\"? Else see `singularity --help`"),
            ("job lst", "`singularity job` has no command \"lst\"; there are enqueue, list,"),
            ("job lst", "\ntry: did you mean \"list\"?"),
            ("job nonsense", "\ntry: see `singularity job --help`"),
            ("job list --jsno", "error[E0808]: `singularity job list` has no option \"--jsno\"; there are --"),
            ("job list --jsno", "\ntry: did you mean \"--json\"? Else see `singularity job list --help`"),
            ("job list extra", "error[E0808]: `singularity job list` takes no argument \"extra\" there\ntry: see"),
            ("job show", "error[E0809]: `singularity job show` lacks <ID> ("),
            ("job show", "\ntry: write `singularity job show <ID>`"),
            ("job", "error[E0809]: `singularity job` lacks a command; there are enqueue,"),
            ("job list --limit", "error[E0809]: --limit has no value\ntry: see `singularity job list --help`"),
            ("job list --limit 0", "error[E0816]: --limit is \"0\"; allowed are 1 to "),
            ("job show abc", "error[E0816]: <ID> is \"abc\"; a whole number is expected\ntry: see"),
            (
                "start --role mebmer",
                "--role is \"mebmer\"; allowed are both, member, central\ntry: did you mean \"member\"?",
            ),
            ("--set foo job list", "error[E0816]: --set is \"foo\"; write it as KEY=VALUE"),
            ("job enqueue w --in 5s --at 2030-01-31T08:00:00Z", "error[E0817]: --in cannot be used with --at\ntry: "),
            ("job list --limit 5 --limit 6", "error[E0817]: --limit is given twice"),
        ];
        for (line, part) in cases {
            let said = said(line).unwrap_or_default();
            assert!(said.contains(part), "{line}: {part:?} is not in {said:?}");
        }
        assert_eq!((said("--help"), said("--version"), said("job list --help")), (None, None, None));
    }

    #[test]
    fn ranges_are_said_in_words() {
        assert_eq!(reason("0 is not in 1..=9", "0"), "allowed are 1 to 9");
        assert_eq!(reason("0 is not in 1..", "0"), "allowed are 1 and more");
        assert_eq!(reason("7 is not in 1..7", "7"), "allowed are 1 and more, below 7");
    }
}
