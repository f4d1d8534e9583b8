//! Inserting: one, many, in the caller's transaction, unique; and the notices that go with it.

use std::time::Duration;

use serde_json::json;
use singularity::error::Coded;
use singularity::postgres::notifier::{Event, INSERT, Listener, ListenerOptions};
use singularity::postgres::{Database, migrate};
use singularity::queue::engine::{INSERT_BATCH_MAX, Inserted};
use singularity::queue::{Engine, NewJob, QueueError, Schedule, Unique};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::db::{DEADLINE, TestDb};
use crate::support::node::until;
use crate::support::rows::{SHAPES, engine, engine_in, row, seconds_until, set_columns, without};

fn job() -> NewJob {
    NewJob::new("w", json!({"a": 1}))
}

fn unique() -> NewJob {
    job().unique(Unique::forever())
}

async fn count(database: &Database) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM oban_jobs").fetch_one(database.pool()).await.unwrap()
}

async fn listener(database: &Database) -> Listener {
    let mut listener = Listener::new(database, &[INSERT], ListenerOptions::default());
    assert!(matches!(listener.next().await, Event::Resync));
    listener
}

async fn notice(listener: &mut Listener) -> String {
    match tokio::time::timeout(DEADLINE, listener.next()).await.expect("a notice") {
        Event::Notified { payload, .. } => payload,
        other => panic!("{other:?}"),
    }
}

/// A transaction on a connection of the caller's own, with the server's default search path.
async fn own_connection(db: &TestDb) -> PgConnection {
    use secrecy::ExposeSecret;
    PgConnection::connect(db.url().expose_secret()).await.unwrap()
}

#[tokio::test]
async fn a_plain_job_has_obans_defaults_in_both_row_shapes() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let inserted = engine.insert(NewJob::new("w", json!({"a": [1, "é"]}))).await.unwrap();
        assert!(!inserted.conflict);
        let row = row(engine.db(), inserted.id).await;
        assert_eq!(row["inserted_at"], row["scheduled_at"]);
        let nobody = row["attempted_by"].clone();
        assert!(nobody.is_null() || nobody == json!([]), "{nobody}");
        assert_eq!(
            without(row, &["inserted_at", "scheduled_at", "attempted_by"]),
            json!({
                "id": inserted.id, "state": "available", "queue": "default", "worker": "w", "args": {"a": [1, "é"]},
                "meta": {}, "tags": [], "errors": [], "attempt": 0, "max_attempts": 20, "priority": 0,
                "attempted_at": null, "completed_at": null, "discarded_at": null, "cancelled_at": null,
            }),
            "{shape:?}"
        );
    }
}

#[tokio::test]
async fn every_field_is_stored_in_both_row_shapes() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let job = NewJob { tags: vec![" A ".into(), "b".into(), "a".into()], priority: 9, ..job() };
        let job = job.queue("q").max_attempts(32_767).meta("k", json!({"deep": true}));
        let id = engine.insert(job.schedule(Schedule::In(Duration::from_secs(3_600)))).await.unwrap().id;
        let stored = row(engine.db(), id).await;
        assert_eq!((&stored["queue"], &stored["tags"]), (&json!("q"), &json!(["a", "b"])));
        assert_eq!((&stored["priority"], &stored["max_attempts"]), (&json!(9), &json!(32_767)));
        assert_eq!((&stored["meta"], &stored["state"]), (&json!({"k": {"deep": true}}), &json!("scheduled")));
        let wait = seconds_until(engine.db(), id, "scheduled_at").await;
        assert!((3_590.0..=3_600.0).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn an_explicit_time_means_scheduled_even_in_the_past() {
    let (_db, engine) = engine().await;
    let at = "2020-01-02T03:04:05.678901Z".parse().unwrap();
    let id = engine.insert(job().schedule(Schedule::At(at))).await.unwrap().id;
    let stored = engine.get(id).await.unwrap().unwrap();
    assert_eq!((stored.state.as_str(), stored.scheduled_at), ("scheduled", at));
}

#[tokio::test]
async fn ten_thousand_in_one_call_keep_their_order_and_send_one_notice_a_queue() {
    let (_db, engine) = engine().await;
    let mut heard = listener(engine.db()).await;
    let jobs = (0..INSERT_BATCH_MAX).map(|n| NewJob::new("w", json!({"n": n})).queue(["even", "odd"][n % 2])).collect();
    let inserted = engine.insert_many(jobs).await.unwrap();
    assert_eq!(inserted.len(), INSERT_BATCH_MAX);
    assert!(inserted.is_sorted_by_key(|one| one.id));
    let ids: Vec<i64> = inserted.iter().map(|one| one.id).collect();
    let numbers: Vec<i64> =
        sqlx::query_scalar("SELECT (args ->> 'n')::bigint FROM oban_jobs WHERE id = ANY($1) ORDER BY id")
            .bind(&ids)
            .fetch_all(engine.db().pool())
            .await
            .unwrap();
    assert!(numbers.iter().copied().eq(0..10_000), "ids rise in the order of the input");

    engine.insert(job().queue("last")).await.unwrap();
    let mut notices = [notice(&mut heard).await, notice(&mut heard).await];
    notices.sort();
    assert_eq!(notices.map(|text| text.replace(' ', "")), [r#"{"queue":"even"}"#, r#"{"queue":"odd"}"#]);
    assert!(notice(&mut heard).await.contains("last"), "nothing between");

    let error = engine.insert_many(vec![job(); INSERT_BATCH_MAX + 1]).await.unwrap_err();
    assert!(matches!(error, QueueError::TooMany { count: 10_001, max: 10_000 }));
    assert_eq!(engine.insert_many(Vec::new()).await.unwrap(), []);
}

#[tokio::test]
async fn one_bad_job_among_many_inserts_nothing() {
    let (_db, engine) = engine().await;
    let error = engine.insert_many(vec![job(), job().max_attempts(0), job()]).await.unwrap_err();
    assert_eq!(error.code(), "E0401");
    assert!(error.to_string().contains("max_attempts"), "{error}");
    assert_eq!(count(engine.db()).await, 0);
}

#[tokio::test]
async fn a_scheduled_job_sends_no_notice() {
    let (_db, engine) = engine().await;
    let mut heard = listener(engine.db()).await;
    engine.insert(job().queue("later").schedule(Schedule::In(Duration::from_secs(60)))).await.unwrap();
    engine.insert(job().queue("now")).await.unwrap();
    assert!(notice(&mut heard).await.contains("now"));
}

#[tokio::test]
async fn the_callers_transaction_decides_about_jobs_and_notices() {
    let db = TestDb::new().await;
    let database = db.connect("jobs").await;
    migrate::up(&database).await.unwrap();
    let engine = Engine::new(database);
    let mut heard = listener(engine.db()).await;
    // A caller that looks elsewhere, where even a table of the same name lies in wait.
    let mut caller = own_connection(&db).await;
    sqlx::raw_sql("CREATE TABLE public.oban_jobs (id int); CREATE TABLE orders (id int)")
        .execute(&mut caller)
        .await
        .unwrap();

    let mut lost = caller.begin().await.unwrap();
    engine.insert_many_on(&mut lost, vec![job().queue("lost"), unique().queue("lost")]).await.unwrap();
    lost.rollback().await.unwrap();
    assert_eq!(count(engine.db()).await, 0);

    let mut kept = caller.begin().await.unwrap();
    sqlx::query("INSERT INTO orders VALUES (1)").execute(&mut *kept).await.unwrap();
    let inserted = engine
        .insert_many_on(&mut kept, vec![job().queue("kept"), NewJob { args: json!({}), ..unique() }.queue("kept")])
        .await
        .unwrap();
    assert_eq!(count(engine.db()).await, 0, "not before the commit");
    // Sent on another connection in the meantime: would arrive behind a notice that did not wait for its commit.
    engine.insert(job().queue("between")).await.unwrap();
    kept.commit().await.unwrap();
    assert!(notice(&mut heard).await.contains("between"));
    assert!(notice(&mut heard).await.contains("kept"));
    assert_eq!(engine.get_many(&inserted.iter().map(|one| one.id).collect::<Vec<_>>()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_unique_job_is_inserted_once_however_many_try_at_the_same_time() {
    let (_db, engine) = engine().await;
    let inserts = futures_util::future::join_all((0..20).map(|_| engine.insert(unique()))).await;
    let inserted: Vec<Inserted> = inserts.into_iter().map(Result::unwrap).collect();
    assert_eq!(inserted.iter().filter(|one| !one.conflict).count(), 1);
    assert!(inserted.iter().all(|one| one.id == inserted[0].id));
    assert_eq!(count(engine.db()).await, 1);
    // Within one call too.
    let pair = engine.insert_many(vec![unique().queue("q"), unique().queue("q"), job().queue("q")]).await.unwrap();
    assert_eq!(pair.iter().map(|one| one.conflict).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(pair[0].id, pair[1].id);
}

#[tokio::test]
async fn a_unique_insert_waits_for_the_other_transaction_and_follows_its_fate() {
    let (db, engine) = engine().await;
    for commits in [false, true] {
        let mut caller = own_connection(&db).await;
        let mut other = caller.begin().await.unwrap();
        let first = engine.insert_many_on(&mut other, vec![unique()]).await.unwrap()[0];
        let waiting = engine.insert(unique());
        tokio::pin!(waiting);
        let blocked = until("a wait for the lock", || async {
            let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            let waits: i64 = sqlx::query_scalar(sql).fetch_one(engine.db().pool()).await.unwrap();
            (waits > 0).then_some(())
        });
        tokio::select! {
            early = &mut waiting => panic!("did not wait: {early:?}"),
            () = blocked => {}
        }
        if commits {
            other.commit().await.unwrap()
        } else {
            other.rollback().await.unwrap()
        }
        let second = waiting.await.unwrap();
        assert_eq!((second.conflict, second.id == first.id), (commits, commits));
        sqlx::query("DELETE FROM oban_jobs").execute(engine.db().pool()).await.unwrap();
    }
}

#[tokio::test]
async fn what_makes_a_job_the_same_is_worker_queue_and_arguments_while_it_did_not_fail() {
    let (_db, engine) = engine().await;
    let first = engine.insert(NewJob { args: json!({"a": 1, "b": [2]}), ..unique() }).await.unwrap().id;
    let again = |job: NewJob| {
        let engine = engine.clone();
        async move { engine.insert(job).await.unwrap().conflict }
    };
    assert!(again(NewJob { args: json!({"b": [2], "a": 1}), ..unique() }).await, "order of keys");
    for other in [json!({"a": 1}), json!({"a": 1, "b": [2], "c": 3}), json!({"a": 1, "b": [2, 2]})] {
        assert!(!again(NewJob { args: other.clone(), ..unique() }).await, "{other}");
    }
    let same = || NewJob { args: json!({"a": 1, "b": [2]}), ..unique() };
    assert!(!again(NewJob { worker: "v".into(), ..same() }).await);
    assert!(!again(same().queue("q")).await);
    for state in ["suspended", "scheduled", "available", "executing", "retryable", "completed"] {
        set_columns(&engine, first, &format!("state = '{state}'")).await;
        assert!(again(same()).await, "{state}");
    }
    for state in ["discarded", "cancelled"] {
        set_columns(&engine, first, &format!("state = '{state}'")).await;
        assert!(!again(same()).await, "{state}");
        let sql = format!(
            "DELETE FROM oban_jobs WHERE id > {first} AND args @> '{{\"a\": 1, \"b\": [2]}}' AND state = 'available'"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(engine.db().pool()).await.unwrap();
    }
}
