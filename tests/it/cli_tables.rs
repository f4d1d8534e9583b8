//! Tables as wide as the terminal, here as `COLUMNS` says.

use serde_json::json;

use crate::cli_support::enqueue;
use crate::support::db::TestDb;
use crate::support::process::{Place, text};

/// What a command prints where a line may have so many characters.
fn shown(place: &Place, columns: &str, args: &[&str]) -> String {
    let output = place.command(args).env("COLUMNS", columns).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn words_stay_whole_in_a_terminal_of_eighty_columns() {
    let (db, _) = TestDb::migrated().await;
    let place = Place::new(&db, "");
    let args = json!({"prompt": "Say hello to everybody in the house tonight", "task_type": "simple_chat"}).to_string();
    let id = enqueue(&place, &["llm_request", "--args", &args, "--queue", "pattern_mining"]);

    let jobs = shown(&place, "80", &["job", "list"]);
    let queues = shown(&place, "80", &["queue", "list"]);
    for line in jobs.lines().chain(queues.lines()) {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for word in [&id.to_string(), "available", "llm_request", "everybody", "inserted"] {
        assert!(words(&jobs).iter().any(|shown| shown == word), "{word:?} is broken in\n{jobs}");
    }
    for word in ["available", "scheduled", "executing", "retryable", "pattern_mining", "running/limit", "default"] {
        assert!(words(&queues).iter().any(|shown| shown == word), "{word:?} is broken in\n{queues}");
    }
    // Somebody else reads it: one line a job.
    let whole = place.command(&["job", "list"]).env_remove("COLUMNS").output().unwrap();
    assert_eq!(text(&whole.stdout).lines().count(), 2);
}
