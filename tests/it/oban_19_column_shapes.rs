//! Point 19 of the conformance suite: a node works on tables of either shape, `errors` as an array of JSON values and
//! integers as Oban for Elixir makes them, or one JSON array and small integers as Oban for Python does.

use serde_json::{Value, json};
use singularity::queue::engine::{Changed, JobFilter};
use singularity::queue::{JobUpdate, State};

use crate::support::node::{Fixture, TestNode, job};
use crate::support::rows::{SHAPES, Shape, engine_in, row};

#[tokio::test]
async fn oban_19_a_node_lives_on_both_column_shapes() {
    for shape in SHAPES {
        let (db, engine) = engine_in(shape).await;
        let fixture = Fixture::new();
        let node = TestNode::start(db.url(), "one", &fixture, |_| {}).await;
        let types: Vec<String> = sqlx::query_scalar(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute
             WHERE attrelid = 'oban_jobs'::regclass AND attname IN ('errors', 'attempt', 'priority') ORDER BY attname",
        )
        .fetch_all(engine.db().pool())
        .await
        .unwrap();
        let wanted =
            if shape == Shape::Elixir { ["integer", "jsonb[]", "integer"] } else { ["smallint", "jsonb", "smallint"] };
        assert_eq!(types, wanted);

        let done = node.insert(json!({"do": "ok"})).await;
        let retried = node.insert(json!({"do": "error_once"})).await;
        let snoozed = node.insert(json!({"do": "snooze", "for_ms": 20})).await;
        let unwanted = node.insert(json!({"do": "cancel"})).await;
        let last = node.engine().insert(job(json!({"do": "error"})).max_attempts(1)).await.unwrap().id;
        let running = node.insert(json!({"do": "hang"})).await;
        node.reaches(done, State::Completed).await;
        let retried = node.reaches(retried, State::Completed).await;
        assert_eq!((retried.attempt, &retried.errors[0]["error"]), (2, &json!("** (Fixture) first")), "{shape:?}");
        assert_eq!(node.reaches(snoozed, State::Completed).await.meta, json!({"snoozed": 1}), "{shape:?}");
        assert_eq!(node.reaches(unwanted, State::Cancelled).await.errors.len(), 1);
        assert_eq!(node.reaches(last, State::Discarded).await.errors.len(), 1);
        fixture.started(running).await;
        node.engine().cancel(running).await.unwrap();
        fixture.ended(running).await;

        // A second failure goes behind the first, and the row keeps its shape.
        assert_eq!(node.engine().retry(last).await.unwrap(), Changed::Yes(State::Discarded));
        let again = crate::support::node::until("a second failure", || async {
            let job = node.engine().get(last).await.unwrap().unwrap();
            (job.errors.len() == 2 && job.state == State::Discarded).then_some(job)
        })
        .await;
        assert_eq!((again.attempt, again.max_attempts, &again.errors[1]["attempt"]), (2, 2, &json!(2)), "{shape:?}");
        let stored: Value = row(engine.db(), last).await["errors"].clone();
        assert_eq!(stored.as_array().unwrap().len(), 2, "{shape:?}: {stored}");
        let priority = JobUpdate { priority: Some(9), ..JobUpdate::default() };
        assert_eq!(node.engine().update_all(&JobFilter::default(), priority).await.unwrap().total(), 6);
        assert_eq!(node.engine().list(&JobFilter::default(), None, 10).await.unwrap().len(), 6);
        assert_eq!(node.engine().delete_all(&JobFilter::default()).await.unwrap().total(), 6);
        node.shutdown().await;
    }
}
