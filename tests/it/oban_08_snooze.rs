//! Point 8 of the conformance suite: a snooze counts no attempt and is counted itself, as in Oban 2.24, in both
//! shapes of the table.

use serde_json::json;
use singularity::queue::State;

use crate::support::node::{TestNode, job, until};
use crate::support::rows::{SHAPES, seconds_until};

#[tokio::test]
async fn oban_08_snooze_accounting() {
    for shape in SHAPES {
        let (_db, fixture, node) = TestNode::in_shape(shape, true).await;
        // A single attempt, so that a snooze that counted one would discard it.
        let new = job(json!({"do": "snooze", "times": 2})).max_attempts(1).meta("mine", 1);
        let id = node.engine().insert(new).await.unwrap().id;
        let done = node.reaches(id, State::Completed).await;
        assert_eq!((done.attempt, done.max_attempts, done.errors.len()), (1, 1, 0));
        assert_eq!(done.meta, json!({"mine": 1, "snoozed": 2}));
        assert_eq!(fixture.seen().started, vec![(id, 1); 3], "each time the first attempt");

        // After a failure the number of the attempt stays where it was.
        let new = job(json!({"do": "error_then_snooze", "for_ms": 600_000})).max_attempts(5);
        let id = node.engine().insert(new).await.unwrap().id;
        let snoozed = until("a snooze", || async {
            node.engine().get(id).await.unwrap().filter(|job| job.meta.get("snoozed").is_some())
        })
        .await;
        assert_eq!((snoozed.state, snoozed.attempt, snoozed.max_attempts), (State::Scheduled, 1, 5));
        assert_eq!((snoozed.errors.len(), snoozed.attempted_by[0].as_str()), (1, "a"));
        assert!(snoozed.attempted_at.is_some(), "as its last attempt left it");
        let wait = seconds_until(node.engine().db(), id, "scheduled_at").await;
        assert!((590.0..=600.0).contains(&wait), "{wait}");
        node.shutdown().await;
    }
}
