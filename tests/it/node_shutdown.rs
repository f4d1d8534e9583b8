//! Stopping a node: what may finish does, what does not is handed back, and nothing is claimed meanwhile.

use std::time::{Duration, Instant};

use serde_json::json;
use singularity::config::{Config, Period};
use singularity::instance::Presence;
use singularity::node::Drained;
use singularity::queue::{Engine, State};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, job, reaches, until};
use crate::support::rows::{claim, ids, row};

fn grace(millis: u64) -> impl Fn(&mut Config) {
    move |config| config.runtime.shutdown_grace = Period::from_millis(millis)
}

async fn status(engine: &Engine, instance: &str) -> String {
    Presence::new(engine.db().clone(), None).get(instance).await.unwrap().unwrap().status
}

#[tokio::test]
async fn a_running_job_may_finish_and_nothing_new_begins() {
    let (db, database) = TestDb::migrated().await;
    let (engine, fixture) = (Engine::new(database), Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, grace(60_000)).await;
    let id = node.insert(json!({"do": "hold"})).await;
    fixture.started(id).await;
    let stopping = tokio::spawn(node.shutdown());
    until("draining", || async { (status(&engine, "one").await == "draining").then_some(()) }).await;
    let late = engine.insert(job(json!({"do": "ok"}))).await.unwrap().id;
    fixture.release(id);
    assert_eq!(stopping.await.unwrap(), Drained { handed_back: 0, still_running: 0, forced: false });
    assert_eq!(reaches(&engine, id, State::Completed).await.attempt, 1);
    assert_eq!((reaches(&engine, late, State::Available).await.attempt, fixture.starts_of(late)), (0, 0));
    assert_eq!(status(&engine, "one").await, "offline");
}

#[tokio::test]
async fn what_does_not_finish_is_handed_back_with_its_attempt_unspent() {
    let (db, database) = TestDb::migrated().await;
    let (engine, fixture) = (Engine::new(database), Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, grace(100)).await;
    let first = engine.insert(job(json!({"do": "hang"}))).await.unwrap().id;
    let heeds = engine.insert(job(json!({"do": "heed"}))).await.unwrap().id;
    let again = engine.insert(job(json!({"do": "error_once"}))).await.unwrap().id;
    reaches(&engine, again, State::Completed).await;
    for id in [first, heeds] {
        fixture.started(id).await;
    }
    assert_eq!(node.shutdown().await, Drained { handed_back: 2, still_running: 0, forced: false });
    for id in [first, heeds] {
        let row = row(engine.db(), id).await;
        assert_eq!((&row["state"], &row["attempt"], &row["errors"]), (&json!("available"), &json!(0), &json!([])));
    }
    assert_eq!(status(&engine, "one").await, "offline");
    // Somebody else may take them at once.
    let two = TestNode::start(db.url(), "two", &fixture, |_| {}).await;
    fixture
        .until("second runs", |seen| {
            [first, heeds].iter().all(|id| seen.started.iter().filter(|(job, _)| job == id).count() == 2)
        })
        .await;
    drop(two);
}

#[tokio::test]
async fn a_second_signal_cuts_the_grace_short() {
    let (db, database) = TestDb::migrated().await;
    let (engine, fixture) = (Engine::new(database), Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, grace(600_000)).await;
    let id = node.insert(json!({"do": "heed"})).await;
    fixture.started(id).await;
    let begun = Instant::now();
    let drained = node.shutdown_forced().await;
    assert_eq!(drained, Drained { handed_back: 1, still_running: 0, forced: true });
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(reaches(&engine, id, State::Available).await.attempt, 0);
}

#[tokio::test]
async fn a_job_that_cannot_be_stopped_does_not_hold_up_the_end_and_its_late_result_changes_nothing() {
    let (db, database) = TestDb::migrated().await;
    let (engine, fixture) = (Engine::new(database), Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, grace(0)).await;
    let id = node.insert(json!({"do": "spin"})).await;
    fixture.started(id).await;
    assert_eq!(node.shutdown().await, Drained { handed_back: 1, still_running: 1, forced: false });
    let handed_back = row(engine.db(), id).await;
    assert_eq!((&handed_back["state"], &handed_back["attempt"]), (&json!("available"), &json!(0)));
    fixture.release(id);
    fixture.ended(id).await;
    assert_eq!(row(engine.db(), id).await, handed_back);
}

#[tokio::test]
async fn a_node_that_was_drained_does_not_wait_once_more_for_what_does_not_stop() {
    let (db, _) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let node = TestNode::start(db.url(), "one", &fixture, grace(600_000)).await;
    let id = node.insert(json!({"do": "spin"})).await;
    fixture.started(id).await;
    let left = Drained { handed_back: 1, still_running: 1, forced: true };
    assert_eq!(node.drain(std::future::ready(())).await, left);
    let again = tokio::time::timeout(Duration::from_secs(60), node.drain(std::future::pending())).await;
    assert_eq!(again.expect("no second grace"), Drained { forced: false, ..left });
    node.shutdown().await;
    fixture.release(id);
    fixture.ended(id).await;
}

#[tokio::test]
async fn an_abandoned_node_leaves_its_jobs_to_others_who_take_them_when_it_is_stale() {
    let (db, database) = TestDb::migrated().await;
    let (engine, fixture) = (Engine::new(database), Fixture::new());
    let node =
        TestNode::start(db.url(), "one", &fixture, |config| config.instance.stale_after = Period::from_secs(3)).await;
    let id = node.insert(json!({"do": "hang"})).await;
    fixture.started(id).await;
    drop(node);
    fixture.ended(id).await;
    let two = TestNode::start(db.url(), "two", &fixture, |_| {}).await;
    // The dead one's attempt is spent, as in Oban.
    fixture.until("a second attempt", |seen| seen.started.contains(&(id, 2))).await;
    assert_eq!(two.engine().get(id).await.unwrap().unwrap().attempted_by[0], "two");
    assert_eq!(status(&engine, "one").await, "offline");
    assert!(ids(&claim(&engine, uuid::Uuid::now_v7(), 1).await).is_empty());
}
