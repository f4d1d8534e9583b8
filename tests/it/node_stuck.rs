//! Code that was told to end and does not: what becomes of its slot, its row and its queue.

use serde_json::json;
use singularity::config::{Config, OnStuck, Queue};
use singularity::queue::State;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};

fn release(limit: u32) -> impl Fn(&mut Config) {
    move |config| {
        let queue = Queue { limit, on_stuck: OnStuck::Release, ..config.queues["default"].clone() };
        config.queues.insert("default".into(), queue);
    }
}

/// Inserts a job that spins until it is let go, and waits until the tree calls it stuck. Returns what becomes of its
/// slot.
async fn stuck(node: &TestNode, fixture: &Fixture) -> (i64, String) {
    let id = node.insert(json!({"do": "spin", "timeout_ms": 50})).await;
    fixture.started(id).await;
    let label = until("a stuck job in the tree", || async {
        let tree = node.system().snapshot();
        tree.find(&format!("/executors/default/{id}"))?.labels.get("stuck").cloned()
    })
    .await;
    (id, label)
}

#[tokio::test]
async fn a_queue_that_releases_goes_on_beside_stuck_code_whose_row_stays_its_own() {
    let (db, _database) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let node = TestNode::start(db.url(), "one", &fixture, release(1)).await;
    let (id, label) = stuck(&node, &fixture).await;
    assert_eq!(label, "its slot is given to others");
    for _ in 0..3 {
        let next = node.insert(json!({"do": "ok"})).await;
        node.reaches(next, State::Completed).await;
        assert_eq!(node.state(id).await, State::Executing);
    }
    // The slot of the last one is freed a moment after its row says that it is done.
    until("one that is still known to run", || async { (node.queues().running() == 1).then_some(()) }).await;
    assert_eq!(fixture.starts_of(id), 1);
    fixture.release(id);
    let job = node.reaches(id, State::Retryable).await;
    assert!(job.errors[0]["error"].as_str().unwrap().contains("timed out after 50ms"));
    until("nothing that runs", || async { (node.queues().running() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_queue_passes_over_at_most_as_many_stuck_jobs_as_its_limit() {
    let (db, _database) = TestDb::migrated().await;
    let fixture = Fixture::new();
    let node = TestNode::start(db.url(), "one", &fixture, release(1)).await;
    let (first, label) = stuck(&node, &fixture).await;
    assert_eq!(label, "its slot is given to others");
    let (second, label) = stuck(&node, &fixture).await;
    assert_eq!(label, "its slot is kept until it returns");
    let next = node.insert(json!({"do": "ok"})).await;
    assert_eq!((node.queues().running(), node.state(next).await), (2, State::Available));
    // The place of the first is taken already: its return gives none.
    fixture.release(first);
    node.reaches(first, State::Retryable).await;
    assert_eq!(node.state(next).await, State::Available);
    fixture.release(second);
    node.reaches(second, State::Retryable).await;
    node.reaches(next, State::Completed).await;
}
