//! `[providers.NAME.command]`: a local program that is asked as a model.
//!
//! Types, keys and rules of this table in one place. How the program is run is `crate::llm`'s.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::kind::{Kind, shown};
use super::problem::Flaw;
use super::schema::{Layering, Node, Table};

/// Longest template of one argument; what is put in for `{system}` may be longer.
const ARGUMENT_BYTES_MAX: usize = 4_096;
/// Longest JSON pointer.
const POINTER_BYTES_MAX: usize = 255;

/// `[providers.NAME.command]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// Name of the program, which is looked for in `PATH`, or a path to it; a relative path with a slash starts at the
    /// folder of the configuration file.
    pub program: String,
    /// Its arguments. `{model}`, `{system}` and `{max_tokens}` stand for the provider's name of the model, the system
    /// messages and the output limit. No shell reads them.
    pub args: Vec<String>,
    /// What it prints. Default `text`.
    pub output: CommandOutput,
    /// JSON pointer to the answer's text, where `output` is `json`.
    pub text_at: Option<String>,
    /// JSON pointer to a usage object of OpenAI's or Anthropic's form; without one, tokens are a guess.
    pub usage_at: Option<String>,
    /// What an exit code of the program means, where it is not what `sysexits.h` says.
    pub exit_codes: BTreeMap<String, ExitMeaning>,
}

/// What a program prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandOutput {
    /// The answer.
    #[default]
    Text,
    /// One JSON document with the answer in it.
    Json,
}

/// Whose trouble an exit code tells of: the classes of errors of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitMeaning {
    /// It may work next time.
    Transient,
    /// No capacity for anybody.
    Overloaded,
    /// Our rate limit, which refills by itself.
    Throttled,
    /// Our money or quota is used up.
    Exhausted,
    /// The request is wrong.
    Permanent,
    /// The program or its account is not set up.
    Misconfigured,
    /// The model declined.
    Refused,
}

impl Command {
    /// Makes a relative path to the program start at `folder`. A bare name is looked for in `PATH` instead.
    pub(super) fn anchor(&mut self, folder: &Path) {
        if self.program.contains('/')
            && let Some(path) = folder.join(&self.program).to_str()
        {
            self.program = path.to_owned();
        }
    }
}

const MEANINGS: &[&str] =
    &["transient", "overloaded", "throttled", "exhausted", "permanent", "misconfigured", "refused"];

/// The keys as data.
pub(super) const TABLE: Node = Node::Table(Table {
    whole: true,
    fields: &[
        ("program", Node::Leaf(Kind::Text(program))),
        ("args", Node::Leaf(Kind::Texts(argument))),
        ("output", Node::Leaf(Kind::Choice(&["text", "json"]))),
        ("text_at", Node::Leaf(Kind::Text(pointer))),
        ("usage_at", Node::Leaf(Kind::Text(pointer))),
        (
            "exit_codes",
            Node::Named { entry: &Node::Leaf(Kind::Choice(MEANINGS)), layering: Layering::Merge, name: exit_code },
        ),
    ],
});

/// What a provider of this kind lacks, or has too much.
pub(super) fn incomplete(command: &Command) -> Option<Flaw> {
    if command.program.is_empty() {
        return Some(Flaw::bad("program is missing").suggest("add program = \"NAME\", a program in PATH, or its path"));
    }
    match (command.output, &command.text_at, &command.usage_at) {
        (CommandOutput::Json, None, _) => Some(
            Flaw::bad("text_at is missing, where the answer stands in the JSON document")
                .suggest("add text_at = \"/result\", a JSON pointer"),
        ),
        (CommandOutput::Text, Some(_), _) | (CommandOutput::Text, _, Some(_)) => Some(
            Flaw::bad("text_at and usage_at are places in a JSON document, and output is \"text\"")
                .suggest("write output = \"json\", or remove them"),
        ),
        _ => None,
    }
}

fn program(text: &str) -> Result<(), Flaw> {
    if !text.trim().is_empty() && !text.contains('\0') {
        return Ok(());
    }
    Err(Flaw::bad("is not the name of a program").suggest("write a program in PATH, or its path"))
}

fn argument(text: &str) -> Result<(), Flaw> {
    if text.len() <= ARGUMENT_BYTES_MAX && !text.contains('\0') {
        return Ok(());
    }
    Err(Flaw::bad(format!("an argument has at most {ARGUMENT_BYTES_MAX} bytes, none of them 0")))
}

fn pointer(text: &str) -> Result<(), Flaw> {
    if text.starts_with('/') && text.len() <= POINTER_BYTES_MAX {
        return Ok(());
    }
    Err(Flaw::bad(format!("\"{}\" is not a JSON pointer", shown(text)))
        .suggest("write the keys that lead there, each after a slash, for example \"/message/content\""))
}

fn exit_code(text: &str) -> Result<(), Flaw> {
    if text.parse::<u8>().is_ok_and(|code| code > 0 && code.to_string() == text) {
        return Ok(());
    }
    Err(Flaw::bad(format!("\"{}\" is not an exit code of a failure, 1 to 255", shown(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_lacks_is_told() {
        let mut command = Command::default();
        let message = |command: &Command| incomplete(command).map(|flaw| flaw.message);
        assert!(message(&command).unwrap().contains("program"));
        command.program = "cat".into();
        assert_eq!(message(&command), None);
        command.output = CommandOutput::Json;
        assert!(message(&command).unwrap().contains("text_at is missing"));
        command.text_at = Some("/text".into());
        assert_eq!(message(&command), None);
        command.output = CommandOutput::Text;
        assert!(message(&command).unwrap().contains("output is \"text\""));
    }

    #[test]
    fn values_have_their_forms() {
        assert!(pointer("/a/0/b").is_ok() && pointer("a").is_err() && pointer("").is_err());
        assert!(exit_code("75").is_ok());
        for bad in ["0", "256", "075", "-1", "x", ""] {
            assert!(exit_code(bad).is_err(), "{bad}");
        }
        assert!(program(" ").is_err() && argument("a\0").is_err() && argument("{\"a\": {model}}").is_ok());
    }
}
