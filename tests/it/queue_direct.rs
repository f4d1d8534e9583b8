//! Single jobs that are inserted through a node which has nothing else to do: inserted as executing, in Oban's order,
//! within the limit, once each.

use std::time::Duration;

use serde_json::{Value, json};
use singularity::config::{Config, Period, Queue};
use singularity::queue::engine::Claim;
use singularity::queue::{Engine, Job, NewJob, Schedule, State};
use uuid::Uuid;

use crate::support::db::{DEADLINE, TestDb};
use crate::support::heard::Heard;
use crate::support::node::{FIXTURE, Fixture, TestNode, job, until};
use crate::support::proxy::{Mode, Proxy};
use crate::support::rows::{SHAPES, claim, engine, engine_in, names, row, set_columns, state};

/// Inserts a job for the producer of instance `here` and worker `w`.
async fn insert_claimed(engine: &Engine, producer: Uuid, job: &NewJob) -> Option<Job> {
    let workers = names(&["w"]);
    let claim = Claim { queue: "default", instance_id: "here", producer, workers: &workers, demand: 1 };
    engine.insert_claimed(&claim, job).await.unwrap()
}

#[tokio::test]
async fn the_row_is_what_an_insert_and_a_claim_would_leave_in_both_row_shapes() {
    for shape in SHAPES {
        let (_db, engine) = engine_in(shape).await;
        let producer = Uuid::now_v7();
        let new = NewJob { priority: 3, max_attempts: 7, ..NewJob::new("w", json!({"a": [1, "x"]})) };
        let new = new.tags(["one", "two"]).meta("k", json!({"deep": true}));
        let usual = engine.insert(new.clone()).await.unwrap().id;
        assert_eq!(claim(&engine, producer, 1).await.len(), 1);
        let direct = insert_claimed(&engine, producer, &new).await.unwrap();
        assert_eq!(direct, engine.get(direct.id).await.unwrap().unwrap(), "the row is returned as it is");
        let (mut expected, found) = (row(engine.db(), usual).await, row(engine.db(), direct.id).await);
        for column in ["id", "inserted_at", "scheduled_at", "attempted_at"] {
            expected[column] = found[column].clone();
        }
        assert_eq!(found, expected, "{shape:?}");
        assert!(direct.attempted_at.unwrap() >= direct.inserted_at);
        assert_eq!(direct.inserted_at, direct.scheduled_at);
    }
}

#[tokio::test]
async fn nothing_is_inserted_before_a_job_that_the_producer_would_claim_first() {
    let (_db, engine) = engine().await;
    let producer = Uuid::now_v7();
    let new = NewJob::new("w", json!({}));
    // None of these would it claim.
    engine.insert(NewJob::new("another", json!({}))).await.unwrap();
    engine.insert(new.clone().queue("elsewhere")).await.unwrap();
    engine.insert(new.clone().schedule(Schedule::In(Duration::from_secs(60)))).await.unwrap();
    let exhausted = engine.insert(new.clone().max_attempts(1)).await.unwrap().id;
    set_columns(&engine, exhausted, "attempt = 1").await;
    assert!(insert_claimed(&engine, producer, &new).await.is_some());

    let waiting = engine.insert(NewJob { priority: 9, ..new.clone() }).await.unwrap().id;
    let mut heard = Heard::on(engine.db(), &["insert"]).await;
    assert_eq!(insert_claimed(&engine, producer, &new).await, None);
    let count = "SELECT count(*) FROM oban_jobs";
    let rows: i64 = sqlx::query_scalar(count).fetch_one(engine.db().pool()).await.unwrap();
    assert_eq!((rows, state(&engine, waiting).await), (6, State::Available));
    assert!(heard.all().await.is_empty());
}

/// Entries of the indexes that have been read, as far as the server has told.
async fn entries_read(engine: &Engine) -> i64 {
    let sql = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'oban_jobs'";
    sqlx::query_scalar(sql).fetch_one(engine.db().pool()).await.unwrap()
}

#[tokio::test]
async fn a_statement_that_was_planned_on_an_empty_table_does_not_read_what_waits_elsewhere() {
    let (_db, engine) = engine().await;
    let (producer, new) = (Uuid::now_v7(), NewJob::new("w", json!({})));
    // Planned here, once for all.
    assert!(insert_claimed(&engine, producer, &new).await.is_some());
    let rows = "INSERT INTO oban_jobs (state, queue, worker)
                SELECT 'available', 'elsewhere', 'w' FROM generate_series(1, 20000)";
    sqlx::raw_sql(rows).execute(engine.db().pool()).await.unwrap();
    let before = entries_read(&engine).await;
    // A session tells what it did at most once a second.
    let read = until("figures of the indexes", || async {
        assert!(insert_claimed(&engine, producer, &new).await.is_some());
        claim(&engine, producer, 1).await;
        sqlx::query("SELECT FROM oban_jobs WHERE id = 1").execute(engine.db()).await.unwrap();
        Some(entries_read(&engine).await - before).filter(|read| *read >= 20)
    })
    .await;
    assert!(read < 10_000, "{read} entries read");
}

/// Long polls: whatever happens within a test's patience was not found by looking.
fn limit(limit: u32) -> impl Fn(&mut Config) {
    move |config| {
        let queue = Queue { limit, poll_interval: Period::from_secs(600), ..Queue::default() };
        config.queues.insert("default".into(), queue);
    }
}

#[tokio::test]
async fn a_job_on_an_idle_node_is_never_available_and_nobody_is_notified() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(2)).await;
    let mut heard = Heard::on(node.engine().db(), &["insert"]).await;
    // A machine that is slow for a moment lets one go the usual way.
    let direct = async {
        loop {
            let id = idle_insert(&node, job(json!({}))).await;
            node.reaches(id, State::Completed).await;
            if heard.all().await.is_empty() {
                return id;
            }
        }
    };
    let id = tokio::time::timeout(DEADLINE, direct).await.expect("a direct start");
    let found = row(node.engine().db(), id).await;
    assert_eq!(found["attempt"], 1);
    assert_eq!(found["attempted_by"], json!(["one", node.queues().get("default").unwrap().producer().to_string()]));
    assert_eq!(fixture.starts_of(id), 1);
}

/// Inserts a job when the producer has nothing to do.
async fn idle_insert(node: &TestNode, new: NewJob) -> i64 {
    // Its first look at the table may be under way.
    until("an idle producer", || async {
        let tree = node.system().snapshot();
        let producer = tree.find("/queues/default")?;
        (producer.current_message.is_none() && node.queues().get("default")?.address().depth() == 0).then_some(())
    })
    .await;
    node.engine().insert(new).await.unwrap().id
}

#[tokio::test]
async fn what_speaks_against_it_leaves_the_job_to_the_usual_way() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(1)).await;
    let mut heard = Heard::on(node.engine().db(), &["insert"]).await;
    let queue = node.queues().get("default").unwrap();
    queue.set_paused(true);
    let paused = idle_insert(&node, job(json!({}))).await;
    let unknown = idle_insert(&node, NewJob::new("nobody_knows_it", json!({}))).await;
    let elsewhere = idle_insert(&node, job(json!({})).queue("elsewhere")).await;
    for id in [paused, unknown, elsewhere] {
        assert_eq!(node.state(id).await, State::Available);
    }
    // Each was told, and a leader tells of what waits besides.
    let mut told: Vec<Value> = heard.all().await.into_iter().map(|(_, payload)| payload["queue"].clone()).collect();
    assert!(told.len() >= 3, "{told:?}");
    told.sort_unstable_by_key(ToString::to_string);
    told.dedup();
    assert_eq!(told, ["default", "elsewhere"]);
    queue.set_paused(false);
    node.reaches(paused, State::Completed).await;

    let running = idle_insert(&node, job(json!({"do": "hold"}))).await;
    fixture.started(running).await;
    let full = idle_insert(&node, job(json!({}))).await;
    let later = idle_insert(&node, job(json!({})).schedule(Schedule::In(Duration::from_secs(600)))).await;
    assert_eq!(node.state(full).await, State::Available, "the only slot is taken");
    assert_eq!(node.state(later).await, State::Scheduled);
    fixture.release(running);
    node.reaches(full, State::Completed).await;
    assert_eq!(fixture.seen().peak, 1);
}

#[tokio::test]
async fn a_job_that_waits_unheard_is_begun_before_one_that_is_inserted_later() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(1)).await;
    let sql = "INSERT INTO oban_jobs (queue, worker, args) VALUES ('default', $1, '{}') RETURNING id";
    let unheard: i64 = sqlx::query_scalar(sql).bind(FIXTURE).fetch_one(node.engine().db().pool()).await.unwrap();
    let later = idle_insert(&node, job(json!({}))).await;
    for id in [unheard, later] {
        node.reaches(id, State::Completed).await;
    }
    assert_eq!(fixture.seen().started, [(unheard, 1), (later, 1)]);
}

#[tokio::test]
async fn an_insert_does_not_wait_for_a_producer_that_is_suspended() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(2)).await;
    let queue = node.queues().get("default").unwrap();
    queue.address().suspend(DEADLINE).await.unwrap();
    let id = idle_insert(&node, job(json!({}))).await;
    assert_eq!(node.state(id).await, State::Available);
    queue.address().resume(DEADLINE).await.unwrap();
    assert_eq!(node.reaches(id, State::Completed).await.attempt, 1);
    assert_eq!(fixture.starts_of(id), 1);
}

/// Statements of producers give up after a second, because others wait for them; inserts after five.
#[tokio::test]
async fn a_job_whose_direct_insert_the_server_refuses_goes_the_usual_way() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(2)).await;
    db.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
         CREATE TRIGGER refuse BEFORE INSERT ON oban_jobs FOR EACH ROW WHEN (NEW.state = 'executing')
         EXECUTE FUNCTION refuse()",
    )
    .await;
    for _ in 0..2 {
        let id = idle_insert(&node, job(json!({}))).await;
        assert_eq!(node.reaches(id, State::Completed).await.attempt, 1);
    }
    db.execute("DROP TRIGGER refuse ON oban_jobs").await;
    let refused = idle_insert(&node, job(json!({"a": 1}))).await;
    node.reaches(refused, State::Completed).await;
    assert_eq!(fixture.seen().finished.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_insert_one_job_each_keep_the_limit_and_each_runs_once() {
    const INSERTERS: usize = 8;
    const EACH: usize = 50;
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, limit(3)).await;
    let insert = async || {
        for _ in 0..EACH {
            node.engine().insert(job(json!({}))).await.unwrap();
        }
    };
    futures_util::future::join_all((0..INSERTERS).map(|_| insert())).await;
    fixture.until("all of them", |seen| seen.finished.len() == INSERTERS * EACH).await;
    until("all results", || async { (node.queues().running() == 0).then_some(()) }).await;
    let seen = fixture.seen();
    assert_eq!(seen.started.len(), INSERTERS * EACH);
    assert!(seen.peak <= 3, "{} at once", seen.peak);
    let sql = "SELECT count(*) FROM oban_jobs WHERE state = 'completed' AND attempt = 1";
    let completed: i64 = sqlx::query_scalar(sql).fetch_one(node.engine().db().pool()).await.unwrap();
    assert_eq!(completed, (INSERTERS * EACH) as i64);
}

#[tokio::test]
async fn a_job_whose_insert_was_not_answered_runs_once() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let proxy = Proxy::start(db.host_and_port()).await;
    let node = TestNode::start(&db.url_through(proxy.address()), "one", &fixture, limit(2)).await;
    // The producer's connection is there before it fails.
    let before = idle_insert(&node, job(json!({}))).await;
    node.reaches(before, State::Completed).await;
    proxy.set(Mode::Unanswered);
    until("a lost answer", || async { node.engine().insert(job(json!({"lost": true}))).await.is_err().then_some(()) })
        .await;
    proxy.set(Mode::Pass);
    let direct = db.connect("public").await;
    let all = "SELECT id FROM oban_jobs WHERE args ? 'lost'";
    let ids: Vec<i64> = sqlx::query_scalar(all).fetch_all(direct.pool()).await.unwrap();
    assert!(!ids.is_empty(), "the statement was done");
    for id in ids {
        assert_eq!(node.reaches(id, State::Completed).await.attempt, 1);
        assert_eq!(fixture.starts_of(id), 1);
    }
}
