//! Rows that PostgreSQL stores and nobody here can read: each fails by itself, and holds up no other.

use serde_json::json;
use singularity::config::{Config, Queue};
use singularity::error::Coded;
use singularity::queue::engine::JobFilter;
use singularity::queue::{NewJob, State};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, job, restarts, until};
use crate::support::rows::{engine, with};

/// What is written into a row, and the column that cannot be read then.
fn unreadable() -> [(String, &'static str); 6] {
    let nested =
        |column: &str| format!("{column} = ('{{\"doc\": ' || repeat('[', 127) || repeat(']', 127) || '}}')::jsonb");
    [
        (nested("args"), "args"),
        (nested("meta"), "meta"),
        ("args = '{\"n\": 1e400}'".into(), "args"),
        ("meta = '{\"n\": -1e400}'".into(), "meta"),
        ("errors = ARRAY['{\"n\": 1e400}'::jsonb]".into(), "errors"),
        ("tags = ARRAY[['a', 'b'], ['c', 'd']]".into(), "tags"),
    ]
}

/// What looks as bad, and hinders nobody.
const ODD: [&str; 4] = [
    "tags = ARRAY['a', NULL]",
    "scheduled_at = '-infinity'",
    "inserted_at = 'infinity', scheduled_at = '-infinity', completed_at = '-infinity'",
    "inserted_at = '294000-01-01', discarded_at = '262143-01-01'",
];

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_with_the_reason_and_the_others_run() {
    // With a small limit claims store results too.
    for limit in [2, 60] {
        let (db, fixture) = (TestDb::new().await, Fixture::new());
        let settings = |config: &mut Config| {
            config.queues.insert("default".into(), Queue { limit, ..Queue::default() });
        };
        let node = TestNode::start(db.url(), "one", &fixture, settings).await;
        let queue = node.pause().await;
        let mut bad = Vec::new();
        for (set, column) in unreadable() {
            for (max_attempts, state) in [(20, "retryable"), (1, "discarded")] {
                let id = with(node.engine(), job(json!({})).max_attempts(max_attempts), &set).await;
                bad.push((id, column, state));
            }
        }
        let mut good = vec![node.insert(json!({})).await];
        for set in ODD {
            good.push(with(node.engine(), job(json!({})), set).await);
        }
        queue.set_paused(false);
        for id in &good {
            node.reaches(*id, State::Completed).await;
        }
        for (id, column, wanted) in bad {
            let (state, attempt, errors) = until("end of an unreadable job", || async {
                let sql = "SELECT state::text, attempt::int, errors::text FROM oban_jobs WHERE id = $1";
                let row: (String, i32, String) =
                    sqlx::query_as(sql).bind(id).fetch_one(node.engine().db().pool()).await.unwrap();
                (!matches!(&*row.0, "available" | "executing")).then_some(row)
            })
            .await;
            assert_eq!((&*state, attempt), (wanted, 1), "{column}: {errors}");
            let text = format!("** (UnreadableRow) E0443: job {id}: {column} cannot be read: ");
            assert!(errors.contains(&text), "{errors} does not say {text}");
        }
        assert_eq!(fixture.seen().started.len(), good.len());
        assert_eq!(restarts(&node.system().snapshot()), 0);
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_listed_with_the_reason_among_the_others() {
    let (_db, engine) = engine().await;
    let mut wanted = Vec::new();
    for (set, column) in unreadable() {
        wanted.push((with(&engine, NewJob::new("w", json!({})), &set).await, Some(column)));
    }
    for set in ODD {
        wanted.push((with(&engine, NewJob::new("w", json!({})), set).await, None));
    }
    let mut listed = engine.list(&JobFilter::default(), None, 99).await.unwrap();
    listed.reverse();
    let ids: Vec<i64> = wanted.iter().map(|(id, _)| *id).collect();
    assert_eq!(listed, engine.get_many(&ids).await.unwrap());
    assert_eq!(listed.len(), wanted.len());
    for (job, (id, column)) in listed.iter().zip(wanted) {
        assert_eq!((job.id, job.unreadable.is_some()), (id, column.is_some()), "{job:?}");
        if let (Some(reason), Some(column)) = (&job.unreadable, column) {
            assert!(reason.starts_with(&format!("{column} cannot be read: ")), "{reason}");
        }
        let again: singularity::queue::Job = serde_json::from_value(serde_json::to_value(job).unwrap()).unwrap();
        assert_eq!(&again, job);
    }
    assert_eq!(listed[6].tags, ["a"]);
}

#[tokio::test]
async fn what_could_not_be_read_again_is_not_stored() {
    let (_db, engine) = engine().await;
    let nested = |levels| (0..levels).fold(json!({}), |inner, _| json!({"doc": inner}));
    let error = engine.insert(NewJob::new("w", nested(120))).await.unwrap_err();
    assert_eq!(error.code(), "E0401");
    assert!(error.to_string().contains("at most 100 levels"), "{error}");
    let id = engine.insert(NewJob::new("w", nested(99))).await.unwrap().id;
    assert_eq!(engine.get(id).await.unwrap().unwrap().args, nested(99));
}
