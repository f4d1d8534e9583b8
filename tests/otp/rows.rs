//! The rows of the suites that are followed, and what keeps them, the tests and `docs/otp-conformance.md` equal.
//!
//! A row is one case of a suite. Each that carries over has at least one test here whose name begins with its id. What
//! a row asserts is said in our words; names, defaults and numbers are those of the suite.

mod elixir;
mod erlang;
mod ours;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// One case of a suite.
pub struct Row {
    pub id: &'static str,
    /// Its name in the suite.
    pub name: &'static str,
    pub asserts: &'static str,
    pub carry: Carry,
    /// What is different here; for a row that is not carried, why not.
    pub note: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// As it is.
    Yes,
    /// In other words: types instead of terms, builders instead of maps.
    Adapted,
    No,
}

/// Carried over as it is.
pub const fn same(id: &'static str, name: &'static str, asserts: &'static str) -> Row {
    Row { id, name, asserts, carry: Carry::Yes, note: "" }
}

/// Carried over; `note` says what is different.
pub const fn adapted(id: &'static str, name: &'static str, asserts: &'static str, note: &'static str) -> Row {
    Row { id, name, asserts, carry: Carry::Adapted, note }
}

/// Not carried over; `note` says why.
pub const fn not_carried(id: &'static str, name: &'static str, asserts: &'static str, note: &'static str) -> Row {
    Row { id, name, asserts, carry: Carry::No, note }
}

struct Suite {
    title: &'static str,
    about: &'static str,
    rows: &'static [Row],
}

const SUITES: [Suite; 5] = [
    Suite {
        title: "S: Erlang's supervisor",
        about: "`supervisor_SUITE` of Erlang/OTP (OTP 28 line).",
        rows: erlang::SUPERVISOR,
    },
    Suite {
        title: "E: Elixir's Supervisor",
        about: "`supervisor_test` of Elixir (1.21-dev).",
        rows: elixir::SUPERVISOR,
    },
    Suite {
        title: "D: Elixir's DynamicSupervisor",
        about: "`dynamic_supervisor_test` of Elixir (1.21-dev).",
        rows: elixir::DYNAMIC,
    },
    Suite {
        title: "P: Elixir's PartitionSupervisor",
        about: "`partition_supervisor_test` of Elixir (1.21-dev).",
        rows: elixir::PARTITION,
    },
    Suite { title: "X: beyond BEAM", about: "What BEAM does not need to test, and Rust does.", rows: ours::EXTRA },
];

const INTRO: &str = "\
# Conformance with OTP's supervision

Supervision here follows Erlang/OTP's `supervisor` and Elixir's `Supervisor`, `DynamicSupervisor` and
`PartitionSupervisor`. Their own suites were read case by case. Each case is a row below, with the test in
`tests/otp/` that asserts the same here; those marked as unit tests are in `src/supervision/tests/`, because they need
what is not public. `cargo test --test otp` runs the former.

A row is carried over as it is (`same`), with a difference that is said (`adapted`), or not at all, with the reason
(`no`). Everywhere: ids are texts; a child is named by its id, or under a dynamic supervisor by the reference that
its start gave; results are types, so what OTP rejects at run time as a wrong term often does not compile here.
`ChildSpec::task` is what Elixir runs under a `Task.Supervisor`; the cases of its suite that apply are in
`src/supervision/tests/tasks.rs` (`t07` to `t26`). Its `async`, `await` and stream functions have no counterpart.

This file is written by `UPDATE_DOCS=1 cargo test --test otp rows`; the same test fails while the two differ.
";

/// Tests that need parts which are not public.
const UNIT_TESTS: &str = "src/supervision/tests";

/// The names of all tests in this folder, with the file each stands in.
fn tests_in(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut tests = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let declaration = format!("mod {};", path.file_stem().unwrap().to_string_lossy());
        let runs = ["main", "mod", "kit"].iter().any(|name| declaration == format!("mod {name};"))
            || ["main.rs", "mod.rs"].iter().any(|main| {
                std::fs::read_to_string(path.with_file_name(main)).is_ok_and(|main| main.contains(&declaration))
            });
        assert!(runs, "{file} is not part of its tests: it needs `{declaration}`");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if !(line.starts_with("#[test]") || line.starts_with("#[tokio::test")) {
                continue;
            }
            let declaration = lines.find(|line| line.contains("fn ")).unwrap();
            let name = declaration.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            assert_eq!(tests.insert(name.to_owned(), file.clone()), None, "two tests are named {name}");
        }
    }
    tests
}

fn tests() -> BTreeMap<String, String> {
    tests_in("tests/otp")
}

/// Whether the test is one of this row.
fn is_of(test: &str, row: &Row) -> bool {
    test.strip_prefix(&row.id.to_lowercase()).is_some_and(|rest| rest.starts_with('_'))
}

fn rows() -> impl Iterator<Item = &'static Row> {
    SUITES.iter().flat_map(|suite| suite.rows)
}

/// The tests of this row, as the document shows them.
fn tests_of(row: &Row) -> Vec<String> {
    let here = tests().into_keys().map(|test| (test, ""));
    let all = here.chain(tests_in(UNIT_TESTS).into_keys().map(|test| (test, " (unit)")));
    all.filter(|(test, _)| is_of(test, row)).map(|(test, kind)| format!("`{test}`{kind}")).collect()
}

fn document() -> String {
    let mut text = INTRO.to_owned();
    for suite in &SUITES {
        let count = |carry| suite.rows.iter().filter(|row| row.carry == carry).count();
        let (same, adapted, no) = (count(Carry::Yes), count(Carry::Adapted), count(Carry::No));
        write!(text, "\n## {}\n\n{} ", suite.title, suite.about).unwrap();
        writeln!(text, "{} rows: {same} the same, {adapted} adapted, {no} not carried.\n", suite.rows.len()).unwrap();
        writeln!(text, "| Row | Asserts | Carried | Tests | Difference, or why not |").unwrap();
        writeln!(text, "| --- | --- | --- | --- | --- |").unwrap();
        for row in suite.rows {
            let carry = match row.carry {
                Carry::Yes => "same",
                Carry::Adapted => "adapted",
                Carry::No => "no",
            };
            let cells = [&format!("{} {}", row.id, row.name), row.asserts, carry, &tests_of(row).join(", "), row.note];
            let cells = cells.map(|cell| if cell.is_empty() { " ".to_owned() } else { format!(" {cell} ") });
            writeln!(text, "|{}|", cells.join("|")).unwrap();
        }
    }
    text
}

#[test]
fn rows_that_carry_over_have_a_test_and_the_others_a_reason() {
    for row in rows() {
        let has_test = !tests_of(row).is_empty();
        match row.carry {
            Carry::No => assert!(!has_test && !row.note.is_empty(), "{} is not carried: no test, but a reason", row.id),
            Carry::Yes => assert!(has_test && row.note.is_empty(), "{} needs a test, and is the same", row.id),
            Carry::Adapted => assert!(has_test && !row.note.is_empty(), "{} needs a test and its difference", row.id),
        }
    }
}

#[test]
fn rows_named_by_tests_exist() {
    let ids: BTreeSet<&str> = rows().map(|row| row.id).collect();
    assert_eq!(ids.len(), rows().count(), "an id occurs twice");
    let unknown: Vec<_> = tests()
        .into_iter()
        .filter(|(test, file)| file != "rows.rs" && !rows().any(|row| is_of(test, row)))
        .map(|(test, file)| format!("{file}: {test}"))
        .collect();
    assert!(unknown.is_empty(), "tests of no row: {unknown:#?}");
}

#[test]
fn rows_and_their_document_are_equal() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/otp-conformance.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &document).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(document.lines()).find(|(is, should)| is != should);
    assert!(
        written == document,
        "docs/otp-conformance.md is not what the rows say; write it with UPDATE_DOCS=1. First difference: {differs:#?}"
    );
}
