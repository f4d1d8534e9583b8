//! The learner on a database: what it knows after which rows, what it publishes, and that nothing of it is lost.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use singularity::cloud::central::learner::{CellView, Settings, decide, patterns};
use singularity::cloud::{Cell, LearnerStore, Learning, Looked, Names, Payload, pgmq};
use singularity::config::{Complexity, Config, Period, Role};
use singularity::postgres::Database;
use singularity::workflow::Attempted;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};

const PAUSE: Duration = Duration::ZERO;

fn cell() -> Cell {
    Cell::new("llm_request", "complex")
}

fn models() -> Vec<String> {
    ["opus", "sonnet"].map(str::to_owned).to_vec()
}

/// Attempts as CentralCloud takes them in, the last one just now and one each second before; every `fails`-th failed.
async fn attempts(db: &Database, model: &str, count: i64, fails: i64, cost: i64, version: Option<i64>) {
    let first: i64 =
        sqlx::query_scalar("SELECT coalesce(max(job_id), 0) + 1 FROM central_results").fetch_one(db).await.unwrap();
    sqlx::query(
        "INSERT INTO central_results (job_id, attempt, success, instance_id, job_type, route, provider, model,
           policy_version, propensity, outcome, cost_nanousd, tokens_input, tokens_output, duration_ms, completed_at)
         SELECT $1 + i, 1, i % $4 <> 0, 'a', 'llm_request', 'complex', 'p', $2, $6, 0.5,
                CASE WHEN i % $4 = 0 THEN 'failure' ELSE 'success' END, $5, 1, 1, 100 + i % 50,
                now() - ($3 - i) * interval '1 second'
         FROM generate_series(0, $3 - 1) i",
    )
    .bind(first)
    .bind(model)
    .bind(count)
    .bind(fails)
    .bind(cost)
    .bind(version)
    .execute(db)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO model_performance (job_type, route, model, instance_id, attempts, successes, failures, first_at, last_at)
         SELECT job_type, route, model, 'a', count(*), count(*) FILTER (WHERE success), count(*) FILTER (WHERE NOT success),
                min(completed_at), max(completed_at)
         FROM central_results WHERE model = $1 GROUP BY 1, 2, 3
         ON CONFLICT (job_type, route, model, instance_id) DO UPDATE
           SET attempts = excluded.attempts, successes = excluded.successes, failures = excluded.failures,
               last_at = excluded.last_at",
    )
    .bind(model)
    .execute(db)
    .await
    .unwrap();
}

/// A queue that hears of every learning.
async fn listener(db: &Database, instance_id: &str) -> String {
    let names = Names::new(db.schema());
    let queue = names.learning(instance_id);
    pgmq::create(&mut db.pool().acquire().await.unwrap(), &queue).await.unwrap();
    let bind = sqlx::query("SELECT pgmq.bind_topic($1::text, $2::text)");
    bind.bind(names.topics()).bind(&queue).execute(db).await.unwrap();
    queue
}

async fn look(store: &LearnerStore) -> Looked {
    let settings = Settings::default();
    store.look(&cell(), &models(), &settings, PAUSE, |view, now| decide(view, &settings, now, 1)).await.unwrap()
}

fn names(looked: &Looked) -> Vec<&'static str> {
    let Looked::Decided(decisions) = looked else { panic!("{looked:?}") };
    decisions.iter().map(|(decision, _)| decision.name).collect()
}

async fn log(db: &Database) -> Vec<(i64, String, Value)> {
    let sql = "SELECT id, type, payload FROM learnings ORDER BY id";
    sqlx::query_as(sql).fetch_all(db).await.unwrap()
}

/// What the learner knows of the cell.
async fn known(store: &LearnerStore) -> CellView {
    let seen = Mutex::new(None);
    let keep = |view: &CellView, _| {
        *seen.lock().unwrap() = Some(view.clone());
        Vec::new()
    };
    store.look(&cell(), &models(), &Settings::default(), PAUSE, keep).await.unwrap();
    seen.into_inner().unwrap().unwrap()
}

#[tokio::test]
async fn what_another_model_failed_at_before_is_not_compared() {
    let (test, db) = TestDb::migrated().await;
    attempts(&db, "sonnet", 40, 4, 1_000, Some(1)).await;
    test.execute("UPDATE central_results SET propensity = NULL WHERE outcome = 'failure'").await;
    let view = known(&LearnerStore::new(db)).await;
    let sonnet = &view.models[1];
    assert_eq!((sonnet.sums[&1].n, sonnet.sums[&1].successes, sonnet.rows.len()), (30, 30, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_a_row_a_note_and_a_message_to_every_instance() {
    let (_test, db) = TestDb::migrated().await;
    let store = LearnerStore::new(db.clone());
    let queues = [listener(&db, "a").await, listener(&db, "b").await];
    attempts(&db, "opus", 100, 20, 1_000, None).await;
    assert_eq!(store.cells(Settings::default().window).await.unwrap()[0].cell, cell());
    assert_eq!(names(&look(&store).await), ["reallocate", "benchmark"]);
    let log = log(&db).await;
    assert_eq!(
        log.iter().map(|(id, kind, _)| (*id, &**kind)).collect::<Vec<_>>(),
        [(1, "model_routing"), (2, "performance_benchmark")]
    );
    assert_eq!(log[0].2["routing_rules"][0]["models"][1], json!({"model": "sonnet", "weight": 0.05}));
    for queue in queues {
        let messages = pgmq::read(&db, &queue, Duration::from_secs(30), 10).await.unwrap();
        let learnings: Vec<Learning> = messages
            .iter()
            .map(|message| serde_json::from_str(message.body.as_deref().unwrap()).unwrap())
            .map(|body: Value| Learning::from_message(&body).unwrap())
            .collect();
        assert_eq!(learnings.iter().map(|learning| learning.id).collect::<Vec<_>>(), [1, 2]);
        let Payload::ModelRouting(_) = learnings[0].read().unwrap() else { panic!("{learnings:?}") };
        assert_eq!(learnings[0].evidence["models"][0]["n"], 100);
        assert!(learnings[0].expires_at.is_some());
    }
    let notes: Vec<(String, Option<String>, Option<i64>)> =
        sqlx::query_as("SELECT decision, cell, learning_id FROM learning_history ORDER BY id")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(notes[0], ("reallocate".into(), Some("llm_request/complex".into()), Some(1)));
    // Nothing has happened since, so nothing is published again.
    assert_eq!(names(&look(&store).await), ["keep"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_what_the_tables_say_also_after_a_restart() {
    let (_test, db) = TestDb::migrated().await;
    let store = LearnerStore::new(db.clone());
    attempts(&db, "opus", 300, 20, 1_000, Some(1)).await;
    attempts(&db, "sonnet", 300, 10, 600, Some(1)).await;
    for (cost, jobs) in [("NULL", "= 2"), ("10", "IN (3, 4)")] {
        let failed =
            format!("UPDATE central_results SET outcome = 'infrastructure', cost_nanousd = {cost} WHERE job_id {jobs}");
        sqlx::query(sqlx::AssertSqlSafe(failed)).execute(&db).await.unwrap();
    }
    look(&store).await;
    let view = known(&store).await;
    assert_eq!(view, known(&LearnerStore::new(db.clone())).await);
    let [opus, sonnet] = &view.models[..] else { panic!("{view:?}") };
    assert_eq!((opus.rows.len(), sonnet.rows.len()), (300, 300));
    assert!(opus.rows.is_sorted_by_key(|row| row.completed_at));
    let sums = opus.sums[&1];
    assert_eq!((sums.n, sums.priced, sums.cost, sums.lost, sums.lost_squared), (297, 297, 297_000.0, 20.0, 200.0));
    assert_eq!((sonnet.sums[&1].successes, sonnet.sums[&1].cost_of_successes), (270, 162_000.0));
    assert_eq!(opus.rows.iter().filter(|row| row.outcome == Attempted::Infrastructure).count(), 3);
    assert_eq!(view.rule.as_ref().map(|rule| rule.id), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_was_taken_back_starts_anew_from_its_fall() {
    let (_test, db) = TestDb::migrated().await;
    let store = LearnerStore::new(db.clone());
    attempts(&db, "opus", 500, 20, 1_000, None).await;
    look(&store).await;
    let rule = json!({"routing_rules": [{"job_type": "llm_request", "route": "complex", "reference": "opus",
        "models": [{"model": "opus", "weight": 0.1}, {"model": "sonnet", "weight": 0.9}]}]});
    sqlx::query("UPDATE learnings SET payload = $1 WHERE id = 1").bind(rule).execute(&db).await.unwrap();
    attempts(&db, "sonnet", 300, 3, 600, Some(1)).await;
    assert_eq!(names(&look(&store).await)[0], "roll_back");
    let (id, rolls_back): (i64, Option<i64>) =
        sqlx::query_as("SELECT id, rolls_back FROM learnings WHERE type = 'model_routing' ORDER BY id DESC LIMIT 1")
            .fetch_one(&db)
            .await
            .unwrap();
    assert_eq!(rolls_back, Some(1));
    let view = known(&store).await;
    let rule = view.rule.unwrap();
    assert_eq!((rule.id, rule.value.weight("opus"), rule.value.weight("sonnet")), (id, 0.95, 0.05));
    let sonnet = &view.models[1];
    let since = sonnet.since.unwrap();
    let after = sonnet.rows.iter().filter(|row| row.completed_at >= since).count();
    assert_eq!(sonnet.sums[&1].n, after as u64, "what was before is in no sum");
    assert!((1..=300).contains(&after));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_decides_at_a_time_and_numbers_have_no_gaps() {
    let (_test, db) = TestDb::migrated().await;
    attempts(&db, "opus", 100, 20, 1_000, None).await;
    let stores = [LearnerStore::new(db.clone()), LearnerStore::new(db.clone())];
    // Each look publishes the benchmark again, so that every one that has the lock takes a number.
    let settings = Settings::default();
    let one = async |store: &LearnerStore| {
        let mut decided = 0;
        while decided < 20 {
            let again = |view: &CellView, now| {
                decide(&CellView { benchmarks: None, rule: None, ..view.clone() }, &settings, now, 1)
            };
            match store.look(&cell(), &models(), &settings, PAUSE, again).await.unwrap() {
                Looked::Decided(_) => decided += 1,
                Looked::Busy | Looked::Recent => tokio::task::yield_now().await,
            }
        }
    };
    // While one decides, the other has nothing to say.
    let (enter, mut entered) = tokio::sync::mpsc::channel(1);
    let (leave, may_leave) = std::sync::mpsc::channel::<()>();
    let may_leave = Mutex::new(may_leave);
    let first = stores[0].clone();
    let deciding = tokio::spawn(async move {
        let held = |_: &CellView, _| {
            enter.try_send(()).unwrap();
            tokio::task::block_in_place(|| may_leave.lock().unwrap().recv_timeout(Duration::from_secs(20))).unwrap();
            Vec::new()
        };
        first.look(&cell(), &models(), &Settings::default(), PAUSE, held).await.unwrap()
    });
    entered.recv().await.unwrap();
    assert_eq!(look(&stores[1]).await, Looked::Busy);
    leave.send(()).unwrap();
    assert_eq!(deciding.await.unwrap(), Looked::Decided(Vec::new()));
    tokio::join!(one(&stores[0]), one(&stores[1]));
    let ids: Vec<i64> = log(&db).await.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, (1..=80).collect::<Vec<_>>());
    // With a pause the second one leaves a cell alone that was just decided.
    let pause = Duration::from_secs(60);
    let looked = stores[0].look(&cell(), &models(), &settings, pause, |_, _| Vec::new()).await.unwrap();
    assert_eq!(looked, Looked::Recent);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_are_dropped_under_it_never_break_publishing() {
    let (_test, db) = TestDb::migrated().await;
    attempts(&db, "opus", 100, 20, 1_000, None).await;
    let store = LearnerStore::new(db.clone());
    let kept = listener(&db, "kept").await;
    let settings = Settings::default();
    let done = tokio::sync::Notify::new();
    let drops = async {
        let mut dropped = 0_u32;
        loop {
            let queue = listener(&db, "fleeting").await;
            // Without the lock, as somebody who knows pgmq alone would.
            let drop = sqlx::query("SELECT pgmq.drop_queue($1::text)").bind(&queue);
            drop.execute(&db).await.unwrap();
            dropped += 1;
            if tokio::time::timeout(Duration::ZERO, done.notified()).await.is_ok() {
                return dropped;
            }
        }
    };
    let publishing = async {
        for _ in 0..40 {
            let again = |view: &CellView, now| {
                decide(&CellView { benchmarks: None, rule: None, ..view.clone() }, &settings, now, 1)
            };
            let looked = store.look(&cell(), &models(), &settings, PAUSE, again).await.unwrap();
            assert_eq!(names(&looked), ["reallocate", "benchmark"]);
        }
        done.notify_one();
    };
    let (dropped, ()) = tokio::join!(drops, publishing);
    assert!(dropped > 0);
    let ids: Vec<i64> = log(&db).await.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, (1..=80).collect::<Vec<_>>());
    assert_eq!(pgmq::read(&db, &kept, Duration::from_secs(30), 100).await.unwrap().len(), 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_that_succeed_are_told_once() {
    let (_test, db) = TestDb::migrated().await;
    sqlx::query(
        "INSERT INTO pattern_library (name, definition, source, occurrences, successes)
         VALUES ('classifier>coder', '{}', 'results', 13, 12), ('rare', '{}', 'results', 2, 2)",
    )
    .execute(&db)
    .await
    .unwrap();
    let store = LearnerStore::new(db.clone());
    let settings = Settings::default();
    for _ in 0..2 {
        store.look_at_patterns(|counts, now| patterns(counts, now, &settings)).await.unwrap();
    }
    let log = log(&db).await;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].2["pattern_definition"]["steps"], json!(["classifier", "coder"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_centralcloud_learns_by_itself() {
    let (test, db) = TestDb::migrated().await;
    let quick = |config: &mut Config| {
        config.cloud.role = Role::Central;
        config.central.learn_interval = Period::from_millis(100);
        config.routing.models = BTreeMap::from([(Complexity::Complex, "opus".to_owned())]);
    };
    let node = TestNode::start(test.url(), "hub", &Fixture::new(), quick).await;
    attempts(&db, "opus", 30, 10, 1_000, None).await;
    let learned = until("a learning", || async { log(&db).await.into_iter().next() }).await;
    assert_eq!(learned.1, "performance_benchmark");
    node.shutdown().await;
}
