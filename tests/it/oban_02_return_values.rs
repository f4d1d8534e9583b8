//! Point 2 of the conformance suite: what each return value of a worker makes of its row, in both shapes of the table.

use serde_json::json;
use singularity::queue::State;

use crate::support::node::{TestNode, job};
use crate::support::rows::{SHAPES, seconds_until};

#[tokio::test]
async fn oban_02_return_value_matrix() {
    // Arguments, attempts, and then: state, attempt, errors, seconds that it waits.
    let cases = [
        (json!({"do": "ok"}), 20, State::Completed, 1, None, None),
        (json!({"do": "record", "value": {"n": 1}}), 20, State::Completed, 1, None, None),
        (json!({"do": "error"}), 20, State::Retryable, 1, Some("** (Fixture) no luck"), Some(15.0..=19.0)),
        (json!({"do": "error", "retry_ms": 90_000}), 20, State::Retryable, 1, Some("no luck"), Some(80.0..=90.0)),
        (json!({"do": "error"}), 1, State::Discarded, 1, Some("no luck"), None),
        (json!({"do": "error", "backoff_secs": 300}), 20, State::Retryable, 1, Some("no luck"), Some(290.0..=300.0)),
        (json!({"do": "panic", "backoff_secs": 300}), 20, State::Retryable, 1, Some("panics"), Some(290.0..=300.0)),
        (json!({"do": "error", "backoff": "panic"}), 20, State::Retryable, 1, Some("no luck"), Some(15.0..=19.0)),
        (
            json!({"do": "hang", "timeout_ms": 20, "backoff_secs": 300}),
            20,
            State::Retryable,
            1,
            Some("** (Oban.TimeoutError) fixture timed out after 20ms"),
            Some(590.0..=600.0),
        ),
        (json!({"do": "cancel"}), 20, State::Cancelled, 1, Some("** (Fixture) not wanted"), None),
        (json!({"do": "discard"}), 20, State::Discarded, 1, Some("** (Fixture) hopeless"), None),
        (json!({"do": "snooze", "for_ms": 600_000}), 1, State::Scheduled, 0, None, Some(590.0..=600.0)),
        (json!({"do": "snooze", "for_ms": 0}), 20, State::Scheduled, 0, None, Some(-20.0..=0.0)),
    ];
    for shape in SHAPES {
        // Nothing is staged, so that a job stays as its first attempt left it.
        let (_db, _fixture, node) = TestNode::in_shape(shape, false).await;
        for (args, max_attempts, state, attempt, error, wait) in cases.clone() {
            let id = node.engine().insert(job(args.clone()).max_attempts(max_attempts)).await.unwrap().id;
            let stored = node.reaches(id, state).await;
            assert_eq!((stored.attempt, stored.max_attempts), (attempt, max_attempts), "{args}");
            let texts: Vec<_> = stored.errors.iter().map(|error| error["error"].as_str().unwrap()).collect();
            assert_eq!(texts.len(), usize::from(error.is_some()), "{args}: {texts:?}");
            assert!(error.is_none_or(|error| texts[0].contains(error)), "{args}: {texts:?}");
            assert_eq!(stored.recorded(), args.get("value").cloned(), "{args}");
            assert_eq!(stored.meta.get("snoozed").is_some(), state == State::Scheduled, "{args}");
            // Of the three times of an end, only that of its own.
            let ends = [stored.completed_at, stored.discarded_at, stored.cancelled_at].map(|at| at.is_some());
            let wanted = [State::Completed, State::Discarded, State::Cancelled].map(|of| of == state);
            assert_eq!(ends, wanted, "{args}");
            assert_eq!(stored.attempted_by[0], "a", "{args}");
            assert!(stored.attempted_at.is_some(), "{args}");
            if let Some(wait) = wait {
                let secs = seconds_until(node.storage().db(), id, "scheduled_at").await;
                assert!(wait.contains(&secs), "{args}: waits {secs} s");
            }
        }
        node.shutdown().await;
    }
}
