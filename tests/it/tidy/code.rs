//! What code may not do, and where.

use super::source::{Finding, Rust, Text, in_src};

/// Files whose functions get time and chance as arguments and do nothing but compute: path prefixes under `src/`.
const PURE: [&str; 48] = [
    "cloud/central/learner/",
    "cloud/learning.rs",
    "cloud/learning/",
    "cloud/sync/",
    "config/",
    "cron/",
    "error.rs",
    "llm/anthropic.rs",
    "llm/answer.rs",
    "llm/breaker.rs",
    "llm/classify.rs",
    "llm/command/format.rs",
    "llm/draft.rs",
    "llm/embedding.rs",
    "llm/hashing.rs",
    "llm/governor.rs",
    "llm/openai.rs",
    "llm/prices.rs",
    "llm/reply.rs",
    "llm/sse.rs",
    "llm/text.rs",
    "llm/usage.rs",
    "queue/backoff.rs",
    "queue/crontab.rs",
    "queue/job.rs",
    "queue/new_job.rs",
    "queue/outcome.rs",
    "queue/recorded.rs",
    "queue/state.rs",
    "queue/unique.rs",
    "routing/policy.rs",
    "routing/select.rs",
    "routing/table.rs",
    "routing/wish.rs",
    "supervision/core/",
    "workflow/agents/answer.rs",
    "workflow/agents/pipeline.rs",
    "workflow/agents/plan.rs",
    "workflow/agents/registry.rs",
    "workflow/agents/request.rs",
    "workflow/definition.rs",
    "workflow/embedding/ranking.rs",
    "workflow/embedding/request.rs",
    "workflow/models/budget.rs",
    "workflow/models/fallback.rs",
    "workflow/models/key.rs",
    "workflow/request.rs",
    "workflow/result.rs",
];

/// What a pure file may not name.
const EFFECTS: [&str; 8] =
    ["tokio", "Instant::now", "SystemTime::now", "Utc::now", "Local::now", "rand::rng", "rand::random", "thread_rng"];

/// The only file that prints.
const PRINTER: &str = "src/cli/output.rs";

/// What prints.
const PRINTS: [&str; 5] = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];

/// Who may use the pool itself: it is made here, and measured beside the node.
const POOL_USERS: [&str; 2] = ["src/postgres/", "src/queue/engine/bare.rs"];

/// What ends a thread instead of returning an error.
const PANICS: [&str; 6] = [".unwrap()", ".expect(", "panic!", "todo!", "unimplemented!", "unreachable!"];

fn each(files: &[Text], applies: impl Fn(&Rust<'_>) -> bool, words: &[&str], advice: &str) -> Vec<Finding> {
    let sources = in_src(files);
    let sources = sources.iter().filter(|rust| applies(rust));
    let all = sources.flat_map(|rust| {
        words.iter().flat_map(move |word| rust.places(word).into_iter().map(move |at| (rust, word, at)))
    });
    all.map(|(rust, word, at)| rust.file.finding(at, format!("`{word}` {advice}"))).collect()
}

/// Pure files know no runtime, no clock and no chance.
pub fn purity(files: &[Text]) -> Vec<Finding> {
    let is_pure = |rust: &Rust<'_>| {
        let path = rust.file.path.trim_start_matches("src/");
        PURE.iter().any(|prefix| path.starts_with(prefix))
    };
    each(files, is_pure, &EFFECTS, "has no place in a pure file: take the time or the random number as an argument")
}

/// One file prints.
pub fn printing(files: &[Text]) -> Vec<Finding> {
    each(
        files,
        |rust| rust.file.path != PRINTER,
        &PRINTS,
        &format!("prints: return the text, and let {PRINTER} print it"),
    )
}

/// Statements and transactions go through what ends them when the database says nothing.
pub fn pools(files: &[Text]) -> Vec<Finding> {
    each(
        files,
        |rust| !POOL_USERS.iter().any(|user| rust.file.path.starts_with(user)),
        &[".pool()"],
        "waits without a limit of ours: use `&Database`, `Database::transaction`, `Database::session` or a `Lane`",
    )
}

/// Nothing outside of tests panics on purpose.
pub fn panics(files: &[Text]) -> Vec<Finding> {
    each(files, |_| true, &PANICS, "panics: return an error with a code")
}

/// Tests run or do not exist.
pub fn ignored(files: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let places =
            Rust::new(file, false).code_and_tests.match_indices("#[ignore").map(|(at, _)| at).collect::<Vec<_>>();
        let advice = "an ignored test proves nothing: mend it, or remove it";
        findings.extend(places.into_iter().map(|at| file.finding(at, advice)));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::source::{NOWHERE, lines};
    use super::*;

    #[test]
    fn an_effect_in_a_pure_file_is_found() {
        for effect in
            ["use tokio::sync::watch;", "let now = Instant::now();", "Utc::now()", "rand::rng()", "rand::random()"]
        {
            assert_eq!(lines(purity, "src/supervision/core/plan.rs", effect), [1], "{effect}");
            assert_eq!(lines(purity, "src/queue/producer.rs", effect), NOWHERE);
        }
        assert_eq!(lines(purity, "src/workflow/request.rs", "use tokio::time;"), [1]);
        assert_eq!(lines(purity, "src/queue/backoff.rs", "// tokio\nuse rand::rngs::StdRng;"), NOWHERE);
    }

    #[test]
    fn printing_is_found() {
        for text in ["println!(\"a\")", "eprint!(\"a\")", "dbg!(a)"] {
            assert_eq!(lines(printing, "src/cli/run.rs", text), [1], "{text}");
            assert_eq!(lines(printing, PRINTER, text), NOWHERE);
        }
        assert_eq!(lines(printing, "src/cli/run.rs", "/// println!(\"a\")\nfn a() { \"println!()\" }"), NOWHERE);
    }

    #[test]
    fn the_pool_itself_is_found() {
        let text = "async fn a(db: &Database) {\n  db.pool().begin().await;\n}";
        assert_eq!(lines(pools, "src/queue/a.rs", text), [2]);
        assert_eq!(lines(pools, "src/postgres/a.rs", text), NOWHERE);
    }

    #[test]
    fn panics_are_found_outside_of_tests_only() {
        let text = "fn a() {\n  b.unwrap();\n  c\n    .expect(\"d\");\n  todo!();\n}\n\
                    #[cfg(test)]\nmod tests { fn e() { f.unwrap() } }\n";
        assert_eq!(lines(panics, "src/queue/stager.rs", text), [2, 4, 5]);
        assert_eq!(
            lines(panics, "src/queue/stager.rs", "a.unwrap_or_default(); b.expect_none(); #[expect(x)] c()"),
            NOWHERE
        );
    }

    #[test]
    fn ignored_tests_are_found_everywhere() {
        for text in ["#[ignore]\nfn a() {}", "mod tests {  #[ignore = \"slow\"] fn a() {} }"] {
            assert_eq!(lines(ignored, "tests/it/a.rs", text), [1]);
            assert_eq!(lines(ignored, "src/queue/job.rs", &format!("#[cfg(test)]\n{text}")), [2]);
        }
    }
}
