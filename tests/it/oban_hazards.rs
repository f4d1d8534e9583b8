//! Hazards of sharing tables with other runtimes, by their numbers in the list of known ones: what a node does about
//! those that it can avoid.

use serde_json::{Value, json};
use singularity::config::{Config, Period, Queue};
use singularity::postgres::SchemaName;
use singularity::queue::engine::{Changed, JobFilter};
use singularity::queue::{JobUpdate, NAME_CHARS_MAX, NewJob, Schedule, State};
use sqlx::Connection;

use crate::support::db::TestDb;
use crate::support::heard::Heard;
use crate::support::node::{FIXTURE, Fixture, TestNode, job, until};
use crate::support::rows::{engine, row, set_columns, with};

/// A quick poll, because looks for jobs that were taken are made every so many polls.
fn looking(config: &mut Config) {
    let queue = Queue { poll_interval: Period::from_millis(100), limit: 5, ..Queue::default() };
    config.queues.insert("default".into(), queue);
}

async fn node(change: impl Fn(&mut Config)) -> (TestDb, Fixture, TestNode) {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, change).await;
    (db, fixture, node)
}

fn superseded(node: &TestNode) -> u64 {
    let tree = node.system().snapshot();
    tree.find("/completer").unwrap().labels.get("superseded").map_or(0, |count| count.parse().unwrap())
}

/// Oban for Elixir may stage or rescue a row that executes here, and a notice of a cancelled job may be lost.
#[tokio::test]
async fn hazard_03_a_running_job_that_was_taken_is_noticed_stopped_and_superseded() {
    let (_db, fixture, node) = node(looking).await;
    let kept = node.insert(json!({"do": "hold"})).await;
    fixture.started(kept).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        let id = node.insert(json!({"do": "hang"})).await;
        fixture.started(id).await;
        jobs.push(id);
    }
    // Nothing is claimed meanwhile, so that what is written here stays to be seen.
    node.queues().get("default").unwrap().set_paused(true);
    let changes = [
        "state = 'available'",
        "state = 'cancelled', cancelled_at = timezone('UTC', now())",
        "attempted_by = ARRAY['two', 'other'], attempted_at = timezone('UTC', now())",
    ];
    let mut rows = Vec::new();
    for (id, change) in jobs.iter().zip(changes) {
        set_columns(node.engine(), *id, change).await;
        rows.push(row(node.engine().db(), *id).await);
    }
    sqlx::query("DELETE FROM oban_jobs WHERE id = $1").bind(jobs[3]).execute(node.engine().db().pool()).await.unwrap();
    for id in &jobs {
        fixture.ended(*id).await;
    }
    until("all that came to nothing counted", || async { (superseded(&node) == 4).then_some(()) }).await;
    for (id, taken) in jobs.iter().zip(rows) {
        assert_eq!(row(node.engine().db(), *id).await, taken);
    }
    assert_eq!((node.queues().running(), node.state(kept).await), (1, State::Executing), "the other one runs on");
    fixture.release(kept);
    node.reaches(kept, State::Completed).await;
    assert_eq!((superseded(&node), fixture.seen().dropped.len()), (4, 4));
}

/// The lifeline of Oban for Python returns what runs for five minutes, whoever lives; the next claim may be our own.
#[tokio::test]
async fn hazard_03_a_running_job_that_is_claimed_again_where_it_runs_goes_on_once() {
    let (_db, fixture, node) = node(|_| {}).await;
    let id = node.insert(json!({"do": "hold"})).await;
    fixture.started(id).await;
    set_columns(node.engine(), id, "state = 'available'").await;
    fixture.until("the second attempt", |seen| seen.started == [(id, 1), (id, 2)]).await;
    fixture.until("the end of the first", |seen| seen.dropped == [(id, 1)]).await;
    until("what came to nothing counted", || async { (superseded(&node) == 1).then_some(()) }).await;
    assert_eq!((node.state(id).await, fixture.seen().running), (State::Executing, 1));
    fixture.release(id);
    let job = node.reaches(id, State::Completed).await;
    assert_eq!((job.attempt, fixture.seen().started.len()), (2, 2));
}

/// Nodes of other languages fail jobs of workers that they do not know until their attempts are used up.
#[tokio::test]
async fn hazard_05_jobs_of_unknown_workers_are_left_untouched_and_hold_up_nobody() {
    let (_db, fixture, node) = node(|config| config.queues.get_mut("default").unwrap().limit = 1).await;
    let mut theirs = Vec::new();
    for worker in ["MyApp.Mailer", "app.workers.Mailer", "Fixture", "fixture2"] {
        let id = with(node.engine(), NewJob::new(worker, json!({})), "priority = 0").await;
        theirs.push((id, row(node.engine().db(), id).await));
    }
    for _ in 0..2 {
        let ours = node.engine().insert(job(json!({"do": "ok"})).priority(9)).await.unwrap().id;
        node.reaches(ours, State::Completed).await;
    }
    for (id, before) in theirs {
        assert_eq!(row(node.engine().db(), id).await, before);
    }
    assert_eq!(fixture.seen().started.len(), 2);
}

/// What is sent stays far below the 8,000 bytes of a notice, also in the transaction of a caller: one that is too long
/// would abort it.
#[tokio::test]
async fn hazard_13_no_notice_of_ours_reaches_the_limit_of_a_payload() {
    let (db, engine) = engine().await;
    let mut heard = Heard::on(engine.db(), &["insert", "signal"]).await;
    let queue = "\u{10348}".repeat(NAME_CHARS_MAX);
    let mut connection = sqlx::PgConnection::connect(secrecy::ExposeSecret::expose_secret(db.url())).await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    let jobs = vec![NewJob::new("w", json!({"text": "x".repeat(100_000)})).queue(&queue); 20];
    engine.insert_many_on(&mut tx, jobs).await.unwrap();
    tx.commit().await.unwrap();
    sqlx::raw_sql("UPDATE oban_jobs SET state = 'executing'").execute(engine.db().pool()).await.unwrap();
    assert_eq!(engine.cancel_all(&JobFilter::default()).await.unwrap().total(), 20);
    let told = heard.all().await;
    assert_eq!((told.len(), &told[0]), (21, &("insert".to_owned(), json!({"queue": queue}))));
    assert!(told.iter().all(|(_, payload)| payload.to_string().len() < 1_000));
}

#[tokio::test]
async fn hazard_15_null_meta_tags_and_owner_are_read_as_empty_and_the_job_lives() {
    let (_db, fixture, node) = node(|_| {}).await;
    let queue = node.pause().await;
    let bare = "meta = NULL, tags = NULL, attempted_by = NULL";
    let done = with(node.engine(), job(json!({"do": "ok"})), bare).await;
    let snoozed = with(node.engine(), job(json!({"do": "snooze", "for_ms": 20})), bare).await;
    let failed = with(node.engine(), job(json!({"do": "error"})), bare).await;
    let listed = node.engine().list(&JobFilter::default(), None, 9).await.unwrap();
    assert!(listed.iter().all(|job| job.meta == json!({}) && job.tags.is_empty() && job.attempted_by.is_empty()));
    queue.set_paused(false);
    node.reaches(done, State::Completed).await;
    assert_eq!(node.reaches(snoozed, State::Completed).await.meta, json!({"snoozed": 1}));
    node.reaches(failed, State::Retryable).await;
    assert_eq!(node.engine().retry(failed).await.unwrap(), Changed::Yes(State::Retryable));
    assert!(fixture.seen().dropped.is_empty());
}

/// Python's retry adds `uniq_bmp` to `meta`, and its update writes whole rows.
#[tokio::test]
async fn hazard_27_what_python_leaves_in_meta_is_kept() {
    let (_db, _fixture, node) = node(|_| {}).await;
    let queue = node.pause().await;
    let meta = "meta = '{\"uniq_bmp\": [], \"cancel_attempted_at\": \"2026-01-01T00:00:00\", \"rescued\": 2}'";
    let id = with(node.engine(), job(json!({"do": "snooze", "for_ms": 20})), meta).await;
    queue.set_paused(false);
    let wanted = json!({"uniq_bmp": [], "cancel_attempted_at": "2026-01-01T00:00:00", "rescued": 2, "snoozed": 1});
    assert_eq!(node.reaches(id, State::Completed).await.meta, wanted);
    node.engine().retry(id).await.unwrap();
    assert_eq!(node.engine().get(id).await.unwrap().unwrap().meta, wanted);
}

#[tokio::test]
async fn hazard_28_an_update_of_the_time_wakes_nothing_that_does_not_wait() {
    let (_db, engine) = engine().await;
    let soon = || JobUpdate { schedule: Some(Schedule::Now), ..JobUpdate::default() };
    for state in State::ALL {
        let id = with(&engine, NewJob::new("w", json!({})), &format!("state = '{state}'")).await;
        let waits = matches!(state, State::Scheduled | State::Available | State::Retryable);
        let wanted = if waits { Changed::Yes(state) } else { Changed::No(state) };
        assert_eq!(engine.update(id, soon()).await.unwrap(), wanted);
        let after = engine.get(id).await.unwrap().unwrap().state;
        assert_eq!(after, if waits { State::Scheduled } else { state });
    }
}

#[test]
fn hazard_30_a_schema_is_a_plain_identifier() {
    for bad in ["a.b", "", "a b", "a\"b", "A", "1a", "ä", "a-b"] {
        let error = bad.parse::<SchemaName>().unwrap_err().to_string();
        assert!(error.contains("schema"), "{error}");
    }
    assert!("our_jobs_2".parse::<SchemaName>().is_ok());
}

#[tokio::test]
async fn hazard_31_a_notice_is_told_when_the_callers_transaction_is_committed() {
    let (db, engine) = engine().await;
    let mut heard = Heard::on(engine.db(), &["insert"]).await;
    let mut connection = sqlx::PgConnection::connect(secrecy::ExposeSecret::expose_secret(db.url())).await.unwrap();
    for commit in [false, true] {
        let mut tx = connection.begin().await.unwrap();
        let jobs =
            vec![NewJob::new("w", json!({})), NewJob::new("w", json!({})).queue("q"), NewJob::new("w", json!({}))];
        engine.insert_many_on(&mut tx, jobs).await.unwrap();
        assert_eq!(heard.all().await, []);
        if !commit {
            tx.rollback().await.unwrap();
            assert_eq!(heard.all().await, []);
            continue;
        }
        tx.commit().await.unwrap();
        let mut told = heard.all().await;
        told.sort_by_key(|(_, payload)| payload.to_string());
        let insert = |queue: &str| ("insert".to_owned(), json!({"queue": queue}));
        assert_eq!(told, [insert("default"), insert("q")], "one a queue");
    }
}

#[tokio::test]
async fn hazard_32_a_suspended_job_waits_until_it_is_released() {
    let (_db, fixture, node) = node(|_| {}).await;
    let queue = node.pause().await;
    let held = with(node.engine(), job(json!({"do": "ok"})), "state = 'suspended'").await;
    queue.set_paused(false);
    let other = node.insert(json!({"do": "ok"})).await;
    node.reaches(other, State::Completed).await;
    let due = node.engine().insert(job(json!({"do": "ok"})).schedule(Schedule::In(std::time::Duration::ZERO))).await;
    node.reaches(due.unwrap().id, State::Completed).await;
    assert_eq!(
        (node.state(held).await, fixture.starts_of(held)),
        (State::Suspended, 0),
        "nothing releases it by itself"
    );
    assert_eq!(node.engine().retry(held).await.unwrap(), Changed::Yes(State::Suspended));
    assert_eq!(node.reaches(held, State::Completed).await.attempt, 1);
}

/// Elixir's times end in `Z`, Python's in `+00:00`, and older ones may lack a zone or be something else altogether.
#[tokio::test]
async fn hazard_33_errors_of_every_runtime_are_read_and_ours_end_in_z() {
    let (_db, _fixture, node) = node(|_| {}).await;
    let queue = node.pause().await;
    let foreign = [
        json!({"at": "2026-01-01T00:00:00.123456Z", "attempt": 1, "error": "** (Oban.PerformError) elixir"}),
        json!({"at": "2026-01-01T00:00:00.123456+00:00", "attempt": 2, "error": "Traceback (most recent call last)"}),
        json!("odd"),
    ];
    let elements: Vec<String> = foreign.iter().map(|element| format!("'{element}'::jsonb")).collect();
    let set = format!("attempt = 3, errors = ARRAY[{}]", elements.join(", "));
    let id = with(node.engine(), NewJob::new(FIXTURE, json!({"do": "error"})), &set).await;
    queue.set_paused(false);
    let job = node.reaches(id, State::Retryable).await;
    assert_eq!(job.errors[..3], foreign, "what was there stays as it was");
    let at = job.errors[3]["at"].as_str().unwrap();
    assert!(at.ends_with('Z') && at.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{at}");
    assert_eq!((job.errors.len(), &job.errors[3]["attempt"]), (4, &Value::from(4)));
}
