//! What documents name exists: files of the project, and tests.

use super::source::{Finding, Text};

/// Folders whose files documents name by their whole path.
const FOLDERS: [&str; 8] = ["src/", "tests/", "benches/", "examples/", "migrations/", ".ci/", ".cargo/", ".sqlx/"];

/// Names between back quotes, with their places.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let pieces = text.split('`').scan(0, |at, piece| {
        let begin = *at;
        *at += piece.len() + 1;
        Some((begin, piece))
    });
    pieces.enumerate().filter(|(number, _)| number % 2 == 1).map(|(_, piece)| piece)
}

/// Whether `name` is `module::test` of `tests/it`, and if so whether there is such a test.
fn test_exists(name: &str, files: &[Text]) -> Option<bool> {
    let (module, test) = name.split_once("::")?;
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_name(module) || !is_name(test) || !module.contains('_') {
        return None;
    }
    let path = format!("tests/it/{module}.rs");
    let declaration = format!("fn {test}(");
    Some(files.iter().any(|file| file.path == path && file.text.contains(&declaration)))
}

/// Paths and tests that documents name are there.
pub fn named(files: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (at, name) in quoted(&file.text) {
            let is_path = FOLDERS.iter().any(|folder| name.starts_with(folder)) && !name.contains([' ', '*', '<']);
            if is_path
                && !files.iter().any(|other| {
                    other.path == name || other.path.starts_with(&format!("{}/", name.trim_end_matches('/')))
                })
            {
                findings.push(file.finding(at, format!("there is no {name}")));
            }
            if test_exists(name, files) == Some(false) {
                findings.push(file.finding(at, format!("there is no test {name}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_or_test_that_is_not_there_is_found() {
        let files = [
            Text::new(
                "README.md",
                "`src/a.rs` `src/b/`\n`src/c.rs` `it_a::runs`\n`it_a::walks` `it_b::runs` `std::fs` `.ci/run x`\n",
            ),
            Text::new("src/a.rs", ""),
            Text::new("src/b/mod.rs", ""),
            Text::new("tests/it/it_a.rs", "async fn runs() {}"),
        ];
        let lines: Vec<_> = named(&files).into_iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 3, 3]);
    }
}
