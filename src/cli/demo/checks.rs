//! What the story claims, and whether it holds.

use crate::cli::output;

/// Claims with their verdicts, in order.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<Check>);

#[derive(Debug)]
struct Check {
    claim: &'static str,
    holds: bool,
    seen: String,
}

impl Checks {
    /// Notes a claim, whether it holds, and what was seen.
    pub(super) fn note(&mut self, claim: &'static str, holds: bool, seen: impl Into<String>) {
        self.0.push(Check { claim, holds, seen: seen.into() });
    }

    /// Whether none is broken.
    pub(super) fn all_hold(&self) -> bool {
        self.0.iter().all(|check| check.holds)
    }

    /// Prints all of them.
    pub(super) fn print(&self) {
        output::line("");
        let rows = self.0.iter().map(|check| {
            let verdict = if check.holds { "yes" } else { "NO" };
            vec![verdict.to_owned(), check.claim.to_owned(), check.seen.clone()]
        });
        output::table(&["holds", "claim", "seen"], rows.collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_broken_claim_is_enough() {
        let mut checks = Checks::default();
        assert!(checks.all_hold());
        checks.note("a", true, "1");
        assert!(checks.all_hold());
        checks.note("b", false, "2");
        assert!(!checks.all_hold());
    }
}
