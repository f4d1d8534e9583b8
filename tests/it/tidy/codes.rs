//! Error codes: one meaning each, one place of definition each.

use std::collections::BTreeMap;

use super::source::{Finding, Text, in_src};

/// First digits of codes, and where they are defined: path prefixes under `src/`, of which the longest that fits
/// counts.
const RANGES: [(&str, &str); 15] = [
    ("01", "config/"),
    ("01", "cron/"),
    ("02", "postgres/"),
    ("03", "postgres/migrate"),
    ("04", "queue/"),
    ("04", "testing/"),
    ("05", "llm/"),
    ("06", "workflow/"),
    ("06", "routing/"),
    ("07", "instance/"),
    ("07", "node/"),
    ("08", "cli/"),
    ("09", "supervision/"),
    ("10", "telemetry/"),
    ("11", "cloud/"),
];

/// Codes in a text with their places.
fn codes(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let digits =
        |at: usize| text.as_bytes().get(at + 1..at + 5).is_some_and(|digits| digits.iter().all(u8::is_ascii_digit));
    let alone = |at: usize| {
        let bytes = text.as_bytes();
        let is_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        !is_name(at.checked_sub(1).and_then(|at| bytes.get(at))) && !is_name(bytes.get(at + 5))
    };
    let found = text.match_indices('E').filter(move |(at, _)| digits(*at) && alone(*at));
    found.map(|(at, _)| (at, &text[at..at + 5])).filter(|(_, code)| code.starts_with("E0") || code.starts_with("E1"))
}

/// A code is written in one place; whoever else needs it uses that place.
pub fn unique(files: &[Text]) -> Vec<Finding> {
    let mut defined: BTreeMap<String, Finding> = BTreeMap::new();
    let mut findings = Vec::new();
    for rust in in_src(files) {
        for (at, code) in codes(&rust.strings) {
            let here = rust.file.finding(at, "");
            match defined.get(code) {
                Some(first) => {
                    let advice = format!(
                        "{code} is defined at {}:{} already: take a free number, or a constant for the same meaning",
                        first.file, first.line
                    );
                    findings.push(Finding { advice, ..here });
                }
                None => drop(defined.insert(code.to_owned(), here)),
            }
        }
    }
    findings
}

/// A code lies in the range of its module.
pub fn ranges(files: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rust in in_src(files) {
        let path = rust.file.path.trim_start_matches("src/");
        let longest =
            RANGES.iter().filter(|(_, prefix)| path.starts_with(prefix)).map(|(_, prefix)| prefix.len()).max();
        let home = RANGES.iter().find(|(_, prefix)| path.starts_with(prefix) && Some(prefix.len()) == longest);
        for (at, code) in codes(&rust.strings).filter(|(_, code)| home.is_none_or(|(digits, _)| code[1..3] != **digits))
        {
            let advice = match home {
                Some((digits, prefix)) => {
                    format!("{code} is in {prefix}, whose codes are E{digits}xx: take a free one of these")
                }
                None => format!("{code}: this module has no range of codes yet; give it one here and in src/error.rs"),
            };
            findings.push(rust.file.finding(at, advice));
        }
    }
    findings
}

/// Codes that comments and documents name exist.
pub fn named(files: &[Text]) -> Vec<Finding> {
    let sources = in_src(files);
    let known: Vec<&str> = sources.iter().flat_map(|rust| codes(&rust.strings).map(|(_, code)| code)).collect();
    let comments = sources.iter().map(|rust| (rust.file, rust.comments.as_str()));
    let documents = files.iter().filter(|file| file.path.ends_with(".md")).map(|file| (file, file.text.as_str()));
    let mut findings = Vec::new();
    for (file, text) in comments.chain(documents) {
        for (at, code) in codes(text).filter(|(_, code)| !known.contains(code)) {
            findings.push(file.finding(at, format!("no error has the code {code}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&[Text]) -> Vec<Finding>, files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| Text::new(path, text)).collect();
        rule(&files).into_iter().map(|finding| format!("{}:{}", finding.file, finding.line)).collect()
    }

    #[test]
    fn a_second_definition_is_found() {
        let first = ("src/queue/error.rs", "=> \"E0401\",\n#[cfg(test)]\nmod tests { \"E0401\" }");
        assert_eq!(found(unique, &[first, ("src/queue/job.rs", "// E0401\nf(\"E0402\")")]), [""; 0]);
        assert_eq!(
            found(unique, &[first, ("src/queue/job.rs", "\nformat!(\"error[E0401]: {a}\")")]),
            ["src/queue/job.rs:2"]
        );
        assert_eq!(found(unique, &[("src/queue/error.rs", "\"E0401\"\n\"E0401\"")]), ["src/queue/error.rs:2"]);
    }

    #[test]
    fn a_code_of_another_range_is_found() {
        assert_eq!(found(ranges, &[("src/queue/error.rs", "\"E0501\"")]), ["src/queue/error.rs:1"]);
        assert_eq!(
            found(ranges, &[("src/postgres/migrate/error.rs", "\"E0201\"")]),
            ["src/postgres/migrate/error.rs:1"]
        );
        assert_eq!(found(ranges, &[("src/postgres/migrate/error.rs", "\"E0301\"")]), [""; 0]);
        assert_eq!(found(ranges, &[("src/novel/error.rs", "\"E0501\"")]), ["src/novel/error.rs:1"]);
    }

    #[test]
    fn a_code_that_does_not_exist_is_found() {
        let source = ("src/queue/error.rs", "//! `E0401`, E0402\n\"E0401\"");
        assert_eq!(found(named, &[source]), ["src/queue/error.rs:1"]);
        assert_eq!(found(named, &[source, ("README.md", "\nE0401 E0409")]), ["src/queue/error.rs:1", "README.md:2"]);
    }
}
