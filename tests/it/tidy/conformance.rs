//! The lists that a third implementation of Oban is held to are whole: each of the twenty points of the black-box suite
//! has tests that carry its number, and each known hazard of sharing tables is a row of `docs/oban-neighbours.md`.

use super::source::{Finding, Text};

/// Points of the suite.
const POINTS: u32 = 20;
/// Known hazards.
const HAZARDS: u32 = 33;
/// Where hazards are told, with what is done about each and the tests of it.
const NEIGHBOURS: &str = "docs/oban-neighbours.md";

fn missing(what: &str, number: u32, advice: &str) -> Finding {
    Finding { file: what.into(), line: number as usize, advice: advice.into() }
}

/// Every point has a file `tests/it/oban_NN_*.rs` with a test `oban_NN_*`.
pub fn points(files: &[Text]) -> Vec<Finding> {
    let has_test = |number: u32| {
        let (file, test) = (format!("tests/it/oban_{number:02}_"), format!("fn oban_{number:02}_"));
        files.iter().any(|text| text.path.starts_with(&file) && text.text.contains(&test))
    };
    let without = (1..=POINTS).filter(|number| !has_test(*number));
    without.map(|number| missing("point", number, "has no test that carries its number")).collect()
}

/// Every hazard is in the first column of a row that names what is done about it.
pub fn hazards(files: &[Text]) -> Vec<Finding> {
    let told: Vec<u32> = files
        .iter()
        .filter(|file| file.path == NEIGHBOURS)
        .flat_map(|file| file.text.lines())
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"))
        .flat_map(|(numbers, _)| numbers.split(", "))
        .filter_map(|number| number.parse().ok())
        .collect();
    let without = (1..=HAZARDS).filter(|number| !told.contains(number));
    without.map(|number| missing(NEIGHBOURS, number, "this hazard is in no row of the table")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_without_a_test_and_a_hazard_without_a_row_are_found() {
        let mut files: Vec<Text> = (1..=POINTS)
            .map(|number| {
                let (path, test) = (format!("tests/it/oban_{number:02}_x.rs"), format!("fn oban_{number:02}_x() {{}}"));
                Text::new(&path, &test)
            })
            .collect();
        let numbers: Vec<String> = (3..=HAZARDS).map(|number| number.to_string()).collect();
        files.push(Text::new(NEIGHBOURS, &format!("| 1 | a |\n| {} | b |\n", numbers.join(", "))));
        files[6] = Text::new("tests/it/oban_07_x.rs", "fn x() {}");
        files[13] = Text::new("tests/it/queue_x.rs", "fn oban_14_x() {}");
        let numbers = |findings: Vec<Finding>| findings.into_iter().map(|one| one.line).collect::<Vec<_>>();
        assert_eq!(numbers(points(&files)), [7, 14]);
        assert_eq!(numbers(hazards(&files)), [2]);
    }
}
