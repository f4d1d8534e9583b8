//! Conformance, point 17: what becomes of jobs that do not finish within the grace of a stop. In Oban such an orphan
//! stays executing, with its attempt spent, until somebody rescues it; here it is handed back at once and unspent.

use serde_json::json;
use singularity::config::{Config, Period, Queue};
use singularity::queue::{Engine, QueueOrder, State};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, reaches, until};
use crate::support::rows::row;

fn short_grace(config: &mut Config) {
    config.runtime.shutdown_grace = Period::from_millis(100);
    config.queues.insert("default".into(), Queue { poll_interval: Period::from_secs(600), ..Queue::default() });
}

fn stop() -> QueueOrder {
    QueueOrder::Stop { queue: "default".into() }
}

#[tokio::test]
async fn oban_17_orphans_of_a_stopped_instance_are_handed_back() {
    let (db, database) = TestDb::migrated().await;
    let (engine, fixture) = (Engine::new(database), Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, short_grace).await;
    let orphan = node.insert(json!({"do": "hang"})).await;
    let quick = node.insert(json!({"do": "hold"})).await;
    fixture.started(orphan).await;
    fixture.started(quick).await;
    fixture.release(quick);
    reaches(&engine, quick, State::Completed).await;
    assert_eq!(node.shutdown().await.handed_back, 1);
    let row = row(engine.db(), orphan).await;
    assert_eq!((&row["state"], &row["attempt"], &row["errors"]), (&json!("available"), &json!(0), &json!([])));
}

#[tokio::test]
async fn oban_17_orphans_of_a_stopped_queue_are_handed_back_and_the_instance_goes_on() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, short_grace).await;
    let (hangs, heeds) = (node.insert(json!({"do": "hang"})).await, node.insert(json!({"do": "heed"})).await);
    fixture.started(hangs).await;
    fixture.started(heeds).await;
    let checks = node.order_here(&stop()).await.unwrap();
    assert!(checks[0].shutdown_started_at.is_some(), "it answers before its jobs have ended");
    until("an end", || async { node.check_queue("default").is_none().then_some(()) }).await;
    for id in [hangs, heeds] {
        let row = row(node.engine().db(), id).await;
        assert_eq!((&row["state"], &row["attempt"], &row["errors"]), (&json!("available"), &json!(0), &json!([])));
    }
    assert_eq!(node.order_here(&stop()).await.unwrap(), [], "nothing is left to stop");
    let again = QueueOrder::Start { queue: "default".into(), limit: 5, paused: false };
    assert_eq!(node.order_here(&again).await.unwrap()[0].limit, 5);
    fixture.until("a second start", |seen| seen.started.iter().filter(|(id, _)| *id == hangs).count() == 2).await;
}

/// Code that never awaits cannot be stopped: its job stays the instance's own, and the queue is shown for as long.
#[tokio::test]
async fn oban_17_a_stopped_queue_is_not_gone_before_its_stuck_job_is() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, short_grace).await;
    let (stuck, quick) = (node.insert(json!({"do": "spin"})).await, node.insert(json!({"do": "hang"})).await);
    fixture.started(stuck).await;
    fixture.started(quick).await;
    node.order_here(&stop()).await.unwrap();
    node.reaches(quick, State::Available).await;
    until("the other one's end", || async {
        node.check_queue("default").filter(|check| check.running == [stuck]).map(drop)
    })
    .await;
    assert_eq!(node.state(stuck).await, State::Executing);
    fixture.release(stuck);
    until("an end", || async { node.check_queue("default").is_none().then_some(()) }).await;
    assert_eq!(node.reaches(stuck, State::Available).await.attempt, 0);
}
