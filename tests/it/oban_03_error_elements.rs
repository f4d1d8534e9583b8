//! Point 3 of the conformance suite: the elements of `errors`, in both shapes of the table.

use serde_json::{Value, json};
use singularity::queue::State;

use crate::support::node::{TestNode, job, until};
use crate::support::rows::{SHAPES, Shape};

/// Keys, time and text of an element, as Oban's dashboard reads them.
fn check_error(element: &Value, attempt: i32) {
    let mut keys: Vec<_> = element.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["at", "attempt", "error"]);
    assert_eq!(element["attempt"], attempt);
    let at = element["at"].as_str().unwrap();
    let time = chrono::DateTime::parse_from_rfc3339(at).unwrap();
    assert!(at.len() == "2026-01-02T03:04:05.678901Z".len() && at.ends_with('Z'), "{at}");
    assert!((chrono::Utc::now() - time.to_utc()).num_seconds().abs() < 60, "{at}");
    let banner = element["error"].as_str().unwrap().lines().next().unwrap();
    assert!(banner.starts_with("** (") && banner.contains(") "), "{banner}");
}

#[tokio::test]
async fn oban_03_error_element_shape() {
    for shape in SHAPES {
        let (_db, _fixture, node) = TestNode::in_shape(shape, true).await;
        for what in ["error", "panic", "block_panic", "cancel", "discard"] {
            let id = node.insert(json!({"do": what})).await;
            let ended =
                until("an end", || async { node.engine().get(id).await.unwrap().filter(|job| !job.errors.is_empty()) })
                    .await;
            assert_eq!(ended.errors.len(), 1, "{what}");
            check_error(&ended.errors[0], 1);
        }
        // One more a failure, oldest first; those of others before stay as they are.
        let id = node.engine().insert(job(json!({"do": "error", "retry_ms": 0})).max_attempts(3)).await.unwrap().id;
        let job = node.reaches(id, State::Discarded).await;
        assert_eq!(job.errors.len(), 3);
        for (number, element) in (1..).zip(&job.errors) {
            check_error(element, number);
        }
        // The column is of its own type in each shape, and holds objects.
        let sql = match shape {
            Shape::Elixir => "SELECT jsonb_typeof(errors[3]) FROM oban_jobs WHERE id = $1",
            Shape::Python => "SELECT jsonb_typeof(errors -> 2) FROM oban_jobs WHERE id = $1",
        };
        let kind: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
            .bind(id)
            .fetch_one(node.engine().db().pool())
            .await
            .unwrap();
        assert_eq!(kind, "object");
        node.shutdown().await;
    }
}
