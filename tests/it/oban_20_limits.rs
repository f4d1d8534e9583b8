//! Point 20 of the conformance suite: names of 127 characters and of 128, and the table of all that an insert refuses.

use std::time::Duration;

use serde_json::json;
use singularity::error::Coded;
use singularity::postgres::Database;
use singularity::queue::engine::INSERT_BATCH_MAX;
use singularity::queue::{Engine, Job, NewJob, Replace, ReplaceField, Schedule, State, Unique, UniqueField};

use crate::support::node::job;
use crate::support::rows::{SHAPES, Shape, engine_in, row};

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
