//! The file of requests: JSON Lines, every bad line found before anything happens.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cli::codes;
use crate::cli::exit::{Exit, Failure};
use crate::config::Config;
use crate::error::Coded;
use crate::routing::{Wish, asked};
use crate::workflow::LlmRequest;

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// What a file holds.
#[derive(Debug)]
pub(super) struct Input {
    /// Good lines, in order.
    pub(super) requests: Vec<Item>,
    /// Bad lines, in order.
    pub(super) bad: Vec<BadLine>,
    /// SHA-256 of the good lines: the same requests in the same order are the same input.
    pub(super) fingerprint: String,
}

/// A request and its place.
#[derive(Debug)]
pub(super) struct Item {
    /// Line in the file, from 1.
    pub(super) line: usize,
    /// The request.
    pub(super) request: LlmRequest,
    /// The same as arguments of a job.
    pub(super) args: Value,
}

/// Why a line cannot be used.
#[derive(Debug)]
pub(super) struct BadLine {
    /// Line in the file, from 1.
    pub(super) line: usize,
    /// Code of the error.
    pub(super) code: &'static str,
    /// What is wrong, and what to try.
    pub(super) text: String,
}

impl Input {
    /// Reads a file, or standard input for `-`.
    pub(super) fn read(path: &Path, config: &Config) -> Result<Self, Failure> {
        let problem = |error: std::io::Error| {
            Failure::new(Exit::Usage, codes::UNREADABLE_INPUT, format!("{} cannot be read: {error}", path.display()))
                .hint("give a JSON Lines file, or - for standard input")
        };
        let mut bytes = Vec::new();
        if path.as_os_str() == "-" {
            std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(problem)?;
        } else {
            let file = std::fs::File::open(path).map_err(problem)?;
            file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(problem)?;
        }
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(Failure::new(
                Exit::Usage,
                codes::LARGE_INPUT,
                format!("{} is larger than 1 GiB", path.display()),
            )
            .hint("split it"));
        }
        let input = Self::parse(&bytes, config);
        if input.lines() == 0 {
            return Err(Failure::new(Exit::Usage, codes::EMPTY_INPUT, format!("{} has no requests", path.display()))
                .hint("write one JSON object a line, for example {\"prompt\": \"Say hello\"}"));
        }
        Ok(input)
    }

    /// Lines that are not blank.
    pub(super) fn lines(&self) -> usize {
        self.requests.len() + self.bad.len()
    }

    fn parse(bytes: &[u8], config: &Config) -> Self {
        let mut input = Self { requests: Vec::new(), bad: Vec::new(), fingerprint: String::new() };
        let mut ids: HashMap<String, (usize, String)> = HashMap::new();
        let mut hash = Sha256::new();
        for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = index + 1;
            let bytes = if line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            match item(line, bytes, config, &mut ids) {
                Ok(item) => {
                    hash.update(bytes.trim_ascii());
                    hash.update(b"\n");
                    input.requests.push(item);
                }
                Err(bad) => input.bad.push(bad),
            }
        }
        input.fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        input
    }
}

fn item(
    line: usize,
    bytes: &[u8],
    config: &Config,
    ids: &mut HashMap<String, (usize, String)>,
) -> Result<Item, BadLine> {
    let args: Value = serde_json::from_slice(bytes).map_err(|error| BadLine {
        line,
        code: codes::LINE_NOT_JSON,
        text: format!("it is not JSON: {error}"),
    })?;
    let request = LlmRequest::parse(&args).map_err(|error| bad(line, &error))?;
    let wish = Wish {
        model: request.model.as_deref(),
        route: request.route.as_deref(),
        complexity: request.complexity,
        task_type: request.task_type.as_deref(),
    };
    asked(wish, config).map_err(|error| bad(line, &error))?;
    if let Some(id) = &request.id {
        let fingerprint = request.fingerprint();
        if let Some((first, other)) = ids.get(id)
            && *other != fingerprint
        {
            let text =
                format!("id {id:?} stands for another request in line {first}; try: give one of them another id");
            return Err(BadLine { line, code: codes::LINES_SHARE_ID, text });
        }
        ids.entry(id.clone()).or_insert((line, fingerprint));
    }
    Ok(Item { line, request, args })
}

fn bad(line: usize, error: &impl Coded) -> BadLine {
    let text = error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}; try: {hint}"));
    BadLine { line, code: error.code(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Input {
        Input::parse(text.as_bytes(), &Config::shipped().unwrap())
    }

    #[test]
    fn finds_every_bad_line_with_its_number() {
        let input = parse(
            "{\"prompt\":\"a\",\"id\":\"1\"}\n\nnot json\n{\"prompt\":\"b\",\"id\":\"1\"}\n{\"model\":\"no such\",\"prompt\":\"c\"}\n\
             {\"promt\":\"d\"}\n{\"prompt\":\"a\",\"id\":\"1\"}\r\n",
        );
        let bad: Vec<_> = input.bad.iter().map(|bad| (bad.line, bad.code)).collect();
        assert_eq!(bad, [(3, "E0814"), (4, "E0815"), (5, "E0610"), (6, "E0601")]);
        assert_eq!(input.requests.iter().map(|item| item.line).collect::<Vec<_>>(), [1, 7]);
    }

    #[test]
    fn the_fingerprint_is_of_the_requests_and_not_of_blank_lines() {
        assert_eq!(parse("{\"prompt\":\"a\"}\n").fingerprint, parse("\n{\"prompt\":\"a\"}  \r\n\n").fingerprint);
        assert_ne!(parse("{\"prompt\":\"a\"}").fingerprint, parse("{\"prompt\":\"b\"}").fingerprint);
    }
}
