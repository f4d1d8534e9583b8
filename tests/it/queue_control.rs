//! Queues of a running node: which start, with what, and how they are told otherwise.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use singularity::config::{Config, InstanceTable, Period, Queue, QueueChange};
use singularity::queue::{QueueOrder, State};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, job, restarts, until};

/// Two queues, of which one instance has more of the one and alone starts the other.
fn two_instances(config: &mut Config) {
    config.queues.insert("gpu".into(), Queue { start: false, ..Queue::default() });
    let table = InstanceTable {
        queues: [
            ("default".into(), QueueChange { limit: Some(20), ..QueueChange::default() }),
            ("gpu".into(), QueueChange { start: Some(true), ..QueueChange::default() }),
        ]
        .into(),
    };
    config.instances.insert("instance_a".into(), table);
}

#[tokio::test]
async fn a_table_of_one_instance_holds_there_alone() {
    let db = TestDb::new().await;
    let (a, b) = (Fixture::new(), Fixture::new());
    let a = TestNode::start(db.url(), "instance_a", &a, two_instances).await;
    let b = TestNode::start(db.url(), "instance_b", &b, two_instances).await;
    let limits = |node: &TestNode| -> Vec<(String, u32)> {
        node.queues().iter().map(|queue| (queue.name().to_owned(), queue.limit())).collect()
    };
    assert_eq!(limits(&a), [("default".to_owned(), 20), ("gpu".to_owned(), 10)]);
    assert_eq!(limits(&b), [("default".to_owned(), 10)]);
    let job = a.engine().insert(job(json!({"do": "ok"})).queue("gpu")).await.unwrap();
    assert_eq!(a.reaches(job.id, State::Completed).await.attempted_by[0], "instance_a");
}

#[tokio::test]
async fn a_cooldown_is_the_least_time_between_two_claims() {
    const COOLDOWN_MS: u64 = 300;
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |config| {
        let queue = config.queues.get_mut("default").unwrap();
        (queue.limit, queue.dispatch_cooldown) = (2, Period::from_millis(COOLDOWN_MS));
        // Far beyond a test's patience: what is claimed after a cooldown was not found by the poll.
        queue.poll_interval = Period::from_secs(600);
    })
    .await;
    let jobs = node.engine().insert_many(vec![job(json!({"do": "ok"})); 6]).await.unwrap();
    let mut claims = Vec::new();
    for one in &jobs {
        claims.extend(node.reaches(one.id, State::Completed).await.attempted_at);
    }
    claims.sort();
    // No claim takes more than two, so every second job is of another one. Claims are stamped by the database, before
    // the moment that the cooldown counts from; the two clocks may go a little apart.
    let least = claims.windows(3).map(|claims| (claims[2] - claims[0]).num_milliseconds()).min().unwrap();
    assert!(least >= COOLDOWN_MS as i64 - 10, "{least} ms between {claims:?}");
}

/// Every kind of order, again and again, while jobs run: none is lost, run twice or cut off, and the limit holds.
#[tokio::test]
async fn orders_at_random_under_load_lose_no_job_and_run_none_twice() {
    const JOBS: usize = 800;
    const LIMIT_MAX: u32 = 12;
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let jobs = node.engine().insert_many(vec![job(json!({"do": "ok"})); JOBS]).await.unwrap();
    let queue = || "default".to_owned();
    while fixture.seen().finished.len() < JOBS / 2 {
        let limit = random.random_range(1..=LIMIT_MAX);
        let order = match random.random_range(0..5) {
            0 => QueueOrder::Pause { queue: queue() },
            1 => QueueOrder::Resume { queue: queue() },
            2 => QueueOrder::Stop { queue: queue() },
            3 => QueueOrder::Start { queue: queue(), limit, paused: false },
            _ => QueueOrder::Scale { queue: queue(), limit },
        };
        node.order_here(&order).await.unwrap();
        // A few jobs between two orders; none where the queue stands still.
        let more = fixture.seen().finished.len() + 5;
        let some = fixture.until("more jobs", |seen| seen.finished.len() >= more);
        drop(tokio::time::timeout(Duration::from_millis(20), some).await);
    }
    // Whatever it was told last.
    for order in [
        QueueOrder::Start { queue: queue(), limit: LIMIT_MAX, paused: false },
        QueueOrder::Resume { queue: queue() },
        QueueOrder::Scale { queue: queue(), limit: LIMIT_MAX },
    ] {
        node.order_here(&order).await.unwrap();
    }
    for one in &jobs {
        let done = node.reaches(one.id, State::Completed).await;
        assert_eq!(done.attempt, 1);
    }
    let seen = fixture.seen();
    assert_eq!((seen.started.len(), seen.finished.len(), seen.dropped.len()), (JOBS, JOBS, 0));
    assert!(seen.peak <= LIMIT_MAX as usize, "{} at once", seen.peak);
    assert_eq!(restarts(&node.system().snapshot()), 0);
}

/// Jobs of a producer that its instance's row does not name are taken over by anybody's lifeline. So a queue that is
/// started while its instance runs must not claim before.
#[tokio::test]
async fn a_started_queue_claims_nothing_before_others_know_its_producer() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    let database = node.engine().db().clone();
    let waiting = node.engine().insert(job(json!({"do": "hold"})).queue("novel")).await.unwrap().id;
    // No heartbeat can be stored.
    let mut lock = database.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM instance_registry FOR UPDATE").execute(&mut *lock).await.unwrap();
    let start = QueueOrder::Start { queue: "novel".into(), limit: 2, paused: false };
    assert_eq!(node.order_here(&start).await.unwrap()[0].limit, 2);
    // The second comes a poll later; while one is under way, its claim may be.
    until("two looks of its producer", || async {
        let tree = node.system().snapshot();
        let producer = tree.find("/queues/novel")?;
        (producer.mailbox.as_ref()?.processed >= 2 && producer.current_message.is_none()).then_some(())
    })
    .await;
    assert_eq!((node.state(waiting).await, fixture.starts_of(waiting)), (State::Available, 0));
    lock.rollback().await.unwrap();
    fixture.started(waiting).await;
    // Its own lifeline and that of another instance look at it, and leave it alone.
    let other = TestNode::start(db.url(), "two", &Fixture::new(), |_| {}).await;
    for node in [&node, &other] {
        assert_eq!(node.engine().rescue().await.unwrap().len(), 0);
    }
    fixture.release(waiting);
    assert_eq!(node.reaches(waiting, State::Completed).await.attempt, 1);
}
