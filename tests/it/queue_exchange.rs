//! Queues with a small limit: what succeeded is stored and the next jobs are claimed in one statement, with the guards,
//! the order and the limit of the two.

use std::time::Duration;

use serde_json::json;
use singularity::config::{Config, Period, Queue};
use singularity::postgres::Database;
use singularity::queue::engine::Claim;
use singularity::queue::{Engine, Job, NewJob, Outcome, State, ack};
use uuid::Uuid;

use crate::support::db::{DEADLINE, TestDb};
use crate::support::node::{Fixture, TestNode, job, until};
use crate::support::rows::{
    SHAPES, claim, engine, engine_in, guarded, ids, names, row, seconds_until, set_columns, state, without,
};

fn plain() -> NewJob {
    NewJob::new("w", json!({"a": 1})).meta("kept", "x")
}

async fn insert(engine: &Engine, count: usize) -> Vec<i64> {
    engine.insert_many(vec![plain(); count]).await.unwrap().iter().map(|one| one.id).collect()
}

/// Says that these jobs of `producer` succeeded and claims for it.
async fn exchange(engine: &Engine, producer: Uuid, done: &[Job], demand: u32) -> (Vec<i64>, Vec<Job>) {
    let succeeded = |job: &Job| ack(&Outcome::Completed, job.id, job.attempt, job.max_attempts, Duration::ZERO);
    let acks: Vec<_> = done.iter().map(|job| guarded(job, succeeded(job), producer)).collect();
    let workers = names(&["w"]);
    let claim = Claim { queue: "default", instance_id: "here", producer, workers: &workers, demand };
    let mut exchanged = engine.exchange(&acks, &claim).await.unwrap();
    exchanged.stored.sort_unstable();
    (exchanged.stored, exchanged.claimed)
}

/// Transaction that wrote a row last.
async fn written_by(database: &Database, id: i64) -> String {
    let sql = "SELECT xmin::text FROM oban_jobs WHERE id = $1";
    sqlx::query_scalar(sql).bind(id).fetch_one(database.pool()).await.unwrap()
}

#[tokio::test]
async fn an_exchange_writes_what_a_completion_and_a_claim_would_in_both_row_shapes() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let producer = Uuid::now_v7();
        let all = insert(&engine, 6).await;
        set_columns(&engine, all[5], "priority = 0, scheduled_at = scheduled_at - interval '1 hour'").await;
        set_columns(&engine, all[2], "priority = 1").await;
        let done = claim(&engine, producer, 2).await;
        assert_eq!(ids(&done), [all[5], all[0]]);
        let before = (row(engine.db(), all[0]).await, row(engine.db(), all[1]).await);
        let (stored, claimed) = exchange(&engine, producer, &done, 3).await;
        assert_eq!(stored, [all[0], all[5]]);
        assert_eq!(ids(&claimed), [all[1], all[3], all[4]], "Oban's order, and no more than the demand");
        assert_eq!(claimed[0], engine.get(all[1]).await.unwrap().unwrap(), "the claim returns the row as it is");

        let after = row(engine.db(), all[0]).await;
        assert_eq!(after["state"], "completed");
        assert_eq!(without(after, &["state", "completed_at"]), without(before.0, &["state", "completed_at"]));
        let after = row(engine.db(), all[1]).await;
        let mut expected = before.1;
        (expected["state"], expected["attempt"]) = (json!("executing"), json!(1));
        expected["attempted_by"] = json!(["here", producer.to_string()]);
        expected["attempted_at"] = after["attempted_at"].clone();
        assert_eq!(after, expected, "{shape:?}");
        for (id, column) in [(all[0], "completed_at"), (all[1], "attempted_at")] {
            let age = -seconds_until(engine.db(), id, column).await;
            assert!((0.0..5.0).contains(&age), "{column} is {age} s old");
        }
        assert_eq!(written_by(engine.db(), all[0]).await, written_by(engine.db(), all[1]).await, "one transaction");

        let (stored, claimed) = exchange(&engine, producer, &claimed, 0).await;
        assert_eq!((stored, claimed.len()), (vec![all[1], all[3], all[4]], 0));
        assert_eq!(state(&engine, all[2]).await, State::Available);
    }
}

#[tokio::test]
async fn a_stale_result_changes_nothing_in_an_exchange_and_the_claim_happens() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    let all = insert(&engine, 6).await;
    let done = claim(&engine, producer, 5).await;
    for (id, set) in [
        (all[0], "attempt = 2"),
        (all[1], "attempted_by = ARRAY['here', 'another']"),
        (all[2], "attempted_at = attempted_at + interval '1 microsecond'"),
        (all[3], "state = 'cancelled'"),
    ] {
        set_columns(&engine, id, set).await;
    }
    let mut before = Vec::new();
    for id in &all[..4] {
        before.push(row(engine.db(), *id).await);
    }
    let (stored, claimed) = exchange(&engine, producer, &done, 5).await;
    assert_eq!((stored, ids(&claimed)), (vec![all[4]], vec![all[5]]));
    for (id, before) in all.iter().zip(before) {
        assert_eq!(row(engine.db(), *id).await, before);
    }
    // Again, as after a lost reply: nothing is stored twice, and what was claimed is not claimed again.
    let stored_at = row(engine.db(), all[4]).await;
    let (stored, claimed) = exchange(&engine, producer, &done, 5).await;
    assert_eq!((stored.len(), claimed.len()), (0, 0));
    assert_eq!(row(engine.db(), all[4]).await, stored_at);
}

#[tokio::test]
async fn a_job_that_was_handed_back_is_not_completed_by_the_exchange_that_claims_it() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    let id = insert(&engine, 1).await[0];
    let done = claim(&engine, producer, 1).await;
    set_columns(&engine, id, "state = 'available', attempt = 0").await;
    let (stored, claimed) = exchange(&engine, producer, &done, 1).await;
    assert_eq!((stored.len(), ids(&claimed)), (0, vec![id]));
    assert_eq!(state(&engine, id).await, State::Executing);
}

#[tokio::test]
async fn exchanges_at_the_same_time_never_get_the_same_job() {
    let (_db, engine) = engine().await;
    let all = insert(&engine, 500).await;
    let claimers = (0..8).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let (producer, mut mine, mut done) = (Uuid::now_v7(), Vec::new(), Vec::new());
            loop {
                let (stored, claimed) = exchange(&engine, producer, &done, 7).await;
                assert_eq!(stored.len(), done.len(), "nobody else was given one of them");
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(ids(&claimed));
                done = claimed;
            }
        })
    });
    let claimed = futures_util::future::join_all(claimers).await;
    let mut claimed: Vec<i64> = claimed.into_iter().flat_map(Result::unwrap).collect();
    claimed.sort_unstable();
    assert_eq!(claimed, all, "each once");
}

#[tokio::test]
async fn an_exchange_leaves_out_a_row_that_somebody_else_is_about_to_take_and_does_not_wait_for_it() {
    let (_db, engine) = engine().await;
    let all = insert(&engine, 2).await;
    let mut other = engine.db().pool().begin().await.unwrap();
    sqlx::query("SELECT FROM oban_jobs WHERE id = $1 FOR UPDATE").bind(all[0]).execute(&mut *other).await.unwrap();
    assert_eq!(ids(&exchange(&engine, Uuid::now_v7(), &[], 2).await.1), [all[1]]);
    other.rollback().await.unwrap();
    assert_eq!(ids(&exchange(&engine, Uuid::now_v7(), &[], 2).await.1), [all[0]]);
}

/// Entries that look-ups by id have read, as far as the server has told.
async fn entries_read(database: &Database) -> i64 {
    let sql = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'oban_jobs_pkey'";
    sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap()
}

#[tokio::test]
async fn statements_that_were_planned_on_an_empty_table_do_not_read_all_of_a_large_one() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    // Claims and exchanges are planned once.
    assert!(claim(&engine, producer, 5).await.is_empty());
    let id = insert(&engine, 1).await[0];
    let done = claim(&engine, producer, 5).await;
    assert_eq!(exchange(&engine, producer, &done, 5).await.0, [id]);
    let rows = "INSERT INTO oban_jobs (state, queue, worker, completed_at)
                SELECT 'completed', 'default', 'w', timezone('UTC', now()) FROM generate_series(1, 20000)";
    sqlx::raw_sql(rows).execute(engine.db().pool()).await.unwrap();
    let told = until("figures of the index", || async {
        // Each adds at least two, and a session tells what it did at most once a second.
        insert(&engine, 1).await;
        let done = claim(&engine, producer, 5).await;
        exchange(&engine, producer, &done, 5).await;
        Some(entries_read(engine.db()).await).filter(|read| *read >= 20)
    })
    .await;
    assert!(told < 10_000, "{told} entries read");
}

/// Long polls: whatever happens within a test's patience came by notice or by a result.
fn limit(limit: u32) -> impl Fn(&mut Config) {
    move |config| {
        let queue = Queue { limit, poll_interval: Period::from_secs(600), ..Queue::default() };
        config.queues.insert("default".into(), queue);
    }
}

async fn held(node: &TestNode, count: usize) -> Vec<i64> {
    let jobs = vec![job(json!({"do": "hold"})); count];
    node.engine().insert_many(jobs).await.unwrap().iter().map(|one| one.id).collect()
}

#[tokio::test]
async fn a_node_stores_a_result_and_claims_the_next_job_in_one_statement() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(2)).await;
    let all = held(&node, 6).await;
    for pair in all.windows(3) {
        fixture.started(pair[1]).await;
        fixture.release(pair[0]);
        fixture.started(pair[2]).await;
        let database = node.engine().db();
        assert_eq!(written_by(database, pair[0]).await, written_by(database, pair[2]).await);
    }
    fixture.release_all();
    for id in all {
        node.reaches(id, State::Completed).await;
    }
    assert_eq!((fixture.seen().peak, fixture.seen().started.len()), (2, 6));
}

#[tokio::test]
async fn results_are_stored_while_their_producer_is_suspended_or_paused() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(2)).await;
    let all = held(&node, 4).await;
    fixture.until("two run", |seen| seen.running == 2).await;
    let queue = node.queues().get("default").unwrap();
    queue.address().suspend(DEADLINE).await.unwrap();
    fixture.release(all[0]);
    node.reaches(all[0], State::Completed).await;
    assert_eq!(fixture.seen().started.len(), 2, "nobody claims");
    queue.address().resume(DEADLINE).await.unwrap();
    fixture.started(all[2]).await;
    queue.set_paused(true);
    fixture.release_all();
    for id in &all[1..3] {
        node.reaches(*id, State::Completed).await;
    }
    until("free slots", || async { (queue.running() == 0).then_some(()) }).await;
    assert_eq!(fixture.seen().started.len(), 3, "nobody claims");
    queue.set_paused(false);
    node.reaches(all[3], State::Completed).await;
}

#[tokio::test]
async fn a_lowered_limit_holds_for_an_exchange() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(4)).await;
    let all = held(&node, 12).await;
    fixture.until("four run", |seen| seen.running == 4).await;
    let queue = node.queues().get("default").unwrap();
    queue.set_limit(2);
    for (number, id) in all[..4].iter().enumerate() {
        fixture.release(*id);
        node.reaches(*id, State::Completed).await;
        let wanted = [4, 4, 5, 6][number];
        fixture.until("as many as may run", |seen| seen.started.len() == wanted).await;
    }
    assert_eq!(fixture.seen().running, 2);
    fixture.release_all();
    for id in &all {
        node.reaches(*id, State::Completed).await;
    }
    assert_eq!((fixture.seen().started.len(), fixture.seen().peak), (12, 4));
}
