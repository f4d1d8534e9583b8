//! Who may name whom.

use super::source::{Finding, Rust, Text, in_src, places};

/// Modules that a module may name beside itself. `ARCHITECTURE.md` shows the same as a picture.
const MODULES: [(&str, &[&str]); 15] = [
    (
        "cli",
        &[
            "node",
            "cloud",
            "workflow",
            "routing",
            "queue",
            "instance",
            "llm",
            "postgres",
            "supervision",
            "telemetry",
            "config",
            "cron",
            "error",
        ],
    ),
    (
        "node",
        &[
            "cloud",
            "workflow",
            "routing",
            "queue",
            "instance",
            "llm",
            "postgres",
            "supervision",
            "telemetry",
            "config",
            "cron",
            "error",
        ],
    ),
    (
        "cloud",
        &["workflow", "routing", "queue", "instance", "llm", "postgres", "supervision", "telemetry", "config", "error"],
    ),
    ("testing", &["queue", "postgres", "supervision", "telemetry", "config", "error"]),
    ("workflow", &["routing", "queue", "instance", "llm", "postgres", "supervision", "telemetry", "config", "error"]),
    ("routing", &["llm", "telemetry", "config", "error"]),
    ("queue", &["instance", "postgres", "supervision", "telemetry", "config", "cron", "error"]),
    ("instance", &["postgres", "supervision", "telemetry", "config", "error"]),
    ("llm", &["telemetry", "config", "error"]),
    ("postgres", &["telemetry", "config", "error"]),
    ("supervision", &["error"]),
    ("telemetry", &["config", "error"]),
    ("config", &["cron", "error"]),
    ("cron", &["error"]),
    ("error", &[]),
];

/// Crates that only some places may name: path prefixes under `src/`.
const CRATES: [(&str, &[&str]); 10] = [
    ("chrono_tz", &["cron/"]),
    ("ractor", &["supervision/"]),
    ("sqlx", &["postgres/", "queue/", "instance/", "workflow/", "cloud/store/"]),
    ("reqwest", &["llm/"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("unicode_width", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("termtree", &["cli/"]),
    ("tracing_subscriber", &["telemetry/", "config/rules.rs"]),
];

/// Where SQL may stand.
const SQL: [&str; 10] = [
    "postgres/",
    "queue/engine/",
    "instance/",
    "workflow/store.rs",
    "workflow/store/",
    "workflow/requests.rs",
    "workflow/models/store/",
    "cloud/store/",
    "workflow/embedding/vectors.rs",
    "workflow/agents/facts.rs",
];

/// What runs SQL.
const STATEMENTS: [&str; 9] = [
    "sqlx::query",
    "sqlx::query_as",
    "sqlx::query_scalar",
    "sqlx::raw_sql",
    "QueryBuilder",
    "query!",
    "query_as!",
    "query_scalar!",
    "job_query!",
];

fn under(file: &Text, prefixes: &[&str]) -> bool {
    let path = file.path.strip_prefix("src/").unwrap_or(&file.path);
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Modules name only those below them.
pub fn modules(files: &[Text]) -> Vec<Finding> {
    in_src(files).iter().flat_map(named_modules).collect()
}

fn named_modules(rust: &Rust<'_>) -> Vec<Finding> {
    let Some(module) = rust.module() else { return Vec::new() };
    let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == module) else {
        return vec![rust.file.finding(0, format!("give module {module} its place in MODULES and ARCHITECTURE.md"))];
    };
    let forbidden = crate_paths(rust).into_iter().filter(|(_, name)| {
        name != module && !allowed.contains(&name.as_str()) && MODULES.iter().any(|(known, _)| known == name)
    });
    let advice = |name: &str| {
        format!(
            "{module} may not name {name}, only {}: turn the dependency round, or pass what it needs",
            allowed.join(", ")
        )
    };
    forbidden.map(|(at, name)| rust.file.finding(at, advice(&name))).collect()
}

/// First names of all paths that start at the crate's root, with their places.
fn crate_paths(rust: &Rust<'_>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in places(&rust.code, "crate::") {
        first_names(&rust.code, at + "crate::".len(), &mut found);
    }
    // As many `super` as there are modules above lead to the root as well.
    let depth =
        rust.file.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod").split('/').count();
    let up = "super::".repeat(depth);
    for at in places(&rust.code, &up) {
        first_names(&rust.code, at + up.len(), &mut found);
    }
    found
}

/// The name at `at`, or all first names of the group there.
fn first_names(code: &str, at: usize, found: &mut Vec<(usize, String)>) {
    let name_at = |at: usize| {
        let blanks = code[at..].len() - code[at..].trim_start().len();
        let name: String = code[at + blanks..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (at + blanks, name)
    };
    if !code[at..].starts_with('{') {
        found.push(name_at(at));
        return;
    }
    let mut depth = 0_usize;
    for (offset, byte) in code[at..].bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
        if depth == 1 && matches!(byte, b'{' | b',') {
            found.push(name_at(at + offset + 1));
        }
    }
}

/// Crates are named only where they belong.
pub fn crates(files: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rust in in_src(files).iter().filter(|rust| !rust.is_test) {
        for (name, places) in CRATES.iter().filter(|(_, places)| !under(rust.file, places)) {
            let paths = rust.places(name).into_iter().filter(|at| rust.code[at + name.len()..].starts_with("::"));
            let advice = format!("{name} may be named only in {}: go through their types", places.join(", "));
            findings.extend(paths.map(|at| rust.file.finding(at, advice.clone())));
        }
    }
    findings
}

/// SQL stands where statements are kept.
pub fn sql(files: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rust in in_src(files).iter().filter(|rust| !under(rust.file, &SQL)) {
        for word in STATEMENTS {
            let advice = format!("SQL may stand only in {}: add a function there", SQL.join(", "));
            findings.extend(rust.places(word).into_iter().map(|at| rust.file.finding(at, advice.clone())));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::source::{NOWHERE, lines};
    use super::*;

    #[test]
    fn a_dependency_upwards_is_found_in_every_form() {
        let forms = [
            "use crate::node::Node;",
            "fn f() { crate::cli::main() }",
            "use crate::{config::Config, node::{Node, NodeError}};",
            "use super::super::node::Node;",
            "macro_rules! m { () => { $crate::node::f() } }",
        ];
        for form in forms {
            assert_eq!(lines(modules, "src/queue/stager.rs", &format!("//! x\n{form}\n")), [2], "{form}");
        }
        let fine = "//! See [`crate::node`].\nuse super::engine::Engine;\nuse crate::postgres::Database;\n\
                    #[cfg(test)]\nmod tests { use crate::node; }";
        assert_eq!(lines(modules, "src/queue/stager.rs", fine), NOWHERE);
        assert_eq!(lines(modules, "src/supervision/tree.rs", "use crate::config::Config;"), [1]);
        assert_eq!(lines(modules, "src/novel/mod.rs", ""), [1]);
    }

    #[test]
    fn a_crate_in_the_wrong_place_is_found() {
        assert_eq!(lines(crates, "src/queue/stager.rs", "use ractor::Actor;"), [1]);
        assert_eq!(lines(crates, "src/llm/http.rs", "use reqwest::Client;\nuse sqlx::PgPool;"), [2]);
        assert_eq!(lines(crates, "src/supervision/actor.rs", "use ractor::Actor;"), NOWHERE);
    }

    #[test]
    fn sql_in_the_wrong_place_is_found() {
        for statement in
            ["sqlx::query(\"SELECT 1\")", "sqlx::query_as!(Row, \"SELECT 1\")", "query_scalar!(\"SELECT 1\")"]
        {
            assert_eq!(lines(sql, "src/queue/producer.rs", statement).first(), Some(&1), "{statement}");
            assert_eq!(lines(sql, "src/queue/engine/claim.rs", statement), NOWHERE);
        }
    }
}
