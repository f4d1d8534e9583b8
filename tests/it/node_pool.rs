//! A pool whose connections jobs have taken, all of them and for long.

use std::time::Duration;

use serde_json::json;
use singularity::config::Period;
use singularity::instance::{Presence, ask};
use singularity::queue::State;

use crate::support::db::TestDb;
use crate::support::node::{Fixture, TestNode, reaches, until};

/// As many connections as the pool may have in this test.
const POOL_MAX: u32 = 4;

#[tokio::test]
async fn jobs_that_keep_the_whole_pool_stop_neither_the_heartbeat_nor_the_answers() {
    let (db, database) = TestDb::migrated().await;
    let (fixture, presence) = (Fixture::new(), Presence::new(database.clone(), None));
    let node = TestNode::start(db.url(), "one", &fixture, |config| {
        config.database.pool_max = POOL_MAX;
        config.instance.stale_after = Period::from_millis(2_000);
    })
    .await;
    let id = node.insert(json!({"do": "hold"})).await;
    fixture.started(id).await;
    let mut held = Vec::new();
    for _ in 0..POOL_MAX {
        held.push(node.storage().db().pool().begin().await.unwrap());
    }

    // For longer than a heartbeat holds.
    let begun = presence.get("one").await.unwrap().unwrap().last_heartbeat;
    until("a heartbeat long after", || async {
        let row = presence.get("one").await.unwrap().unwrap();
        (row.last_heartbeat > begun + Duration::from_millis(2_500)).then_some(())
    })
    .await;
    let tree = ask(&database, "one", "tree", &json!({}), "test", Duration::from_secs(10)).await.unwrap();
    assert_eq!(tree["path"], "/", "{tree}");
    assert!(fixture.seen().dropped.is_empty(), "no job was stopped");

    drop(held);
    fixture.release(id);
    assert_eq!(reaches(node.engine(), id, State::Completed).await.attempt, 1);
    node.shutdown().await;
}
