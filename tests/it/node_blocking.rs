//! Job code that blocks its thread, where it belongs: on threads of its own, as many as its queue permits.

use std::sync::Mutex;

use serde_json::{Value, json};
use singularity::config::{Config, OnStuck, Queue};
use singularity::queue::{JobCodeError, JobContext, JobError, Outcome, State, Worker, Workers};
use tokio::sync::oneshot;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, JOB_THREADS, TestNode, until};

fn queue(limit: u32, blocking_max: Option<u32>, on_stuck: OnStuck) -> impl Fn(&mut Config) {
    move |config| {
        let queue = Queue { limit, blocking_max, on_stuck, ..config.queues["default"].clone() };
        config.queues.insert("default".into(), queue);
    }
}

async fn node(change: impl Fn(&mut Config)) -> (TestDb, Fixture, TestNode) {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, change).await;
    (db, fixture, node)
}

async fn block(node: &TestNode, count: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(node.insert(json!({"do": "block"})).await);
    }
    ids
}

#[tokio::test]
async fn it_holds_no_thread_that_other_jobs_need() {
    let (_db, fixture, node) = node(queue(10, None, OnStuck::Hold)).await;
    let ids = block(&node, 2 * JOB_THREADS).await;
    fixture.until("all of them", |seen| seen.blocking == ids.len()).await;
    let other = node.insert(json!({"do": "ok"})).await;
    node.reaches(other, State::Completed).await;
    fixture.release_all();
    for id in ids {
        node.reaches(id, State::Completed).await;
    }
}

#[tokio::test]
async fn no_more_run_at_once_than_the_queue_permits_and_those_that_wait_can_be_stopped() {
    let (_db, fixture, node) = node(queue(10, Some(2), OnStuck::Hold)).await;
    let mut ids = block(&node, 2).await;
    fixture.until("two of them", |seen| seen.blocking == 2).await;
    ids.extend(block(&node, 3).await);
    fixture.until("all of them", |seen| seen.running == 5).await;
    // The last has no permit; nothing of it blocks, so it ends at once and its code never runs.
    node.engine().cancel(ids[4]).await.unwrap();
    fixture.ended(ids[4]).await;
    fixture.release_all();
    for id in &ids[..4] {
        node.reaches(*id, State::Completed).await;
    }
    until("nothing that runs", || async { (node.queues().running() == 0).then_some(()) }).await;
    let seen = fixture.seen();
    assert_eq!((seen.blocking, seen.blocking_peak, seen.finished.len(), seen.dropped.len()), (0, 2, 4, 1));
}

#[tokio::test]
async fn without_a_number_as_many_run_as_the_limit_says_also_after_it_changed() {
    let (_db, fixture, node) = node(queue(1, None, OnStuck::Hold)).await;
    let ids = block(&node, 3).await;
    fixture.until("one", |seen| seen.blocking == 1).await;
    node.queues().get("default").unwrap().set_limit(3);
    fixture.until("three", |seen| seen.blocking == 3).await;
    fixture.release_all();
    for id in ids {
        node.reaches(id, State::Completed).await;
    }
}

#[tokio::test]
async fn what_blocks_beyond_its_time_is_stuck_and_keeps_its_row_its_slot_and_its_permit() {
    for (on_stuck, slot) in [(OnStuck::Hold, "kept until it returns"), (OnStuck::Release, "given to others")] {
        let (_db, fixture, node) = node(queue(1, None, on_stuck)).await;
        let id = node.insert(json!({"do": "block", "timeout_ms": 50})).await;
        fixture.until("its code", |seen| seen.blocking == 1).await;
        let label = until("a stuck job in the tree", || async {
            let tree = node.system().snapshot();
            tree.find(&format!("/executors/default/{id}"))?.labels.get("stuck").cloned()
        })
        .await;
        assert_eq!(label, format!("its slot is {slot}"));
        assert_eq!(fixture.seen().dropped, [(id, 1)], "its async code ended");
        let next = node.insert(json!({"do": "block"})).await;
        if on_stuck == OnStuck::Release {
            fixture.started(next).await;
            assert_eq!(fixture.seen().blocking, 1, "the next has a slot and waits for the permit");
        }
        assert_eq!((node.state(id).await, fixture.starts_of(id)), (State::Executing, 1));
        fixture.release(id);
        let job = node.reaches(id, State::Retryable).await;
        assert!(job.errors[0]["error"].as_str().unwrap().contains("timed out after 50ms"));
        fixture.release(next);
        node.reaches(next, State::Completed).await;
    }
}

#[tokio::test]
async fn what_watches_its_token_ends_when_its_time_is_over() {
    let (_db, _fixture, node) = node(queue(1, None, OnStuck::Hold)).await;
    let id = node.insert(json!({"do": "block_heed", "timeout_ms": 50})).await;
    let job = node.reaches(id, State::Retryable).await;
    assert!(job.errors[0]["error"].as_str().unwrap().contains("timed out after 50ms"));
}

#[tokio::test]
async fn its_panic_is_a_failed_attempt_with_message_and_place_and_gives_the_permit_back() {
    let (_db, fixture, node) = node(queue(1, Some(1), OnStuck::Hold)).await;
    let id = node.insert(json!({"do": "block_panic"})).await;
    let job = node.reaches(id, State::Retryable).await;
    let text = job.errors[0]["error"].as_str().unwrap();
    assert!(text.starts_with(&format!("** (Panic) fixture job {id} panics while it blocks\n    at ")), "{text}");
    assert!(text.contains("support/node.rs:"), "{text}");
    fixture.release_all();
    let next = block(&node, 1).await[0];
    node.reaches(next, State::Completed).await;
}

/// Gives its context away.
struct Leaks(Mutex<Option<oneshot::Sender<JobContext>>>);

impl Worker for Leaks {
    type Args = Value;
    const NAME: &'static str = "leaks";

    async fn perform(&self, _: Value, context: JobContext) -> Result<Outcome, JobError> {
        let sender = self.0.lock().unwrap().take().unwrap();
        assert!(sender.send(context).is_ok());
        Ok(Outcome::Completed)
    }
}

#[tokio::test]
async fn a_context_that_outlives_its_attempt_runs_nothing_and_holds_up_nothing() {
    let db = TestDb::new().await;
    let (sender, receiver) = oneshot::channel();
    let mut workers = Workers::default();
    workers.register(Leaks(Mutex::new(Some(sender))));
    let node = TestNode::try_start(db.url(), "one", workers, queue(1, None, OnStuck::Hold)).await.unwrap();
    let id = node.engine().insert(Leaks::new_job(&json!({})).unwrap()).await.unwrap().id;
    let context = receiver.await.unwrap();
    node.reaches(id, State::Completed).await;
    until("nothing that runs", || async { (node.queues().running() == 0).then_some(()) }).await;
    let refused = context.run_blocking(|| panic!("it runs")).await;
    assert!(matches!(refused, Err(JobCodeError::Gone)), "{refused:?}");
}
