//! What a program is given and what its output means. Pure.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use serde_json::Value;

use crate::config::{Command, CommandOutput, ExitMeaning};
use crate::llm::draft::{TEXT_BYTES_MAX, content_text};
use crate::llm::error::ErrorClass;
use crate::llm::request::{ChatRequest, Role};
use crate::llm::text::{excerpt, storable, storable_json, tidy};
use crate::llm::usage::Usage;

/// Largest argument that Linux takes.
const ARGUMENT_BYTES_MAX: usize = 128 * 1024 - 1;
/// Characters kept of standard error, from its end.
const ERRORS_CHARS_MAX: usize = 400;
const SYSTEM: &str = "{system}";

/// An answer that was read.
#[derive(Debug, PartialEq)]
pub(super) struct Printed {
    pub(super) text: String,
    pub(super) usage: Usage,
    pub(super) is_estimate: bool,
    pub(super) raw_usage: Value,
}

/// The arguments of one call; what is put in is not searched for further names.
///
/// # Errors
/// What cannot be passed as an argument.
pub(super) fn arguments(
    spec: &Command,
    model: &str,
    request: &ChatRequest,
    max_tokens: u32,
) -> Result<Vec<String>, String> {
    let system = system(request);
    let max_tokens = max_tokens.to_string();
    let values = [("{model}", model), (SYSTEM, system.as_str()), ("{max_tokens}", max_tokens.as_str())];
    spec.args
        .iter()
        .map(|template| {
            let argument = fill(template, &values);
            if argument.contains('\0') {
                return Err(format!("{template:?} cannot be passed as an argument, because its text contains U+0000"));
            }
            if argument.len() > ARGUMENT_BYTES_MAX {
                let found = argument.len();
                return Err(format!("{template:?} has {found} bytes; an argument has at most {ARGUMENT_BYTES_MAX}"));
            }
            Ok(argument)
        })
        .collect()
}

/// The text for standard input: the one message there is, or the turns of a conversation under the names of who speaks.
/// System messages come first, unless the arguments take them.
pub(super) fn prompt(spec: &Command, request: &ChatRequest) -> String {
    let mut parts = Vec::new();
    let system = system(request);
    if !system.is_empty() && !spec.args.iter().any(|argument| argument.contains(SYSTEM)) {
        parts.push(system);
    }
    let turns: Vec<_> = request.messages.iter().filter(|message| message.role != Role::System).collect();
    match turns.as_slice() {
        [one] => parts.push(one.content.clone()),
        many => parts.extend(many.iter().map(|turn| {
            let speaker = if turn.role == Role::Assistant { "Assistant" } else { "User" };
            format!("{speaker}:\n{}", turn.content)
        })),
    }
    parts.join("\n\n")
}

/// The answer in what a program printed that ended well.
///
/// # Errors
/// Why there is none.
pub(super) fn read(spec: &Command, output: &[u8], input_bytes: usize) -> Result<Printed, String> {
    let (text, raw_usage) = match spec.output {
        CommandOutput::Text => (String::from_utf8_lossy(output).into_owned(), Value::Null),
        CommandOutput::Json => {
            let document: Value = serde_json::from_slice(output)
                .map_err(|error| format!("the program printed no JSON document ({error}): {}", excerpt(output)))?;
            let at = spec.text_at.as_deref().unwrap_or_default();
            let text = document.pointer(at).map(content_text).unwrap_or_default();
            if text.is_empty() {
                return Err(format!("the program's answer has no text at {at}: {}", excerpt(output)));
            }
            let usage = spec.usage_at.as_deref().and_then(|at| document.pointer(at));
            (text, usage.map_or(Value::Null, storable_json))
        }
    };
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err("the program printed nothing".to_owned());
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("the text of the answer is larger than {TEXT_BYTES_MAX} bytes"));
    }
    // OpenAI's objects have names of their own; the rest reads the same in both forms.
    let is_openai = ["prompt_tokens", "input_tokens_details"].iter().any(|key| raw_usage.get(key).is_some());
    let reported = if is_openai { Usage::from_openai(&raw_usage) } else { Usage::from_anthropic(&raw_usage) };
    Ok(Printed {
        usage: reported.unwrap_or_else(|| Usage::estimate(input_bytes, text.len())),
        is_estimate: reported.is_none(),
        raw_usage,
        text: storable(text).into_owned(),
    })
}

/// Class and message of a failed end. `errors` is the end of what stood on standard error.
pub(super) fn exit(spec: &Command, status: &ExitStatus, errors: &[u8]) -> (ErrorClass, String) {
    let class = match status.code() {
        Some(code) => spec.exit_codes.get(&code.to_string()).map_or_else(|| usual(code), |meaning| class(*meaning)),
        None => ErrorClass::Transient,
    };
    let mut message = match (status.code(), status.signal()) {
        (Some(code), _) => format!("the program ended with exit code {code}"),
        (None, signal) => format!("the program was ended by signal {}", signal.unwrap_or_default()),
    };
    let errors = String::from_utf8_lossy(errors);
    let errors = errors.trim();
    let cut = errors.char_indices().rev().nth(ERRORS_CHARS_MAX - 1).map_or(0, |(at, _)| at);
    if !errors.is_empty() {
        message.push_str(if cut > 0 { ": …" } else { ": " });
        message.push_str(&tidy(&errors[cut..]));
    }
    (class, message)
}

/// By `sysexits.h` and the shells.
fn usual(code: i32) -> ErrorClass {
    match code {
        // EX_USAGE, EX_NOPERM, EX_CONFIG; not executable, not found.
        64 | 77 | 78 | 126 | 127 => ErrorClass::Misconfigured,
        // EX_DATAERR.
        65 => ErrorClass::Permanent,
        // EX_UNAVAILABLE.
        69 => ErrorClass::Overloaded,
        _ => ErrorClass::Transient,
    }
}

const fn class(meaning: ExitMeaning) -> ErrorClass {
    match meaning {
        ExitMeaning::Transient => ErrorClass::Transient,
        ExitMeaning::Overloaded => ErrorClass::Overloaded,
        ExitMeaning::Throttled => ErrorClass::Throttled,
        ExitMeaning::Exhausted => ErrorClass::Exhausted,
        ExitMeaning::Permanent => ErrorClass::Permanent,
        ExitMeaning::Misconfigured => ErrorClass::Misconfigured,
        ExitMeaning::Refused => ErrorClass::Refused,
    }
}

fn system(request: &ChatRequest) -> String {
    let parts = request.messages.iter().filter(|message| message.role == Role::System);
    parts.map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n\n")
}

/// Replaces each name once, from left to right.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        match values.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                filled.push_str(value);
                rest = &rest[name.len()..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::request::Message;
    use serde_json::json;

    fn spec(args: &[&str]) -> Command {
        Command { program: "p".into(), args: args.iter().map(|arg| (*arg).to_owned()).collect(), ..Command::default() }
    }

    fn request(turns: &[(Role, &str)]) -> ChatRequest {
        let message = |(role, content): &(Role, &str)| Message { role: *role, content: (*content).to_owned() };
        ChatRequest { messages: turns.iter().map(message).collect(), ..ChatRequest::prompt("") }
    }

    #[test]
    fn arguments_are_filled_once_and_never_read_by_a_shell() {
        let spec =
            spec(&["-m{model}", "{system}", "--max={max_tokens}", "{\"a\":{other}}", "{mod", "$(id) ; {model}{model}"]);
        let request = request(&[(Role::System, "be {model} \"x\" $HOME"), (Role::User, "hi")]);
        let expected = ["-mm-1", "be {model} \"x\" $HOME", "--max=7", "{\"a\":{other}}", "{mod", "$(id) ; m-1m-1"]
            .map(str::to_owned);
        assert_eq!(arguments(&spec, "m-1", &request, 7).unwrap(), expected);
    }

    #[test]
    fn what_no_argument_can_carry_is_refused() {
        let with = |system: &str| arguments(&spec(&["{system}"]), "m", &request(&[(Role::System, system)]), 1);
        assert!(with("a\0b").unwrap_err().contains("U+0000"));
        assert!(with(&"x".repeat(ARGUMENT_BYTES_MAX)).is_ok());
        assert!(with(&"x".repeat(ARGUMENT_BYTES_MAX + 1)).unwrap_err().contains("131071"));
    }

    #[test]
    fn one_message_is_the_prompt_and_a_conversation_names_who_speaks() {
        assert_eq!(prompt(&spec(&[]), &request(&[(Role::User, "hi\n")])), "hi\n");
        let with_system = request(&[(Role::System, "be brief"), (Role::User, "hi")]);
        assert_eq!(prompt(&spec(&[]), &with_system), "be brief\n\nhi");
        assert_eq!(prompt(&spec(&["--system={system}"]), &with_system), "hi");
        let turns = request(&[(Role::User, "a"), (Role::Assistant, "b"), (Role::User, "c")]);
        assert_eq!(prompt(&spec(&[]), &turns), "User:\na\n\nAssistant:\nb\n\nUser:\nc");
    }

    #[test]
    fn text_is_the_answer_and_its_tokens_are_a_guess() {
        let printed = read(&spec(&[]), b"Gr\xfc\xdfe\0\r\n\n", 9).unwrap();
        assert_eq!(printed.text, "Gr\u{FFFD}\u{FFFD}e\u{FFFD}");
        assert_eq!((printed.is_estimate, printed.usage.input_fresh), (true, 3));
        assert_eq!(read(&spec(&[]), b" \n", 0).unwrap().text, " ");
        assert_eq!(read(&spec(&[]), b"\n", 0).unwrap_err(), "the program printed nothing");
    }

    #[test]
    fn json_holds_text_and_usage_where_it_is_told() {
        let spec = Command {
            output: CommandOutput::Json,
            text_at: Some("/result".into()),
            usage_at: Some("/usage".into()),
            ..spec(&[])
        };
        let read = |value: Value| read(&spec, value.to_string().as_bytes(), 4);
        let usage = json!({"input_tokens": 3, "cache_read_input_tokens": 90, "output_tokens": 5});
        let printed = read(json!({"result": "ok", "usage": usage})).unwrap();
        let expected = Usage { input_fresh: 3, input_cache_read: 90, output: 5, ..Usage::default() };
        assert_eq!((printed.text.as_str(), printed.usage, printed.is_estimate), ("ok", expected, false));
        assert_eq!(printed.raw_usage, usage);
        let usage =
            json!({"prompt_tokens": 93, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 90}});
        assert_eq!(read(json!({"result": [{"text": "o"}, {"text": "k"}], "usage": usage})).unwrap().usage, expected);
        assert!(read(json!({"result": "ok"})).unwrap().is_estimate);
        assert!(read(json!({"result": "ok", "usage": {"input_tokens": -1}})).unwrap().is_estimate);
        assert!(read(json!({"error": "no"})).unwrap_err().contains("no text at /result: {\"error\":\"no\"}"));
        assert!(super::read(&spec, b"hello", 0).unwrap_err().starts_with("the program printed no JSON document"));
    }

    #[test]
    fn an_exit_code_has_a_class() {
        let mut spec = spec(&[]);
        spec.exit_codes.insert("1".into(), ExitMeaning::Exhausted);
        let class = |code: i32| exit(&spec, &ExitStatus::from_raw(code << 8), b"").0;
        assert_eq!((class(1), class(2)), (ErrorClass::Exhausted, ErrorClass::Transient));
        assert_eq!((class(127), class(78)), (ErrorClass::Misconfigured, ErrorClass::Misconfigured));
        assert_eq!((class(65), class(69)), (ErrorClass::Permanent, ErrorClass::Overloaded));
        let (class, message) = exit(&spec, &ExitStatus::from_raw(9), b"\x1b[31mboom\n\n");
        assert_eq!((class, message.as_str()), (ErrorClass::Transient, "the program was ended by signal 9:  [31mboom"));
    }
}
