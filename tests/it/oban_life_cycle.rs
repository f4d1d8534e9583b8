//! Conformance with Oban, seen from outside: rows go in, a node runs, rows are read. Points 2 (return values), 3
//! (elements of `errors`), 8 (snooze) and 20 (limits) of the black-box suite, in both shapes of the table.

use std::time::Duration;

use serde_json::{Value, json};
use singularity::error::Coded;
use singularity::postgres::Database;
use singularity::queue::engine::INSERT_BATCH_MAX;
use singularity::queue::{Engine, Job, NewJob, Replace, ReplaceField, Schedule, State, Unique, UniqueField};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, job, until};
use crate::support::rows::{SHAPES, Shape, engine_in, row, seconds_until};

/// A node whose stager stages when `stages`, on a table of this shape.
async fn node_in(shape: Shape, stages: bool) -> (TestDb, Fixture, TestNode) {
    let ((db, _engine), fixture) = (engine_in(shape).await, Fixture::new());
    let node = TestNode::start(db.url(), "a", &fixture, |config| {
        if !stages {
            config.services.stager.interval = singularity::config::Period::from_secs(3_600);
        }
    })
    .await;
    (db, fixture, node)
}

#[tokio::test]
async fn oban_02_return_value_matrix() {
    // Arguments, attempts, and then: state, attempt, errors, seconds that it waits.
    let cases = [
        (json!({"do": "ok"}), 20, State::Completed, 1, None, None),
        (json!({"do": "record", "value": {"n": 1}}), 20, State::Completed, 1, None, None),
        (json!({"do": "error"}), 20, State::Retryable, 1, Some("** (Fixture) no luck"), Some(15.0..=19.0)),
        (json!({"do": "error", "retry_ms": 90_000}), 20, State::Retryable, 1, Some("no luck"), Some(80.0..=90.0)),
        (json!({"do": "error"}), 1, State::Discarded, 1, Some("no luck"), None),
        (json!({"do": "error", "backoff_secs": 300}), 20, State::Retryable, 1, Some("no luck"), Some(290.0..=300.0)),
        (json!({"do": "panic", "backoff_secs": 300}), 20, State::Retryable, 1, Some("panics"), Some(290.0..=300.0)),
        (json!({"do": "error", "backoff": "panic"}), 20, State::Retryable, 1, Some("no luck"), Some(15.0..=19.0)),
        (
            json!({"do": "hang", "timeout_ms": 20, "backoff_secs": 300}),
            20,
            State::Retryable,
            1,
            Some("** (Oban.TimeoutError) fixture timed out after 20ms"),
            Some(590.0..=600.0),
        ),
        (json!({"do": "cancel"}), 20, State::Cancelled, 1, Some("** (Fixture) not wanted"), None),
        (json!({"do": "discard"}), 20, State::Discarded, 1, Some("** (Fixture) hopeless"), None),
        (json!({"do": "snooze", "for_ms": 600_000}), 1, State::Scheduled, 0, None, Some(590.0..=600.0)),
        (json!({"do": "snooze", "for_ms": 0}), 20, State::Scheduled, 0, None, Some(-20.0..=0.0)),
    ];
    for shape in SHAPES {
        // Nothing is staged, so that a job stays as its first attempt left it.
        let (_db, _fixture, node) = node_in(shape, false).await;
        for (args, max_attempts, state, attempt, error, wait) in cases.clone() {
            let id = node.engine().insert(job(args.clone()).max_attempts(max_attempts)).await.unwrap().id;
            let stored = node.reaches(id, state).await;
            assert_eq!((stored.attempt, stored.max_attempts), (attempt, max_attempts), "{args}");
            let texts: Vec<_> = stored.errors.iter().map(|error| error["error"].as_str().unwrap()).collect();
            assert_eq!(texts.len(), usize::from(error.is_some()), "{args}: {texts:?}");
            assert!(error.is_none_or(|error| texts[0].contains(error)), "{args}: {texts:?}");
            assert_eq!(stored.recorded(), args.get("value").cloned(), "{args}");
            assert_eq!(stored.meta.get("snoozed").is_some(), state == State::Scheduled, "{args}");
            // Of the three times of an end, only that of its own.
            let ends = [stored.completed_at, stored.discarded_at, stored.cancelled_at].map(|at| at.is_some());
            let wanted = [State::Completed, State::Discarded, State::Cancelled].map(|of| of == state);
            assert_eq!(ends, wanted, "{args}");
            assert_eq!(stored.attempted_by[0], "a", "{args}");
            assert!(stored.attempted_at.is_some(), "{args}");
            if let Some(wait) = wait {
                let secs = seconds_until(node.storage().db(), id, "scheduled_at").await;
                assert!(wait.contains(&secs), "{args}: waits {secs} s");
            }
        }
        node.shutdown().await;
    }
}

/// Keys, time and text of an element, as Oban's dashboard reads them.
fn check_error(element: &Value, attempt: i32) {
    let mut keys: Vec<_> = element.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["at", "attempt", "error"]);
    assert_eq!(element["attempt"], attempt);
    let at = element["at"].as_str().unwrap();
    let time = chrono::DateTime::parse_from_rfc3339(at).unwrap();
    assert!(at.len() == "2026-01-02T03:04:05.678901Z".len() && at.ends_with('Z'), "{at}");
    assert!((chrono::Utc::now() - time.to_utc()).num_seconds().abs() < 60, "{at}");
    let banner = element["error"].as_str().unwrap().lines().next().unwrap();
    assert!(banner.starts_with("** (") && banner.contains(") "), "{banner}");
}

#[tokio::test]
async fn oban_03_error_element_shape() {
    for shape in SHAPES {
        let (_db, _fixture, node) = node_in(shape, true).await;
        for what in ["error", "panic", "block_panic", "cancel", "discard"] {
            let id = node.insert(json!({"do": what})).await;
            let ended =
                until("an end", || async { node.engine().get(id).await.unwrap().filter(|job| !job.errors.is_empty()) })
                    .await;
            assert_eq!(ended.errors.len(), 1, "{what}");
            check_error(&ended.errors[0], 1);
        }
        // One more a failure, oldest first; those of others before stay as they are.
        let id = node.engine().insert(job(json!({"do": "error", "retry_ms": 0})).max_attempts(3)).await.unwrap().id;
        let job = node.reaches(id, State::Discarded).await;
        assert_eq!(job.errors.len(), 3);
        for (number, element) in (1..).zip(&job.errors) {
            check_error(element, number);
        }
        // The column is of its own type in each shape, and holds objects.
        let sql = match shape {
            Shape::Elixir => "SELECT jsonb_typeof(errors[3]) FROM oban_jobs WHERE id = $1",
            Shape::Python => "SELECT jsonb_typeof(errors -> 2) FROM oban_jobs WHERE id = $1",
        };
        let kind: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
            .bind(id)
            .fetch_one(node.engine().db().pool())
            .await
            .unwrap();
        assert_eq!(kind, "object");
        node.shutdown().await;
    }
}

#[tokio::test]
async fn oban_08_snooze_accounting() {
    for shape in SHAPES {
        let (_db, fixture, node) = node_in(shape, true).await;
        // A single attempt, so that a snooze that counted one would discard it.
        let new = job(json!({"do": "snooze", "times": 2})).max_attempts(1).meta("mine", 1);
        let id = node.engine().insert(new).await.unwrap().id;
        let done = node.reaches(id, State::Completed).await;
        assert_eq!((done.attempt, done.max_attempts, done.errors.len()), (1, 1, 0));
        assert_eq!(done.meta, json!({"mine": 1, "snoozed": 2}));
        assert_eq!(fixture.seen().started, vec![(id, 1); 3], "each time the first attempt");

        // After a failure the number of the attempt stays where it was.
        let new = job(json!({"do": "error_then_snooze", "for_ms": 600_000})).max_attempts(5);
        let id = node.engine().insert(new).await.unwrap().id;
        let snoozed = until("a snooze", || async {
            node.engine().get(id).await.unwrap().filter(|job| job.meta.get("snoozed").is_some())
        })
        .await;
        assert_eq!((snoozed.state, snoozed.attempt, snoozed.max_attempts), (State::Scheduled, 1, 5));
        assert_eq!((snoozed.errors.len(), snoozed.attempted_by[0].as_str()), (1, "a"));
        assert!(snoozed.attempted_at.is_some(), "as its last attempt left it");
        let wait = seconds_until(node.engine().db(), id, "scheduled_at").await;
        assert!((590.0..=600.0).contains(&wait), "{wait}");
        node.shutdown().await;
    }
}

/// The field that is named, and a part of what is said.
async fn refused(engine: &Engine, job: NewJob, code: &str, words: &[&str]) {
    let error = engine.insert(job).await.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} does not say {word}");
    }
}

async fn count(database: &Database) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM oban_jobs").fetch_one(database.pool()).await.unwrap()
}

#[tokio::test]
async fn oban_20_limits_of_names_and_the_table_of_what_is_refused() {
    let plain = || job(json!({}));
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        // 127 characters are a name in both columns, in characters and not in bytes; 128 are refused before the
        // database would refuse them, which in Oban is an exception and no validation.
        let longest = "é".repeat(127);
        let id = engine.insert(NewJob::new(&longest, json!({})).queue(&longest)).await.unwrap().id;
        let stored = row(engine.db(), id).await;
        assert_eq!((stored["queue"].as_str(), stored["worker"].as_str()), (Some(&*longest), Some(&*longest)));
        let too_long = "q".repeat(128);
        refused(&engine, plain().queue(&too_long), "E0401", &["queue", &too_long, "1 to 127 characters"]).await;
        refused(&engine, NewJob::new(&too_long, json!({})), "E0401", &["worker", "1 to 127 characters"]).await;
        if shape == Shape::Elixir {
            let raw = format!("INSERT INTO oban_jobs (worker, queue) VALUES ('w', '{too_long}')");
            let raw = sqlx::query(sqlx::AssertSqlSafe(raw)).execute(engine.db().pool()).await;
            assert!(raw.unwrap_err().to_string().contains("queue_length"), "the database's own limit");
        }
        for name in ["", "a\"b", "a\nb"] {
            refused(&engine, plain().queue(name), "E0401", &["queue"]).await;
            refused(&engine, NewJob::new(name, json!({})), "E0401", &["worker"]).await;
        }
        for args in [json!([1]), json!("text"), json!(null), json!(7)] {
            refused(&engine, job(args.clone()), "E0401", &["args", "a JSON object"]).await;
        }
        for attempts in [0, -1, 32_768] {
            let words = ["max_attempts", &attempts.to_string(), "from 1 to 32767"];
            refused(&engine, plain().max_attempts(attempts), "E0401", &words).await;
        }
        for priority in [-1, 10] {
            let words = ["priority", &priority.to_string(), "from 0 (most urgent) to 9"];
            refused(&engine, plain().priority(priority), "E0401", &words).await;
        }
        refused(&engine, plain().schedule(Schedule::In(Duration::MAX)), "E0401", &["schedule", "36525 days"]).await;
        refused(&engine, plain().tags(["a\0"]), "E0401", &["tags", "U+0000"]).await;
        refused(&engine, plain().replace(Replace::always(&[ReplaceField::Args])), "E0401", &["replace"]).await;
        let unique: [(Unique, &str); 5] = [
            (
                Unique { fields: vec![], ..Unique::default() },
                "expected :fields [] to overlap [:args, :meta, :queue, :worker]",
            ),
            (Unique { states: vec![], ..Unique::default() }, "expected :states [] to overlap in ["),
            (
                Unique { fields: vec![UniqueField::Queue], keys: vec!["a".into()], ..Unique::default() },
                "using :keys expects :fields to contain at least one of [:args, :meta]",
            ),
            (Unique { keys: vec![String::new()], ..Unique::default() }, "expected :keys"),
            (Unique { period: Some(Duration::ZERO), ..Unique::default() }, "expected :period"),
        ];
        for (unique, text) in unique {
            refused(&engine, plain().unique(unique), "E0403", &["invalid option, \"", text]).await;
        }
        let many = engine.insert_many(vec![plain(); INSERT_BATCH_MAX + 1]).await.unwrap_err();
        assert_eq!(many.code(), "E0402");
        assert_eq!(count(engine.db()).await, 1, "nothing that was refused is stored");

        // At the limits.
        let edge = plain().max_attempts(32_767).priority(9).tags([" A", "b", "a", "", " B "]);
        let edge: Job = engine.get(engine.insert(edge).await.unwrap().id).await.unwrap().unwrap();
        assert_eq!((edge.max_attempts, edge.priority, edge.state), (32_767, 9, State::Available));
        assert_eq!(edge.tags, ["a", "b"], "trimmed, lower-case, each once, in order");
    }
}
