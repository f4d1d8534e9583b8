//! Conformance point 12: which jobs pruning and rescue take, and which they leave.

use std::time::Duration;

use serde_json::json;
use singularity::config::{Config, Period, PeriodOrOff};
use singularity::queue::{Engine, NewJob, State};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};
use crate::support::rows::{SHAPES, engine, engine_in, row, set_columns, with};

const HOUR: Duration = Duration::from_secs(3_600);
/// Just before and just after an hour ago.
const OLD: &str = "timezone('UTC', now()) - interval '1 hour 1 second'";
const YOUNG: &str = "timezone('UTC', now()) - interval '59 minutes'";

fn job() -> NewJob {
    NewJob::new("w", json!({}))
}

async fn left(engine: &Engine) -> Vec<i64> {
    sqlx::query_scalar("SELECT id FROM oban_jobs ORDER BY id").fetch_all(engine.db().pool()).await.unwrap()
}

/// Every state, with each of the four times old while the others are young: only Oban's column decides.
#[tokio::test]
async fn oban_12_prune_cuts_by_obans_column_of_each_state() {
    let columns = ["scheduled_at", "completed_at", "cancelled_at", "discarded_at"];
    let decides = [("completed", "scheduled_at"), ("cancelled", "cancelled_at"), ("discarded", "discarded_at")];
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let (mut doomed, mut spared) = (Vec::new(), Vec::new());
        for state in
            ["suspended", "scheduled", "available", "executing", "retryable", "completed", "discarded", "cancelled"]
        {
            for old in columns {
                let times = columns.map(|column| format!("{column} = {}", if column == old { OLD } else { YOUNG }));
                let id = with(&engine, job(), &format!("state = '{state}', {}", times.join(", "))).await;
                if decides.contains(&(state, old)) { doomed.push(id) } else { spared.push(id) }
            }
        }
        // Without its time a job stays for ever.
        for state in ["cancelled", "discarded"] {
            spared.push(
                with(&engine, job(), &format!("state = '{state}', scheduled_at = {OLD}, completed_at = {OLD}")).await,
            );
        }
        let pruned = engine.prune(HOUR, 100).await.unwrap();
        assert_eq!((pruned.completed, pruned.cancelled, pruned.discarded), (1, 1, 1), "{shape:?}");
        assert_eq!(left(&engine).await, spared, "{shape:?}, doomed were {doomed:?}");
        assert_eq!(engine.prune(HOUR, 100).await.unwrap().count(), 0);
    }
}

#[tokio::test]
async fn oban_12_prune_deletes_at_most_its_limit_of_all_states_together() {
    let (_db, engine) = engine().await;
    for state in ["completed", "cancelled", "discarded"] {
        for _ in 0..3 {
            let times = format!("scheduled_at = {OLD}, cancelled_at = {OLD}, discarded_at = {OLD}");
            with(&engine, job(), &format!("state = '{state}', {times}")).await;
        }
    }
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(engine.prune(HOUR, 4).await.unwrap().count());
    }
    assert_eq!(counts, [4, 4, 1, 0]);
}

#[tokio::test]
async fn oban_12_prune_neither_waits_for_nor_takes_a_job_that_is_retried_meanwhile() {
    let (_db, engine) = engine().await;
    let id = with(&engine, job(), &format!("state = 'discarded', discarded_at = {OLD}")).await;
    let mut person = engine.db().pool().begin().await.unwrap();
    let sql = format!("UPDATE oban_jobs SET state = 'available' WHERE id = {id}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *person).await.unwrap();
    let pruned = tokio::time::timeout(Duration::from_secs(4), engine.prune(HOUR, 10)).await;
    assert_eq!(pruned.expect("no wait").unwrap().count(), 0);
    person.commit().await.unwrap();
    assert_eq!(engine.prune(HOUR, 10).await.unwrap().count(), 0);
    assert_eq!(row(engine.db(), id).await["state"], "available");
}

#[tokio::test]
async fn several_pruners_at_once_count_every_job_once() {
    let (_db, engine) = engine().await;
    engine.insert_many(vec![job(); 300]).await.unwrap();
    let sql = format!("UPDATE oban_jobs SET state = 'completed', scheduled_at = {OLD}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(engine.db().pool()).await.unwrap();
    let (a, b, c) = tokio::join!(engine.prune(HOUR, 200), engine.prune(HOUR, 200), engine.prune(HOUR, 200));
    let mut total = [a, b, c].into_iter().map(|pruned| pruned.unwrap().count()).sum::<u64>();
    total += engine.prune(HOUR, 300).await.unwrap().count();
    assert_eq!((total, left(&engine).await.len()), (300, 0));
}

fn prunes(config: &mut Config) {
    config.services.pruner.interval = Period::from_millis(20);
    config.services.pruner.max_age = PeriodOrOff::on(Period::from_secs(3_600));
}

async fn old_job(engine: &Engine) -> i64 {
    with(engine, job(), &format!("state = 'completed', scheduled_at = {OLD}")).await
}

async fn until_gone(engine: &Engine, id: i64) {
    until("pruning", || async { engine.get(id).await.unwrap().is_none().then_some(()) }).await;
}

/// How often the pruner of a node has run.
fn runs(node: &TestNode) -> u64 {
    node.system().snapshot().find("/services/pruner").unwrap().mailbox.as_ref().unwrap().processed
}

#[tokio::test]
async fn only_the_leader_prunes_and_results_outlive_their_jobs() {
    let (db, database) = TestDb::migrated().await;
    let foreign = "INSERT INTO oban_peers
        VALUES ('Oban', 'elixir@host', timezone('UTC', now()), timezone('UTC', now()) + interval '1 h')";
    sqlx::raw_sql(foreign).execute(database.pool()).await.unwrap();
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        prunes(config);
        config.services.leader.campaign = true;
        config.services.leader.lease = Period::from_secs(1);
    })
    .await;
    let id = old_job(node.engine()).await;
    let result = "INSERT INTO job_results (job_id, attempt, instance_id, job_type, workflow_type, success, duration_ms)
        VALUES ($1, 1, 'one', 'w', 'w', true, 1)";
    sqlx::query(result).bind(id).execute(database.pool()).await.unwrap();
    let before = runs(&node);
    until("five runs", || async { (runs(&node) >= before + 5).then_some(()) }).await;
    assert!(node.engine().get(id).await.unwrap().is_some(), "another leads");
    sqlx::raw_sql("DELETE FROM oban_peers").execute(database.pool()).await.unwrap();
    until_gone(node.engine(), id).await;
    let results: i64 = sqlx::query_scalar("SELECT count(*) FROM job_results WHERE job_id = $1")
        .bind(id)
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(results, 1);
    node.shutdown().await;
}

/// The time between two runs is an hour, and still all are gone: a full batch is followed by the next at once.
#[tokio::test]
async fn a_full_batch_is_followed_by_the_next_at_once() {
    let (db, _database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        prunes(config);
        config.services.leader.campaign = true;
        config.services.pruner.limit = 2;
        config.services.pruner.interval = Period::from_secs(2);
    })
    .await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(old_job(node.engine()).await);
    }
    until("the first batch", || async { (left(node.engine()).await.len() < 20).then_some(()) }).await;
    let first = tokio::time::Instant::now();
    for id in ids {
        until_gone(node.engine(), id).await;
    }
    assert!(first.elapsed() < Duration::from_secs(2), "{:?}", first.elapsed());
    assert_eq!(left(node.engine()).await.len(), 0);
    node.shutdown().await;
}

#[tokio::test]
async fn a_pruner_that_is_off_is_not_there() {
    let (db, _database) = TestDb::migrated().await;
    let node = TestNode::start(db.url(), "one", &Fixture::new(), |config| {
        config.services.pruner.max_age = PeriodOrOff::OFF;
    })
    .await;
    assert!(node.system().snapshot().find("/services/pruner").is_none());
    assert!(node.system().snapshot().find("/services/stager").is_some());
    node.shutdown().await;
}

/// A job that is pruned was finished; one that somebody put back is not.
#[tokio::test]
async fn a_job_that_was_put_back_is_spared_by_its_state_alone() {
    let (_db, engine) = engine().await;
    let id = old_job(&engine).await;
    set_columns(&engine, id, "state = 'retryable'").await;
    assert_eq!(engine.prune(Duration::ZERO, 10).await.unwrap().count(), 0);
    assert_eq!(engine.get(id).await.unwrap().unwrap().state, State::Retryable);
}
