//! Queues whose executors are away for a while.

use serde_json::json;
use singularity::queue::State;
use singularity::supervision::{NodeState, Operation};

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, until};

#[tokio::test]
async fn while_the_executors_of_a_queue_restart_its_jobs_are_not_begun_over_and_over() {
    let (db, fixture) = (TestDb::new().await, Fixture::new());
    let node = TestNode::start(db.url(), "one", &fixture, |_| {}).await;
    // It does not heed its stop, so its executor takes a while to end.
    let slow = node.insert(json!({"do": "hold"})).await;
    until("its executor", || async { node.system().probe(&format!("/executors/default/{slow}")) }).await;
    let order = node.system().operate(Operation::Restart, "/executors/default", "test", None);
    let during = async {
        until("the stop", || async {
            let executors = node.system().probe("/executors/default")?;
            (executors.state() == NodeState::Stopping).then_some(())
        })
        .await;
        node.insert(json!({"do": "hold"})).await
    };
    let (restarted, late) = tokio::join!(order, during);
    restarted.unwrap();
    fixture.started(late).await;
    fixture.until("the slow one again", |seen| seen.running == 2).await;
    assert_eq!((fixture.starts_of(slow), fixture.starts_of(late)), (2, 1));
    fixture.release_all();
    for id in [slow, late] {
        let job = node.reaches(id, State::Completed).await;
        assert_eq!(job.attempt, 1, "nothing was spent");
    }
}
