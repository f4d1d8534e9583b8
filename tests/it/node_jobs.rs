//! Jobs on a running node: every outcome from insertion to the row, and what signals do to queues and jobs.

use std::time::Duration;

use serde_json::{Value, json};
use singularity::config::{Config, Period, Queue};
use singularity::queue::engine::Changed;
use singularity::queue::{Job, NewJob, Schedule, State};

use crate::support::db::{TestDb, waits_for_a_lock};
use crate::support::node::{Fixture, TestNode, job, restarts, signal, until};
use crate::support::rows::row;

/// Long polls: whatever happens within a test's patience came by notice.
fn by_notice(config: &mut Config) {
    config.queues.insert("default".into(), Queue { poll_interval: Period::from_secs(600), ..Queue::default() });
}

fn limit(limit: u32) -> impl Fn(&mut Config) {
    move |config| {
        by_notice(config);
        config.queues.get_mut("default").unwrap().limit = limit;
    }
}

async fn node(change: impl Fn(&mut Config)) -> (TestDb, Fixture, TestNode) {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, change).await;
    (db, fixture, node)
}

fn errors(job: &Job) -> Vec<(Value, &str)> {
    job.errors.iter().map(|error| (error["attempt"].clone(), error["error"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn every_outcome_reaches_the_row() {
    let (_db, fixture, node) = node(by_notice).await;
    let done = node.insert(json!({"do": "ok"})).await;
    let (failed, given_up) = (node.insert(json!({"do": "error"})).await, node.insert(json!({"do": "discard"})).await);
    let (unwanted, snoozed) =
        (node.insert(json!({"do": "cancel"})).await, node.insert(json!({"do": "snooze", "for_ms": 100_000})).await);
    let last = node.engine().insert(job(json!({"do": "error"})).max_attempts(1)).await.unwrap().id;

    let done = node.reaches(done, State::Completed).await;
    assert_eq!((done.attempt, done.attempted_by[0].as_str(), done.errors.len()), (1, "one", 0));
    assert_eq!(done.attempted_by[1], node.queues().get("default").unwrap().producer().to_string());
    assert!(done.completed_at >= done.attempted_at);
    let failed = node.reaches(failed, State::Retryable).await;
    assert_eq!((failed.attempt, errors(&failed)), (1, vec![(json!(1), "** (Fixture) no luck")]));
    let wait = failed.scheduled_at - failed.attempted_at.unwrap();
    assert!((17..=19).contains(&wait.num_seconds()), "Oban's backoff: {wait}");
    let given_up = node.reaches(given_up, State::Discarded).await;
    assert_eq!((given_up.attempt, given_up.discarded_at.is_some(), given_up.errors.len()), (1, true, 1));
    let unwanted = node.reaches(unwanted, State::Cancelled).await;
    assert_eq!(
        (unwanted.cancelled_at.is_some(), errors(&unwanted)),
        (true, vec![(json!(1), "** (Fixture) not wanted")])
    );
    let snoozed = node.reaches(snoozed, State::Scheduled).await;
    assert_eq!((snoozed.attempt, &snoozed.meta, snoozed.errors.len()), (0, &json!({"snoozed": 1}), 0));
    let last = node.reaches(last, State::Discarded).await;
    assert_eq!((last.attempt, last.errors.len()), (1, 1));

    let seen = fixture.seen();
    assert_eq!((seen.started.len(), seen.finished.len(), seen.dropped.len()), (6, 6, 0));
    assert_eq!(restarts(&node.system().snapshot()), 0);
    node.shutdown().await;
}

#[tokio::test]
async fn one_that_its_worker_hands_back_waits_and_is_not_claimed_in_a_circle() {
    let (_db, fixture, node) = node(by_notice).await;
    let id = node.insert(json!({"do": "hand_back"})).await;
    let job = node.reaches(id, State::Scheduled).await;
    assert_eq!((job.attempt, job.errors.len(), fixture.starts_of(id)), (0, 0, 1));
    assert!(job.scheduled_at > job.attempted_at.unwrap());
    node.shutdown().await;
}

#[tokio::test]
async fn a_queue_whose_jobs_have_no_runtime_left_is_paused() {
    let (_db, fixture, mut node) = node(by_notice).await;
    node.end_job_runtime();
    let id = node.insert(json!({"do": "ok"})).await;
    until("a paused queue", || async { node.queues().get("default").unwrap().is_paused().then_some(()) }).await;
    let job = node.reaches(id, State::Available).await;
    assert_eq!((job.attempt, job.errors.len(), fixture.starts_of(id)), (0, 0, 0));
    node.shutdown().await;
}

#[tokio::test]
async fn a_panic_is_a_failure_with_message_and_place_and_harms_nobody_else() {
    let (_db, fixture, node) = node(by_notice).await;
    let neighbour = node.insert(json!({"do": "hold"})).await;
    fixture.started(neighbour).await;
    let id = node.insert(json!({"do": "panic"})).await;
    let job = node.reaches(id, State::Retryable).await;
    let text = job.errors[0]["error"].as_str().unwrap();
    assert!(text.starts_with(&format!("** (Panic) fixture job {id} panics\n    at ")), "{text}");
    assert!(text.contains("support/node.rs:"), "{text}");
    // A worker that panics already when it is asked for its time limit.
    let id = node.insert(json!({"timeout": "panic"})).await;
    let job = node.reaches(id, State::Retryable).await;
    let text = job.errors[0]["error"].as_str().unwrap();
    assert!(text.starts_with("** (Panic) this worker cannot tell its time"), "{text}");
    fixture.release(neighbour);
    node.reaches(neighbour, State::Completed).await;
    assert_eq!(restarts(&node.system().snapshot()), 0);
}

#[tokio::test]
async fn a_job_that_runs_over_its_time_is_stopped_and_failed() {
    let (_db, fixture, node) = node(by_notice).await;
    let id = node.insert(json!({"do": "hang", "timeout_ms": 100})).await;
    let job = node.reaches(id, State::Retryable).await;
    assert_eq!(errors(&job), [(json!(1), "** (Oban.TimeoutError) fixture timed out after 100ms")]);
    assert_eq!(fixture.seen().dropped, [(id, 1)]);
}

#[tokio::test]
async fn failed_snoozed_and_scheduled_jobs_run_when_they_are_due() {
    let (_db, fixture, node) = node(by_notice).await;
    let retried = node.insert(json!({"do": "error_once"})).await;
    let snoozed = node.insert(json!({"do": "snooze", "for_ms": 50})).await;
    let later = job(json!({"do": "ok"})).schedule(Schedule::In(Duration::from_millis(300)));
    let later = node.engine().insert(later).await.unwrap().id;
    let retried = node.reaches(retried, State::Completed).await;
    assert_eq!((retried.attempt, retried.errors.len()), (2, 1));
    let snoozed = node.reaches(snoozed, State::Completed).await;
    assert_eq!((snoozed.attempt, &snoozed.meta["snoozed"]), (1, &json!(1)));
    let later = node.reaches(later, State::Completed).await;
    assert!(later.attempted_at.unwrap() >= later.scheduled_at, "not before its time");
    assert!(fixture.seen().dropped.is_empty());
}

#[tokio::test]
async fn jobs_of_unknown_workers_stay_available_for_others() {
    let (_db, _fixture, node) = node(by_notice).await;
    let foreign = node.engine().insert(NewJob::new("Elixir.Mailer", json!({}))).await.unwrap().id;
    let before = row(node.engine().db(), foreign).await;
    let mine = node.insert(json!({"do": "ok"})).await;
    node.reaches(mine, State::Completed).await;
    assert_eq!(row(node.engine().db(), foreign).await, before);
}

#[tokio::test]
async fn a_queue_never_runs_more_than_its_limit_and_always_as_many() {
    let (_db, fixture, node) = node(limit(3)).await;
    let jobs = vec![job(json!({"do": "hold"})); 50];
    let ids: Vec<i64> = node.engine().insert_many(jobs).await.unwrap().iter().map(|one| one.id).collect();
    for (number, id) in ids.iter().enumerate() {
        let wanted = (number + 3).min(50);
        fixture.until("three at once", |seen| seen.started.len() == wanted).await;
        let executing: i64 = sqlx::query_scalar("SELECT count(*) FROM oban_jobs WHERE state = 'executing'")
            .fetch_one(node.engine().db().pool())
            .await
            .unwrap();
        assert!(executing <= 3, "{executing} execute");
        fixture.release(*id);
    }
    for id in &ids {
        node.reaches(*id, State::Completed).await;
    }
    let seen = fixture.seen();
    assert_eq!((seen.peak, seen.started.len()), (3, 50), "each once");
    let order: Vec<i64> = seen.started.iter().map(|(id, _)| *id).collect();
    assert_eq!(order[3..], ids[3..], "in the order of the queue");
}

#[tokio::test]
async fn scaling_by_signal_holds_at_once_and_kills_nothing() {
    let (_db, fixture, node) = node(limit(4)).await;
    let database = node.engine().db().clone();
    let ids: Vec<i64> = node
        .engine()
        .insert_many(vec![job(json!({"do": "hold"})); 20])
        .await
        .unwrap()
        .iter()
        .map(|one| one.id)
        .collect();
    fixture.until("four", |seen| seen.running == 4).await;

    signal(&database, json!({"action": "scale", "queue": "default", "limit": 2})).await;
    let queue = node.queues().get("default").unwrap();
    until("the new limit", || async { (queue.limit() == 2).then_some(()) }).await;
    assert_eq!((fixture.seen().running, fixture.seen().dropped.len()), (4, 0));
    for id in &ids[..3] {
        fixture.release(*id);
        node.reaches(*id, State::Completed).await;
    }
    // Four less three is one below the limit of two: exactly one more begins.
    fixture.until("the fifth", |seen| seen.started.len() == 5 && seen.running == 2).await;

    signal(&database, json!({"action": "scale", "queue": "default", "limit": 7})).await;
    fixture.until("seven", |seen| seen.running == 7).await;
    assert_eq!(fixture.seen().started.len(), 10);
    // None of these is for this queue, this instance, or possible.
    for payload in [
        json!({"action": "scale", "queue": "default", "limit": 0}),
        json!({"action": "scale", "queue": "default", "limit": 10_001}),
        json!({"action": "scale", "queue": "other", "limit": 9}),
        json!({"action": "explode", "queue": "default"}),
        json!({"action": "scale", "queue": "default", "limit": "many"}),
    ] {
        signal(&database, payload).await;
    }
    sqlx::query("SELECT pg_notify('public.oban_signal', 'garbage')").execute(database.pool()).await.unwrap();
    let mine = json!({"action": "scale", "queue": "default", "limit": 8, "ident": "Oban.one"});
    let others = json!({"action": "scale", "queue": "default", "limit": 9, "ident": "Oban.two"});
    for payload in [others, mine] {
        crate::support::node::notify(&database, "signal", payload).await;
    }
    fixture.until("eight", |seen| seen.running == 8).await;
    assert_eq!(queue.limit(), 8);
    fixture.release_all();
    for id in ids {
        node.reaches(id, State::Completed).await;
    }
    assert_eq!((fixture.seen().peak, fixture.seen().dropped.len()), (8, 0));
}

#[tokio::test]
async fn a_paused_queue_claims_nothing_and_lets_its_jobs_run_on() {
    let (_db, fixture, node) = node(limit(5)).await;
    let database = node.engine().db().clone();
    let running = node.insert(json!({"do": "hold"})).await;
    fixture.started(running).await;
    let queue = node.queues().get("default").unwrap();
    for name in ["default", "*"] {
        signal(&database, json!({"action": "pause", "queue": name})).await;
        until("a pause", || async { queue.is_paused().then_some(()) }).await;
        let waiting = node.insert(json!({"do": "ok"})).await;
        // The producer has looked since the insertion, and took nothing.
        until("a look", || async {
            let tree = node.system().snapshot();
            let producer = tree.find("/queues/default").unwrap();
            (producer.labels.contains_key("paused") && producer.mailbox.as_ref().is_some_and(|m| m.depth == 0))
                .then_some(())
        })
        .await;
        assert_eq!((node.state(waiting).await, fixture.starts_of(waiting)), (State::Available, 0));
        signal(&database, json!({"action": "resume", "queue": name})).await;
        node.reaches(waiting, State::Completed).await;
    }
    fixture.release(running);
    node.reaches(running, State::Completed).await;
    assert!(fixture.seen().dropped.is_empty());
}

#[tokio::test]
async fn a_claim_that_was_under_way_when_its_queue_was_paused_or_scaled_keeps_to_what_holds_now() {
    let (_db, fixture, node) = node(limit(4)).await;
    let (queue, database) = (node.queues().get("default").unwrap(), node.engine().db().clone());
    // With its first poll, a producer looks for lost claims too, which would meet the lock before the claim does.
    until("the first poll", || async {
        let tree = node.system().snapshot();
        let producer = tree.find("/queues/default").unwrap();
        (producer.mailbox.as_ref()?.processed >= 1 && producer.current_message.is_none()).then_some(())
    })
    .await;
    for (change, wanted) in [("pause", 0), ("scale", 1)] {
        queue.set_paused(true);
        let jobs = vec![job(json!({"do": "hold"})); 3];
        let ids: Vec<i64> = node.engine().insert_many(jobs).await.unwrap().iter().map(|one| one.id).collect();
        // Every statement on jobs waits for this lock.
        let mut lock = database.pool().begin().await.unwrap();
        sqlx::query("LOCK TABLE oban_jobs").execute(&mut *lock).await.unwrap();
        queue.set_paused(false);
        until("a claim that waits", || async { waits_for_a_lock(&database, "WITH chosen%").await.then_some(()) }).await;
        if change == "pause" {
            queue.set_paused(true)
        } else {
            queue.set_limit(1)
        }
        lock.commit().await.unwrap();
        fixture.until("those that may run", |seen| seen.running == wanted).await;
        until("the rest handed back", || async {
            let sql =
                "SELECT count(*) FROM oban_jobs WHERE state = 'available' AND attempt = 0 AND attempted_at IS NOT NULL";
            let back: i64 = sqlx::query_scalar(sql).fetch_one(database.pool()).await.unwrap();
            (back == 3 - wanted as i64).then_some(())
        })
        .await;
        assert_eq!(fixture.seen().started.len(), wanted);
        for id in &ids {
            node.engine().cancel(*id).await.unwrap();
        }
        fixture.until("the end", |seen| seen.running == 0).await;
        sqlx::query("DELETE FROM oban_jobs").execute(database.pool()).await.unwrap();
    }
}

#[tokio::test]
async fn cancelling_a_running_job_stops_it_and_its_late_result_changes_nothing() {
    let (_db, fixture, node) = node(by_notice).await;
    for (what, ends_by_itself) in [("hang", false), ("heed", true)] {
        let id = node.insert(json!({"do": what})).await;
        fixture.started(id).await;
        assert_eq!(node.engine().cancel(id).await.unwrap(), Changed::Yes(State::Executing));
        let cancelled = row(node.engine().db(), id).await;
        assert_eq!(cancelled["state"], "cancelled");
        fixture.ended(id).await;
        until("a free slot", || async { (node.queues().running() == 0).then_some(()) }).await;
        assert_eq!(row(node.engine().db(), id).await, cancelled, "the runner's result came too late");
        assert_eq!(fixture.seen().finished.contains(&(id, 1)), ends_by_itself);
    }
}

/// As Oban for Python cancels: a signal, and the runner writes the row.
#[tokio::test]
async fn a_kill_signal_for_a_row_that_still_executes_is_stored_by_the_runner() {
    let (_db, fixture, node) = node(by_notice).await;
    let (id, other) = (node.insert(json!({"do": "hang"})).await, node.insert(json!({"do": "hold"})).await);
    fixture.started(id).await;
    fixture.started(other).await;
    crate::support::node::notify(node.engine().db(), "signal", json!({"action": "pkill", "job_id": id})).await;
    let job = node.reaches(id, State::Cancelled).await;
    assert_eq!(errors(&job), [(json!(1), "** (Oban.PerformError) fixture failed with {:cancel, :shutdown}")]);
    fixture.release(other);
    node.reaches(other, State::Completed).await;
}

#[tokio::test]
async fn a_job_that_nobody_can_stop_keeps_its_slot_and_its_row_until_it_returns() {
    let (_db, fixture, node) = node(limit(1)).await;
    let stuck = node.insert(json!({"do": "spin", "timeout_ms": 50})).await;
    fixture.started(stuck).await;
    let next = node.insert(json!({"do": "ok"})).await;
    until("a stuck job in the tree", || async {
        let tree = node.system().snapshot();
        let job = tree.find(&format!("/executors/default/{stuck}"))?;
        job.labels.contains_key("stuck").then_some(())
    })
    .await;
    assert_eq!((node.state(stuck).await, node.state(next).await), (State::Executing, State::Available));
    assert_eq!(node.queues().running(), 1);
    fixture.release(stuck);
    let job = node.reaches(stuck, State::Retryable).await;
    assert!(errors(&job)[0].1.contains("timed out after 50ms"));
    node.reaches(next, State::Completed).await;
    assert_eq!(fixture.seen().peak, 1);
}
