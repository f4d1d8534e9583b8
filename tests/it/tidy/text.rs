//! How texts look, and what they do not say.

use super::source::{Finding, Text, in_strings};

/// Largest Rust file, in bytes. What is larger holds more than one concept.
const FILE_BYTES_MAX: usize = 25 * 1024;

/// Longest line of a Rust file, in characters; rustfmt does not break comments. A string may go on: SQL and samples of
/// what others send are read best in one piece.
const COLUMNS_MAX: usize = 120;

/// Files that a program wrote.
const GENERATED: [&str; 2] = ["Cargo.lock", ".sqlx/"];

/// Pieces of text that are true on one machine only, in two halves, so that this file does not have them.
const MACHINE: [(&str, &str); 10] = [
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("index.crates", ".io"),
    ("static.crates", ".io"),
    ("github.com/rust-lang/crates", ".io-index"),
    ("pypi", ".org"),
    ("registry.npmjs", ".org"),
    ("proxy.golang", ".org"),
    ("deb.debian", ".org"),
    ("archive.ubuntu", ".com"),
];

/// Notes to oneself, in two halves.
const NOTES: [(&str, &str); 3] = [("TO", "DO"), ("FIX", "ME"), ("XX", "X")];

fn is_generated(file: &Text) -> bool {
    GENERATED.iter().any(|prefix| file.path.starts_with(prefix))
}

/// Rust files stay small.
pub fn size(files: &[Text]) -> Vec<Finding> {
    let large = files.iter().filter(|file| file.is_rust() && file.text.len() > FILE_BYTES_MAX);
    let advice =
        |file: &Text| format!("{} bytes; at most {FILE_BYTES_MAX}: give one of its concepts a file", file.text.len());
    large.map(|file| file.finding(0, advice(file))).collect()
}

/// A file says first what it is.
pub fn opening(files: &[Text]) -> Vec<Finding> {
    let ours = files.iter().filter(|file| file.is_rust());
    let silent = ours.filter(|file| !file.text.starts_with("//! "));
    silent.map(|file| file.finding(0, "open it with `//!`: what it is, and why")).collect()
}

/// No white space at the ends of lines, no tabs, no long lines, one line end at the end.
pub fn white_space(files: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !is_generated(file)) {
        let strings = if file.is_rust() { in_strings(&file.text) } else { Vec::new() };
        let mut at = 0;
        for line in file.text.split_inclusive('\n') {
            let text = line.strip_suffix('\n').unwrap_or(line);
            let mut say = |advice: &str| findings.push(file.finding(at, advice));
            if text.ends_with(char::is_whitespace) {
                say("remove the white space at the end");
            }
            if file.is_rust() && text.contains('\t') {
                say("write spaces, or \\t in a string");
            }
            let over = text.char_indices().nth(COLUMNS_MAX).map(|(column, _)| at + column);
            if over.is_some_and(|place| file.is_rust() && !strings[place]) {
                say(&format!("more than {COLUMNS_MAX} columns: break the line"));
            }
            at += line.len();
        }
        if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
            findings.push(file.finding(file.text.len() - 1, "end the file with one line end"));
        }
    }
    findings
}

/// Nothing is true on one machine only, and nothing is left for later in a comment.
pub fn words(files: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !is_generated(file)) {
        for (first, second) in MACHINE {
            let word = format!("{first}{second}");
            let advice =
                format!("`{word}` is true on some machines only: leave it out, or let the reader's set-up say it");
            findings.extend(file.text.match_indices(&word).map(|(at, _)| file.finding(at, advice.clone())));
        }
        for (first, second) in NOTES {
            let word = format!("{first}{second}");
            let places = super::source::places(&file.text, &word);
            findings.extend(places.into_iter().map(|at| file.finding(at, format!("do it, or leave out the `{word}`"))));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::source::{NOWHERE, lines};
    use super::*;

    #[test]
    fn a_large_file_is_found() {
        assert_eq!(lines(size, "src/a.rs", &"x".repeat(FILE_BYTES_MAX + 1)), [1]);
        assert_eq!(lines(size, "src/a.rs", &"x".repeat(FILE_BYTES_MAX)), NOWHERE);
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_is_found() {
        assert_eq!(lines(opening, "src/a.rs", "use b;\n"), [1]);
        assert_eq!(lines(opening, "src/a.rs", "//! A.\nuse b;\n"), NOWHERE);
    }

    #[test]
    fn stray_white_space_and_long_lines_are_found() {
        assert_eq!(lines(white_space, "a.md", "a\nb \nc"), [2, 3]);
        assert_eq!(lines(white_space, "a.md", "a\n\n"), [2]);
        assert_eq!(lines(white_space, "src/a.rs", &format!("a\n\tb\n{}\n", "é".repeat(COLUMNS_MAX + 1))), [2, 3]);
        assert_eq!(lines(white_space, "src/a.rs", &format!("{}\n", "é".repeat(COLUMNS_MAX))), NOWHERE);
        assert_eq!(lines(white_space, "src/a.rs", &format!("a(\"{}\");\n", "é".repeat(COLUMNS_MAX))), NOWHERE);
    }

    #[test]
    fn what_is_true_on_one_machine_is_found() {
        for (first, second) in MACHINE.iter().chain(&NOTES) {
            assert_eq!(lines(words, "README.md", &format!("a\nsee {first}{second} b\n")), [2], "{first}");
        }
    }
}
