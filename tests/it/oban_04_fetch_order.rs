//! Point 4 of the conformance suite: jobs are fetched by priority, then time, then id, and never more than the limit,
//! seen from outside: rows that another program inserted, and a node that runs them.

use serde_json::json;
use singularity::config::{Period, Queue};
use singularity::queue::State;

use crate::support::db::TestDb;
use crate::support::node::{FIXTURE, Fixture, TestNode, signal};

#[tokio::test]
async fn oban_04_fetch_order_and_limit() {
    for limit in [1, 3] {
        let (db, fixture) = (TestDb::new().await, Fixture::new());
        let node = TestNode::start(db.url(), "one", &fixture, |config| {
            let queue = Queue { limit, paused: true, poll_interval: Period::from_secs(600), ..Queue::default() };
            config.queues.insert("default".into(), queue);
        })
        .await;
        let database = node.engine().db().clone();
        // Priority, and minutes since it is due; inserted in this order, so equal ones are told apart by id.
        let rows = [(3, 0), (0, 1), (9, 50), (0, 5), (1, 9), (0, 1), (1, 9), (0, 0), (3, 7), (0, 5)];
        for (priority, minutes) in rows {
            sqlx::query(
                "INSERT INTO oban_jobs (worker, args, priority, scheduled_at)
                 VALUES ($1, $2, $3, date_trunc('hour', timezone('UTC', now())) - $4 * interval '1 minute')",
            )
            .bind(FIXTURE)
            .bind(json!({"do": "hold"}))
            .bind(priority)
            .bind(minutes)
            .execute(database.pool())
            .await
            .unwrap();
        }
        let mut order: Vec<i64> = (1..=rows.len() as i64).collect();
        order.sort_by_key(|id| {
            let (priority, minutes) = rows[usize::try_from(*id).unwrap() - 1];
            (priority, -minutes, *id)
        });
        signal(&database, json!({"action": "resume", "queue": "default"})).await;
        for (done, id) in order.iter().enumerate() {
            let wanted = (done + usize::try_from(limit).unwrap()).min(rows.len());
            fixture.until("as many as allowed", |seen| seen.started.len() == wanted).await;
            let executing: i64 = sqlx::query_scalar("SELECT count(*) FROM oban_jobs WHERE state = 'executing'")
                .fetch_one(database.pool())
                .await
                .unwrap();
            assert!(executing <= i64::from(limit), "{executing} execute");
            fixture.release(*id);
            node.reaches(*id, State::Completed).await;
        }
        let started: Vec<i64> = fixture.seen().started.iter().map(|(id, _)| *id).collect();
        // Those of one claim begin at the same time, in whatever order.
        let at_once = usize::try_from(limit).unwrap();
        let sorted = |ids: &[i64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted(&started[..at_once]), sorted(&order[..at_once]), "limit {limit}");
        assert_eq!(started[at_once..], order[at_once..], "limit {limit}");
        assert_eq!(fixture.seen().peak, at_once);
        node.shutdown().await;
    }
}
