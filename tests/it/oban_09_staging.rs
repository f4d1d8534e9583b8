//! Conformance point 9: staging, also under a concurrent holder of a row's lock, and what a leader tells while it
//! stages.

use std::time::Duration;

use serde_json::json;
use singularity::postgres::notifier::{Event, Listener, ListenerOptions};
use singularity::queue::engine::Staged;
use singularity::queue::{Engine, NewJob, State};
use uuid::Uuid;

use crate::support::db::{DEADLINE, TestDb};
use crate::support::rows::{SHAPES, claim, counting, engine, engine_in, ids, names, reads, row, state, with};

const DUE: &str = "scheduled_at = timezone('UTC', now()) - interval '1 second'";

fn job() -> NewJob {
    NewJob::new("w", json!({}))
}

async fn due(engine: &Engine, state: &str, seconds_ago: u32) -> i64 {
    let set = format!("state = '{state}', scheduled_at = timezone('UTC', now()) - interval '{seconds_ago} s'");
    with(engine, job(), &set).await
}

#[tokio::test]
async fn oban_09_staging_takes_due_jobs_of_its_queues_oldest_first_and_changes_the_state_alone() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let (young, old, middle) = (
            due(&engine, "scheduled", 1).await,
            due(&engine, "retryable", 3).await,
            due(&engine, "scheduled", 2).await,
        );
        let early =
            with(&engine, job(), "state = 'scheduled', scheduled_at = timezone('UTC', now()) + interval '1 h'").await;
        let elsewhere = with(&engine, job().queue("q"), &format!("state = 'scheduled', {DUE}")).await;
        let suspended = due(&engine, "suspended", 9).await;
        let mut expected = row(engine.db(), old).await;
        let staged = engine.stage(Some(&names(&["default", "none"])), 2).await.unwrap();
        assert_eq!((staged.jobs, staged.queues), (2, names(&["default"])));
        expected["state"] = json!("available");
        assert_eq!(row(engine.db(), old).await, expected);
        let states = [old, middle, young, early, elsewhere, suspended];
        let wanted = ["available", "available", "scheduled", "scheduled", "scheduled", "suspended"];
        for (id, wanted) in states.into_iter().zip(wanted) {
            assert_eq!(state(&engine, id).await.as_str(), wanted, "{shape:?} job {id}");
        }
        assert_eq!(engine.stage(Some(&names(&["default"])), 10).await.unwrap().jobs, 1);
        let staged = engine.stage(Some(&names(&["default"])), 10).await.unwrap();
        assert_eq!(staged, Staged { jobs: 0, queues: names(&["default"]) }, "nothing left");
    }
}

#[tokio::test]
async fn staging_for_all_takes_due_jobs_of_every_queue() {
    let (_db, engine) = engine().await;
    let here = due(&engine, "scheduled", 1).await;
    let elsewhere = with(&engine, job().queue("elixir"), &format!("state = 'retryable', {DUE}")).await;
    let staged = engine.stage(None, 10).await.unwrap();
    assert_eq!((staged.jobs, staged.queues), (2, names(&["default", "elixir"])));
    for id in [here, elsewhere] {
        assert_eq!(state(&engine, id).await, State::Available);
    }
}

#[tokio::test]
async fn oban_09_staging_neither_waits_for_a_locked_row_nor_revives_what_its_holder_made_of_it() {
    let (_db, engine) = engine().await;
    for change in ["state = 'executing', attempt = 1", "state = 'cancelled'"] {
        let (held, free) = (due(&engine, "scheduled", 5).await, due(&engine, "retryable", 1).await);
        let mut holder = engine.db().pool().begin().await.unwrap();
        let sql = format!("UPDATE oban_jobs SET {change} WHERE id = {held}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut *holder).await.unwrap();
        let staged = tokio::time::timeout(Duration::from_secs(4), engine.stage(Some(&names(&["default"])), 10)).await;
        assert_eq!(staged.expect("no wait").unwrap().queues, ["default"]);
        assert_eq!(state(&engine, free).await, State::Available);
        holder.commit().await.unwrap();
        let after = row(engine.db(), held).await;
        engine.stage(Some(&names(&["default"])), 10).await.unwrap();
        assert_eq!(row(engine.db(), held).await, after);
    }
}

/// Hazard 3 of Oban's staging: chosen while it was due, changed by somebody else before the write.
#[tokio::test]
async fn oban_09_concurrent_staging_claiming_and_cancelling_never_revive_a_job() {
    let (_db, engine) = engine().await;
    let (mut rounds, mut claimed, mut left) = (0, 0, 0);
    // Until each came first at least once.
    while rounds < 20 || claimed == 0 || left == 0 {
        rounds += 1;
        assert!(rounds < 1_000, "{claimed} claimed before they were cancelled, {left} not");
        let mut due_jobs = Vec::new();
        for _ in 0..5 {
            due_jobs.push(due(&engine, "scheduled", 1).await);
        }
        let stage = || async { engine.stage(Some(&names(&["default"])), 100).await.map(drop) };
        let cancel = || async {
            for id in &due_jobs {
                engine.cancel(*id).await?;
            }
            Ok(())
        };
        let claims = || async {
            let mut all = Vec::new();
            for _ in 0..5 {
                all.extend(ids(&claim(&engine, Uuid::now_v7(), 100).await));
            }
            all
        };
        let (first, cancelled, second, mut taken, too) = tokio::join!(stage(), cancel(), stage(), claims(), claims());
        first.and(cancelled).and(second).unwrap();
        taken.extend(too);
        for job in engine.get_many(&due_jobs).await.unwrap() {
            let attempts = taken.iter().filter(|id| **id == job.id).count() as i32;
            assert_eq!((job.state, job.attempt), (State::Cancelled, attempts), "job {}", job.id);
            assert!(attempts <= 1, "job {} was given to two", job.id);
        }
        claimed += taken.len();
        left += due_jobs.len() - taken.len();
    }
}

/// What is told on channel `insert` until `last` is told.
async fn told_until(listener: &mut Listener, last: &str) -> Vec<String> {
    let mut queues = Vec::new();
    loop {
        let event = tokio::time::timeout(DEADLINE, listener.next()).await.expect("a notice");
        if let Event::Notified { payload, .. } = event {
            let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
            assert_eq!(payload.as_object().unwrap().len(), 1, "{payload}");
            let queue = payload["queue"].as_str().unwrap().to_owned();
            if queue == last {
                return queues;
            }
            queues.push(queue);
        }
    }
}

/// Hazard 20: Elixir nodes that follow run nothing that arrived without a notice until their leader tells it.
#[tokio::test]
async fn a_leader_tells_every_queue_with_available_jobs_and_no_other() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        for (queue, set) in [
            ("b", "state = 'available'"),
            ("a", "state = 'available', priority = 3"),
            ("a", "state = 'available'"),
            ("done", "state = 'completed'"),
            ("busy", "state = 'executing'"),
            ("later", "state = 'scheduled', scheduled_at = timezone('UTC', now()) + interval '1 h'"),
            ("due", &format!("state = 'retryable', {DUE}")),
            ("due", &format!("state = 'scheduled', {DUE}")),
        ] {
            with(&engine, job().queue(queue), set).await;
        }
        let mut listener = Listener::new(engine.db(), &["insert"], ListenerOptions::default());
        assert!(matches!(listener.next().await, Event::Resync));
        let staged = engine.stage(None, 100).await.unwrap();
        assert_eq!((staged.jobs, staged.queues), (2, names(&["a", "b", "due"])), "{shape:?}");
        engine.insert(job().queue("end")).await.unwrap();
        assert_eq!(told_until(&mut listener, "end").await, ["a", "b", "due"]);
        // Those who stage for themselves find the same of their queues, and tell only what they staged.
        with(&engine, job().queue("late"), &format!("state = 'scheduled', {DUE}")).await;
        let staged = engine.stage(Some(&names(&["a", "b", "busy", "late"])), 100).await.unwrap();
        assert_eq!((staged.jobs, staged.queues), (1, names(&["a", "b", "late"])), "{shape:?}");
        engine.insert(job().queue("end_of_all")).await.unwrap();
        // The first is what its insertion told.
        assert_eq!(told_until(&mut listener, "end_of_all").await, ["late", "late"]);
    }
}

/// Forty thousand jobs that are available are not read to find their two queues.
#[tokio::test]
async fn a_leader_finds_queues_with_available_jobs_without_reading_the_jobs() {
    let db = TestDb::new().await;
    let Some(engine) = counting(&db).await else { return };
    db.execute(
        "INSERT INTO oban_jobs (queue, worker)
         SELECT queue, 'w' FROM generate_series(1, 20000), unnest('{one,two}'::text[]) AS queue",
    )
    .await;
    db.execute("VACUUM ANALYZE oban_jobs").await;
    let before = reads(&engine).await;
    // Often enough for PostgreSQL to plan for any parameters.
    for _ in 0..8 {
        assert_eq!(engine.stage(None, 100).await.unwrap().queues, ["one", "two"]);
        assert_eq!(engine.stage(Some(&names(&["one", "three"])), 100).await.unwrap().queues, ["one"]);
    }
    let read = reads(&engine).await - before;
    assert!(read < 200, "{read} rows and entries in sixteen runs");
}
