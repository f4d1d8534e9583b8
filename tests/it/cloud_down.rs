//! Learnings come down: every instance ends with the same table, whenever it joined and however often it was killed,
//! and what cannot be used stands in nobody's way.

use std::time::Duration;

use serde_json::{Value, json};
use singularity::cloud::Names;
use singularity::cloud::sync::policy_of;
use singularity::cloud::{SyncStore, lock_for_publishing};
use singularity::config::{Config, Period};
use singularity::instance::ask;
use singularity::postgres::Database;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};
use crate::support::process::Place;

/// Longest wait for an instance's answer.
const ANSWER: Duration = Duration::from_secs(20);

/// The payload of a rule that gives `weight` to the cheaper model.
pub fn rule(route: &str, weight: f64) -> Value {
    let models = json!([{ "model": "sim_opus", "weight": 1.0 - weight }, { "model": "sim_flash", "weight": weight }]);
    let rule = json!({ "job_type": "llm_request", "route": route, "reference": "sim_opus", "models": models });
    json!({ "routing_rules": [rule] })
}

/// Publishes a learning as CentralCloud does: number, log and messages in one transaction. Returns its number.
pub async fn publish(database: &Database, kind: &str, key: &str, payload: Value, expires: Option<&str>) -> i64 {
    let mut transaction = database.pool().begin().await.unwrap();
    lock_for_publishing(&mut transaction).await.unwrap();
    // Numbers have no gaps.
    sqlx::query("SELECT pg_advisory_xact_lock(4711)").execute(&mut *transaction).await.unwrap();
    let (id, message): (i64, Value) = sqlx::query_as(
        "INSERT INTO learnings AS l (id, type, key, summary, payload, evidence, expires_at)
         SELECT coalesce(max(id), 0) + 1, $1, $2, 'what was learned', $3, '{\"n\": 100}', now() + $4::interval FROM learnings
         RETURNING id, to_jsonb(l) || '{\"v\": 1}'",
    )
    .bind(kind)
    .bind(key)
    .bind(payload)
    .bind(expires)
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    sqlx::query("SELECT pgmq.send_topic($1::text, $2::jsonb, NULL::jsonb, 0)")
        .bind(Names::new(database.schema()).topic(kind))
        .bind(message)
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    id
}

pub async fn publish_rule(database: &Database, route: &str, weight: f64) -> i64 {
    publish(database, "model_routing", &format!("llm_request/{route}"), rule(route, weight), None).await
}

/// What an instance holds, by its own word.
async fn holds(database: &Database, instance: &str) -> Value {
    ask(database, instance, "routing", &json!({}), "test", ANSWER).await.unwrap()
}

/// What an instance made of each learning, in the order in which it did.
async fn applications(database: &Database, instance: &str) -> Vec<(i64, String)> {
    sqlx::query_as(
        "SELECT learning_id, state FROM learning_applications WHERE instance_id = $1 ORDER BY decided_at, learning_id",
    )
    .bind(instance)
    .fetch_all(database.pool())
    .await
    .unwrap()
}

fn applied(ids: std::ops::RangeInclusive<i64>) -> Vec<(i64, String)> {
    ids.map(|id| (id, "applied".to_owned())).collect()
}

/// The models that are shipped, which make up their answers.
fn simulated(config: &mut Config) {
    let shipped = Config::shipped().unwrap();
    (config.models, config.providers, config.routing) = (shipped.models, shipped.providers, shipped.routing);
    config.cloud.sync_interval = Period::from_millis(200);
}

async fn start(db: &TestDb, id: &str) -> TestNode {
    TestNode::start(db.url(), id, &Fixture::new(), simulated).await
}

#[tokio::test]
async fn all_end_with_the_same_table_whenever_they_joined_and_however_long_they_were_away() {
    let (db, database) = TestDb::migrated().await;
    let (one, two) = (start(&db, "one").await, start(&db, "two").await);
    for (route, weight) in [("complex", 0.05), ("simple", 0.1), ("complex", 0.1)] {
        publish_rule(&database, route, weight).await;
    }
    until("three learnings", || async { (holds(&database, "two").await["cursor"] == 3).then_some(()) }).await;
    two.shutdown().await;
    for (route, weight) in [("complex", 0.2), ("medium", 0.3), ("complex", 0.4)] {
        publish_rule(&database, route, weight).await;
    }
    let three = start(&db, "three").await;
    let two = start(&db, "two").await;
    publish_rule(&database, "medium", 0.6).await;
    let wanted = until("seven learnings", || async {
        let held = holds(&database, "one").await;
        (held["cursor"] == 7).then_some(held)
    })
    .await;
    let weights: Vec<(&str, f64)> = wanted["table"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["model"] == "sim_flash" && line["learning"].is_i64())
        .map(|line| (line["cell"].as_str().unwrap(), line["weight"].as_f64().unwrap()))
        .collect();
    let of = |route: &'static str, weight: f64| (route, weight);
    assert_eq!(weights, [of("llm_request/simple", 0.1), of("llm_request/medium", 0.6), of("llm_request/complex", 0.4)]);
    for id in ["one", "two", "three"] {
        until(&format!("the table of {id}"), || async { (holds(&database, id).await == wanted).then_some(()) }).await;
        assert_eq!(applications(&database, id).await, applied(1..=7), "{id}");
    }
    for node in [one, two, three] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_applied_once_and_in_order_over_kills_and_repetitions() {
    let (db, database) = TestDb::migrated().await;
    let place = Place::new(&db, "[cloud]\nsync_interval = \"100ms\"\n");
    let queue = Names::new(database.schema()).learning("killed");
    let again = async || {
        // Messages that come twice, and of learnings that were long ago.
        sqlx::query(
            "SELECT pgmq.send($1::text, to_jsonb(l) || '{\"v\": 1}') FROM learnings l ORDER BY random() LIMIT 3",
        )
        .bind(&queue)
        .execute(database.pool())
        .await
        .unwrap();
    };
    SyncStore::new(database.clone()).join("killed").await.unwrap();
    let mut last = 0;
    for round in 0..6_u32 {
        let (killed, _) = place.start(&["--instance-id", "killed"]);
        for step in 0..5_u32 {
            let route = ["simple", "medium", "complex"][((round + step) % 3) as usize];
            last = publish_rule(&database, route, f64::from(round * 5 + step) / 100.0).await;
            again().await;
        }
        // In the middle of whatever it does: the more of it is done by then, the later the round.
        let wanted = last - 5 + i64::from(round);
        until("some are applied", || async {
            (applications(&database, "killed").await.len() as i64 >= wanted).then_some(())
        })
        .await;
        killed.signal("KILL");
        drop(killed);
    }
    let (_killed, _) = place.start(&["--instance-id", "killed"]);
    until("the end of the log", || async { (holds(&database, "killed").await["cursor"] == last).then_some(()) }).await;
    assert_eq!(applications(&database, "killed").await, applied(1..=30));
    let calm = start(&db, "calm").await;
    until("the log", || async { (holds(&database, "calm").await["cursor"] == last).then_some(()) }).await;
    let (killed, calm_holds) =
        (policy_of(&database, "killed").await.unwrap(), policy_of(&database, "calm").await.unwrap());
    assert_eq!(killed, calm_holds);
    let left: i64 = until("an empty queue", || async {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM pgmq.q_{queue}"));
        Some(sqlx::query_scalar::<_, i64>(sql).fetch_one(database.pool()).await.unwrap()).filter(|left| *left == 0)
    })
    .await;
    assert_eq!(left, 0);
    calm.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_kept_with_its_reason_and_blocks_nothing() {
    let (db, database) = TestDb::migrated().await;
    let node = start(&db, "one").await;
    let queue = Names::new(database.schema()).learning("one");
    publish_rule(&database, "complex", 0.1).await;
    publish(&database, "prompt_advice", "x", json!({ "advice": "be brief" }), None).await;
    publish(&database, "model_routing", "llm_request/complex", rule("complex", 1.0), None).await;
    publish(&database, "model_routing", "llm_request/complex", rule("complex", 0.9), Some("-1 second")).await;
    until("four learnings", || async { (holds(&database, "one").await["cursor"] == 4).then_some(()) }).await;
    for message in ["NULL", "'[]'", "'{\"v\": 1}'"] {
        let sql = format!("SELECT pgmq.send('{queue}'::text, {message}::jsonb)");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await.unwrap();
    }
    // One that was never published.
    sqlx::query("SELECT pgmq.send($1::text, to_jsonb(l) || '{\"v\": 1, \"id\": 99}') FROM learnings l WHERE id = 1")
        .bind(&queue)
        .execute(database.pool())
        .await
        .unwrap();
    publish_rule(&database, "simple", 0.3).await;
    let states: Vec<(i64, String)> = until("five learnings", || async {
        Some(applications(&database, "one").await).filter(|applications| applications.len() == 5)
    })
    .await;
    let of = |id: i64, state: &str| (id, state.to_owned());
    assert_eq!(states, [of(1, "applied"), of(2, "unknown"), of(3, "invalid"), of(4, "expired"), of(5, "applied")]);
    let reasons: Vec<Option<String>> =
        sqlx::query_scalar("SELECT reason FROM learning_applications WHERE learning_id IN (2, 3) ORDER BY learning_id")
            .fetch_all(database.pool())
            .await
            .unwrap();
    assert!(reasons[0].as_deref().unwrap().starts_with("E1102: "), "{reasons:?}");
    assert!(reasons[1].as_deref().unwrap().starts_with("E1104: "), "{reasons:?}");
    let letters: Vec<String> = until("four dead letters", || async {
        let sql = format!("SELECT headers ->> 'reason' FROM pgmq.q_{queue}_dlq ORDER BY msg_id");
        let letters = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(database.pool()).await.ok();
        letters.filter(|letters: &Vec<String>| letters.len() == 4)
    })
    .await;
    assert_eq!(letters[0], "the message is empty");
    assert_eq!(letters[3], "there is no learning 99 in the log");
    let (policy, _) = policy_of(&database, "one").await.unwrap();
    assert_eq!((policy.rule("llm_request/complex").unwrap().version, policy.version()), (1, 5));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropping_an_instance_never_breaks_publishing() {
    let (_db, database) = TestDb::migrated().await;
    let store = SyncStore::new(database.clone());
    store.join("stays").await.unwrap();
    let (publishing, dropping) = (database.clone(), store.clone());
    let publisher = tokio::spawn(async move {
        for step in 0..150_u32 {
            publish_rule(&publishing, "complex", f64::from(step % 90) / 100.0).await;
        }
    });
    let dropper = tokio::spawn(async move {
        let mut dropped = 0;
        while !publisher.is_finished() {
            dropping.join("comes_and_goes").await.unwrap();
            assert!(dropping.leave("comes_and_goes").await.unwrap());
            dropped += 1;
        }
        publisher.await.unwrap();
        dropped
    });
    let dropped: u32 = dropper.await.unwrap();
    assert!(dropped > 5, "{dropped}");
    let stays = Names::new(database.schema()).learning("stays");
    let sql = format!("SELECT count(*) FROM pgmq.q_{stays}");
    let heard: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(database.pool()).await.unwrap();
    assert_eq!(heard, 150);
    assert!(!store.leave("comes_and_goes").await.unwrap(), "there is nothing any more");
}

/// Also where somebody is in the middle of it and has looked already whom to tell.
#[tokio::test]
async fn a_queue_is_dropped_when_all_who_publish_are_done() {
    let (_db, database) = TestDb::migrated().await;
    let store = SyncStore::new(database.clone());
    store.join("leaves").await.unwrap();
    let queue = Names::new(database.schema()).learning("leaves");
    let mut transaction = database.pool().begin().await.unwrap();
    lock_for_publishing(&mut transaction).await.unwrap();
    let leaving = store.clone();
    let leaving = tokio::spawn(async move { leaving.leave("leaves").await.unwrap() });
    until("a drop that waits", || async {
        let sql = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                   WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted";
        let waiting: i64 = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
        (waiting == 1).then_some(())
    })
    .await;
    let send = sqlx::query("SELECT pgmq.send($1::text, '{}'::jsonb)").bind(&queue);
    send.execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(leaving.await.unwrap());
    let sql = "SELECT count(*) FROM pgmq.meta WHERE queue_name = $1";
    let left: i64 = sqlx::query_scalar(sql).bind(&queue).fetch_one(database.pool()).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_long_gone_instance_is_forgotten_by_others_and_follows_from_the_beginning_when_it_comes_back() {
    let (db, database) = TestDb::migrated().await;
    let gone = start(&db, "gone").await;
    publish_rule(&database, "complex", 0.5).await;
    until("a learning", || async { (holds(&database, "gone").await["cursor"] == 1).then_some(()) }).await;
    gone.shutdown().await;
    let store = SyncStore::new(database.clone());
    assert_eq!(store.long_gone(3_600_000).await.unwrap(), [""; 0]);
    for sql in [
        "UPDATE instance_registry SET last_heartbeat = now() - interval '2 hours'",
        "UPDATE learning_cursors SET synced_at = now() - interval '2 hours'",
    ] {
        sqlx::query(sql).execute(database.pool()).await.unwrap();
    }
    assert_eq!(store.long_gone(3_600_000).await.unwrap(), ["gone"]);
    assert!(store.leave("gone").await.unwrap());
    publish_rule(&database, "complex", 0.6).await;
    let back = start(&db, "gone").await;
    until("both", || async { (holds(&database, "gone").await["cursor"] == 2).then_some(()) }).await;
    assert_eq!(applications(&database, "gone").await, applied(1..=2));
    back.shutdown().await;
}

#[tokio::test]
async fn an_instance_whose_queue_was_dropped_gets_another() {
    let (db, database) = TestDb::migrated().await;
    let node = start(&db, "one").await;
    publish_rule(&database, "complex", 0.5).await;
    until("a learning", || async { (holds(&database, "one").await["cursor"] == 1).then_some(()) }).await;
    assert!(SyncStore::new(database.clone()).leave("one").await.unwrap());
    publish_rule(&database, "complex", 0.6).await;
    until("another", || async { (holds(&database, "one").await["cursor"] == 2).then_some(()) }).await;
    let queue = Names::new(database.schema()).learning("one");
    until("a queue", || async {
        let exists = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pgmq.meta WHERE queue_name = $1)");
        let exists: bool = exists.bind(&queue).fetch_one(database.pool()).await.unwrap();
        exists.then_some(())
    })
    .await;
    node.shutdown().await;
}
