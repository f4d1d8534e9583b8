//! Point 18 of the conformance suite: the whole life of jobs in a schema of its own, and two schemas of one database
//! that do not see each other.

use serde_json::{Value, json};
use singularity::config::Config;
use singularity::queue::engine::{Changed, JobFilter};
use singularity::queue::{JobUpdate, NewJob, State, Unique};

use crate::support::db::TestDb;
use crate::support::heard::Heard;
use crate::support::node::{Fixture, TestNode, signal, until};
use crate::support::rows::{row, set_columns};

fn schema(name: &'static str) -> impl Fn(&mut Config) {
    move |config| config.database.schema = name.into()
}

async fn live(node: &TestNode, fixture: &Fixture) {
    let done = node.insert(json!({"do": "ok"})).await;
    let retried = node.insert(json!({"do": "error_once"})).await;
    let snoozed = node.insert(json!({"do": "snooze", "for_ms": 20})).await;
    let given_up = node.insert(json!({"do": "discard"})).await;
    let running = node.insert(json!({"do": "hang"})).await;
    for (id, attempt) in [(done, 1), (retried, 2), (snoozed, 1)] {
        assert_eq!(node.reaches(id, State::Completed).await.attempt, attempt, "job {id}");
    }
    node.reaches(given_up, State::Discarded).await;
    fixture.started(running).await;
    assert_eq!(node.engine().cancel(running).await.unwrap(), Changed::Yes(State::Executing));
    fixture.ended(running).await;
    assert_eq!(node.engine().retry(done).await.unwrap(), Changed::Yes(State::Completed));
    until("a second run", || async { (fixture.starts_of(done) == 2).then_some(()) }).await;
    node.reaches(done, State::Completed).await;
    let unique = || NewJob::new("fixture", json!({"do": "ok", "once": true})).unique(Unique::forever());
    let first = node.engine().insert_many(vec![unique()]).await.unwrap()[0];
    let again = node.engine().insert_many(vec![unique()]).await.unwrap()[0];
    assert_eq!((first.conflict, again.conflict, again.id), (false, true, first.id));
    node.reaches(first.id, State::Completed).await;
    let tagged = JobUpdate { tags: Some(vec!["seen".into()]), ..JobUpdate::default() };
    assert_eq!(node.engine().update_all(&JobFilter::default(), tagged).await.unwrap().total(), 6);
    assert_eq!(node.engine().delete_all(&JobFilter::default()).await.unwrap().total(), 6);
}

#[tokio::test]
async fn oban_18_the_whole_life_of_jobs_in_another_schema_than_public() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, schema("our_jobs")).await;
    live(&node, &fixture).await;
    let elsewhere: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'oban%'",
    )
    .fetch_one(node.engine().db().pool())
    .await
    .unwrap();
    assert_eq!(elsewhere, 0, "nothing of ours is in public");
    node.shutdown().await;
}

#[tokio::test]
async fn oban_18_two_schemas_of_one_database_do_not_see_each_other() {
    let db = TestDb::new().await;
    let (here, there) = (Fixture::new(), Fixture::new());
    // The same instance id, queue and worker, and the same ids of jobs.
    let a = TestNode::start(db.url(), "one", &here, schema("a")).await;
    let b = TestNode::start(db.url(), "one", &there, schema("b")).await;
    let mut heard = Heard::on(b.engine().db(), &["signal", "insert"]).await;
    let of_b = b.insert(json!({"do": "hold"})).await;
    there.started(of_b).await;
    heard.all().await;

    let of_a = a.insert(json!({"do": "hang"})).await;
    assert_eq!(of_a, of_b, "each schema counts for itself");
    here.started(of_a).await;
    a.engine().cancel(of_a).await.unwrap();
    here.ended(of_a).await;
    signal(a.engine().db(), json!({"action": "pause", "queue": "*"})).await;
    until("a pause", || async { a.queues().get("default").unwrap().is_paused().then_some(()) }).await;
    assert_eq!(heard.all().await, [], "nothing of it is heard in the other schema");
    assert!(!b.queues().get("default").unwrap().is_paused());
    let owner = |node: &TestNode| node.queues().get("default").unwrap().producer().to_string();
    let of_b_row: Value = row(b.engine().db(), of_b).await;
    assert_eq!((&of_b_row["state"], &of_b_row["attempted_by"][1]), (&json!("executing"), &json!(owner(&b))));

    // What an instance of the same name left in one schema is no business of the other.
    let former = uuid::Uuid::now_v7();
    let left = format!("state = 'executing', attempted_by = ARRAY['one', '{former}']");
    set_columns(a.engine(), of_a, &left).await;
    until("a rescue", || async { (a.state(of_a).await == State::Available).then_some(()) }).await;
    assert_eq!(there.seen().dropped.len(), 0);
    there.release(of_b);
    b.reaches(of_b, State::Completed).await;
    assert_eq!((here.starts_of(of_a), there.starts_of(of_b)), (1, 1));
    a.shutdown().await;
    b.shutdown().await;
}
