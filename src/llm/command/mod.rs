//! A local program as a model: prompt on its standard input, answer on its standard output.
//!
//! Many people reach their models by a tool of the command line, with a subscription instead of a key. Such a program
//! is run once a call, without a shell, in a process group of its own. What it and its children leave behind is killed
//! with that group: when it has ended, when its time is up, and when the call is dropped.
//!
//! `format.rs` says what goes in and what comes out, `process.rs` runs.

mod format;
mod process;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use self::process::{Ended, Trouble};
use super::answer::FinishReason;
use super::end::End;
use super::error::ErrorClass;
use super::reply::{Failure, Reply, millis};
use super::request::ChatRequest;
use crate::config::{Command as Spec, Period};

/// Most bytes that a program may print: the largest JSON document that is accepted from a provider.
const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A program, ready to be run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) spec: Spec,
    pub(crate) total: Period,
    /// Environment variables that hold secrets of others: the database, and other providers. The program does not get
    /// them.
    pub(crate) hidden: Vec<String>,
}

/// Asks the program for an answer of `model`, until `until` at most.
///
/// Cancel safety: dropping the future kills the process group. What the program's service bills for its part of an
/// answer is recorded nowhere.
pub(crate) async fn call(
    program: &Program,
    model: &str,
    request: &ChatRequest,
    max_tokens: u32,
    until: Option<Instant>,
) -> Result<Reply, Failure> {
    let started = Instant::now();
    let arguments = format::arguments(&program.spec, model, request, max_tokens)
        .map_err(|why| Failure { sent: false, ..Failure::new(ErrorClass::Permanent, why) })?;
    let mut command = Command::new(&program.spec.program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in &program.hidden {
        command.env_remove(name);
    }
    let prompt = format::prompt(&program.spec, request).into_bytes();
    let end = End::of(program.total, until);
    let ended = process::run(command, prompt, end.at, OUTPUT_BYTES_MAX)
        .await
        .map_err(|trouble| failed(program, end, trouble))?;
    reply(program, model, request, &ended, started.elapsed())
}

/// Where a program is found, by its configured name; `None` when it is nowhere or cannot be run.
pub fn find_program(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(is_program);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(is_program)
}

fn reply(
    program: &Program,
    model: &str,
    request: &ChatRequest,
    ended: &Ended,
    elapsed: Duration,
) -> Result<Reply, Failure> {
    if !ended.status.success() {
        let (class, message) = format::exit(&program.spec, &ended.status, &ended.errors);
        return Err(Failure::new(class, message));
    }
    let printed = format::read(&program.spec, &ended.output, request.message_bytes())
        .map_err(|why| Failure::new(ErrorClass::Transient, why))?;
    Ok(Reply {
        text: printed.text,
        finish_reason: FinishReason::Stop,
        usage: printed.usage,
        usage_estimated: printed.is_estimate,
        raw_usage: printed.raw_usage,
        model_reported: Some(model.to_owned()),
        request_id: None,
        time_to_first_token_ms: millis(ended.first_output.unwrap_or(elapsed)),
        duration_ms: millis(elapsed),
    })
}

fn failed(program: &Program, end: End, trouble: Trouble) -> Failure {
    use std::io::ErrorKind;
    let name = &program.spec.program;
    match trouble {
        Trouble::Start(error) => {
            let (class, hint) = match error.kind() {
                ErrorKind::NotFound => (ErrorClass::Misconfigured, "; install it, or write its path"),
                ErrorKind::PermissionDenied => (ErrorClass::Misconfigured, "; make it executable for this user"),
                ErrorKind::ArgumentListTooLong => (ErrorClass::Permanent, "; leave {system} out of args"),
                _ => (ErrorClass::Transient, ""),
            };
            Failure { sent: false, ..Failure::new(class, format!("program {name:?} cannot be run: {error}{hint}")) }
        }
        Trouble::Late => {
            let message = format!("program {name:?} did not end within {}", end.limit());
            Failure::new(ErrorClass::Transient, message)
        }
        Trouble::TooLarge => {
            let message = format!("program {name:?} printed more than {OUTPUT_BYTES_MAX} bytes, the most that is read");
            Failure::new(ErrorClass::Permanent, message)
        }
        Trouble::Io(error) => {
            Failure::new(ErrorClass::Transient, format!("program {name:?} cannot be talked to: {error}"))
        }
    }
}
