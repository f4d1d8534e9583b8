//! Rules that hold for the source text, checked on the text itself: who may name whom, what code may not do, how files
//! look. A rule that only people know is soon broken; `ARCHITECTURE.md` says what these are for.

mod code;
mod codes;
mod conformance;
mod documents;
mod layers;
mod source;
mod text;

use std::process::Command;

use self::source::{all, assert_none};

#[test]
fn modules_name_only_modules_below_them() {
    assert_none(layers::modules(&all()));
}

#[test]
fn crates_are_named_only_where_they_belong() {
    assert_none(layers::crates(&all()));
}

#[test]
fn sql_stands_only_where_statements_are_kept() {
    assert_none(layers::sql(&all()));
}

#[test]
fn pure_files_know_no_runtime_no_clock_and_no_chance() {
    assert_none(code::purity(&all()));
}

#[test]
fn one_file_prints() {
    assert_none(code::printing(&all()));
}

#[test]
fn statements_go_through_what_limits_them() {
    assert_none(code::pools(&all()));
}

#[test]
fn nothing_outside_of_tests_panics_on_purpose() {
    assert_none(code::panics(&all()));
}

#[test]
fn no_test_is_ignored() {
    assert_none(code::ignored(&all()));
}

#[test]
fn rust_files_stay_small() {
    assert_none(text::size(&all()));
}

#[test]
fn every_rust_file_says_what_it_is() {
    assert_none(text::opening(&all()));
}

#[test]
fn lines_are_short_and_end_cleanly() {
    assert_none(text::white_space(&all()));
}

#[test]
fn texts_are_true_on_every_machine() {
    assert_none(text::words(&all()));
}

#[test]
fn every_code_has_one_meaning() {
    assert_none(codes::unique(&all()));
}

#[test]
fn every_code_lies_in_the_range_of_its_module() {
    assert_none(codes::ranges(&all()));
}

#[test]
fn every_code_that_a_text_names_exists() {
    assert_none(codes::named(&all()));
}

#[test]
fn files_and_tests_that_a_document_names_exist() {
    assert_none(documents::named(&all()));
}

#[test]
fn every_point_of_the_conformance_suite_has_a_test_of_its_number() {
    assert_none(conformance::points(&all()));
}

#[test]
fn every_known_hazard_is_told_with_what_is_done_about_it() {
    assert_none(conformance::hazards(&all()));
}

/// A file that is in no list of modules is never compiled, and what its tests promise is never looked at.
#[test]
fn every_file_of_tests_is_a_module() {
    let (files, mut missing) = (all(), Vec::new());
    for folder in ["tests/it/", "tests/otp/"] {
        let main = files.iter().find(|file| file.path == format!("{folder}main.rs")).unwrap();
        for file in &files {
            let name = file.path.strip_prefix(folder).and_then(|path| path.strip_suffix(".rs")).unwrap_or("main");
            if name != "main" && !name.contains('/') && !main.text.contains(&format!("mod {name};")) {
                missing.push(file.path.as_str());
            }
        }
    }
    assert!(missing.is_empty(), "name these in main.rs: {}", missing.join(", "));
}

/// A clone without one of these does not build, or builds something else.
#[test]
fn what_a_clone_needs_is_tracked() {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let Some(tracked) = git(&["ls-files", "-z"]) else {
        return crate::support::skipped("git does not answer for this folder");
    };
    let tracked: Vec<_> = tracked.split('\0').collect();
    let needed = all().into_iter().map(|file| file.path).filter(|path| {
        path == "Cargo.lock"
            || ["migrations/", ".sqlx/", ".ci/", ".cargo/"].iter().any(|folder| path.starts_with(folder))
    });
    let missing: Vec<_> = needed.filter(|path| !tracked.contains(&path.as_str())).collect();
    assert!(missing.is_empty(), "git add these: {}", missing.join(", "));
}
